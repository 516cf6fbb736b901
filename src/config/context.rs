//! Contexts of the `nats` tool, which say how a laptop reaches a cluster: its files become settings that
//! nobody has typed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::typed::Typed;

/// The settings, in their order, that a context's keys are.
const KEYS: [(&str, &str); 9] = [
    ("url", "nats_url"),
    ("creds", "nats_creds_file"),
    ("nkey", "nats_nkey_file"),
    ("ca", "nats_ca_file"),
    ("cert", "nats_cert_file"),
    ("key", "nats_key_file"),
    ("tls_first", "nats_tls_first"),
    ("jetstream_domain", "nats_js_domain"),
    ("inbox_prefix", "nats_inbox_prefix"),
];
/// What concerns other programs only, or people.
const IGNORED: [&str; 4] = ["name", "description", "color_scheme", "jetstream_event_prefix"];
/// The keys of logins that stand in the file itself.
const LOGIN: [&str; 3] = ["user", "password", "token"];
/// The settings that say where NATS is.
const ADDRESS: [&str; 5] = ["nats_url", "nats_host", "nats_port", "faas_nats_address", "faas_nats_port"];
/// The settings that log in.
const LOGINS: [&str; 5] =
    ["nats_creds_file", "nats_nkey_file", "nats_token_file", "nats_user", "nats_password_file"];

/// A context that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Its name; without one it is the one that is selected.
    pub name: Option<String>,
    /// Where the `nats` tool has its files.
    folder: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Context {
    /// The context of this name, with the folders that this environment tells.
    pub fn of(name: Option<String>, env: &[(OsString, OsString)]) -> Self {
        let folder = |name: &str| {
            let value = env.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        Self { name, folder: config.map(|config| config.join("nats")), home }
    }

    /// Adds the context's settings to those that were typed, which win.
    ///
    /// # Errors
    /// What is wrong with it, in a line each.
    pub(super) fn add_to(&self, typed: &mut BTreeMap<&'static str, Typed>) -> Result<(), Vec<String>> {
        let folder = self.folder.as_deref().ok_or_else(|| {
            vec!["--context: neither XDG_CONFIG_HOME nor HOME says where contexts are".to_owned()]
        })?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => selected(folder).map_err(|fault| vec![fault])?,
        };
        let fault = |what: &str| format!("context {name}: {what}");
        let keys = read(folder, &name).map_err(|reason| vec![fault(&reason)])?;
        let faults: Vec<_> = keys
            .iter()
            .filter(|(key, value)| !is_known(key) && is_set(value))
            .map(|(key, _)| fault(&format!("{key} is set, and this program has nothing of that kind")))
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        if let Some(note) = overridden(&name, &keys, typed) {
            eprintln!("queue-worker: {note}");
        }
        self.merge(&name, &keys, typed);
        Ok(())
    }

    fn merge(&self, name: &str, keys: &Map<String, Value>, typed: &mut BTreeMap<&'static str, Typed>) {
        let has_address = ADDRESS.iter().any(|setting| typed.contains_key(setting));
        let has_login = LOGINS.iter().any(|setting| typed.contains_key(setting))
            || typed.get("nats_url").is_some_and(|url| url.text.contains('@'));
        for (key, setting) in KEYS {
            let taken = match key {
                "url" => has_address,
                "creds" | "nkey" => has_login,
                _ => typed.contains_key(setting),
            };
            if let Some(text) = keys.get(key).filter(|value| is_set(value) && !taken).map(text) {
                let text = if setting.ends_with("_file") { self.path(&text) } else { text };
                typed.insert(setting, Typed { name: format!("context {name}, {key}"), text });
            }
        }
        if has_login {
            return;
        }
        if let Some(login) = login(keys) {
            // What was typed of an address is a URL then, too.
            let host = |host: &str, port: &str| {
                let of = |name: &str, usual: &str| {
                    typed.get(name).map_or(usual.to_owned(), |typed| typed.text.clone())
                };
                let set = typed.contains_key(host) || typed.contains_key(port);
                set.then(|| format!("{}:{}", of(host, "127.0.0.1"), of(port, "4222")))
            };
            let urls = typed.get("nats_url").map(|typed| typed.text.clone());
            let urls = urls
                .or_else(|| host("nats_host", "nats_port"))
                .or_else(|| host("faas_nats_address", "faas_nats_port"))
                .unwrap_or_else(|| "127.0.0.1:4222".to_owned());
            let text =
                urls.split(',').map(|url| with_login(url.trim(), &login)).collect::<Vec<_>>().join(",");
            typed.insert("nats_url", Typed { name: format!("context {name}, url"), text });
        }
    }

    /// A path, with the home folder in the place of `~`.
    fn path(&self, text: &str) -> String {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest).to_string_lossy().into_owned(),
            _ => text.to_owned(),
        }
    }
}

/// What is said where a context's address is not the one that is taken: whoever names a context may not know
/// what stands in the environment.
fn overridden(name: &str, keys: &Map<String, Value>, typed: &BTreeMap<&str, Typed>) -> Option<String> {
    keys.get("url").filter(|url| is_set(url))?;
    let typed = ADDRESS.iter().filter_map(|setting| typed.get(setting));
    let typed: Vec<_> = typed.filter(|typed| !typed.name.starts_with('-')).map(Typed::shown).collect();
    (!typed.is_empty()).then(|| format!("context {name}: its url gives way to {}", typed.join(", ")))
}

/// The name of the context that is selected.
fn selected(folder: &Path) -> Result<String, String> {
    let file = folder.join("context.txt");
    let name = fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Err(format!("--context: none is selected in {}: give its name", file.display()));
    }
    Ok(name)
}

fn read(folder: &Path, name: &str) -> Result<Map<String, Value>, String> {
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err("expected a name, and no path".to_owned());
    }
    let folder = folder.join("context");
    let file = folder.join(format!("{name}.json"));
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let known = known(&folder);
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no {} (contexts: {known})", file.display()));
        }
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    // An error would quote what may be secret.
    let keys = serde_json::from_slice(&text).map_err(|_| format!("{} is no JSON object", file.display()))?;
    Ok(keys)
}

/// The names of the contexts that there are.
fn known(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".json")?.to_owned());
    let mut names: Vec<_> = files.filter_map(name).collect();
    names.sort();
    names
}

fn is_known(key: &str) -> bool {
    IGNORED.contains(&key) || LOGIN.contains(&key) || KEYS.iter().any(|(known, _)| *known == key)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned())
}

/// User and password, or a token, as a URL has them.
fn login(keys: &Map<String, Value>) -> Option<String> {
    let encoded = |key: &str| {
        let text = keys.get(key)?.as_str().filter(|text| !text.is_empty())?;
        Some(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string())
    };
    match (encoded("user"), encoded("password")) {
        (Some(user), Some(password)) => Some(format!("{user}:{password}")),
        (Some(user), None) => Some(user),
        _ => encoded("token"),
    }
}

fn with_login(url: &str, login: &str) -> String {
    match url.split_once("://") {
        _ if url.contains('@') => url.to_owned(),
        Some((scheme, rest)) => format!("{scheme}://{login}@{rest}"),
        None => format!("nats://{login}@{url}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(context: &str, typed: &[(&'static str, &str)]) -> Vec<String> {
        let keys: Map<String, Value> = serde_json::from_str(context).unwrap();
        let mut all = typed
            .iter()
            .map(|(name, text)| (*name, Typed { name: (*name).to_owned(), text: (*text).to_owned() }))
            .collect();
        let env = [(OsString::from("HOME"), OsString::from("/home/me"))];
        Context::of(None, &env).merge("c", &keys, &mut all);
        all.iter().map(|(name, typed)| format!("{name}={}", typed.text)).collect()
    }

    #[test]
    fn a_context_fills_in_what_nobody_typed() {
        let whole = r#"{"url":"nats://a:1,b:2","creds":"~/x.creds","nkey":"","ca":"/ca","tls_first":true,
            "jetstream_domain":"hub","inbox_prefix":"_I","token":"","description":"x"}"#;
        let expected = [
            "nats_ca_file=/ca",
            "nats_creds_file=/home/me/x.creds",
            "nats_inbox_prefix=_I",
            "nats_js_domain=hub",
            "nats_tls_first=true",
            "nats_url=nats://a:1,b:2",
        ];
        assert_eq!(merged(whole, &[]), expected);
        assert_eq!(
            merged(whole, &[("nats_host", "h"), ("nats_token_file", "/t"), ("nats_js_domain", "edge")]),
            [
                "nats_ca_file=/ca",
                "nats_host=h",
                "nats_inbox_prefix=_I",
                "nats_js_domain=edge",
                "nats_tls_first=true",
                "nats_token_file=/t",
            ]
        );
    }

    #[test]
    fn an_address_that_is_not_the_contexts_is_told_without_its_login() {
        let told = |context: &str, name: &str| {
            let typed = Typed { name: name.to_owned(), text: "nats://u:secret@b:2".to_owned() };
            overridden("c", &serde_json::from_str(context).unwrap(), &[("nats_url", typed)].into())
        };
        let said = "context c: its url gives way to nats_url=nats://***@b:2".to_owned();
        assert_eq!(told(r#"{"url":"nats://a:1"}"#, "nats_url"), Some(said));
        assert_eq!(told(r#"{"url":"nats://a:1"}"#, "--nats-url"), None, "it was just typed");
        assert_eq!(told(r#"{"url":""}"#, "nats_url"), None);
    }

    #[test]
    fn a_login_in_the_file_goes_into_the_urls_unless_another_was_typed() {
        let user = r#"{"url":"nats://a:1, tls://b:2","user":"u","password":"p@/"}"#;
        let token = r#"{"token":"t:1"}"#;
        for (context, typed, expected) in [
            (user, &[][..], "nats_url=nats://u:p%40%2F@a:1,tls://u:p%40%2F@b:2"),
            (user, &[("nats_url", "h:3")], "nats_url=nats://u:p%40%2F@h:3"),
            (user, &[("nats_url", "nats://v:w@h:3")], "nats_url=nats://v:w@h:3"),
            (token, &[], "nats_url=nats://t%3A1@127.0.0.1:4222"),
        ] {
            assert_eq!(merged(context, typed), [expected], "{typed:?}");
        }
        let by_host = merged(token, &[("nats_host", "h")]);
        assert_eq!(by_host, ["nats_host=h", "nats_url=nats://t%3A1@h:4222"]);
        let by_file = merged(user, &[("nats_creds_file", "/c")]);
        assert_eq!(by_file, ["nats_creds_file=/c", "nats_url=nats://a:1, tls://b:2"]);
    }
}

//! The login to NATS: one of the ways that are set.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    reader::{Reader, Reported},
    values::{Read, file, pair},
};

/// A way to log in to NATS. Files are read at the start. A login that is refused later for half a minute ends
/// the program, and its restart reads the files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// No credentials.
    None,
    /// A `.creds` file: a JWT and its seed.
    Creds(PathBuf),
    /// A file with an nkey seed.
    Nkey(PathBuf),
    /// A file with a token.
    Token(PathBuf),
    /// A user, and a file with the password.
    UserPassword(String, PathBuf),
    /// The text before the @ in `nats_url`.
    InUrl(UrlLogin),
}

/// A login that stands in a URL. Its `Debug` form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlLogin {
    /// The user; where there is no password, a token.
    pub user: String,
    /// The password.
    pub password: Option<String>,
}

impl fmt::Debug for UrlLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names the settings of a refused login and shows nothing of it.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no login, and none is set",
            Self::Creds(_) => "the login of nats_creds_file",
            Self::Nkey(_) => "the login of nats_nkey_file",
            Self::Token(_) => "the token of nats_token_file",
            Self::UserPassword(..) => "nats_user with the password of nats_password_file",
            Self::InUrl(_) => "the login in nats_url",
        })
    }
}

/// Takes the login out of a server's URL: the client library does not read it there, and nothing that shows a
/// URL is to show it.
pub(super) fn take(url: &mut Url) -> Read<Option<UrlLogin>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    let user = decoded(url.username()).map_err(|_| "expected a user in UTF-8")?;
    let password = url.password().map(decoded).transpose().map_err(|_| "expected a password in UTF-8")?;
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err("expected a URL with a host".to_owned());
    }
    Ok((!user.is_empty() || password.is_some()).then_some(UrlLogin { user, password }))
}

/// The one login that is set, where `in_urls` are those of the servers that have one.
pub(super) fn login(reader: &mut Reader, in_urls: Vec<UrlLogin>) -> Result<Login, Reported> {
    let creds = reader.optional("nats_creds_file", file);
    let nkey = reader.optional("nats_nkey_file", file);
    let token = reader.optional("nats_token_file", file);
    let user = pair(reader, ("nats_user", |text: &str| Ok(text.to_owned())), ("nats_password_file", file));

    let mut in_urls = in_urls.into_iter();
    let in_url = in_urls.next();
    if in_urls.any(|other| Some(other) != in_url) {
        return Err(reader.fault("nats_url", "expected the same login for all servers"));
    }
    let mut ways: Vec<&str> = ["nats_creds_file", "nats_nkey_file", "nats_token_file", "nats_user"].into();
    ways.retain(|name| reader.is_set(name));
    if in_url.is_some() {
        ways.push("nats_url");
    }
    if let [first, others @ ..] = ways.as_slice()
        && !others.is_empty()
    {
        let others: Vec<_> = others.iter().map(|name| reader.shown(name)).collect();
        return Err(reader
            .fault(first, format!("expected only one way to log in, but {} is set too", others.join(", "))));
    }
    Ok(match (creds?, nkey?, token?, user?, in_url) {
        (Some(file), ..) => Login::Creds(file),
        (_, Some(file), ..) => Login::Nkey(file),
        (_, _, Some(file), ..) => Login::Token(file),
        (.., Some((user, file)), _) => Login::UserPassword(user, file),
        (.., Some(login)) => Login::InUrl(login),
        _ => Login::None,
    })
}

//! The address of the gateway.

use url::Url;

use super::{
    nats::address,
    reader::{Reader, Reported},
    values::Read,
};

pub(super) fn gateway(reader: &mut Reader) -> Result<Url, Reported> {
    let url = reader.optional("gateway_url", base);
    let theirs = address(reader, "faas_gateway_address", "faas_gateway_port")?;
    match url? {
        Some(url) => Ok(url),
        None => {
            let address = theirs.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
            base(&format!("http://{address}"))
                .map_err(|expected| reader.fault("faas_gateway_address", expected))
        }
    }
}

/// The URL that `/function/NAME` is appended to.
fn base(text: &str) -> Read<Url> {
    let mut url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or("expected a URL such as http://gateway:8080")?;
    let (user, password) = (url.username(), url.password());
    // Calls to functions need no login at the gateway, and one in this URL would find its way into logs.
    if !user.is_empty() || password.is_some() {
        return Err("expected a URL without user and password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without query and fragment".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(base(text).ok().as_ref().map(Url::as_str), expected, "{text}");
    }

    #[test]
    fn a_base_path_is_kept_without_a_slash_at_its_end() {
        check("http://gateway:8080", Some("http://gateway:8080/"));
        check("https://gateway", Some("https://gateway/"));
        check("http://gateway/a/b//", Some("http://gateway/a/b"));
        check("http://[::1]:8080/", Some("http://[::1]:8080/"));
    }

    #[test]
    fn what_is_no_bare_http_url_is_refused() {
        for text in [
            "gateway:8080",
            "gateway",
            "ftp://gateway",
            "http://",
            "http://u@gateway",
            "http://u:p@gateway",
            "http://:p@gateway",
            "http://gateway/?",
            "http://gateway/?a=b",
            "http://gateway/#a",
            "http://gateway:99999",
        ] {
            check(text, None);
        }
    }
}

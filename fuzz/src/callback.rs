//! Whom callbacks may go to. Input: the allowed hosts; a URL, on the next line.

use queue_worker::config::allowed::AllowedHosts;
use url::Url;

/// A list of hosts is refused, or allows exactly what its globs say, however a URL spells its host.
pub fn check(data: &[u8]) {
    let mut lines = super::lines(data).into_iter();
    let (hosts, url) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let everybody: AllowedHosts = "*".parse().expect("a list");
    let nobody: AllowedHosts = "none".parse().expect("a list");
    let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    if let Some(url) = &url {
        assert!(everybody.permits(url) && !nobody.permits(url));
    }
    let allowed = match hosts.parse::<AllowedHosts>() {
        Ok(allowed) => allowed,
        Err(invalid) => return super::is_showable(&invalid.to_string(), 200),
    };
    let (Some(url), false) = (url, hosts.contains('*')) else { return };
    // Without stars, what is allowed is what is written.
    let written = |host: &str| Url::parse(&format!("http://{}", host.trim())).ok();
    let same = |other: &Url| {
        let name = |url: &Url| url.host_str().map(|host| host.strip_suffix('.').unwrap_or(host).to_owned());
        name(other) == name(&url)
    };
    if allowed.permits(&url) {
        assert!(hosts.split(',').filter_map(written).any(|other| same(&other)), "{hosts} allows {url}");
    }
}

//! The message that a gateway queued. Input: its payload.

use percent_encoding::percent_decode_str;
use queue_worker::message::decode::{Invocation, decode};
use url::Url;

/// A message is refused in a few words, or can be written again and calls its own function.
pub fn check(data: &[u8]) {
    match decode(data) {
        Ok(invocation) => {
            assert_eq!(decode(&invocation.encode()).as_ref(), Ok(&invocation));
            calls_its_function(&invocation);
            calls_back_whom_it_names(&invocation);
        }
        Err(undecodable) => super::is_showable(&undecodable.reason, 200),
    }
}

/// However servers on the way read the URL, the call stays below its function.
fn calls_its_function(invocation: &Invocation) {
    let path = invocation.target_path();
    assert!(path.is_ascii() && (path.is_empty() || path.starts_with('/')));
    let decoded: Vec<u8> = percent_decode_str(&path).collect();
    assert!(decoded == invocation.path.as_bytes() || decoded == format!("/{}", invocation.path).as_bytes());
    let own = format!("/function/{}", invocation.function);
    let url = Url::parse(&format!("http://gateway{own}{path}")).expect("a URL");
    assert_eq!((url.host_str(), url.query(), url.fragment()), (Some("gateway"), None, None));
    let rest = url.path().strip_prefix(&own).expect("the function's own path");
    assert!(rest.is_empty() || rest.starts_with('/'));
}

fn calls_back_whom_it_names(invocation: &Invocation) {
    let Some(parts) = &invocation.callback else { return };
    match invocation.callback_url().expect("there is a callback") {
        Ok(url) => {
            assert!(["http", "https"].contains(&url.scheme()));
            let named = Url::parse(&format!("{}://{}", parts.scheme, parts.host)).expect("a host");
            assert_eq!((url.host(), url.port()), (named.host(), named.port()));
            assert!(url.host_str().is_some_and(|host| !host.is_empty()));
            assert!(parts.user || (url.username().is_empty() && url.password().is_none()));
        }
        Err(reason) => super::is_showable(&reason, 200),
    }
}

//! The gateway's own API, which knows the functions: `GET /system/function/NAME`.
//!
//! Source: the OpenFaaS gateway's routes, and `FunctionStatus` of its provider API, of which only
//! `annotations` is read.

use std::{collections::BTreeMap, path::Path, time::Duration};

use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use reqwest::{Client, RequestBuilder, redirect};
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{error::Elapsed, timeout},
};
use url::Url;

use super::Annotations;
use crate::{
    message::{decode::FunctionName, http_headers::basic_auth},
    outbound::invoke::{Trust, like_it, root},
    retry::policy::ANNOTATIONS,
    tasks::{
        offload::Offload,
        supervisor::{Part, Supervisor},
    },
};

/// The longest time of a look-up, its wait for its turn included.
const LIMIT: Duration = Duration::from_secs(5);
/// The most look-ups at once. A gateway that just came back has others to serve.
const AT_ONCE: usize = 8;
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;
/// The most bytes of one function's annotations that are remembered. They are four short texts.
const REMEMBERED: usize = 4_096;

/// The gateway's API about functions.
#[derive(Debug)]
pub(super) struct System {
    base: String,
    client: Client,
    offload: Offload,
    login: Option<HeaderValue>,
    turns: Semaphore,
}

/// The reason why a look-up failed. It holds no secret, and nothing of an answer's body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {LIMIT:?}")]
    TimedOut(#[from] Elapsed),
    #[error("{}", root(.0))]
    Unanswered(#[from] reqwest::Error),
    #[error("the gateway answered {0}")]
    Status(u16),
    #[error("{0}")]
    Unreadable(&'static str),
}

impl System {
    /// The gateway at `base`, with a login if it wants one.
    pub(super) fn new(
        base: &Url,
        trust: &Trust,
        login: Option<HeaderValue>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let client = trust.apply(like_it(Client::builder())).redirect(redirect::Policy::none()).no_proxy();
        let client = client.pool_idle_timeout(LIMIT).build();
        let (client, offload) =
            (client.map_err(std::io::Error::other)?, Offload::start(Part::Lookups, supervisor)?);
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            client,
            offload,
            login,
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// The function's annotations on retrying; `None` where there is no such function.
    pub(super) async fn annotations(&self, function: &FunctionName) -> Result<Option<Annotations>, Failure> {
        timeout(LIMIT, async {
            let _turn = self.turns.acquire().await;
            self.ask(function).await
        })
        .await?
    }

    async fn ask(&self, function: &FunctionName) -> Result<Option<Annotations>, Failure> {
        let mut request = self.client.get(url(&self.base, function));
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        self.offload
            .run(answer(request))
            .await
            .unwrap_or(Err(Failure::Unreadable("the answer broke the HTTP client")))
    }
}

/// The URL of a function in the API of a gateway at `base`. A name without a namespace is looked up without
/// one: the provider knows its own default, and ours is for metrics.
pub(crate) fn url(base: &str, function: &FunctionName) -> String {
    let query = function.namespace().map(|namespace| format!("?namespace={namespace}")).unwrap_or_default();
    format!("{base}/system/function/{}{query}", function.name())
}

/// Sends the question, and reads the answer to its end.
async fn answer(request: RequestBuilder) -> Result<Option<Annotations>, Failure> {
    let mut response = request.send().await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status => return Err(Failure::Status(status.as_u16())),
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > LONGEST {
            return Err(Failure::Unreadable("the answer has more than a MiB"));
        }
        body.extend_from_slice(&piece);
    }
    read(&body).map(Some).map_err(Failure::Unreadable)
}

/// The annotations about retries in a function's description.
fn read(body: &[u8]) -> Result<Annotations, &'static str> {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        annotations: Option<BTreeMap<String, Option<String>>>,
    }

    let status: Status = serde_json::from_slice(body).map_err(|_| "the answer describes no function")?;
    let all = status.annotations.unwrap_or_default().into_iter();
    let ours: Annotations = all
        .filter(|(key, _)| key.starts_with(ANNOTATIONS))
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let size: usize = ours.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > REMEMBERED { Err("the annotations are too long to be remembered") } else { Ok(ours) }
}

/// The login from the files of a mounted secret, named as in OpenFaaS.
pub(crate) fn login(folder: &Path) -> std::io::Result<HeaderValue> {
    // An editor's newline at the end belongs to nobody's password.
    let read = |name| std::fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned());
    let (user, password) = (read("basic-auth-user")?, read("basic-auth-password")?);
    basic_auth(user.as_bytes(), password.as_bytes()).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_function_s_description_what_concerns_retries_is_kept() {
        let check = |body: &str, expected: &[(&str, &str)]| {
            let expected = expected
                .iter()
                .map(|(key, value)| (format!("{ANNOTATIONS}{key}"), (*value).to_owned()))
                .collect();
            assert_eq!(read(body.as_bytes()), Ok(expected), "{body}");
        };
        check(
            r#"{"name":"f","image":"x","replicas":1,"annotations":{"com.openfaas.retry.attempts":"2","com.openfaas.queue":"slow",
                "com.openfaas.retry.codes":"429","com.openfaas.retry.max_wait":null},"labels":{"a":"b"}}"#,
            &[("attempts", "2"), ("codes", "429")],
        );
        for none in [
            "{}",
            r#"{"name":"f","annotations":null}"#,
            r#"{"annotations":{}}"#,
            r#"{"annotations":{"a":"b"}}"#,
        ] {
            check(none, &[]);
        }
    }

    #[test]
    fn what_describes_no_function_teaches_nothing() {
        for body in [
            "",
            "null",
            "1",
            "\"f\"",
            "<html>",
            r#"{"annotations":"#,
            r#"{"annotations":["a"]}"#,
            r#"{"annotations":{"a":1}}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let long =
            |length| format!(r#"{{"annotations":{{"com.openfaas.retry.codes":"{}"}}}}"#, "4".repeat(length));
        assert!(read(long(REMEMBERED - 24).as_bytes()).is_ok());
        assert!(read(long(REMEMBERED - 23).as_bytes()).is_err());
    }

    #[test]
    fn a_login_is_read_and_never_shown() {
        let folder = std::env::temp_dir().join(format!("queue-worker-login-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("basic-auth-user"), "admin\n").unwrap();
        assert!(login(&folder).is_err(), "the password is missing");
        std::fs::write(folder.join("basic-auth-password"), "s3cret\n").unwrap();
        let login = login(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(login, "Basic YWRtaW46czNjcmV0");
        assert_eq!(format!("{login:?}"), "Sensitive");
    }
}

//! Where functions answer.

use super::super::{facts::Facts, finding::Finding};
use crate::{
    broker::known_issues::Severity::{Fail, Warn},
    text::duration::shown,
};

/// Whether the gateway answers at all. Its answer to `/healthz` is its own affair: not every gateway has
/// such a page.
pub(crate) fn health(facts: &Facts) -> Vec<Finding> {
    let url = &facts.loaded.config.gateway_url;
    let Some(health) = &facts.gateway.health else { return Vec::new() };
    vec![match health {
        Ok((status, took)) if *status < 500 => {
            Finding::ok("gateway", format!("{url} answers {status} after {}", shown(*took)))
        }
        Ok((status, _)) => {
            let means = "calls may fail, and are retried";
            Finding::new(Warn, "gateway", format!("{url} answers {status}"), means)
                .mend(format!("curl -i {}/healthz", trimmed(url.as_str())))
        }
        Err(unseen) => {
            let attempts = facts.loaded.config.retry.max_attempts;
            let means = format!("every call fails; after {attempts} attempts each is a dead letter");
            let seen = format!("{url}: {unseen}");
            let mend = match seen.contains("certificate") {
                true => {
                    "gateway_ca_file=/etc/ssl/gateway-ca.pem   # the authority that signed the gateway's \
                        certificate"
                }
                false => "gateway_url=http://gateway.openfaas:8080   # wherever it is",
            };
            Finding::new(Fail, "gateway", seen, means).mend(mend)
        }
    }]
}

/// Whether the gateway tells of its functions, where it is asked. That there is no such function tells as
/// much.
pub fn lookup(facts: &Facts) -> Vec<Finding> {
    let url = trimmed(facts.loaded.config.gateway_url.as_str());
    let (seen, login) = match &facts.gateway.function {
        None => return Vec::new(),
        Some(Ok(status @ (200 | 404))) => {
            return vec![Finding::ok(
                "function_lookup",
                format!("the gateway tells of its functions: it answers {status}"),
            )];
        }
        Some(Ok(status)) => (format!("the gateway answers {status}"), matches!(status, 401 | 403)),
        Some(Err(unseen)) => (unseen.to_string(), unseen.to_string().contains("login")),
    };
    let mend = if login {
        "basic_auth=true secret_mount_path=/run/secrets   # with the gateway's login in it".to_owned()
    } else {
        format!(
            "curl -i {url}/system/function/NAME   # or function_lookup=false, where functions have no retry \
                settings"
        )
    };
    let means = "functions' own retry settings are not known; the worker's hold for all";
    vec![Finding::new(Warn, "function_lookup", seen, means).mend(mend)]
}

fn trimmed(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{super::facts::Unseen, tests::check},
        *,
    };

    #[test]
    fn a_gateway_has_to_answer_and_may_have_no_such_page() {
        let silent = || Unseen::Silent("connection refused".to_owned());
        for (status, expected) in [(200, [].as_slice()), (404, &[]), (401, &[]), (502, &[("gateway", Warn)])]
        {
            check(&[], |facts| facts.gateway.health = Some(Ok((status, Duration::ZERO))), expected);
        }
        check(&[], |facts| facts.gateway.health = Some(Err(silent())), &[("gateway", Fail)]);
        for (answer, mend) in [
            (Ok(200), None),
            (Ok(404), None),
            (Ok(401), Some("basic_auth=true ")),
            (Ok(502), Some("curl -i http://127.0.0.1:8080/system/function/NAME ")),
            (Err(silent()), Some("curl -i ")),
        ] {
            let expected: &[_] = if mend.is_some() { &[("function_lookup", Warn)] } else { &[] };
            let found = check(
                &[("function_lookup", "true")],
                |facts| facts.gateway.function = Some(answer),
                expected,
            );
            let told = found.first().and_then(|finding| finding.mend.as_deref()).unwrap_or_default();
            assert!(told.starts_with(mend.unwrap_or_default()), "{told}");
        }
    }
}

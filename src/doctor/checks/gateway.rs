//! Where functions answer.

use super::super::{facts::Facts, finding::Finding};
use crate::{
    advice::Severity::{Fail, Warn},
    duration::shown,
};

/// Whether the gateway answers at all. What it answers to `/healthz` is its own affair: not every gateway has such a page.
pub fn health(facts: &Facts) -> Vec<Finding> {
    let url = &facts.loaded.config.gateway_url;
    vec![match &facts.gateway.health {
        Ok((status, took)) if *status < 500 => Finding::ok("gateway", format!("{url} answers {status} after {}", shown(*took))),
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
                true => "gateway_ca_file=/etc/ssl/gateway-ca.pem   # the authority that signed the gateway's certificate",
                false => "gateway_url=http://gateway.openfaas:8080   # wherever it is",
            };
            Finding::new(Fail, "gateway", seen, means).mend(mend)
        }
    }]
}

/// Whether the gateway tells of its functions, where it is asked.
pub fn functions(facts: &Facts) -> Vec<Finding> {
    let seen = match &facts.gateway.functions {
        None => return Vec::new(),
        Some(Ok(200)) => return vec![Finding::ok("function_lookup", "the gateway tells of its functions")],
        Some(Ok(status)) => format!("the gateway answers {status}"),
        Some(Err(unseen)) => unseen.to_string(),
    };
    let means = "functions' own retry settings are not known; the worker's hold for all";
    vec![
        Finding::new(Warn, "function_lookup", seen, means)
            .mend("basic_auth=true secret_mount_path=/run/secrets   # with the gateway's login in it"),
    ]
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
        for (status, expected) in [(200, [].as_slice()), (404, &[]), (401, &[]), (502, &[("gateway", Warn)])] {
            check(&[], |facts| facts.gateway.health = Ok((status, Duration::ZERO)), expected);
        }
        check(&[], |facts| facts.gateway.health = Err(silent()), &[("gateway", Fail)]);
        for (answer, expected) in
            [(Ok(200), [].as_slice()), (Ok(401), &[("function_lookup", Warn)]), (Err(silent()), &[("function_lookup", Warn)])]
        {
            check(&[("function_lookup", "true")], |facts| facts.gateway.functions = Some(answer), expected);
        }
    }
}

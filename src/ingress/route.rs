//! The two routes. Pure.

use axum::http::{Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::Refusal;
use crate::{
    config::Queue,
    message::{decode::FunctionName, names::covers},
};

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Route<'q> {
    pub(super) queue: &'q Queue,
    /// The subject that it is published on.
    pub(super) subject: String,
    /// The function that is called; `None`: the body is the message.
    pub(super) function: Option<Function>,
}

/// A function, as a caller names it.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: FunctionName,
    /// What follows the name, percent-decoded.
    pub(super) path: String,
    /// The query.
    pub(super) query: String,
}

fn missing(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", text)
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed", text)
}

/// The route of a request.
pub(super) fn route<'q>(method: &Method, uri: &Uri, queues: &'q [Queue]) -> Result<Route<'q>, Refusal> {
    let path = uri.path();
    if let Some(rest) = path.strip_prefix("/async-function/") {
        posted(method).and_then(|()| to_function(rest, uri.query(), queues))
    } else if let Some(queue) = path
        .strip_prefix("/queues/")
        .and_then(|rest| rest.strip_suffix("/messages"))
        .filter(|queue| !queue.is_empty() && !queue.contains('/'))
    {
        posted(method).and_then(|()| to_queue(queue, uri.query(), queues))
    } else {
        Err(missing("expected /async-function/NAME or /queues/QUEUE/messages"))
    }
}

/// Whatever else is wrong with it.
fn posted(method: &Method) -> Result<(), Refusal> {
    let refusal = || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "expected POST");
    (method == Method::POST).then_some(()).ok_or_else(refusal)
}

/// As OpenFaaS's gateway has it: the name, and what the function is told behind it.
fn to_function<'q>(rest: &str, query: Option<&str>, queues: &'q [Queue]) -> Result<Route<'q>, Refusal> {
    let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let name: FunctionName = name.parse().map_err(|_| missing("no function is called so"))?;
    let queue = queues.iter().find(|queue| queue.request.is_none());
    let queue = queue.ok_or_else(|| missing("no queue of functions is served"))?;
    let path = percent_decode_str(path).decode_utf8().map_err(|_| bad("the path is no UTF-8"))?.into_owned();
    let function = Function { path, query: query.unwrap_or_default().to_owned(), name };
    let subject = match queue.subject() {
        subject if subject == queue.name => subject.to_owned(),
        filter => by_function(filter, &function.name)
            .ok_or_else(|| missing("the queue's subjects do not end with a function"))?,
    };
    Ok(Route { queue, subject, function: Some(function) })
}

/// The subject for a function where the filter ends with a wildcard for it.
fn by_function(filter: &str, function: &FunctionName) -> Option<String> {
    let head = filter.strip_suffix('*').or_else(|| filter.strip_suffix('>'))?;
    let name = if filter.ends_with('*') { function.token() } else { function.to_string() };
    Some(format!("{head}{name}")).filter(|subject| covers(filter, subject) && !head.contains('*'))
}

/// Any queue's: its own subject, or the one that the caller names where the consumer takes several.
fn to_queue<'q>(name: &str, query: Option<&str>, queues: &'q [Queue]) -> Result<Route<'q>, Refusal> {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let queue = queues.iter().find(|queue| queue.name == name);
    let queue = queue.ok_or_else(|| missing("no queue of this name is served"))?;
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let told = parameters.find(|(name, _)| name == "subject").map(|(_, subject)| subject.into_owned());
    let subject = told.unwrap_or_else(|| queue.name.clone());
    let plain = |token: &str| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
    };
    if !subject.split('.').all(plain) || !covers(&queue.filter_subject, &subject) {
        let filter = &queue.filter_subject;
        return Err(bad(format!("expected ?subject= with a subject that {filter} takes")));
    }
    Ok(Route { queue, subject, function: None })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::load;

    fn queues(set: &[(&str, &str)]) -> Vec<Queue> {
        let set = set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load([], set).unwrap().config.queues
    }

    /// The queue, the subject and the function of a request, or the status of its refusal.
    fn check(queues: &[Queue], uri: &str, expected: Result<(&str, &str, Option<&str>), u16>) {
        let found = route(&Method::POST, &uri.parse().unwrap(), queues);
        let found = found.as_ref().map_err(|refusal| refusal.status.as_u16()).map(|route| {
            let function = route.function.as_ref().map(|function| function.name.as_str());
            (route.queue.name.as_str(), route.subject.as_str(), function)
        });
        assert_eq!(found, expected, "{uri}");
    }

    #[test]
    fn each_route_leads_to_its_queue() {
        let mixed = queues(&[
            ("queue_name", "orders,faas-request,team.jobs"),
            ("input", "http,openfaas,http"),
            ("nats_filter_subject", "orders.*,faas-request,team.jobs"),
            ("target_url", "http://shop/"),
        ]);
        check(&mixed, "/async-function/echo", Ok(("faas-request", "faas-request", Some("echo"))));
        check(&mixed, "/async-function/echo.dev/a?b", Ok(("faas-request", "faas-request", Some("echo.dev"))));
        check(&mixed, "/queues/team.jobs/messages", Ok(("team.jobs", "team.jobs", None)));
        check(&mixed, "/queues/orders/messages?a=b&subject=orders.e%75", Ok(("orders", "orders.eu", None)));
        for (uri, status) in [
            ("/async-function/", 404),
            ("/async-function/..%2Fx", 404),
            ("/async-function/echo/%FF", 400),
            ("/queues//messages", 404),
            ("/queues/a/b/messages", 404),
            ("/queues/other/messages", 404),
            ("/queues/orders/messages", 400),
            ("/queues/orders/messages?subject=orders.%3E", 400),
            ("/queues/orders/messages?subject=orders.a%20b", 400),
            ("/queues/orders/messages?subject=orders-dead.x", 400),
        ] {
            check(&mixed, uri, Err(status));
        }
        let get = route(&Method::GET, &"/queues/team.jobs/messages".parse().unwrap(), &mixed);
        assert_eq!(get.unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_function_stands_in_the_subject_where_the_queue_has_it_there() {
        for (filter, subject) in
            [("faas-request.*", "faas-request.echo%2Edev"), ("faas-request.>", "faas-request.echo.dev")]
        {
            let queues = queues(&[("nats_filter_subject", filter)]);
            check(&queues, "/async-function/echo.dev", Ok(("faas-request", subject, Some("echo.dev"))));
        }
        check(&queues(&[("nats_filter_subject", "*.x")]), "/async-function/echo", Err(404));
    }
}

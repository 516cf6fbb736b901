//! The forms of the queues' messages, and the targets of those that name no function. Each setting has one
//! value for all queues, or one for each of them in their order, where an empty one is none. A queue of
//! OpenFaaS's messages has no use for a target.

use std::{fmt, path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue, Method};

use super::{
    reader::{Reader, Reported},
    values::{Read, choice, file},
};
use crate::message::{
    form::Form,
    http_headers::HOP_BY_HOP,
    target::{InvalidTemplate, Target, Template},
};

/// Headers that are each call's own, or the connection's.
const NOT_SET: [&str; 6] =
    ["content-length", "expect", "x-call-id", "x-callback-url", "x-retry", "x-retry-max"];

/// The settings that only a target has a use for. Charts render the default of the method.
const OF_TARGETS: [&str; 3] = ["target_url", "target_token_file", "target_headers"];

/// How a target is called.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Headers in place of the message's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The file of the token that is sent as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
}

impl fmt::Debug for Request {
    /// Without the values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let mut shown = f.debug_struct("Request");
        shown.field("method", &self.method).field("headers", &names).field("token_file", &self.token_file);
        shown.finish()
    }
}

/// The form of a queue's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    OpenFaas,
    Http,
    CloudEvents,
}

/// The name of a queue, and what its consumer takes.
pub(super) type Named<'a> = (&'a str, &'a str);

/// The form of each queue's messages, and how its target is called, if it has one.
pub(super) fn forms(
    reader: &mut Reader,
    queues: &[Named<'_>],
) -> Result<Vec<(Form, Option<Request>)>, Reported> {
    let inputs = [("openfaas", Input::OpenFaas), ("http", Input::Http), ("cloudevents", Input::CloudEvents)];
    let inputs = each(reader, "input", queues, split, |_, text| choice(&inputs)(text));
    let urls = each(reader, "target_url", queues, split, target);
    let methods = each(reader, "target_method", queues, split, |_, text| method(text));
    let tokens = each(reader, "target_token_file", queues, split, |_, text| file(text));
    let headers = each(reader, "target_headers", queues, blocks, |_, text| headers(text));
    let (inputs, urls, methods, tokens, headers) = (inputs?, urls?, methods?, tokens?, headers?);
    if inputs.iter().all(|input| input.is_none_or(|input| input == Input::OpenFaas)) {
        return no_targets(reader, queues);
    }
    let settings = inputs.into_iter().zip(urls).zip(methods).zip(tokens).zip(headers).zip(queues);
    let mut forms = Vec::new();
    for (((((input, url), method), token_file), headers), (queue, _)) in settings {
        let form: fn(Arc<Target>) -> Form = match input.unwrap_or(Input::OpenFaas) {
            Input::OpenFaas => {
                forms.push(Ok((Form::OpenFaas, None)));
                continue;
            }
            Input::Http => Form::Http,
            Input::CloudEvents => Form::CloudEvents,
        };
        let headers = headers.unwrap_or_default();
        if token_file.is_some() && headers.iter().any(|(name, _)| name == "authorization") {
            let expected =
                format!("expected no Authorization beside target_token_file, for the queue {queue}");
            forms.push(Err(reader.fault("target_headers", expected)));
            continue;
        }
        let Some(target) = url else {
            let expected = format!(
                "expected where the messages of the queue {queue} go, such as http://shop:8080/hooks: its \
                    input is not openfaas"
            );
            forms.push(Err(reader.fault("target_url", expected)));
            continue;
        };
        let request = Request { method: method.unwrap_or(Method::POST), headers, token_file };
        forms.push(Ok((form(Arc::new(target)), Some(request))));
    }
    forms.into_iter().collect()
}

/// The forms where all messages are OpenFaaS's. Who set a target counts on it.
fn no_targets(reader: &mut Reader, queues: &[Named<'_>]) -> Result<Vec<(Form, Option<Request>)>, Reported> {
    let set: Vec<_> = OF_TARGETS.into_iter().filter(|setting| reader.is_set(setting)).collect();
    let expected = "expected input=http or cloudevents beside it: OpenFaaS's messages go to gateway_url";
    let faults: Vec<_> = set.into_iter().map(|setting| reader.fault(setting, expected)).collect();
    match faults.first() {
        Some(reported) => Err(*reported),
        None => Ok(vec![(Form::OpenFaas, None); queues.len()]),
    }
}

/// The settings in which a queue of OpenFaaS's messages has a value of its own, which nothing uses.
pub(super) fn unused(reader: &Reader, forms: &[&Form]) -> Vec<&'static str> {
    let has_unused = |setting: &&str| {
        let parts = if *setting == "target_headers" { blocks } else { split };
        let parts = reader.text(setting).map(parts).unwrap_or_default();
        let own = parts.len() > 1 && parts.len() == forms.len();
        own && parts.iter().zip(forms).any(|(part, form)| form.target().is_none() && !part.trim().is_empty())
    };
    OF_TARGETS.into_iter().filter(has_unused).collect()
}

/// What was set for each queue.
fn each<T: Clone>(
    reader: &mut Reader,
    setting: &'static str,
    queues: &[Named<'_>],
    parts: impl Fn(&str) -> Vec<String>,
    read: impl Fn(Named<'_>, &str) -> Read<T>,
) -> Result<Vec<Option<T>>, Reported> {
    let none = |text: &str| text.trim().is_empty();
    reader
        .optional(setting, |text| {
            // A value for the only queue is taken as it is: there may be commas in a URL.
            let parts = if queues.len() == 1 { vec![text.to_owned()] } else { parts(text) };
            let one = |(queue, part): (&Named<'_>, &String)| match none(part) {
                true => Ok(None),
                false => read(*queue, part.trim()).map(Some),
            };
            match parts.as_slice() {
                [part] => queues.iter().map(|queue| one((queue, part))).collect(),
                parts if parts.len() == queues.len() => queues.iter().zip(parts).map(one).collect(),
                _ => {
                    let names: Vec<_> = queues.iter().map(|(name, _)| *name).collect();
                    let names = names.join(", ");
                    Err(format!("expected one value, or one for each queue ({names}), in that order"))
                }
            }
        })
        .map(|found: Option<Vec<Option<T>>>| found.unwrap_or_else(|| vec![None; queues.len()]))
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// Headers of several queues: between those of two stands a line with nothing but a comma.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        if line.trim() == "," {
            blocks.push(String::new());
        } else if let Some(block) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

fn target((queue, filter): Named<'_>, text: &str) -> Read<Target> {
    let url: Result<Template, InvalidTemplate> = text.parse();
    url.and_then(|url| Target::new(queue, filter, url)).map_err(|expected| expected.to_string())
}

fn method(text: &str) -> Read<Method> {
    let methods =
        [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::GET].map(|m| (m.to_string(), m));
    let found = methods.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found
        .map(|(_, method)| method.clone())
        .ok_or_else(|| "expected POST or PUT or PATCH or DELETE or GET".to_owned())
}

/// `Name: value`, a line each. The values may be secret, and no error quotes one.
fn headers(text: &str) -> Read<Vec<(HeaderName, HeaderValue)>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let expected = |what: &str| format!("line {}: expected {what}", at + 1);
            let (name, value) = line.split_once(':').ok_or_else(|| expected("Name: value"))?;
            let name: HeaderName =
                name.trim().parse().map_err(|_| expected("a header's name before the colon"))?;
            if HOP_BY_HOP.contains(&name.as_str()) || NOT_SET.contains(&name.as_str()) {
                return Err(expected(&format!("another header: {name} is each call's own")));
            }
            let mut value: HeaderValue =
                value.trim().parse().map_err(|_| expected("a value without control characters"))?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_a_line_each() {
        let read = |text| {
            headers(text).map(|headers| {
                let text = |(name, value): &(HeaderName, HeaderValue)| {
                    format!("{name}={}", value.to_str().unwrap_or_default())
                };
                headers.iter().map(text).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(read("X-A: 1, 2\n\n x-a:3\nHost: shop:80\n"), Ok("x-a=1, 2 x-a=3 host=shop:80".into()));
        assert_eq!(read("X-A:"), Ok("x-a=".into()));
        for (text, why) in [
            ("no colon", "line 1: expected Name: value"),
            ("A: 1\nb c: 2", "line 2: expected a header's name before the colon"),
            ("a: \u{1}", "line 1: expected a value without control characters"),
            ("X-Call-Id: 1", "line 1: expected another header: x-call-id is each call's own"),
            ("Connection: close", "line 1: expected another header: connection is each call's own"),
        ] {
            assert_eq!(read(text), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn a_comma_in_a_line_of_its_own_stands_between_the_headers_of_two_queues() {
        let check = |text, expected: &[&str]| assert_eq!(blocks(text), expected, "{text}");
        check("A: 1\nB: 2", &["A: 1\nB: 2\n"]);
        check("A: 1\n,\nB: 2, 3", &["A: 1\n", "B: 2, 3\n"]);
        check(",\nB: 2", &["", "B: 2\n"]);
    }

    #[test]
    fn a_method_may_have_a_body() {
        assert_eq!(method("put"), Ok(Method::PUT));
        for text in ["CONNECT", "TRACE", "HEAD", "x", "PO ST"] {
            assert!(method(text).is_err(), "{text}");
        }
    }
}

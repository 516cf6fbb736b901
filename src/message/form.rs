//! The forms in which messages ask for calls. Each queue has one. All that lies behind it knows
//! [`Invocation`]s only.

mod cloudevents;
mod raw;

use std::sync::Arc;

use crate::message::{
    decode::{FunctionName, Invocation, Undecodable, decode},
    subject::wildcards,
    successor::Message,
    target::Target,
};

/// The form of a queue's messages.
#[derive(Debug, Clone, Default)]
pub enum Form {
    /// The JSON of OpenFaaS's gateways, which names the function.
    #[default]
    OpenFaas,
    /// Any message, to be sent to a target: the payload is the body, and the headers are HTTP's.
    Http(Arc<Target>),
    /// An event, to be sent to a target in the binary mode of HTTP.
    CloudEvents(Arc<Target>),
}

impl Form {
    /// Where the messages go, unless they name a function themselves.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::OpenFaas => None,
            Self::Http(target) | Self::CloudEvents(target) => Some(target),
        }
    }

    /// The call that a message asks for.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn read(&self, message: &Message) -> Result<Invocation, Undecodable> {
        match self {
            Self::OpenFaas => decode(&message.payload().map_err(Undecodable::new)?),
            Self::Http(target) => raw::read(message, target, raw::as_it_is),
            Self::CloudEvents(target) => raw::read(message, target, cloudevents::content),
        }
    }

    /// The function that a subject names, where the wildcards of the consumer's filter stand for it. Dots of
    /// an OpenFaaS function's name may be written `%2E`.
    pub fn function(&self, filter: &str, subject: &str) -> Option<FunctionName> {
        match self.target() {
            Some(target) => target.function(subject).ok(),
            None => wildcards(filter, subject)?.join(".").replace("%2E", ".").parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcards_of_the_filter_stand_for_the_function() {
        for (filter, subject, name) in [
            ("faas-request.>", "faas-request.echo", Some("echo")),
            ("faas-request.>", "faas-request.echo.openfaas-fn", Some("echo.openfaas-fn")),
            ("faas-request.*", "faas-request.echo%2Eopenfaas-fn", Some("echo.openfaas-fn")),
            ("*.jobs.*", "echo.jobs.dev", Some("echo.dev")),
            (">", "echo", Some("echo")),
            ("faas-request.>", "faas-request", None),
            ("faas-request.*", "faas-request.é", None),
            ("faas-request.*", "faas-request.a%2E%2Eb", None),
        ] {
            let named = Form::OpenFaas.function(filter, subject);
            assert_eq!(named.as_ref().map(FunctionName::as_str), name, "{filter} {subject}");
        }
        let target = Target::new("orders", "orders.*", "http://shop/{1}".parse().unwrap()).unwrap();
        let named = Form::Http(Arc::new(target)).function("orders.*", "orders.a%2Eb");
        assert_eq!(named.unwrap().as_str(), "a%252Eb");
    }
}

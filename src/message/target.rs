//! Where the messages of a queue go that name no function: a URL with places for the tokens of a subject.

mod template;

use crate::message::{
    decode::{FunctionName, InvalidFunctionName},
    subject::wildcards,
};

pub use template::{InvalidTemplate, Template};

/// The target of a queue's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What its consumer takes.
    filter: String,
    /// Whether subjects have tokens for it.
    has_wildcards: bool,
    /// The URL.
    url: Template,
    /// The name of what has no tokens.
    name: Result<FunctionName, InvalidFunctionName>,
}

/// A message's place: the name under which it is called, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The name in logs, metrics, policies and subjects.
    pub(crate) function: FunctionName,
    /// The URL, without its query.
    pub(crate) url: String,
    /// The query, without `?`.
    pub(crate) query: String,
}

/// The reason why a subject leads nowhere. It quotes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nowhere {
    /// The tokens make no name.
    #[error("the subject's tokens make no name: {0}")]
    Name(#[from] InvalidFunctionName),
    /// The subject has too few tokens.
    #[error("the subject has no token for {{{0}}} of target_url")]
    Token(usize),
}

impl Target {
    /// The target of what a consumer with this filter takes from a queue.
    ///
    /// # Errors
    /// Where the URL wants a token that the filter can give in no subject.
    pub fn new(queue: &str, filter: &str, url: Template) -> Result<Self, InvalidTemplate> {
        let (given, more) = given(filter);
        if url.tokens() > given && !more {
            return Err(InvalidTemplate::Token { wanted: url.tokens(), filter: filter.to_owned(), given });
        }
        let name = FunctionName::of_tokens(queue.split('.'));
        Ok(Self { filter: filter.to_owned(), has_wildcards: given > 0, url, name })
    }

    /// The URL.
    pub fn url(&self) -> &Template {
        &self.url
    }

    /// The first token that the URL wants and that not every subject has which the filter takes.
    pub fn unsure_token(&self) -> Option<usize> {
        let (given, _) = given(&self.filter);
        (self.url.tokens() > given).then_some(given + 1)
    }

    /// The name of messages on a subject: the tokens for the wildcards, joined by dots, else the queue's.
    ///
    /// # Errors
    /// Where they make none.
    pub fn function(&self, subject: &str) -> Result<FunctionName, InvalidFunctionName> {
        self.name(&self.tokens(subject))
    }

    /// Where a message on this subject goes.
    pub(crate) fn destination(&self, subject: &str) -> Result<Destination, Nowhere> {
        let tokens = self.tokens(subject);
        let function = self.name(&tokens)?;
        let (url, query) = self.url.filled(&tokens).map_err(Nowhere::Token)?;
        Ok(Destination { function, url, query })
    }

    /// An existing consumer is used as it is, and may take what the filter does not.
    fn tokens<'s>(&self, subject: &'s str) -> Vec<&'s str> {
        if self.has_wildcards { wildcards(&self.filter, subject).unwrap_or_default() } else { Vec::new() }
    }

    fn name(&self, tokens: &[&str]) -> Result<FunctionName, InvalidFunctionName> {
        if tokens.is_empty() { self.name.clone() } else { FunctionName::of_tokens(tokens.iter().copied()) }
    }
}

/// How many tokens each subject has for the wildcards of a filter, and whether some have more.
fn given(filter: &str) -> (usize, bool) {
    let wildcards = filter.split('.').filter(|token| matches!(*token, "*" | ">")).count();
    (wildcards, filter.split('.').next_back() == Some(">"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(filter: &str, url: &str) -> Result<Target, InvalidTemplate> {
        Target::new("team.orders", filter, url.parse()?)
    }

    #[test]
    fn the_tokens_of_the_wildcards_are_put_into_the_url_and_are_the_name() {
        for (filter, url, subject, name, filled) in [
            ("orders", "http://shop/new", "orders", "team.orders", "http://shop/new"),
            ("orders.*.created", "http://shop/{1}", "orders.eu.created", "eu", "http://shop/eu"),
            ("*.orders.*", "http://shop/{2}/{1}/x", "eu.orders.new", "eu.new", "http://shop/new/eu/x"),
            ("orders.>", "http://shop/{2}", "orders.eu.new.now", "eu.new.now", "http://shop/new"),
            ("orders.*", "http://shop/a-{1}-b", "orders.a/b?c", "a%2Fb%3Fc", "http://shop/a-a%2Fb%3Fc-b"),
            ("orders.*", "http://shop/{1}", "orders.%2e%2e", "%252e%252e", "http://shop/%252e%252e"),
            ("orders.*", "http://shop/{1}", "orders.é", "%C3%A9", "http://shop/%C3%A9"),
            ("orders.*", "http://shop/new", "elsewhere", "team.orders", "http://shop/new"),
        ] {
            let destination = target(filter, url).unwrap().destination(subject).unwrap();
            assert_eq!(
                (destination.function.as_str(), destination.url.as_str()),
                (name, filled),
                "{subject}"
            );
        }
    }

    #[test]
    fn a_url_that_wants_more_than_the_filter_gives_is_refused() {
        let unsure = |filter, url| target(filter, url).map(|target| target.unsure_token());
        assert!(unsure("orders", "http://shop/{1}").is_err());
        assert!(unsure("orders.*", "http://shop/{2}").is_err());
        assert_eq!(unsure("orders.*", "http://shop/{1}"), Ok(None));
        assert_eq!(unsure("orders.>", "http://shop/{1}"), Ok(None));
        assert_eq!(unsure("orders.*.>", "http://shop/{3}/{4}"), Ok(Some(3)));
    }

    #[test]
    fn a_subject_without_the_token_leads_nowhere() {
        let target = target("orders.>", "http://shop/{2}").unwrap();
        let why = target.destination("orders.eu").unwrap_err();
        assert_eq!(why.to_string(), "the subject has no token for {2} of target_url");
        let long = format!("orders.{}.b", "x".repeat(300));
        assert!(matches!(target.destination(&long), Err(Nowhere::Name(InvalidFunctionName::TooLong))));
    }
}

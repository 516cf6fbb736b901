//! The names of functions.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Every character of a token that no function's name has.
const ENCODED_IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The longest name, in bytes. A name becomes part of NATS subjects, which servers bound.
const LONGEST: usize = 255;

/// The name of a function, with or without its namespace: `resize` or `resize.openfaas-fn`.
///
/// It matches `[-A-Za-z0-9_.]+`, as in the gateway's routes, and no part of it between dots is empty. One
/// that is made of a subject's tokens may have `%` in it, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(String);

/// A text that names no function. Its message quotes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFunctionName {
    /// There is none.
    #[error("the message names no function")]
    Empty,
    /// It has more than 255 bytes.
    #[error("the function's name is longer than {LONGEST} bytes")]
    TooLong,
    /// It has a character that no name has.
    #[error("the function's name has a character outside of [-A-Za-z0-9_.]")]
    Character,
    /// A dot stands at an end of it or beside another dot.
    #[error("the function's name has an empty part")]
    EmptyPart,
}

impl FromStr for FunctionName {
    type Err = InvalidFunctionName;

    fn from_str(name: &str) -> Result<Self, InvalidFunctionName> {
        Self::checked(name, b"-_.")?;
        Ok(Self(name.to_owned()))
    }
}

impl FunctionName {
    /// The name that tokens of a subject make together. Characters that no function's name has are
    /// percent-encoded.
    pub(crate) fn of_tokens<'t>(tokens: impl Iterator<Item = &'t str>) -> Result<Self, InvalidFunctionName> {
        let mut name = String::new();
        for (at, token) in tokens.enumerate() {
            if at > 0 {
                name.push('.');
            }
            name.extend(utf8_percent_encode(token, ENCODED_IN_NAMES));
        }
        Self::stored(name)
    }

    /// A name that this program has written. It may be one [of tokens](Self::of_tokens).
    pub(crate) fn stored(name: String) -> Result<Self, InvalidFunctionName> {
        Self::checked(&name, b"-_.%")?;
        Ok(Self(name))
    }

    fn checked(name: &str, besides: &[u8]) -> Result<(), InvalidFunctionName> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || besides.contains(&byte);
        match name {
            "" => Err(InvalidFunctionName::Empty),
            _ if name.len() > LONGEST => Err(InvalidFunctionName::TooLong),
            _ if !name.bytes().all(known) => Err(InvalidFunctionName::Character),
            _ if name.split('.').any(str::is_empty) => Err(InvalidFunctionName::EmptyPart),
            _ => Ok(()),
        }
    }

    /// The whole name, as it stands in the message.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the namespace.
    pub fn name(&self) -> &str {
        self.parts().0
    }

    /// The namespace, where the name carries one. As in the gateway, that is what follows the last dot.
    pub fn namespace(&self) -> Option<&str> {
        self.parts().1
    }

    /// The name as one token of a NATS subject: its dots, which would part it, are written `%2E`.
    pub fn token(&self) -> String {
        self.0.replace('.', "%2E")
    }

    fn parts(&self) -> (&str, Option<&str>) {
        self.0.rsplit_once('.').map_or((&self.0, None), |(name, namespace)| (name, Some(namespace)))
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_its_namespace() {
        let check = |text: &str, name, namespace, token| {
            let function: FunctionName = text.parse().unwrap();
            assert_eq!((function.as_str(), function.to_string().as_str()), (text, text));
            assert_eq!((function.name(), function.namespace()), (name, namespace));
            assert_eq!(function.token().as_str(), token);
        };
        check("echo", "echo", None, "echo");
        check("echo.dev", "echo", Some("dev"), "echo%2Edev");
        check("a.b.dev", "a.b", Some("dev"), "a%2Eb%2Edev");
        check("-_A9", "-_A9", None, "-_A9");
    }

    #[test]
    fn no_two_lists_of_tokens_are_one_name_or_one_token() {
        let check = |tokens: &[&str], name: &str, token: &str| {
            let function = FunctionName::of_tokens(tokens.iter().copied()).unwrap();
            assert_eq!((function.as_str(), function.token().as_str()), (name, token));
            assert_eq!(FunctionName::stored(name.to_owned()), Ok(function));
        };
        check(&["eu", "new"], "eu.new", "eu%2Enew");
        check(&["eu%2Enew"], "eu%252Enew", "eu%252Enew");
        check(&["a/b", "é"], "a%2Fb.%C3%A9", "a%2Fb%2E%C3%A9");
        check(&["*", ">"], "%2A.%3E", "%2A%2E%3E");
        assert!(FunctionName::of_tokens([].into_iter()).is_err());
        assert!("a%2Fb".parse::<FunctionName>().is_err());
    }

    #[test]
    fn hostile_names_are_refused() {
        let check = |text: &str, why| assert_eq!(text.parse::<FunctionName>(), Err(why), "{text:?}");
        check("", InvalidFunctionName::Empty);
        for text in [".", "..", "...", ".echo", "echo.", "a..b"] {
            check(text, InvalidFunctionName::EmptyPart);
        }
        for text in [
            "a/b",
            "/echo",
            "echo/",
            "../system",
            "a b",
            "a\0",
            "a\n",
            "*",
            ">",
            "a.*",
            "a.>",
            "a%2Eb",
            "a?x",
            "a#x",
            "a\\b",
            "é",
            "а",
            "$JS",
            "a:80",
            "u@h",
            " echo",
        ] {
            check(text, InvalidFunctionName::Character);
        }
        check(&"x".repeat(256), InvalidFunctionName::TooLong);
        assert!("x".repeat(255).parse::<FunctionName>().is_ok());
    }
}

//! A URL in which `{1}`, `{2}` … stand for tokens of a message's subject.

use std::{fmt, str::FromStr};

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Everything but RFC 3986's unreserved characters: whatever is in a token, it is one segment of a path, or
/// one value in a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL with places for tokens in its path and in its query.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// The URL up to its query.
    base: Vec<Piece>,
    /// The query, without `?`.
    query: Vec<Piece>,
    /// The highest number of a place.
    tokens: usize,
    /// The URL without path and query.
    origin: Url,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The number of a token, from 1.
    Token(usize),
}

/// A text that is no URL of a target. It quotes nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// No URL of HTTP.
    #[error("expected a URL such as http://shop:8080/hooks or https://shop/hooks/{{1}}")]
    Url,
    /// A login in it.
    #[error("expected a URL without user and password; target_token_file and target_headers log in")]
    Login,
    /// A fragment.
    #[error("expected a URL without a fragment")]
    Fragment,
    /// A brace that is no place.
    #[error(
        "expected braces around numbers only, such as {{1}} for the token at the filter's first wildcard; a \
            brace itself is %7B or %7D"
    )]
    Brace,
    /// A place in the scheme, the host or the port.
    #[error("expected {{1}}, {{2}} and so on in the path or in the query only")]
    Place,
    /// A place that no token can fill.
    #[error(
        "expected nothing beyond {{{given}}}, for {filter} has {given} wildcards, but {{{wanted}}} is wanted"
    )]
    Token {
        /// The highest number of a place.
        wanted: usize,
        /// The filter.
        filter: String,
        /// How many wildcards it has.
        given: usize,
    },
}

impl fmt::Debug for Template {
    /// Without the query, which may be a password as good as any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Template {
    /// As it was typed, less the query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Token(number) => write!(f, "{{{number}}}"),
        })
    }
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        if text.contains(char::is_control) {
            return Err(InvalidTemplate::Url);
        }
        let pieces = pieces(text)?;
        // The library puts the URL into its usual form. A mark that it leaves alone, and that stands nowhere
        // else in the text, holds each place meanwhile. Nothing but itself begins or ends within it.
        let mut mark = "xq".to_owned();
        while text.to_ascii_lowercase().contains(&mark) {
            mark.push('q');
        }
        let marked = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Token(number) => format!("{mark}{number}{mark}"),
        };
        let url = Url::parse(&pieces.iter().map(marked).collect::<String>());
        let url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or(InvalidTemplate::Url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTemplate::Login);
        }
        if url.fragment().is_some() {
            return Err(InvalidTemplate::Fragment);
        }
        let count = |text: &str| text.matches(&mark).count();
        let places = pieces.iter().filter(|piece| matches!(piece, Piece::Token(_))).count();
        let inside = count(url.path()) + count(url.query().unwrap_or_default());
        if [inside, count(url.as_str())] != [2 * places; 2] {
            return Err(InvalidTemplate::Place);
        }
        let (base, query) = url.as_str().split_once('?').unwrap_or((url.as_str(), ""));
        let (base, query) = (unmarked(base, &mark), unmarked(query, &mark));
        let numbers = pieces.iter().map(|piece| if let Piece::Token(number) = piece { *number } else { 0 });
        let mut origin = url.clone();
        origin.set_path("");
        origin.set_query(None);
        let template = Self { base, query, tokens: numbers.max().unwrap_or(0), origin };
        // What the library for calls takes is a little less.
        if template.url_of(&vec!["x"; template.tokens]).parse::<Uri>().is_err() {
            return Err(InvalidTemplate::Url);
        }
        Ok(template)
    }
}

/// Takes a text apart at its places.
fn pieces(text: &str) -> Result<Vec<Piece>, InvalidTemplate> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (number, after) = after.split_once('}').ok_or(InvalidTemplate::Brace)?;
        if before.contains('}') || number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidTemplate::Brace);
        }
        let number: u16 = number.parse().map_err(|_| InvalidTemplate::Brace)?;
        if number == 0 {
            return Err(InvalidTemplate::Brace);
        }
        pieces.extend([Piece::Text(before.to_owned()), Piece::Token(number.into())]);
        rest = after;
    }
    if rest.contains('}') {
        return Err(InvalidTemplate::Brace);
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Takes a text apart at its marks: each second part of it is a number.
fn unmarked(text: &str, mark: &str) -> Vec<Piece> {
    let parts = text.split(mark).enumerate().map(|(at, part)| match part.parse() {
        Ok(number) if at % 2 == 1 => Piece::Token(number),
        _ => Piece::Text(part.to_owned()),
    });
    parts.filter(|piece| !matches!(piece, Piece::Text(text) if text.is_empty())).collect()
}

impl Template {
    /// How many tokens it wants: the highest number of a place.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Scheme, host and port, which no token changes, as a URL.
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// The URL up to its query, and the query.
    ///
    /// # Errors
    /// The number of a place that there is no token for.
    pub(crate) fn filled(&self, tokens: &[&str]) -> Result<(String, String), usize> {
        Ok((fill(&self.base, tokens)?, fill(&self.query, tokens)?))
    }

    fn url_of(&self, tokens: &[&str]) -> String {
        let (base, query) = self.filled(tokens).unwrap_or_default();
        if query.is_empty() { base } else { format!("{base}?{query}") }
    }
}

fn fill(pieces: &[Piece], tokens: &[&str]) -> Result<String, usize> {
    if let [Piece::Text(all)] = pieces {
        return Ok(all.clone());
    }
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Token(number) => {
                let token = number.checked_sub(1).and_then(|at| tokens.get(at)).ok_or(*number)?;
                text.extend(utf8_percent_encode(token, ENCODED));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, tokens: &[&str]) -> String {
        template.parse::<Template>().unwrap().url_of(tokens)
    }

    #[test]
    fn tokens_are_filled_in_as_one_segment_each() {
        for (template, tokens, url) in [
            ("http://shop", &[][..], "http://shop/"),
            ("HTTP://Shop:80/a/../b", &[], "http://shop/b"),
            ("https://shop/a b?c=d e", &[], "https://shop/a%20b?c=d%20e"),
            ("http://shop/{1}", &["eu"], "http://shop/eu"),
            (
                "http://shop/{2}/{1}{1}?x={2}&y={10}",
                &["a", "b", "", "", "", "", "", "", "", "j"],
                "http://shop/b/aa?x=b&y=j",
            ),
            (
                "http://shop/{1}",
                &["a/b?c#d&e=f+g é%2F~"],
                "http://shop/a%2Fb%3Fc%23d%26e%3Df%2Bg%20%C3%A9%252F~",
            ),
            ("http://XQ/xq{1}q{2}xqqx", &["1", "2"], "http://xq/xq1q2xqqx"),
            ("http://[::1]:8080/{1}", &["a"], "http://[::1]:8080/a"),
        ] {
            assert_eq!(filled(template, tokens), url, "{template}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for (text, why) in [
            ("shop", InvalidTemplate::Url),
            ("shop:8080/x", InvalidTemplate::Url),
            ("ftp://shop/x", InvalidTemplate::Url),
            ("http://", InvalidTemplate::Url),
            ("http://shop:99999/", InvalidTemplate::Url),
            ("http://u:p@shop/", InvalidTemplate::Login),
            ("http://u@shop/", InvalidTemplate::Login),
            ("http://shop/#x", InvalidTemplate::Fragment),
            ("http://shop/#{1}", InvalidTemplate::Fragment),
            ("http://shop/a\tb", InvalidTemplate::Url),
            ("http://{1}/x", InvalidTemplate::Place),
            ("http://{1}.shop/x", InvalidTemplate::Place),
            ("http://shop/{", InvalidTemplate::Brace),
            ("http://shop/}", InvalidTemplate::Brace),
            ("http://shop/{}", InvalidTemplate::Brace),
            ("http://shop/{0}", InvalidTemplate::Brace),
            ("http://shop/{+1}", InvalidTemplate::Brace),
            ("http://shop/{name}", InvalidTemplate::Brace),
            ("http://shop/{{1}}", InvalidTemplate::Brace),
            ("http://shop/{99999}", InvalidTemplate::Brace),
        ] {
            assert_eq!(text.parse::<Template>(), Err(why), "{text}");
        }
        assert!("http://shop:{1}/x".parse::<Template>().is_err());
        assert!("http{1}://shop/x".parse::<Template>().is_err());
    }

    #[test]
    fn it_is_shown_without_its_query() {
        let template: Template = "https://shop/{1}/x?key=secret".parse().unwrap();
        assert_eq!(format!("{template} {template:?}"), "https://shop/{1}/x Template(\"https://shop/{1}/x\")");
        assert_eq!(template.origin().as_str(), "https://shop/");
    }
}

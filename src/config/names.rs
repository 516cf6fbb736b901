//! The names that NATS allows for subjects, streams and consumers.
//!
//! Source: the naming rules in the NATS documentation, and JetStream's limit of 255 bytes for a name.

use super::values::Read;
use crate::message::names::Names;

/// JetStream stores streams and consumers in directories of their name.
pub(super) const LONGEST_NAME: usize = 255;

fn is_plain(c: char) -> bool {
    !c.is_whitespace() && !c.is_control()
}

/// The name of a stream or a consumer.
pub(super) fn name(text: &str) -> Read<String> {
    let allowed = |c| is_plain(c) && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    if text.chars().all(allowed) && (1..=LONGEST_NAME).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected a name of at most {LONGEST_NAME} bytes without spaces, dots, slashes, * and >"))
    }
}

/// A subject that one can publish to.
pub(super) fn subject(text: &str) -> Read<String> {
    let is_token =
        |token: &str| !token.is_empty() && token.chars().all(|c| is_plain(c) && !matches!(c, '*' | '>'));
    if text.split('.').all(is_token) && !text.starts_with('$') {
        Ok(text.to_owned())
    } else {
        Err("expected a subject: words joined by dots, without spaces, * and >, and no $ in front".to_owned())
    }
}

/// One word of a subject.
pub(super) fn token(text: &str) -> Read<String> {
    let is_token = !text.is_empty() && text.chars().all(|c| is_plain(c) && !matches!(c, '.' | '*' | '>'));
    if is_token {
        Ok(text.to_owned())
    } else {
        Err("expected one word without spaces, dots, * and >".to_owned())
    }
}

/// The name of a queue: a subject, from which the names of streams are made.
pub(super) fn queue(text: &str) -> Read<String> {
    subject(text)?;
    name(&Names::new(text, "").retries)
        .map_err(|_| format!("expected a name without slashes and of at most {} bytes", LONGEST_NAME - 8))?;
    Ok(text.to_owned())
}

/// What a consumer takes: a subject whose words may be `*`, and the last of them `>`.
pub(super) fn filter(text: &str) -> Read<String> {
    let without_tail = text.strip_suffix(".>").unwrap_or(text);
    let plain: Vec<_> =
        without_tail.split('.').map(|token| if token == "*" { "any" } else { token }).collect();
    if text == ">" || subject(&plain.join(".")).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("expected a subject, in which * may stand for a word and > for the rest".to_owned())
    }
}

/// One word of letters, digits, - and _.
pub(super) fn word(text: &str) -> Read<String> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, - and _".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: fn(&str) -> Read<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(read(text).as_deref(), Ok(*text));
        }
        for text in bad {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_hold_what_a_directory_may_be_called() {
        let (longest, longer) = ("a".repeat(255), "a".repeat(256));
        check(
            name,
            &["faas-workers", "OF_queue", "é", &longest],
            &["", "a.b", "a b", "a*", ">", "a/b", "a\\b", "a\tb", &longer],
        );
    }

    #[test]
    fn subjects_are_whole_words_joined_by_dots() {
        check(
            subject,
            &["faas-request", "a.b.c", "_INBOX_a"],
            &["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "$JS.x"],
        );
    }

    #[test]
    fn a_token_is_one_word_of_a_subject() {
        check(token, &["faas-cluster", "test_1", "é", "$a"], &["", "a.b", "a b", "*", "a>", "a\nb"]);
    }

    #[test]
    fn a_filter_may_hold_wildcards() {
        check(
            filter,
            &["a", "a.*", "*.a", "a.>", ">", "*", "*.>"],
            &["", "a.", "a*", ">.a", "a.>.b", "a..>", "$SYS.>", "a >"],
        );
    }

    #[test]
    fn a_queue_gives_its_name_to_streams() {
        let (longest, longer) = ("a".repeat(247), "a".repeat(248));
        check(queue, &["faas-request", "team.queue", &longest], &["a/b", "a b", "a.*", "", &longer]);
    }
}

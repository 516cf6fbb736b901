//! Foreign text, made fit to be shown: it stays on its line, and is cut between characters.

use std::borrow::Cow;

/// The characters of a text, fit for one line: a space stands for each control character.
pub(crate) fn one_line(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| if c.is_control() { ' ' } else { c })
}

/// Whether all bytes of a text are as `is_fit` wants them. Without a branch for each many are looked at in
/// one step: calls come by here.
pub(crate) fn all_bytes(text: &str, is_fit: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, byte| all & is_fit(byte))
}

/// The beginning of a text, of at most `most` bytes.
pub fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Whether a character does something to the text around it instead of being seen: controls, separators of
/// lines, and what turns the direction of writing (Unicode's `Bidi_Control`).
pub fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text whose unruly characters are written as `escape` says.
pub(crate) fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_unruly) {
        return text.into();
    }
    text.chars().map(|c| if is_unruly(c) { escape(c) } else { c.to_string() }).collect::<String>().into()
}

/// A text in ASCII, of at most `most` bytes: control characters become spaces, and other characters are
/// percent-encoded, each of them as a whole or not at all.
pub(crate) fn ascii(text: &str, most: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let piece = match c {
            c if c.is_ascii_control() => " ".to_owned(),
            c if c.is_ascii() => c.to_string(),
            c => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect(),
        };
        if line.len() + piece.len() > most {
            break;
        }
        line.push_str(&piece);
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line() {
        for (text, line) in [("a\r\nb", "a  b"), ("\0\u{7f}\u{85}é", "   é"), ("plain", "plain")] {
            assert_eq!(one_line(text).collect::<String>(), line);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, most, beginning) in [
            ("short", 9, "short"),
            ("short", 2, "sh"),
            ("éé", 3, "é"),
            ("aéé", 4, "aé"),
            ("é", 1, ""),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, most), beginning, "{text} {most}");
        }
    }

    #[test]
    fn only_unruly_characters_are_escaped() {
        let escape = |c: char| c.escape_default().to_string();
        assert_eq!(escaped("a\u{202e}é\n", escape), "a\\u{202e}é\\n");
        assert!(matches!(escaped("aé", escape), Cow::Borrowed("aé")));
    }

    #[test]
    fn ascii_text_is_of_bounded_length() {
        assert_eq!(ascii("a\r\nb\u{e9}", 256), "a  b%C3%A9");
        assert_eq!(ascii(&"é".repeat(9), 7), "%C3%A9");
    }
}

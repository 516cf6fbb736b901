//! Lists of HTTP statuses, as they are written in settings and annotations.

use std::{fmt, str::FromStr};

/// A set of HTTP statuses: `429,500-504`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCodes(Vec<(u16, u16)>);

impl StatusCodes {
    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

/// A text that is no list of statuses. Its message says what was expected and quotes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected statuses from 100 to 599 and ranges of them, separated by commas, such as 429,500-504")]
pub struct InvalidStatusCodes;

impl FromStr for StatusCodes {
    type Err = InvalidStatusCodes;

    fn from_str(text: &str) -> Result<Self, InvalidStatusCodes> {
        text.split(',').map(range).collect::<Option<_>>().map(Self).ok_or(InvalidStatusCodes)
    }
}

/// Reads `429` or `500-504`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}

fn status(text: &str) -> Option<u16> {
    let digits = text.trim();
    // A plain parse would let `+429` pass.
    let status = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (100..=599).contains(&status).then_some(status)
}

/// In the order in which they were written, without spaces; what is printed here is read back as the same
/// set.
impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statuses_are_read_with_spaces_and_ranges() {
        let check = |text: &str, printed: &str, within: &[u16], without: &[u16]| {
            let codes: StatusCodes = text.parse().unwrap();
            assert_eq!(codes.to_string(), printed);
            assert!(within.iter().all(|&status| codes.contains(status)), "{text}");
            assert!(!without.iter().any(|&status| codes.contains(status)), "{text}");
        };
        check(
            "429,502,500,504,408",
            "429,502,500,504,408",
            &[408, 429, 500, 502, 504],
            &[200, 404, 501, 503],
        );
        check(" 429 , 500 - 504 ", "429,500-504", &[429, 500, 503, 504], &[428, 430, 499, 505]);
        check("100-599", "100-599", &[100, 599], &[0, 99, 600, u16::MAX]);
        check("503,503", "503,503", &[503], &[502]);
    }

    #[test]
    fn what_is_no_list_of_statuses_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "429,",
            "429,,500",
            "99",
            "600",
            "504-500",
            "5xx",
            "+429",
            "-429",
            "429-",
            "4 29",
            "99999999",
            "500-502-504",
            "429;500",
            "٤٢٩",
        ] {
            assert_eq!(text.parse::<StatusCodes>(), Err(InvalidStatusCodes), "{text:?}");
        }
        assert!(InvalidStatusCodes.to_string().contains("429,500-504"));
    }

    proptest! {
        #[test]
        fn printed_statuses_are_read_back(ranges in prop::collection::vec((100..600_u16, 0..50_u16), 1..8)) {
            let ranges = ranges.into_iter().map(|(first, more)| (first, (first + more).min(599))).collect();
            let codes = StatusCodes(ranges);
            prop_assert_eq!(codes.to_string().parse(), Ok(codes));
        }
    }
}

//! A duration in Go's notation. Input: its text.

use std::time::Duration;

use queue_worker::text::duration::parse;

/// The longest duration in Go.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// A text is refused in a line, or is a duration that Go has and that says the same in other words.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text) {
        Ok(duration) => {
            assert!(duration <= LONGEST);
            assert_eq!(parse(&format!("{}ns", duration.as_nanos())), Ok(duration));
            assert_eq!(parse(&format!("+{}", text.trim_start_matches('+'))), Ok(duration));
            if text.ends_with('s') || text.ends_with('h') || text.ends_with('m') {
                assert_eq!(parse(&format!("{text}0ns")), Ok(duration));
                assert_eq!(
                    parse(&format!("{text}1ns")).ok(),
                    duration.checked_add(Duration::from_nanos(1)).filter(|sum| *sum <= LONGEST)
                );
            }
        }
        Err(invalid) => super::is_showable(&invalid.to_string(), 200),
    }
}

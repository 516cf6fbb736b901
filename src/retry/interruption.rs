//! Judges interruptions: a message comes again because the worker that called for it, or posted its
//! callback, died or lost its lease before the outcome was known.

/// So many interruptions in a row end an invocation, or its callback: it may be what kills the workers.
const MOST: u32 = 5;
/// After so many interruptions a message is suspected of that, and runs apart from other suspects.
const SUSPECT: u32 = 3;

/// The decision about a message that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// Make the call, or the POST, again, from a clone that counts the interruption.
    MakeAgain,
    /// Give it up.
    GiveUp,
}

/// Judges the interruption after which there are so many of them in a row.
pub fn judge(interruptions: u32) -> Interrupted {
    if interruptions < MOST { Interrupted::MakeAgain } else { Interrupted::GiveUp }
}

/// Whether a message with so many interruptions may be what kills its workers.
pub fn is_suspect(interruptions: u32) -> bool {
    interruptions >= SUSPECT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fifth_interruption_in_a_row_is_the_last() {
        let check = |interruptions, expected, suspect| {
            assert_eq!((judge(interruptions), is_suspect(interruptions)), (expected, suspect));
        };
        check(1, Interrupted::MakeAgain, false);
        check(2, Interrupted::MakeAgain, false);
        check(3, Interrupted::MakeAgain, true);
        check(4, Interrupted::MakeAgain, true);
        check(5, Interrupted::GiveUp, true);
        check(u32::MAX, Interrupted::GiveUp, true);
    }

    proptest! {
        #[test]
        fn nothing_is_given_up_that_did_not_run_apart_before(interruptions in 1_u32..) {
            if judge(interruptions) == Interrupted::GiveUp {
                prop_assert!(is_suspect(interruptions - 1));
                prop_assert_eq!(judge(interruptions.saturating_add(1)), Interrupted::GiveUp);
            }
        }
    }
}

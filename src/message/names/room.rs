//! Names of streams for queues whose own name leaves little room.

/// The longest name of a stream.
const LONGEST: usize = 255;

/// A stream's name, with the shorter word where the queue's name leaves no room for the longer one.
pub(super) fn fitting(base: &str, word: &str, shorter: &str) -> String {
    let name = format!("{base}-{word}");
    if name.len() <= LONGEST { name } else { format!("{base}-{shorter}") }
}

#[cfg(test)]
mod tests {
    use crate::message::names::Names;

    #[test]
    fn the_longest_queue_that_there_can_be_has_all_its_streams() {
        let operations = |bytes| Names::new(&"q".repeat(bytes), "s").operations;
        assert!(operations(244).ends_with("-operations"));
        assert!(operations(245).ends_with("-ops"));
        let longest = Names::new(&"q".repeat(247), "s");
        for name in [&longest.retries, &longest.dead, &longest.operations, &longest.audit] {
            assert!(name.len() <= super::LONGEST, "{name}");
        }
    }
}

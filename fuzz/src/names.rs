//! Names on the wire, and what is read off subjects. Input: a text; a number, on the next line.

use queue_worker::message::{
    decode::FunctionName,
    names::{Id, Names, covers},
};

/// What is written into a subject is read from it again, and no name leaves its own place in one.
pub fn check(data: &[u8]) {
    let lines = super::lines(data);
    let (text, number) = (
        lines.first().map_or("", String::as_str),
        lines.get(1).and_then(|line| line.parse().ok()).unwrap_or(0),
    );
    let names = Names::new("faas-request", "faas-request");
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let id = Id { sequence: number, stored: number ^ u64::MAX };
    match text.parse::<FunctionName>() {
        Ok(function) => {
            let token = function.token();
            assert!(!token.contains(['.', '*', '>', ' ']) && token.is_ascii() && token.len() <= 765);
            let level = u32::try_from(number % 17).unwrap_or_default();
            for parked in [names.scheduled(&token, id, number), names.level(level, &token, id, number)] {
                assert_eq!(names.target_of(&parked), Some(names.due(&token, id, number)));
                assert_eq!(Names::clone_of(&parked), Some((id, number)));
                assert!(
                    covers(&names.retries_subjects(), &parked) && covers(&names.clones(&token, id), &parked)
                );
            }
            assert!(covers(&names.due_subjects(), &names.due(&token, id, number)));
            assert!(covers(&names.dead_subjects(), &names.dead_letter(Some(&token))));
        }
        Err(invalid) => super::is_showable(&invalid.to_string(), 200),
    }
    let _ = (Names::generation_of(text), Names::clone_of(text), Names::level_of(text), covers(text, text));
    if let Some(target) = names.target_of(text) {
        assert!(target.starts_with("faas-request-retries.due."));
    }
}

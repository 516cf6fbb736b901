//! What must hold for whatever comes in from outside: one property a parser, each a function of some bytes
//! that panics where something does not hold. `targets/` hands them to libFuzzer; the tests of the program
//! run them over the corpus.

pub mod annotations;
pub mod api;
pub mod block;
pub mod callback;
pub mod cloudevents;
pub mod config;
pub mod duration;
pub mod envelope;
pub mod ingress;
pub mod message;
pub mod names;
pub mod posting;
pub mod raw;
pub mod retry_after;
pub mod stan;
pub mod target;

/// Panics where something does not hold of an input.
pub type Property = fn(&[u8]);

/// Every property, by the name of its target and of its folder in the corpus.
pub const ALL: [(&str, Property); 16] = [
    ("annotations", annotations::check),
    ("api", api::check),
    ("block", block::check),
    ("callback", callback::check),
    ("cloudevents", cloudevents::check),
    ("config", config::check),
    ("duration", duration::check),
    ("envelope", envelope::check),
    ("ingress", ingress::check),
    ("message", message::check),
    ("names", names::check),
    ("posting", posting::check),
    ("raw", raw::check),
    ("retry_after", retry_after::check),
    ("stan", stan::check),
    ("target", target::check),
];

/// The input as lines of text; what is no UTF-8 is replaced.
fn lines(data: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(data).split('\n').map(str::to_owned).collect()
}

/// Fails where a text that people are shown is long, has several lines, or could change their terminal.
#[track_caller]
fn is_showable(text: &str, most: usize) {
    assert!(text.len() <= most, "{} bytes are shown: {text:.100}", text.len());
    assert!(!text.contains(char::is_control), "a control character is shown: {text:?}");
}

//! One event becomes one line.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    time::SystemTime,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    config::Encoding,
    text::line::{all_bytes, cut, escaped},
};

/// Longest text of one field in bytes. Callers choose call ids, and one caller must not fill the log of all.
const LONGEST: usize = 4096;

/// Room for a usual line, in bytes.
const USUAL: usize = 384;

/// The form of every line: time, level, message, then the fields in their order, as text or as one flat JSON
/// object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) encoding: Encoding,
    /// Colours the level of a text line.
    pub(super) colour: bool,
}

impl Line {
    /// A warning with one number, for the writer itself, which cannot send an event through the buffer that
    /// it empties.
    pub(super) fn warning(self, message: &str, name: &str, number: u64) -> String {
        let mut fields = self.begin(Level::WARN);
        fields.text("message", message);
        fields.plain(name, number);
        fields.end()
    }

    fn begin(self, level: Level) -> Fields {
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let (name, colour) = match level {
            Level::ERROR => ("error", 31),
            Level::WARN => ("warn", 33),
            Level::INFO => ("info", 32),
            Level::DEBUG => ("debug", 34),
            Level::TRACE => ("trace", 35),
        };
        let mut fields = Fields { line: String::with_capacity(USUAL), encoding: self.encoding };
        if self.encoding == Encoding::Json {
            fields.line.push_str("{\"time\":\"");
        }
        fields.add(format_args!("{time}"));
        match self.encoding {
            Encoding::Json => {
                [r#"","level":""#, name, "\""].iter().for_each(|part| fields.line.push_str(part))
            }
            Encoding::Console if self.colour => fields.add(format_args!(" \x1b[{colour}m{name}\x1b[0m")),
            Encoding::Console => [" ", name].iter().for_each(|part| fields.line.push_str(part)),
        }
        fields
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = self.begin(*event.metadata().level());
        event.record(&mut fields);
        let target = event.metadata().target();
        if !target.starts_with(env!("CARGO_CRATE_NAME")) {
            fields.text("target", target);
        }
        out.write_str(&fields.end())
    }
}

/// A line as it grows. It is a string of its own, since the pieces are many: each would cost as much again on
/// its way through the library's writers.
struct Fields {
    line: String,
    encoding: Encoding,
}

impl Fields {
    fn text(&mut self, name: &str, value: &str) {
        let value = &*shortened(value);
        match self.encoding {
            // A caller's text must not begin a line of its own, move a terminal's cursor or turn the line's
            // direction, in whatever shows or splits the log: hence the escapes.
            Encoding::Json if needs_no_escape(value) => {
                self.name(name);
                self.line.push('"');
                self.line.push_str(value);
                self.line.push('"');
            }
            Encoding::Json => self.plain(
                name,
                escaped(&serde_json::Value::from(value).to_string(), |c| format!("\\u{:04x}", u32::from(c))),
            ),
            Encoding::Console if name != "message" && is_word(value) => self.plain(name, value),
            Encoding::Console if name != "message" => self.plain(name, format_args!("{value:?}")),
            Encoding::Console => {
                self.add(format_args!(" {}", escaped(value, |c| c.escape_debug().to_string())))
            }
        }
    }

    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        self.add(format_args!("{value}"));
    }

    fn integer(&mut self, name: &str, value: impl itoa::Integer) {
        self.name(name);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    /// What stands before a value. Two lines are written for each call: a text is put into them as it is, for
    /// formatting it costs several times as much; and piece by piece, for a loop over them costs twice as
    /// much.
    fn name(&mut self, name: &str) {
        match self.encoding {
            Encoding::Json => {
                self.line.push_str(",\"");
                self.line.push_str(name);
                self.line.push_str("\":");
            }
            Encoding::Console => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
        }
    }

    fn add(&mut self, part: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.line.write_fmt(part);
    }

    fn end(mut self) -> String {
        self.line.push_str(match self.encoding {
            Encoding::Json => "}\n",
            Encoding::Console => "\n",
        });
        self.line
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.integer(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.integer(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // NaN and the infinities are no numbers in JSON and become `null`.
        self.plain(field.name(), serde_json::Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.encoding == Encoding::Json {
            let before = self.line.len();
            // As if it needed nothing, which is so for the message of each line about a call.
            self.name(field.name());
            self.line.push('"');
            let at = self.line.len();
            self.add(format_args!("{value:?}"));
            let written = self.line.get(at..).unwrap_or_default();
            if written.len() <= LONGEST && needs_no_escape(written) {
                return self.line.push('"');
            }
            self.line.truncate(before);
        }
        self.text(field.name(), &format!("{value:?}"));
    }
}

fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= LONGEST {
        return value.into();
    }
    format!("{}…", cut(value, LONGEST)).into()
}

/// Whether a text stands in JSON as it is. There are others, which take longer to tell.
fn needs_no_escape(text: &str) -> bool {
    all_bytes(text, |byte| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'))
}

/// Whether a value reads as one word after `name=` without quotes.
fn is_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::text::line::is_unruly;

    #[derive(Default)]
    struct Page(Mutex<Vec<u8>>);

    impl io::Write for &Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in super::super) fn logged(encoding: Encoding, log: impl FnOnce()) -> String {
        let page = Arc::new(Page::default());
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Arc::clone(&page))
            .event_format(Line { encoding, colour: false })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    fn check(log: impl Fn(), text: &str, json: &str) {
        let line = logged(Encoding::Console, &log);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, text);
        assert_eq!(time.len(), "2025-03-10T12:40:45.838Z".len());
        let line = logged(Encoding::Json, &log);
        let (time, rest) = line.split_once(',').unwrap();
        assert_eq!(format!("{{{rest}"), json);
        assert!(time.starts_with(r#"{"time":"2"#), "{time}");
    }

    #[test]
    fn a_line_has_level_message_and_fields_in_their_order() {
        check(
            || tracing::info!(callId = "1-a", status = 200, duration = 0.25, "Invoked"),
            "info Invoked callId=1-a status=200 duration=0.25\n",
            r#"{"level":"info","message":"Invoked","callId":"1-a","status":200,"duration":0.25}
"#,
        );
    }

    #[test]
    fn a_callers_text_cannot_forge_a_line() {
        check(
            || tracing::warn!(callId = "a\n2025 error \x1b[2J \"x\"", empty = "", "two\nlines"),
            "warn two\\nlines callId=\"a\\n2025 error \\u{1b}[2J \\\"x\\\"\" empty=\"\"\n",
            r#"{"level":"warn","message":"two\nlines","callId":"a\n2025 error \u001b[2J \"x\"","empty":""}
"#,
        );
    }

    #[test]
    fn no_character_of_a_caller_s_does_anything_to_a_line() {
        let unruly: Vec<char> = (char::MIN..=char::MAX).filter(|c| is_unruly(*c)).collect();
        assert_eq!(unruly.len(), 65 + 3 + 7 + 4 + 1);
        for c in unruly {
            let text = format!("a{c}b");
            let log = || tracing::warn!(callId = text.as_str(), shown = ?text, "{text}");
            let console = logged(Encoding::Console, log);
            let line = logged(Encoding::Json, log);
            for line in [&console, &line] {
                assert!(!line.trim_end_matches('\n').contains(is_unruly), "{line:?}");
            }
            // Machines read what the caller wrote.
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((json["callId"].as_str(), json["message"].as_str()), (Some(&*text), Some(&*text)));
        }
    }

    #[test]
    fn other_crates_are_named_and_what_is_no_number_in_json_is_null() {
        check(
            || tracing::error!(target: "async_nats", rate = f64::NAN, "lost"),
            "error lost rate=null target=async_nats\n",
            r#"{"level":"error","message":"lost","rate":null,"target":"async_nats"}
"#,
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let cut = shortened(&"é".repeat(LONGEST)).into_owned();
        assert_eq!(cut.trim_end_matches('…').len(), LONGEST);
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn the_writers_own_warning_looks_like_any_other_line() {
        let line = Line { encoding: Encoding::Json, colour: true };
        let text = line.warning("Log lines dropped", "lines", 3);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["message"], "Log lines dropped");
        assert_eq!(json["lines"], 3);
    }
}

//! How large a file and a line may be. The lint `clippy::too_many_lines` holds the functions.

use crate::sources;

/// The most lines of a file. A longer one has two subjects.
const LINES: usize = 400;
/// The most columns of a line of code. Raw strings and URLs cannot be broken, and do not count.
const COLUMNS: usize = 110;
const FOLDERS: [&str; 5] = ["src", "tests", "examples", "fuzz", "bench"];

/// What is too large in a file.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.lines().count();
    if lines > LINES {
        faults.push(format!("{path} has {lines} lines"));
    }
    for (number, line) in breakable(source).lines().enumerate() {
        let words = line.split(' ').filter(|word| !word.contains("://"));
        let columns: usize = words.map(|word| word.chars().count() + 1).sum();
        if columns > COLUMNS + 1 {
            faults.push(format!("{path}:{} has {} columns", number + 1, columns - 1));
        }
    }
    faults
}

/// The source without the contents of its raw strings, line by line as it was.
fn breakable(source: &str) -> String {
    let mut left = String::new();
    let mut rest = source;
    while !rest.is_empty() {
        let (kept, skipped) = token(rest, left.chars().next_back());
        left.push_str(kept);
        left.extend(skipped.chars().filter(|c| *c == '\n'));
        rest = &rest[kept.len() + skipped.len()..];
    }
    left
}

/// The next piece of a source: what is kept of it, and then what is skipped.
fn token(rest: &str, before: Option<char>) -> (&str, &str) {
    let until = |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at);
    if rest.starts_with("//") {
        return (&rest[..until(0, "\n")], "");
    }
    if rest.starts_with('"') {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        return (&rest[..end.map_or(rest.len(), |(at, _)| at + 1)], "");
    }
    if let Some(quoted) = ["'\"'", "'\\\"'"].into_iter().find(|quoted| rest.starts_with(*quoted)) {
        return (&rest[..quoted.len()], "");
    }
    let may_open = before.is_none_or(|c| c == 'b' || !c.is_alphanumeric() && c != '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| may_open) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let (begin, closes) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
        if raw[hashes..].starts_with('"') {
            let end = (until(begin, &closes) + closes.len()).min(rest.len());
            return (&rest[..begin], &rest[begin..end]);
        }
    }
    let next = rest.char_indices().skip(1).find(|(_, c)| "/\"'r".contains(*c));
    (&rest[..next.map_or(rest.len(), |(at, _)| at)], "")
}

#[test]
fn no_file_and_no_line_is_too_long() {
    let sources = FOLDERS.into_iter().flat_map(sources);
    let found: Vec<_> = sources.flat_map(|(path, source)| faults(&path, &source)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_planted_long_file_is_found() {
    assert_eq!(faults("f", &"\n".repeat(LINES)), Vec::<String>::new());
    assert_eq!(faults("f", &"\n".repeat(LINES + 1)), ["f has 401 lines"]);
}

#[test]
fn a_planted_wide_line_is_found() {
    let wide = "x".repeat(COLUMNS + 1);
    for found in [
        wide.clone(),
        format!("// {wide}"),
        format!("// https://example.com/ {wide}"),
        format!("let s = \"r#\\\"{wide}\";"),
        format!("let c = '\"'; let r = \"{wide}\";"),
        format!("r#\"\n{wide}\n\"# {wide}"),
        format!("let or\"{wide}\""),
    ] {
        assert_eq!(faults("f", &found).len(), 1, "{found}");
    }
    for fine in [
        "x".repeat(COLUMNS),
        format!("let s = r#\"{wide}\"\n{wide}\"#;\n{}", "x".repeat(COLUMNS)),
        format!("f(r#\"\"{wide}\"\"#, \"#\");\n// \"\n\"\n\";"),
        format!("let s = br\"{wide}\";"),
        format!("    // see https://example.com/{wide}"),
    ] {
        assert_eq!(faults("f", &fine), Vec::<String>::new(), "{fine}");
    }
}

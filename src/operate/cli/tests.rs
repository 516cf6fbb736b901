use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn refused(line: &str) -> Vec<String> {
    match read(words(line), []) {
        Err(Refusal::Invalid(faults)) => faults,
        Err(Refusal::Print(text)) => panic!("{line}: {text}"),
        Ok(read) => panic!("{line}: {:?}", read.0),
    }
}

#[test]
fn what_clap_makes_of_the_commands_is_sound() {
    settings::with_settings(Cli::command(), AFTER).debug_assert();
}

#[test]
fn a_command_is_told_from_the_workers_own_flags() {
    for (line, expected) in [
        ("dead-letters list", true),
        ("--nats-url nats://n:4222 dead-letters list", true),
        ("--nats-url=nats://n:4222 dead-letters", true),
        ("--queue-name dead-letters", false),
        ("dead-leters list", true),
        ("help", true),
        ("", false),
        ("doctor --json", false),
        ("doctor queue", false),
        ("--help", false),
    ] {
        assert_eq!(is_command(&words(line)), expected, "{line}");
    }
}

#[test]
fn a_command_takes_the_workers_settings_wherever_they_stand() {
    for line in [
        "dead-letters list --nats-url=nats://n:1 --debug",
        "--nats-url nats://n:1 dead-letters list",
        "dead-letters --nats-url nats://n:1 list --debug=true --queue q",
    ] {
        let (_, loaded) = read(words(line), []).unwrap();
        assert_eq!(loaded.config.nats.servers.len(), 1, "{line}");
        assert!(
            loaded.config.nats.servers.iter().all(|server| format!("{server:?}").contains("n:1")),
            "{line}"
        );
    }
    let env = [("queue_name".into(), "a,b".into())];
    let (_, loaded) = read(words("dead-letters list"), env).unwrap();
    assert_eq!(loaded.config.queues.len(), 2);
    let env = [("max_inflight".into(), "none".into())];
    assert!(
        matches!(read(words("dead-letters list"), env), Err(Refusal::Invalid(faults)) if faults.len() == 1)
    );
}

#[test]
fn what_means_nothing_is_refused_with_what_was_expected() {
    for (line, said) in [
        ("dead-leters list", "similar subcommand exists: 'dead-letters'"),
        ("help", "try '--help'"),
        ("dead-letters", "Usage"),
        ("dead-letters lst", "list"),
        ("dead-letters list --functoin f", "--function"),
        ("dead-letters list --status 5xx", "expected an HTTP status"),
        ("dead-letters list --cause died", "expected one of exhausted"),
        ("dead-letters list --since 1d", "2026-11-26T08:00:00Z"),
        ("dead-letters list --limit 0", "0 is not in"),
        ("dead-letters list --output yaml", "json"),
        ("dead-letters show", "SEQUENCE"),
        ("dead-letters show seven", "'seven' for '<SEQUENCE>': expected a number"),
        ("dead-letters redrive 7 8-9", "'8-9' for '[SEQUENCE]...': expected a number"),
        ("retries run-now", "which retries are meant"),
        ("audit search --outcome nonsense", "callback, or completed"),
        ("dead-letters export --all", "--to"),
        ("dead-letters discard", "--all"),
        ("dead-letters discard --yes --export x", "--all"),
        ("dead-letters discard 7 --function f", "not several"),
        ("dead-letters redrive", "--all"),
        ("dead-letters redrive --yes --rate 5", "--all"),
        ("dead-letters redrive --all --rate 0", "0 is not in"),
        ("dead-letters redrive --all --require 90", "--canary"),
        ("dead-letters redrive --all --canary 5 --require 101", "101 is not in"),
        ("operations", "Usage"),
        ("operations show", "<ID>"),
        ("dead-letters discard --all --function f", "not several"),
    ] {
        let faults = refused(line).join("\n");
        assert!(faults.contains(said), "{line}: {faults}");
    }
}

#[test]
fn an_empty_text_is_no_filter() {
    for (line, flag) in [
        ("dead-letters discard --yes --error=", "--error"),
        ("dead-letters list --function=", "--function"),
        ("retries cancel --yes --call-id=", "--call-id"),
        ("dead-letters redrive --yes --cause=", "cause"),
        ("dead-letters list --status=", "status"),
        ("audit search --by=", "--by"),
    ] {
        let faults = refused(line).join("\n");
        assert!(faults.contains(flag), "{line}: {faults}");
    }
}

#[test]
fn help_is_printed_and_is_no_fault() {
    for line in ["dead-letters --help", "dead-letters list --help", "dead-letters --version"] {
        assert!(matches!(read(words(line), []), Err(Refusal::Print(_))), "{line}");
    }
}

#[test]
fn the_filter_of_retries_says_what_it_means_there() {
    let help = |line: &str| match read(words(line), []) {
        Err(Refusal::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    for line in ["retries list --help", "retries run-now --help", "retries cancel --help"] {
        let text = help(line);
        assert!(text.contains("Those parked since") && !text.contains("--cause"), "{line}: {text}");
    }
    let text = help("dead-letters list --help");
    assert!(text.contains("Those that died since") && text.contains("--cause"), "{text}");
    // It is refused as ever where it is mistyped, and fits nothing.
    assert!(read(words("retries list --cause refused"), []).is_ok());
}

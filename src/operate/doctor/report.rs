//! The findings and the guarantee, for people and for machines.

use std::fmt::Write;

use serde_json::json;

use super::{
    finding::Finding,
    guarantee::{Guarantee, Survives},
};
use crate::{broker::known_issues::Severity, text::line::one_line};

/// The report that is printed.
#[derive(Debug)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The guarantee.
    pub guaranteed: Vec<Guarantee>,
}

impl Report {
    /// Whether nothing breaks the guarantee, and everything that it rests on was seen.
    pub(crate) fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Fail)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("queue-worker doctor {}\n\n", env!("CARGO_PKG_VERSION"));
        let width =
            self.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
        for Finding { severity, what, seen, means, mend } in &self.findings {
            // To a text, writing succeeds.
            let _ = writeln!(text, "{:<5} {what:<width$}  {}", word(*severity), plain(seen));
            for (before, line) in [("", Some(means)), ("mend: ", mend.as_ref())] {
                if let Some(line) = line.filter(|line| !line.is_empty()) {
                    let _ = writeln!(text, "{:5} {:width$}  {before}{}", "", "", plain(line));
                }
            }
        }
        text.push_str(
            "\nWhat is guaranteed here\n\nAn invocation that NATS accepted, and its retry or dead \
            letter, survives when\n\n",
        );
        let width = self.guaranteed.iter().map(|line| line.event.chars().count()).max().unwrap_or_default();
        for Guarantee { event, text: says, .. } in &self.guaranteed {
            let _ = writeln!(text, "  {event:<width$}  {says}");
        }
        text.push_str(
            "\nAt least once: a call is made again if its worker dies, loses its lease or is cut \
            off in a drain, or if the\n",
        );
        text.push_str("acknowledgement of the finished call is lost; X-Call-Id stays the same.\n\n");
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (failures, warnings, notes) =
            (count(Severity::Fail), count(Severity::Warn), count(Severity::Note));
        let verdict = if self.is_well() {
            "The guarantee holds"
        } else {
            "The guarantee does not hold, or could not be looked at"
        };
        let _ = writeln!(text, "{verdict}: {failures} fail, {warnings} warn, {notes} note.");
        text
    }

    /// For machines: one object.
    pub fn json(&self) -> String {
        let finding = |finding: &Finding| {
            let Finding { severity, what, seen, means, mend } = finding;
            json!({ "severity": word(*severity), "what": what, "seen": seen, "means": means, "mend": mend })
        };
        let guarantee = |line: &Guarantee| {
            let survives = match line.survives {
                Survives::Yes => "yes",
                Survives::Partly => "partly",
                Survives::No => "no",
                Survives::Unknown => "unknown",
            };
            json!({ "event": line.event, "survives": survives, "text": line.text })
        };
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "well": self.is_well(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "guaranteed": self.guaranteed.iter().map(guarantee).collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }
}

/// Text that a terminal shows as it is: some of it is other people's words.
fn plain(text: &str) -> String {
    one_line(text).collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Warn => "warn",
        Severity::Fail => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_by_people_and_by_machines() {
        let guaranteed = vec![Guarantee {
            event: "a worker is killed",
            survives: Survives::Yes,
            text: "yes: soon".to_owned(),
        }];
        let warn = Finding::new(Severity::Warn, "clocks", "3s", "they differ").mend("mend it");
        let mut report = Report { findings: vec![Finding::ok("NATS", "2.15.2\u{1b}[2J"), warn], guaranteed };
        assert!(report.is_well());
        let text = report.text();
        for line in [
            "ok    NATS    2.15.2 [2J\n",
            "warn  clocks  3s\n",
            "              they differ\n",
            "              mend: mend it\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.ends_with("The guarantee holds: 0 fail, 1 warn, 0 note.\n"), "{text}");
        report.findings.push(Finding::new(Severity::Fail, "gateway", "no", "nothing"));
        assert!(!report.is_well());
        let read: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(
            (read["well"].as_bool(), read["findings"][2]["severity"].as_str()),
            (Some(false), Some("fail"))
        );
        assert_eq!(read["guaranteed"][0]["survives"], "yes");
    }
}

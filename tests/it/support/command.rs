//! Commands for operators, as somebody types them.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Settings, patiently};

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of a command that did what it was asked for.
    #[track_caller]
    pub fn done(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json()
    }
}

impl Settings {
    /// Runs a command with these settings, words parted by blanks, and awaits its end.
    pub async fn run(&self, line: &str) -> Ran {
        let words: Vec<_> = line.split_whitespace().collect();
        self.run_words(&words).await
    }

    /// Runs a command with these settings, and awaits its end.
    pub async fn run_words(&self, words: &[&str]) -> Ran {
        let child = self.begin(words);
        let output = patiently(&format!("{words:?} ends"), child.wait_with_output()).await.unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Begins a command with these settings. It has no terminal.
    pub fn begin(&self, words: &[&str]) -> Child {
        let mut command: Command = self.command();
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap()
    }
}

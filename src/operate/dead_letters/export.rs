//! Writes dead letters to a file, a JSON object a line: what `show` shows, and the message as it lies in
//! NATS.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::json;

use super::{
    read::{Letters, fetch, no_stream, nothing, parts},
    show::{Opened, Whole},
};
use crate::{
    broker::jetstream::Stored,
    message::{letter::choice::Choice, names::Names},
    operate::{
        cli::{Choosing, Output},
        desk::Desk,
        end::{Failure, cannot},
        out::{self, number},
    },
};

/// A line of the file.
#[derive(Debug, Serialize)]
struct Line<'l> {
    #[serde(flatten)]
    whole: Whole<'l>,
    raw: Raw<'l>,
}

/// The message as it lies in NATS, with all that callers sent.
#[derive(Debug, Serialize)]
struct Raw<'l> {
    subject: &'l str,
    /// The header block, in base64.
    headers: String,
    /// The payload, in base64.
    payload: String,
}

/// Writes the letters that are meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn export(desk: &Desk, chosen: &Choosing, to: &str, reveal: bool) -> Result<(), Failure> {
    let (names, choice) = (desk.queue()?, chosen.choice(desk.now()));
    let opened = Letters::open(desk, &names, &choice, 0).await?;
    let Some(letters) = opened else { return Err(no_stream(&names)) };
    let exported = write(desk, &names, letters, to, reveal).await?;
    if exported == 0 {
        return Err(nothing(&names, &choice));
    }
    match desk.output {
        // The file is all that is to stand there.
        _ if to == "-" => Ok(()),
        Output::Json => out::json(&json!({ "exported": exported, "file": to })),
        Output::Table => {
            out::print(&format!("{} dead letters of {} are in {to}\n", number(exported), names.queue));
            Ok(())
        }
    }
}

/// Writes letters up to a sequence, and says how many there were.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn until(
    desk: &Desk,
    names: &Names,
    choice: &Choice,
    end: u64,
    to: &str,
) -> Result<u64, Failure> {
    write(desk, names, Letters::until(desk, names, choice, (0, end)), to, false).await
}

async fn write(
    desk: &Desk,
    names: &Names,
    mut letters: Letters,
    to: &str,
    reveal: bool,
) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::Cannot(format!("{to}: {error}"));
    let mut file = Target::open(to).map_err(failed)?;
    let mut exported = 0;
    loop {
        let some = letters.next().await?;
        if some.is_empty() {
            break;
        }
        for part in parts(&some) {
            for stored in fetch(desk, names, part).await? {
                let line = line(names, &stored, reveal)?;
                file.out.write_all(&line).map_err(failed)?;
                exported += 1;
            }
        }
    }
    file.keep().map_err(failed)?;
    Ok(exported)
}

/// Keeps a file that holds something under another name: it may be all that is left of letters that were
/// discarded before.
///
/// # Errors
/// Where it cannot be renamed.
pub(super) fn set_aside(desk: &Desk, to: &str) -> Result<(), Failure> {
    if to == "-" || !fs::metadata(to).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(());
    }
    let mut names = (1..u32::MAX).map(|n| format!("{to}.{n}"));
    let name = names.find(|name| !Path::new(name).exists()).unwrap_or_default();
    fs::rename(to, &name).map_err(|error| Failure::Cannot(format!("{to}: {error}")))?;
    desk.complain(&format!("what {to} held is in {name} now"));
    Ok(())
}

fn line(names: &Names, stored: &Stored, reveal: bool) -> Result<Vec<u8>, Failure> {
    let opened = Opened::of(names, stored, reveal);
    let raw = Raw {
        subject: &stored.subject,
        headers: BASE64_STANDARD.encode(&stored.block),
        payload: BASE64_STANDARD.encode(&stored.payload),
    };
    let mut line = serde_json::to_vec(&Line { whole: opened.whole(&names.queue), raw }).map_err(cannot)?;
    line.push(b'\n');
    Ok(line)
}

/// Where an export goes. A file is there under its name only when it is whole.
struct Target {
    out: BufWriter<Box<dyn Write>>,
    file: Option<(File, PathBuf, PathBuf)>,
}

impl Target {
    fn open(to: &str) -> io::Result<Self> {
        if to == "-" {
            return Ok(Self { out: BufWriter::new(Box::new(io::stdout())), file: None });
        }
        let path = Path::new(to);
        // A pipe or a device is written to as it is.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let out = OpenOptions::new().write(true).open(path)?;
            return Ok(Self { out: BufWriter::new(Box::new(out)), file: None });
        }
        let part = PathBuf::from(format!("{to}.part"));
        // Letters hold what callers sent, credentials included.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        let out = BufWriter::new(Box::new(file.try_clone()?) as Box<dyn Write>);
        Ok(Self { out, file: Some((file, part, path.to_owned())) })
    }

    /// The file is whole. It is on the disk when this returns: what it holds may be deleted next.
    fn keep(mut self) -> io::Result<()> {
        self.out.flush()?;
        let Some((file, part, path)) = self.file.take() else { return Ok(()) };
        file.sync_all()?;
        fs::rename(part, &path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Target {
    /// What is not whole is taken away.
    fn drop(&mut self) {
        if let Some((_, part, _)) = &self.file {
            let _ = fs::remove_file(part);
        }
    }
}

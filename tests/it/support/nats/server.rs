//! Which nats-server the scenarios run, and what it can do.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command as Program,
    sync::{Mutex, OnceLock},
};

use tokio::process::Command;

use crate::support::Scratch;

/// `NATS_SERVER`, else one on the path, else what the repository's own script provides.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        env::var_os("NATS_SERVER").map(PathBuf::from).or_else(on_path).unwrap_or_else(|| from_script(&[]))
    })
}

/// `NATS_SERVER_OLD`, else what the repository's own script provides.
pub(super) fn old_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("NATS_SERVER_OLD").map_or_else(|| from_script(&["2.9"]), PathBuf::from))
}

fn from_script(arguments: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats-server.sh");
    let output =
        Program::new(script).args(arguments).output().expect("no server is named, and there is no script");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// An old server does not know this setting, and says so: there is no scenario with it.
pub async fn refuses_to_start(setting: &str, complaint: &str) {
    let scratch = Scratch::new();
    let config = scratch.write("nats.conf", setting);
    let output = Command::new(binary()).arg("--config").arg(config).output().await.unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains(complaint),
        "{output:?}"
    );
}

/// Whether a server fires message schedules.
pub fn has_schedules(binary: &'static Path) -> bool {
    static KNOWN: Mutex<BTreeMap<&Path, bool>> = Mutex::new(BTreeMap::new());
    *KNOWN.lock().unwrap().entry(binary).or_insert_with(|| {
        let output = Program::new(binary).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut numbers = text
            .rsplit('v')
            .next()
            .unwrap()
            .split('.')
            .map(|number| number.trim().parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (2, 14)
    })
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file())
}

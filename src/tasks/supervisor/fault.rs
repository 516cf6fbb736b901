//! Ends parts on purpose, for tests of what becomes of them. Only debug builds can: in a release this is
//! nothing.
//!
//! `QUEUE_WORKER_FAULTS` names a folder. A file in it that has a part's name ends that part once, and is gone
//! then; `NAME.panic` does so by a panic. As long as there is `NAME.always` the part ends whenever it runs;
//! as long as there is `NAME.hold` it is not started again.

#[cfg(debug_assertions)]
mod real {
    use std::{
        env, fs,
        io::{self, Write},
        path::PathBuf,
        sync::LazyLock,
        time::Duration,
    };

    use tokio::time::sleep;

    use crate::tasks::supervisor::Part;

    /// How often the files are looked for.
    const LOOK: Duration = Duration::from_millis(20);

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("QUEUE_WORKER_FAULTS").map(PathBuf::from));

    fn file(part: Part, ending: &str) -> Option<PathBuf> {
        FOLDER.as_ref().map(|folder| folder.join(format!("{part}{ending}")))
    }

    fn is_there(part: Part, ending: &str) -> bool {
        file(part, ending).is_some_and(|file| file.exists())
    }

    /// Whether a file was there, which is gone now.
    fn take(part: Part, ending: &str) -> bool {
        file(part, ending).is_some_and(|file| fs::remove_file(file).is_ok())
    }

    /// Whether the part is to end now; panics if it is to panic.
    #[allow(clippy::panic, reason = "a panic is what is asked for")]
    fn strikes(part: Part) -> bool {
        if take(part, ".panic") {
            panic!("a fault that was asked for");
        }
        is_there(part, ".always") || take(part, "")
    }

    /// Does what the part does, unless it is to end before.
    pub async fn faulty(part: Part, life: impl Future<Output = ()>) {
        let fault = async {
            if FOLDER.is_none() {
                std::future::pending().await
            }
            while !strikes(part) {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = life => {}
            () = fault => {}
        }
    }

    /// Returns when the part may be started again.
    pub async fn hold(part: Part) {
        while is_there(part, ".hold") {
            sleep(LOOK).await;
        }
    }

    /// The same, for a thread.
    pub fn hold_thread(part: Part) {
        while is_there(part, ".hold") {
            std::thread::sleep(LOOK);
        }
    }

    /// A writer whose next write panics when its part is to end.
    pub fn spoiled<W: Write>(part: Part, out: W) -> impl Write {
        Spoiled(part, out)
    }

    struct Spoiled<W>(Part, W);

    impl<W: Write> Write for Spoiled<W> {
        #[allow(clippy::panic, reason = "a panic is what is asked for")]
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(!strikes(self.0), "a fault that was asked for");
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1.flush()
        }
    }
}

#[cfg(not(debug_assertions))]
mod none {
    use std::io::Write;

    use crate::tasks::supervisor::Part;

    /// Does what the part does.
    pub async fn faulty(_: Part, life: impl Future<Output = ()>) {
        life.await;
    }

    pub async fn hold(_: Part) {}

    pub fn hold_thread(_: Part) {}

    /// The writer itself.
    pub fn spoiled<W: Write>(_: Part, out: W) -> impl Write {
        out
    }
}

#[cfg(not(debug_assertions))]
pub use none::*;
#[cfg(debug_assertions)]
pub use real::*;

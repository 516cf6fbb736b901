//! What is made of a file, and is made anew when the file changes: Kubernetes changes mounted secrets in
//! place.
//!
//! The file is looked at once a second at most, beside the loop: the disk that it is on may be slow. Whoever
//! asks when a look is due waits for it, so that nobody gets what was in a file that changed long ago.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

/// The time after which a file is looked at again, and the longest wait for a look.
pub const LOOK: Duration = Duration::from_secs(1);

/// A setting that names a file.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What is expected in the file.
    pub expected: &'static str,
}

/// A file that cannot be used. Nothing of the file is quoted.
#[derive(Debug, thiserror::Error)]
#[error("{}=\"{}\": {reason}; expected {}", .setting.name, .path.display(), .setting.expected)]
pub struct FileError {
    setting: Setting,
    path: PathBuf,
    reason: String,
}

/// Makes something of a file's content, or says without quoting it why it cannot.
type Make<T> = fn(&[u8]) -> Result<T, String>;

/// What is made of a file. The clones share it.
pub struct Renewed<T>(Arc<File<T>>);

struct File<T> {
    setting: Setting,
    path: PathBuf,
    make: Make<T>,
    known: Mutex<Known<T>>,
    /// One looks at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Known<T> {
    made: Arc<T>,
    /// What the file looked like then.
    stamp: Stamp,
    looked: Instant,
    /// Whether the file that is there now cannot be used, which was said.
    spoiled: bool,
}

/// What changes with a file's content: its inode, its length, and when it was written.
type Stamp = (u64, u64, i64, i64);

impl<T> Clone for Renewed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Without what was made of it, which is secret.
impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Renewed<T> {
    /// Reads the file of a setting.
    ///
    /// # Errors
    /// Where the file cannot be read, or nothing can be made of it.
    pub fn read(setting: Setting, path: PathBuf, make: Make<T>) -> Result<Self, FileError> {
        let (made, stamp) = match read(&path, make) {
            Ok(read) => read,
            Err(reason) => return Err(FileError { setting, path, reason }),
        };
        let known = Known { made: Arc::new(made), stamp, looked: Instant::now(), spoiled: false };
        Ok(Self(Arc::new(File { setting, path, make, known: Mutex::new(known), turn: Arc::default() })))
    }

    /// What the file says by now. One that cannot be used changes nothing.
    pub async fn get(&self) -> Arc<T> {
        if self.is_due() && timeout(LOOK, self.look()).await.is_err() {
            // The next ones do not wait as long for the same disk.
            self.known().looked = Instant::now();
        }
        self.known().made.clone()
    }

    fn is_due(&self) -> bool {
        self.known().looked.elapsed() >= LOOK
    }

    /// Looks at the file, unless somebody did so while this waited.
    async fn look(&self) {
        let turn = self.0.turn.clone().lock_owned().await;
        if !self.is_due() {
            return;
        }
        let this = self.clone();
        let looked = spawn_blocking(move || {
            // The turn ends with the look, whether somebody still waits for it or not.
            let _turn = turn;
            this.renew();
        });
        if looked.await.is_err() {
            self.known().looked = Instant::now();
        }
    }

    fn renew(&self) {
        let File { setting, path, make, .. } = &*self.0;
        let was = self.known().stamp;
        let found = match fs::metadata(path).map(|metadata| stamp(&metadata)) {
            Ok(now) if now == was => None,
            _ => Some(read(path, *make)),
        };
        let mut known = self.known();
        known.looked = Instant::now();
        match found {
            None => {}
            Some(Ok((made, stamp))) => {
                (known.made, known.stamp, known.spoiled) = (Arc::new(made), stamp, false);
            }
            Some(Err(reason)) if !known.spoiled => {
                known.spoiled = true;
                let path = path.display();
                tracing::warn!(%path, %reason, "the file of {} cannot be read anew; what was in it before is \
                    used", setting.name);
            }
            Some(Err(_)) => {}
        }
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T>(path: &Path, make: Make<T>) -> Result<(T, Stamp), String> {
    let found: io::Result<_> = (|| {
        // In this order: what is written in between is read again.
        let stamp = stamp(&fs::metadata(path)?);
        Ok((fs::read(path)?, stamp))
    })();
    let (content, stamp) = found.map_err(|error| error.to_string())?;
    Ok((make(&content)?, stamp))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting = Setting { name: "number_file", expected: "a number" };

    fn number(content: &[u8]) -> Result<u32, String> {
        let text = str::from_utf8(content).ok().and_then(|text| text.trim().parse().ok());
        text.ok_or_else(|| "it has none".to_owned())
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn of(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("queue-worker-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        /// Puts a file with this content in the place of the one before, as Kubernetes does.
        fn put(&self, content: &str) -> PathBuf {
            let (new, path) = (self.0.join("new"), self.0.join("file"));
            fs::write(&new, content).unwrap();
            fs::rename(new, &path).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_anew_and_a_bad_one_changes_nothing() {
        let scratch = Scratch::of("renewed");
        let file = Renewed::read(SETTING, scratch.put("1"), number).unwrap();
        scratch.put("22");
        tokio::time::advance(LOOK - Duration::from_millis(1)).await;
        assert_eq!(*file.get().await, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(*file.clone().get().await, 22);
        for bad in ["secret", ""] {
            scratch.put(bad);
            tokio::time::advance(LOOK).await;
            assert_eq!(*file.get().await, 22);
        }
        fs::remove_file(&file.0.path).unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(*file.get().await, 22);
        scratch.put("3");
        tokio::time::advance(LOOK).await;
        assert_eq!(*file.get().await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_keeps_nobody_for_long() {
        let scratch = Scratch::of("slow");
        let file = Renewed::read(SETTING, scratch.put("1"), number).unwrap();
        // Somebody looks, and does not come back.
        let _turn = file.0.turn.clone().lock_owned().await;
        tokio::time::advance(LOOK).await;
        let began = Instant::now();
        assert_eq!(*file.get().await, 1);
        assert_eq!(began.elapsed(), LOOK);
        assert_eq!(*file.get().await, 1);
        assert_eq!(began.elapsed(), LOOK);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_and_not_shown() {
        let scratch = Scratch::of("bad");
        let path = scratch.put("secret");
        let error = Renewed::read(SETTING, path.clone(), number).unwrap_err().to_string();
        assert_eq!(error, format!("number_file=\"{}\": it has none; expected a number", path.display()));
        fs::remove_file(&path).unwrap();
        let error = Renewed::read(SETTING, path, number).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}

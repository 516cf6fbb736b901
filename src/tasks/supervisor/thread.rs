//! Parts that have a thread of their own. The thread itself stands outside of its part, and so outlives its
//! end.

use std::{io, panic, thread};

use tokio::time::Instant;

use super::{Part, Supervisor, Ward, fault, how};

impl Supervisor {
    /// Runs a part on a thread of its own until it `is_over`, and starts it again whenever it ends before.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn thread(
        &self,
        part: Part,
        is_over: impl Fn() -> bool + Send + 'static,
        mut run: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        let supervisor = self.clone();
        thread::Builder::new().name(part.to_string()).spawn(move || {
            let mut ward = Ward::new(&supervisor, part, "");
            loop {
                let began = Instant::now();
                let end = how(panic::catch_unwind(panic::AssertUnwindSafe(&mut run)));
                // None of these parts is ever given up.
                if is_over() || ward.ended(end, began.elapsed()).is_err() {
                    return;
                }
                thread::sleep(ward.pause);
                fault::hold_thread(part);
                supervisor.restarts(part);
                ward.is_up();
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn a_thread_whose_part_panics_runs_it_again() {
        let supervisor = Supervisor::default();
        let (lives, lived) = mpsc::channel();
        let mut life = 0;
        let run = move || {
            life += 1;
            lives.send(life).unwrap();
            assert!(life > 1, "as it was to be");
        };
        // The second life ends as it should, and then nobody sends any more.
        let over = supervisor.clone();
        let is_over = move || over.restarted().any(|(part, restarts)| part == Part::Log && restarts == 1);
        let began = Instant::now();
        supervisor.thread(Part::Log, is_over, run).unwrap();
        assert_eq!(lived.iter().collect::<Vec<_>>(), [1, 2]);
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(supervisor.trouble(), None);
    }
}

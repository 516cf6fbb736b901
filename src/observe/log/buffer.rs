//! Log lines on their way out: a bounded buffer that one thread empties.
//!
//! A write to a pipe whose reader is stalled blocks. On a single-threaded runtime it would hold up every
//! heartbeat and every acknowledgement. So the program only appends here. Lines without room are dropped and
//! counted.
//!
//! The library for this is tracing-appender, with one channel send a line. `cargo bench --bench log` compares
//! the two: at 20,000 lines a second this buffer takes 0.5 µs of processor time a line and the library 4.7
//! µs, where a whole call takes 40 µs and logs two lines. And the library cannot keep three promises:
//!
//! * Memory is bounded in bytes: a stalled reader holds 1.2 MiB here. The library counts lines, 128,000 by
//!   default, which are 26 MB of short lines and 500 MB of the longest.
//! * A line in the log says how many lines are missing, at their place. The library only counts them.
//! * A panic waits for its line to be written, since the program may abort, and a writer that panicked is
//!   started again. The library writes when its guard is dropped, and its thread cannot be replaced.
//!
//! It is worse at one thing: of a burst of a million lines it keeps 29,000 and the library 236,000, which may
//! wait in 26 MB.

use std::{
    io::{self, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long lines gather before they are written: one `write` then carries many of them.
const GATHER: Duration = Duration::from_millis(20);

/// A bounded buffer of whole lines; [`io::Write`] takes one line a call.
pub(super) struct Buffer {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    pending_lines: u64,
    /// Bytes and lines that the thread has taken and not yet written; the bytes count against the capacity.
    writing: usize,
    writing_lines: u64,
    dropped: u64,
    hurry: bool,
    closed: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.writing == 0 && self.dropped == 0
    }
}

impl Buffer {
    /// An empty buffer that holds at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Writes what arrives to `out` until the buffer is closed and empty; the work of the one thread.
    /// `dropped` words the line that says how many lines did not fit; it stands where they are missing. What
    /// a thread before this one had taken and not written when it ended is missing, too.
    pub(super) fn drain(&self, mut out: impl Write, dropped: impl Fn(u64) -> String) {
        let mut chunk = Vec::new();
        {
            let mut state = self.lock();
            state.writing = 0;
            state.dropped += mem::take(&mut state.writing_lines);
        }
        loop {
            let state = self.lock();
            let state = wait_while(&self.changed, state, |s| s.is_empty() && !s.closed);
            if state.is_empty() {
                return;
            }
            let gathered = self.changed.wait_timeout_while(state, GATHER, |s| !s.hurry && !s.closed);
            let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut chunk, &mut state.pending);
            state.writing_lines = mem::take(&mut state.pending_lines);
            if let missing @ 1.. = mem::take(&mut state.dropped) {
                chunk.extend_from_slice(dropped(missing).as_bytes());
                state.writing_lines += 1;
            }
            state.writing = chunk.len();
            drop(state);
            // An error here is one that nobody could be told of: the place to tell it is the one that is
            // broken.
            let _ = out.write_all(&chunk).and_then(|()| out.flush());
            chunk.clear();
            let mut state = self.lock();
            (state.writing, state.writing_lines) = (0, 0);
            state.hurry = !state.is_empty() && state.hurry;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, but no longer than `patience`: a stalled reader may never read
    /// again.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.lock();
        state.hurry = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, patience, |s| !s.is_empty());
        drop(waited);
    }

    /// Like [`flush`](Self::flush), and the thread ends; lines that come later go nowhere.
    pub(super) fn close(&self, patience: Duration) {
        self.lock().closed = true;
        self.flush(patience);
    }

    /// Whether the thread is to end.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// A thread that panicked while it held the lock left whole lines behind, because every change is one
    /// call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_while<'a>(
    changed: &Condvar,
    state: MutexGuard<'a, State>,
    condition: impl FnMut(&mut State) -> bool,
) -> MutexGuard<'a, State> {
    changed.wait_while(state, condition).unwrap_or_else(PoisonError::into_inner)
}

impl Write for &Buffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let first = state.is_empty();
        if state.pending.len() + state.writing + line.len() <= self.capacity {
            state.pending.extend_from_slice(line);
            state.pending_lines += 1;
        } else {
            state.dropped += 1;
        }
        // Waking the thread costs a system call, and it sleeps only while there is nothing to write.
        if first {
            self.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Stands for the reader's end: says when a write has begun, and finishes it when it is told to.
    struct Stalled {
        begun: mpsc::Sender<()>,
        go_on: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.go_on.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        begun: mpsc::Receiver<()>,
        go_on: mpsc::Sender<()>,
        written: mpsc::Receiver<Vec<u8>>,
    }

    fn buffer(capacity: usize) -> (Arc<Buffer>, Reader) {
        let (begins, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let (writes, written) = mpsc::channel();
        let out = Stalled { begun: begins, go_on: goes_on, written: writes };
        let buffer = Arc::new(Buffer::new(capacity));
        let drained = Arc::clone(&buffer);
        thread::spawn(move || drained.drain(out, |n| format!("{n} dropped\n")));
        let reader = Reader { begun, go_on, written };
        (buffer, reader)
    }

    fn log(buffer: &Arc<Buffer>, line: &str) {
        (&**buffer).write_all(line.as_bytes()).unwrap();
    }

    fn text(reader: Reader) -> String {
        String::from_utf8(reader.written.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn what_was_logged_is_written_when_the_buffer_is_closed() {
        let (buffer, reader) = buffer(100);
        drop(reader.begun);
        reader.go_on.send(()).unwrap();
        log(&buffer, "one\n");
        buffer.close(LONG);
        assert_eq!(reader.written.recv().unwrap(), b"one\n");
    }

    #[test]
    fn a_stalled_reader_blocks_nobody_and_the_lines_it_cost_are_counted_in_their_place() {
        let (buffer, reader) = buffer(12);
        log(&buffer, "first\n");
        reader.begun.recv().unwrap();
        for line in ["second", "third\n", "fourth\n"] {
            log(&buffer, line);
        }
        reader.go_on.send(()).unwrap();
        reader.begun.recv().unwrap();
        for _ in 0..5 {
            reader.go_on.send(()).unwrap();
        }
        buffer.flush(LONG);
        log(&buffer, "fifth\n");
        buffer.close(LONG);
        assert_eq!(text(reader), "first\nsecond2 dropped\nfifth\n");
    }

    #[test]
    fn lines_that_were_lost_with_their_thread_are_counted_by_the_next() {
        struct Broken;

        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                unreachable!("as it was to be")
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let buffer = Buffer::new(100);
        (&buffer).write_all(b"one\n").unwrap();
        (&buffer).write_all(b"two\n").unwrap();
        let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            buffer.drain(Broken, |n| format!("{n} dropped\n"))
        }));
        assert!(lost.is_err());
        (&buffer).write_all(b"three\n").unwrap();
        buffer.lock().closed = true;
        let mut out = Vec::new();
        buffer.drain(&mut out, |n| format!("{n} dropped\n"));
        assert_eq!(String::from_utf8(out).unwrap(), "three\n2 dropped\n");
    }

    #[test]
    fn a_stalled_reader_does_not_hold_the_exit() {
        let (buffer, reader) = buffer(100);
        log(&buffer, "one\n");
        reader.begun.recv().unwrap();
        log(&buffer, "two\n");
        buffer.close(Duration::from_millis(1));
        assert!(reader.written.try_recv().is_err());
    }
}

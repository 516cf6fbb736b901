//! Shortages of this machine because of which a call could not be made. Nobody is to blame for it but the
//! worker's own surroundings: the call is handed back and does not count.

use std::{
    error::Error,
    io,
    net::UdpSocket,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::io::Errno;
use tokio::time::Instant;

/// How many files the look-up of a name opens at once, at most.
const LOOKUP: usize = 3;

/// A look-up that fails so long after files were wanting may have wanted one.
const MOMENT: Duration = Duration::from_secs(1);

/// The thing that was wanting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Open files, of this process or of the system.
    Files,
    /// Memory of the system's.
    Memory,
    /// Local ports: all of them are in use.
    Ports,
    /// Threads.
    Threads,
}

impl Shortage {
    /// The name in log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Memory => "memory",
            Self::Ports => "ports",
            Self::Threads => "threads",
        }
    }

    /// The name in metric labels, where the outcomes of calls stand.
    pub fn label(self) -> &'static str {
        match self {
            Self::Files => "short_of_files",
            Self::Memory => "short_of_memory",
            Self::Ports => "short_of_ports",
            Self::Threads => "short_of_threads",
        }
    }

    /// The shortage that the system told of, in the error itself or in one that it came from.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let errno = errno(error)?;
        match errno {
            Errno::MFILE | Errno::NFILE => Some(Self::Files),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            Errno::ADDRNOTAVAIL => Some(Self::Ports),
            Errno::AGAIN => Some(Self::Threads),
            _ => None,
        }
    }

    /// Whether files are wanting now.
    fn of_files() -> Option<Self> {
        // All at once: one may be free where a look-up wants some.
        let opened: Vec<_> = (0..LOOKUP).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect();
        opened
            .iter()
            .find_map(|opened| Self::of(opened.as_ref().err()?))
            .filter(|short| *short == Self::Files)
    }
}

/// When files were wanting last.
#[derive(Debug, Default)]
pub struct Lately(Mutex<Option<Instant>>);

impl Lately {
    /// The shortage that the system told of in an error on the way to a connection. Whoever looks a name up
    /// without a file to read from is told that there is no such name, and not why: where the system said
    /// nothing, it is asked for files now; and they may have been wanting a moment ago, and be free again.
    pub fn on_the_way(&self, error: &(dyn Error + 'static)) -> Option<Shortage> {
        let told = errno(error).is_some();
        let short = if told { Shortage::of(error) } else { Shortage::of_files() };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if short == Some(Shortage::Files) {
            *last = Some(Instant::now());
        }
        let lately = !told && last.is_some_and(|last| last.elapsed() < MOMENT);
        short.or(lately.then_some(Shortage::Files))
    }
}

/// The system's number of an error or of one that it came from.
fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if let Some(errno) = io.and_then(Errno::from_io_error) {
            return Some(errno);
        }
        // The source of an error that wraps another one is that one's source.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connect")]
    struct Connect(#[source] io::Error);

    fn check(errno: Errno, expected: Option<Shortage>) {
        let plain = || io::Error::from_raw_os_error(errno.raw_os_error());
        assert_eq!(Shortage::of(&plain()), expected, "{errno:?}");
        assert_eq!(Shortage::of(&Connect(plain())), expected, "{errno:?}");
        // As a TLS connector passes it on.
        let wrapped = io::Error::other(Connect(io::Error::other(plain())));
        assert_eq!(Shortage::of(&wrapped), expected, "{errno:?}");
        assert_eq!(Lately::default().on_the_way(&wrapped), expected, "{errno:?}");
    }

    #[test]
    fn what_the_system_lacks_is_told_from_what_others_do() {
        check(Errno::MFILE, Some(Shortage::Files));
        check(Errno::NFILE, Some(Shortage::Files));
        check(Errno::NOMEM, Some(Shortage::Memory));
        check(Errno::NOBUFS, Some(Shortage::Memory));
        check(Errno::ADDRNOTAVAIL, Some(Shortage::Ports));
        check(Errno::AGAIN, Some(Shortage::Threads));
        for errno in [
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::PIPE,
            Errno::TIMEDOUT,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
        ] {
            check(errno, None);
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_no_shortage_while_there_are_files() {
        let (lately, unknown) = (Lately::default(), Connect(io::Error::other("no such name")));
        assert_eq!(lately.on_the_way(&unknown), None);
        // Files were wanting, and are there again.
        let wanting = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert_eq!(lately.on_the_way(&wanting), Some(Shortage::Files));
        assert_eq!(lately.on_the_way(&unknown), Some(Shortage::Files));
        let refused = io::Error::from_raw_os_error(Errno::CONNREFUSED.raw_os_error());
        assert_eq!(lately.on_the_way(&refused), None);
    }
}

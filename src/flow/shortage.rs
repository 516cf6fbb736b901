//! Shortages of this machine because of which a call could not be made. Nobody is to blame for it but the
//! worker's own surroundings: the call is handed back and does not count.

use std::{error::Error, io, net::UdpSocket};

use rustix::io::Errno;

/// How many files the look-up of a name opens at once, at most.
const LOOKUP: usize = 3;

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

    /// The same for an error on the way to a connection. Whoever looks a name up without a file to read from
    /// is told that there is no such name, and not why: where the system said nothing, it is asked for files
    /// now.
    pub fn on_the_way(error: &(dyn Error + 'static)) -> Option<Self> {
        if errno(error).is_some() {
            return Self::of(error);
        }
        // All at once: one may be free where a look-up wants some.
        let opened: Vec<_> = (0..LOOKUP).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect();
        opened
            .iter()
            .find_map(|opened| Self::of(opened.as_ref().err()?))
            .filter(|short| *short == Self::Files)
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
        assert_eq!(Shortage::on_the_way(&wrapped), expected, "{errno:?}");
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
        assert_eq!(Shortage::on_the_way(&Connect(io::Error::other("no such name"))), None);
    }
}

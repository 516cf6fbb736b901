//! An address to listen at. As in Go's programs, an address that stands for all addresses stands for those
//! of both families: Kubernetes probes a Pod of an IPv6 cluster at its IPv6 address, even where the setting
//! is `0.0.0.0`.

use std::{
    io::{Error, ErrorKind, Result},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens at the address; at all addresses of both families where it stands for all, or of IPv4 on a system
/// without IPv6.
///
/// # Errors
/// The system's, such as a port that is taken.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::from_std(choose(address, open)?.into())
}

fn choose<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> Result<T>) -> Result<T> {
    if !address.ip().is_unspecified() {
        return open(address);
    }
    match open((Ipv6Addr::UNSPECIFIED, address.port()).into()) {
        Err(error) if lacks_ipv6(&error) => open((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        other => other,
    }
}

/// A port that is taken or not allowed is so for IPv4, too, and worth an error that says it.
fn lacks_ipv6(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)
}

fn open(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The system's default (net.ipv6.bindv6only) may be another.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A worker that is started anew finds connections of the one before it that are still being closed.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses to listen at for `address`, with or without IPv6.
    fn check(address: &str, of_ipv6: Option<ErrorKind>, expected: std::result::Result<&str, ErrorKind>) {
        let open = |address: SocketAddr| match of_ipv6 {
            Some(kind) if address.is_ipv6() => Err(kind.into()),
            _ => Ok(address.to_string()),
        };
        let chosen = choose(address.parse().unwrap(), open).map_err(|error| error.kind());
        assert_eq!(chosen.as_deref().map_err(|kind| *kind), expected, "{address}, {of_ipv6:?}");
    }

    #[test]
    fn all_addresses_are_those_of_both_families_where_the_system_has_both() {
        for all in ["0.0.0.0:8081", "[::]:8081"] {
            check(all, None, Ok("[::]:8081"));
            check(all, Some(ErrorKind::Unsupported), Ok("0.0.0.0:8081"));
            check(all, Some(ErrorKind::AddrNotAvailable), Ok("0.0.0.0:8081"));
            check(all, Some(ErrorKind::AddrInUse), Err(ErrorKind::AddrInUse));
            check(all, Some(ErrorKind::PermissionDenied), Err(ErrorKind::PermissionDenied));
        }
        for one in ["127.0.0.1:8081", "[::1]:8081"] {
            check(one, None, Ok(one));
        }
        check("[::1]:8081", Some(ErrorKind::AddrNotAvailable), Err(ErrorKind::AddrNotAvailable));
    }
}

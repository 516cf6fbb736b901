//! Ports for whoever listens in a scenario.

use std::{
    io,
    net::UdpSocket,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Instant, sleep},
};

use super::{PATIENCE, POLL};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A loopback port that nobody listens on, and that no other run on this machine gets while this process
/// lives: the UDP port of the same number, which nobody else here needs, says that it is taken. Below the
/// kernel's ephemeral range, so that no outgoing connection takes it while its owner is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    loop {
        let step = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(step % 20_000).unwrap();
        let address = ("127.0.0.1", port);
        // In this order: a look at a port that is claimed would take it from its owner for a moment.
        if let Ok(claim) = UdpSocket::bind(address)
            && bound(port).is_ok()
        {
            TAKEN.lock().unwrap().push(claim);
            return port;
        }
    }
}

/// A socket bound to the loopback port, which does not listen yet.
///
/// A process that another test starts just now holds a copy of every descriptor until it runs its own
/// program. A copy of one that listens keeps the port from its owner for that long; a copy of this one keeps
/// nothing.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    Ok(socket)
}

/// Listens on a port of `free_port`, which may have been listened on before: see `bound` for who may still
/// hold a copy of that.
pub async fn listen(port: u16) -> TcpListener {
    let start = Instant::now();
    loop {
        match bound(port).and_then(|socket| socket.listen(BACKLOG)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                sleep(POLL).await
            }
            listener => return listener.unwrap(),
        }
    }
}

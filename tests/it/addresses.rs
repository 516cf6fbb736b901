//! Addresses of both families: where the worker listens, and how it reaches NATS and the gateway.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, Gateway, Invocation, Nats, Settings, Worker, eventually, free_port};

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Containers may have no IPv6, not even a loopback address of it.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind((IPV6, 0)).is_ok()
}

async fn refuses(address: SocketAddr) -> bool {
    matches!(TcpStream::connect(address).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

/// With this before the colon and the port the worker answers at these addresses, and at no others of this
/// machine.
async fn check_listens(settings: &Settings, host: &str, at: &[IpAddr]) {
    let port = free_port();
    let worker = settings.clone().set("listen_addr", format!("{host}:{port}")).spawn();
    for ip in at {
        eventually(&format!("{host} answers at {ip}"), async || {
            TcpStream::connect((*ip, port)).await.is_ok()
        })
        .await;
    }
    for ip in [IPV4, IPV6].into_iter().filter(|ip| !at.contains(ip)) {
        assert!(!has_ipv6() || refuses((ip, port).into()).await, "{host} answers at {ip}, too");
    }
    drop(worker);
}

#[tokio::test]
async fn who_listens_to_all_addresses_listens_to_those_of_both_families() {
    let (nats, gateway) = (Nats::absent(), Gateway::start(|_| Answer::ok()).await);
    let settings = Worker::of(&nats, &gateway);
    let both: &[IpAddr] = if has_ipv6() { &[IPV4, IPV6] } else { &[IPV4] };
    for all in ["", "0.0.0.0", "[::]"] {
        check_listens(&settings, all, both).await;
    }
    check_listens(&settings, "127.0.0.1", &[IPV4]).await;
    check_listens(&settings, "localhost", &[IPV4]).await;
    if has_ipv6() {
        check_listens(&settings, "[::1]", &[IPV6]).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_in_one_family_is_taken() {
    let (nats, gateway) = (Nats::absent(), Gateway::start(|_| Answer::ok()).await);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!(":{}", taken.local_addr().unwrap().port());
    let mut worker = Worker::of(&nats, &gateway).set("listen_addr", address).spawn();
    assert_eq!(worker.exit().await, 1);
    assert!(
        worker.log_with("listen_addr").iter().any(|line| line.contains("in use")),
        "{:?}",
        worker.log_with(" error ")
    );
}

#[tokio::test]
async fn a_worker_that_listens_to_ipv6_is_found_by_the_doctor() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let settings = Worker::of(&nats, &gateway).set("listen_addr", format!("[::]:{}", free_port()));
    let _worker = settings.spawn();
    eventually("the doctor finds it", async || settings.doctor(&[]).await.1.contains("ready at [::]:")).await;
}

/// Passes connections to its address of IPv6 on to that address.
async fn passage(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((IPV6, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn nats_and_the_gateway_are_reached_over_ipv6_however_they_are_named() {
    if !has_ipv6() {
        return;
    }
    let (nats, gateway) = (Nats::start().await, Gateway::start(|_| Answer::ok()).await);
    let broker = passage(SocketAddr::new(IPV4, nats.port())).await;
    let functions = passage(gateway.address()).await;
    let (brokers_port, functions_port) = (broker.port(), functions.port());
    let named: [&[(&str, String)]; 3] = [
        &[("nats_url", format!("nats://{broker}")), ("gateway_url", format!("http://{functions}/"))],
        &[
            ("nats_host", "::1".to_owned()),
            ("nats_port", brokers_port.to_string()),
            ("faas_gateway_address", "::1".to_owned()),
            ("faas_gateway_port", functions_port.to_string()),
        ],
        &[
            ("faas_nats_address", "[::1]".to_owned()),
            ("faas_nats_port", brokers_port.to_string()),
            // Made by Kubernetes for a service called nats.
            ("NATS_PORT", format!("tcp://[fd00::1]:{brokers_port}")),
            ("gateway_url", format!("http://[::1]:{functions_port}")),
        ],
    ];
    for (n, set) in named.into_iter().enumerate() {
        let settings = set.iter().fold(Worker::bare(), |settings, (name, value)| settings.set(name, value));
        let mut worker = settings.start().await;
        nats.publish(&Invocation::of("f").call_id(&n.to_string())).await;
        let calls = gateway.await_ended(n + 1).await;
        assert!(calls[n].header("host").unwrap().starts_with("[::1]:"), "{:?}", calls[n]);
        assert_eq!(worker.drain().await, 0);
    }
}

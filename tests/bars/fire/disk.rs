//! A broker without room for more.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use async_nats::jetstream::stream;
use tokio::{process::Command, time::sleep};

use super::{CALL, House};
use crate::{
    size,
    support::{Nats, QUEUE, Scratch, process::Process, stan::Peer},
};

/// How a mount namespace is made: with root's rights, or as root of a user namespace.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];

/// A file system of a few megabytes that only one mount namespace knows.
pub struct SmallDisk {
    holder: Process,
    scratch: Scratch,
}

impl SmallDisk {
    /// `None` where the machine allows no mounts; that is said where no test runner swallows it.
    pub async fn mount(megabytes: usize) -> Option<Self> {
        let scratch = Scratch::new();
        for way in WAYS {
            let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && echo mounted >&2 && exec $3";
            let mount = |then: &str| {
                let mut command = Command::new("unshare");
                command
                    .args(way)
                    .args(["sh", "-c", script, "sh", &megabytes.to_string()])
                    .arg(scratch.path())
                    .arg(then);
                command
            };
            if mount("true").output().await.is_ok_and(|output| output.status.success()) {
                let holder = Process::spawn("the small disk", mount("sleep infinity"));
                holder.log().await_line("mounted", |line| line == "mounted").await;
                return Some(Self { holder, scratch });
            }
        }
        let _ = writeln!(
            io::stderr(),
            "NOT TRIED: a full disk. To mount one takes root's rights or a user namespace, and here is \
                neither"
        );
        None
    }

    /// Where the file system is, for those outside.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), self.scratch.path().display()))
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for piece in [64 * 1024, 512, 1] {
            while ballast.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

/// What enqueuers are told while there is no room: whether one message was taken over JetStream, and one over
/// NATS Streaming.
async fn enqueue(house: &House, peer: &mut Peer) -> [bool; 2] {
    let numbers = house.announce(2);
    // A few bytes may still fit in behind the last ones.
    let large = |number| house.invocation(number).body(vec![b'x'; 100_000]);
    let jetstream = house.publish_one(numbers.start, large(numbers.start)).await;
    let message = peer.message(QUEUE, large(numbers.start + 1).to_bytes());
    peer.send(&message).await;
    let ack = peer.ack_within(Duration::from_secs(5)).await;
    let stan = ack.is_some_and(|ack| ack.guid == message.guid && ack.error.is_empty());
    if stan {
        house.ledger.lock().unwrap().accepted(numbers.start + 1);
    }
    [jetstream, stan]
}

/// The always possible form: JetStream may store no more than so much, and another stream takes it all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_may_store_no_more_refuses_and_loses_nothing() {
    let scratch = Scratch::new();
    let mut nats = Nats::absent_in(scratch.path(), "max_file_store: 32MB");
    nats.boot().await;
    let mut house = House::open(nats.connect().await, |_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()).set("stan_bridge", true));
    let _workers = [settings[0].start().await, settings[1].start().await];
    let mut peer = Peer::connect(&nats).await;
    let js = house.js.clone();
    let ballast = stream::Config {
        name: "ballast".to_owned(),
        subjects: vec!["ballast".to_owned()],
        ..Default::default()
    };
    let ballast = js.create_stream(ballast).await.unwrap();
    let mut refused = [0, 0];
    house
        .under_fire(size(200, 3_000), Duration::from_secs(3), async |house, _| {
            let fault = house.fault("no room", None);
            for piece in [512 * 1024, 1024] {
                while js.publish("ballast", vec![0; piece].into()).await.unwrap().await.is_ok() {}
            }
            let taken = enqueue(house, &mut peer).await;
            sleep(Duration::from_secs(2)).await;
            ballast.purge().await.unwrap();
            house.mended(fault);
            refused = [0, 1].map(|n| refused[n] + usize::from(!taken[n]));
        })
        .await;
    println!("     refused without room: {refused:?} (JetStream, NATS Streaming)");
    house.settle("broker over its max_file_store").await;
    assert!(refused.iter().all(|refused| *refused > 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_disk_is_full_loses_nothing_that_it_accepted() {
    // What JetStream's own limit does is tried everywhere.
    let Some(disk) = SmallDisk::mount(48).await else { return };
    let mut nats = Nats::absent_in(&disk.path(), "");
    nats.boot().await;
    let mut house = House::open(nats.connect().await, |_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()).set("stan_bridge", true));
    let _workers = [settings[0].start().await, settings[1].start().await];
    let mut peer = Peer::connect(&nats).await;
    let mut refused = [0, 0];
    house
        .under_fire(size(200, 3_000), Duration::from_secs(3), async |house, _| {
            let fault = house.fault("no room", None);
            disk.fill();
            sleep(Duration::from_secs(2)).await;
            let taken = enqueue(house, &mut peer).await;
            disk.make_room();
            // A server that ran out of space turns JetStream off until it is started again.
            nats.restart().await;
            house.mended(fault);
            refused = [0, 1].map(|n| refused[n] + usize::from(!taken[n]));
        })
        .await;
    println!("     refused without room: {refused:?} (JetStream, NATS Streaming)");
    house.settle("disk of the broker full, then room and a restart").await;
    assert!(refused.iter().all(|refused| *refused > 0), "{refused:?}");
}

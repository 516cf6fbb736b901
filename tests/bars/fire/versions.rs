//! Two versions of the worker serve one queue, as they do while one takes the other's place.
//!
//! `OLD_WORKER_BIN` names the older one: `make compat-test` builds it from the release before. Without that
//! name both workers are of this build, which tries the scenario itself.

mod checks;
mod operated;
mod script;
mod witness;

use std::{collections::BTreeMap, env, time::SystemTime};

use self::{
    script::{PLANTED, answer, function, is_sent_round, message, published},
    witness::{Witness, subject},
};
use super::{house::House, script::number};
use crate::{
    size,
    support::{Call, End, Nats, QUEUE, RETRIES, Settings, Worker, base36},
    until,
};

const NAMES: [&str; 2] = ["the older worker", "the newer worker"];
/// So many retries of each worker's have to wait when one of them is killed.
const WAITING: usize = 5;
/// So many calls a worker makes, in the short form and in the full one, before it is killed.
const CALLS: (usize, usize) = (50, 500);
/// With so few left the same ones would be cut off again and again.
const FEW: u64 = 60;

/// A house whose gateway tells the witness who calls.
async fn open(nats: &Nats, witness: Witness) -> House {
    let answering = move |call: &Call, _| {
        witness.called(call);
        answer(call)
    };
    House::playing(nats.connect().await, message, answering).await
}

/// The older worker's settings, and the newer one's. Histories tell them apart by their host's name.
fn settings(house: &House, nats: &Nats, timers: [&str; 2]) -> [Settings; 2] {
    let named = |n: usize| {
        house.worker(n, &nats.url()).set("HOSTNAME", format!("worker-{n}")).set("retry_timer", timers[n])
    };
    let old = match env::var_os("OLD_WORKER_BIN") {
        Some(program) => named(0).built(program),
        None => named(0),
    };
    [old, named(1)]
}

/// Publishes the first messages, with headers of their own.
async fn plant(nats: &Nats, house: &House) {
    for number in house.announce(PLANTED) {
        let mut headers = published(number);
        let mut to = QUEUE.to_owned();
        if is_sent_round(number) {
            let stored = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let id = format!("{}-{}", 1_000_000 + number, base36(stored.as_nanos()));
            to = format!("{RETRIES}.due.{}.{id}.1", function(number).replace('.', "%2E"));
            headers.insert("Queue-Worker-Original-Id", format!("{QUEUE}:{id}"));
        }
        nats.publish_raw(&to, headers, house.invocation(number).to_bytes()).await;
        house.ledger.lock().unwrap().accepted(number);
    }
}

/// Kills one after the other while messages are published, each time when retries of both are parked. Returns
/// how many retries each had counted when it was killed, and how often one was killed.
async fn kill_in_turn(
    house: &House,
    witness: &Witness,
    settings: &[Settings; 2],
    workers: &mut [Worker; 2],
) -> ([f64; 2], usize) {
    let publishing = house.publish(size(300, 6_000));
    let (mut counted, mut kills) = ([0.0; 2], 0);
    loop {
        let victim = kills % 2;
        let parked = || witness.waiting().iter().all(|waiting| *waiting >= WAITING);
        let ripe = || witness.calls(victim) >= size(CALLS.0, CALLS.1) && parked();
        let over =
            async || publishing.is_finished() && house.unfinished().await.is_some_and(|left| left < FEW);
        until("retries of both are parked", async || ripe() || over().await).await;
        if over().await {
            publishing.await.unwrap();
            return (counted, kills);
        }
        counted[victim] +=
            workers[victim].metrics().await.get("queue_worker_retries_total", &[]).unwrap_or_default();
        let fault = house.fault("worker", Some(victim));
        workers[victim].kill().await;
        witness.restarted(victim);
        workers[victim] = settings[victim].spawn();
        // Until then whatever the gateway reads of this worker's was sent by the one that is dead.
        workers[victim].await_log(&["ready queue="]).await;
        house.mended(fault);
        kills += 1;
    }
}

/// What is wrong with all that has come of the messages.
fn complaints(house: &House, witness: &Witness) -> Vec<String> {
    let (calls, callbacks, letters) = (house.gateway.calls(), house.receiver.calls(), witness.letters());
    let mut by_number: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
    calls.iter().for_each(|call| by_number.entry(number(call)).or_default().push(call));
    let mut complaints = witness.complaints();
    complaints.extend(by_number.iter().flat_map(|(number, calls)| checks::of_calls(*number, calls)));
    // Taken for what kills its workers, a message says something else than its calls.
    let (interrupted, ended): (Vec<_>, Vec<_>) =
        letters.iter().partition(|letter| letter.header("Queue-Worker-Cause") == Some("interrupted"));
    for letter in ended {
        let number = subject(letter).unwrap();
        let calls = by_number.get(&number).map(Vec::as_slice).unwrap_or_default();
        complaints.extend(checks::of_letter(
            number,
            letter,
            calls,
            &published(number),
            &house.receiver.url(),
        ));
    }
    let interrupted: Vec<_> = interrupted.into_iter().filter_map(subject).collect();
    let posted = callbacks
        .iter()
        .filter(|call| call.fate() == Some(End::Answered) && !interrupted.contains(&number(call)));
    complaints.extend(posted.flat_map(|call| checks::of_callback(number(call), call)));
    println!(
        "     {} calls, {} callbacks and {} dead letters looked at",
        calls.len(),
        callbacks.len(),
        letters.len()
    );
    complaints
}

async fn check(what: &str, nats: Nats, timers: [&str; 2], immediate: u32) {
    let witness = Witness::of(&nats).await;
    let mut house = open(&nats, witness.clone()).await;
    let settings =
        settings(&house, &nats, timers).map(|settings| settings.set("immediate_retries", immediate));
    let mut workers = [settings[0].start().await, settings[1].start().await];
    plant(&nats, &house).await;
    let (counted, kills) = kill_in_turn(&house, &witness, &settings, &mut workers).await;
    house.ended().await;
    let complaints = complaints(&house, &witness);

    let (passed, compressed) = (witness.passed(), witness.compressed());
    println!(
        "     {kills} kills; {counted:?} retries counted by the killed; {compressed} retries compressed"
    );
    for (parker, caller) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        println!(
            "     parked by {} and called by {}: {}",
            NAMES[parker], NAMES[caller], passed[parker][caller]
        );
    }
    let verdict = house.settle(what).await;
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints[..complaints.len().min(20)].join("\n")
    );
    assert!(passed.iter().flatten().all(|retries| *retries > 0), "who parked and who called: {passed:?}");
    assert!(kills >= 4 && counted.iter().all(|retries| *retries > 0.0), "{kills} kills, {counted:?}");
    assert!(
        compressed > 0 && witness.letters().len() >= verdict.dead,
        "{compressed} compressed, {verdict:?}"
    );
    assert!(verdict.in_flight > 0 && verdict.repeated <= verdict.exposed, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_that_are_killed_in_turn_lose_no_call_and_no_header() {
    check("two versions killed in turn", Nats::start().await, ["auto", "auto"], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_with_two_timers_lose_no_call_and_no_header() {
    let nats = Nats::start().await;
    let schedules = if nats.schedules() { "schedules" } else { "auto" };
    check("two versions with two timers", nats, ["levels", schedules], 1).await;
}

//! Workers, the broker and the gateway die again and again, and the books balance.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{
    size,
    support::{Answer, Call, DEAD, End, Gateway, Invocation, Nats, Worker},
    until_or,
};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    /// Completes once it was tried so often without success.
    After(u32),
    /// Fails to the end.
    Exhausted,
    /// Is refused at once.
    Refused,
}

const FATES: [Fate; 6] = [Fate::After(0), Fate::Exhausted, Fate::After(1), Fate::Refused, Fate::After(0), Fate::After(3)];

fn fate(id: &str) -> Fate {
    let number: usize = id.rsplit('-').next().unwrap().parse().unwrap();
    FATES[number % FATES.len()]
}

fn answer(call: &Call, takes: Duration) -> Answer {
    let status = match fate(call.id()) {
        Fate::Refused => 400,
        _ if is_success(call) => 200,
        _ => 500,
    };
    Answer::status(status).after(takes)
}

fn is_success(call: &Call) -> bool {
    matches!(fate(call.id()), Fate::After(tries) if call.retry() >= tries)
}

async fn unfinished(nats: &Nats) -> u64 {
    let [queued, parked, _] = nats.counts().await;
    queued + parked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_ends_twice_whatever_is_killed() {
    let (messages, takes, max_inflight) = (size(600, 6_000), Duration::from_millis(size(200, 250)), size(8, 30));
    let mut nats = Nats::start().await;
    let mut gateway = Gateway::start(move |call| answer(call, takes)).await;
    // Each worker calls by a path of its own, which tells whose call it is.
    let settings = [0, 1].map(|n| {
        let settings = Worker::of(&nats, &gateway).set("ack_wait", "4s").set("max_inflight", max_inflight);
        let settings = settings.set("initial_retry_wait", "300ms").set("max_retry_wait", "2s");
        settings.set("gateway_url", format!("{}/worker-{n}", gateway.url()))
    });
    let mut workers = [settings[0].start().await, settings[1].start().await];
    let id = |n: usize| format!("call-{n}");
    let invocation = |n: usize| {
        let invocation = Invocation::of("f").call_id(&id(n));
        if fate(&id(n)) == Fate::Exhausted { invocation.retry_annotation("attempts", "4") } else { invocation }
    };
    nats.publish_all((0..messages).map(invocation)).await;

    let start = Instant::now();
    let mut told = Vec::new();
    let (mut kills, mut in_flight, mut broker_kills, mut closed) = (0_usize, 0, 0, 0);
    // The last tenth is left in peace: with few to run, the same ones would be cut off again and again.
    while kills < 6 || unfinished(&nats).await > messages as u64 / 10 {
        kills += 1;
        sleep_until(start + Duration::from_secs(2) * u32::try_from(kills).unwrap()).await;
        let n = kills % 2;
        in_flight += gateway.running();
        workers[n].kill().await;
        told.extend(workers[n].log_with("call-"));
        workers[n] = settings[n].spawn();
        match kills {
            2 => {
                in_flight += gateway.running();
                nats.restart().await;
                broker_kills += 1;
                println!("     the broker was killed before {:?}", start.elapsed());
            }
            3 => {
                closed = gateway.running();
                gateway.close().await;
            }
            4 => gateway.open().await,
            _ => {}
        }
    }
    println!("     the killing ends after {:.0} s", start.elapsed().as_secs_f64());
    until_or("all have ended", async || unfinished(&nats).await == 0, async || nats.books().await).await;

    let calls = gateway.calls();
    let done: HashSet<&str> = calls.iter().filter(|call| call.fate() == Some(End::Answered) && is_success(call)).map(Call::id).collect();
    let dead = nats.messages(DEAD).await;
    let causes: HashMap<String, String> =
        dead.iter().map(|dead| (dead.expect("Queue-Worker-Call-Id").to_owned(), dead.expect("Queue-Worker-Cause").to_owned())).collect();
    let mut made: HashMap<(&str, u32), usize> = HashMap::new();
    for call in &calls {
        *made.entry((call.id(), call.retry())).or_default() += 1;
    }
    // A call that was made again carries the same attempt number.
    let repeated: usize = made.values().map(|times| times - 1).sum();
    let cut = calls.iter().filter(|call| call.fate() == Some(End::Cut)).count();
    let all: Vec<_> = (0..messages).map(id).collect();
    let lost: Vec<_> = all.iter().filter(|id| !done.contains(id.as_str()) && !causes.contains_key(*id)).collect();
    let both: Vec<_> = all.iter().filter(|id| done.contains(id.as_str()) && causes.contains_key(*id)).collect();
    let by_cause = |cause: &str| causes.values().filter(|known| *known == cause).count();
    println!("     accepted                {messages}");
    println!("     done                    {}", done.len());
    println!(
        "     dead                    {} ({} exhausted, {} refused, {} interrupted)",
        dead.len(),
        by_cause("exhausted"),
        by_cause("refused"),
        by_cause("interrupted")
    );
    println!("     lost, both              {}, {}", lost.len(), both.len());
    println!("     calls                   {}", calls.len());
    println!("     repeated                {repeated}");
    println!("     in flight at the kills  {in_flight} ({cut} were cut off; {kills} kills of workers, {broker_kills} of the broker)");
    println!("     cut by the gateway      {closed}");

    assert!(lost.is_empty() && both.is_empty(), "lost: {lost:?}, both: {both:?}");
    // The story of the first message that ended twice.
    for id in all.iter().filter(|_| dead.len() > causes.len()) {
        let letters: Vec<_> = dead.iter().filter(|dead| dead.expect("Queue-Worker-Call-Id") == id).collect();
        if letters.len() > 1 {
            told.extend(workers.iter().flat_map(|worker| worker.log_with(id)));
            told.iter().filter(|line| line.contains(id.as_str())).for_each(|line| println!("     {line}"));
            for call in calls.iter().filter(|call| call.id() == id) {
                let ended = call.end.map(|(at, end)| (at - start, end));
                println!("     {id}: {} retry {} at {:?}, {ended:?}", call.target(), call.retry(), call.arrived - start);
            }
            panic!("{id} has several dead letters: {letters:#?}");
        }
    }
    for id in &all {
        let expected = match fate(id) {
            Fate::After(_) => None,
            Fate::Exhausted => Some("exhausted"),
            Fate::Refused => Some("refused"),
        };
        assert_eq!(causes.get(id).map(String::as_str), expected, "{id}");
    }
    assert!(repeated <= in_flight, "{repeated} calls were repeated, {in_flight} were in flight at the kills");
}

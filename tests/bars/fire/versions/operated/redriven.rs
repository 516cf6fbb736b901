//! Dead letters that are sent round again: those of a function that was mended, and of one that was not.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{NEWER, OLDER, Site, is_of, told};
use crate::{size, support::DEAD, until};

/// Redrives all letters, kills both workers meanwhile, and awaits the end.
async fn redrive(site: &mut Site, letters: usize) {
    let before = site.gateway.count();
    let made = site.run("dead-letters redrive --all --yes --detach").await;
    let shown = format!("operations show {}", made["operation"].as_str().unwrap());
    until("some are called", async || site.gateway.count() >= before + letters / 4).await;
    site.kill(NEWER).await;
    site.kill(OLDER).await;
    until("it is done", async || site.run(&shown).await["state"] == "done").await;
    let done = site.run(&shown).await;
    assert_eq!((&done["redriven"], &done["failed"]), (&letters.into(), &0.into()), "{done}");
    site.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_redriven_beside_an_older_worker_comes_to_one_end() {
    let many = size(60, 1_000);
    let mut site = Site::open("200ms", 2).await;
    site.publish("mended", &["mended"], 0..many).await;
    site.publish("bad", &["bad"], 0..many).await;
    site.ended().await;
    assert_eq!(site.nats.count(DEAD).await, 2 * many as u64);
    site.mended.store(true, Ordering::Relaxed);
    // The second one comes while the broker remembers what the first one stored.
    for (round, letters) in [(1, 2 * many), (2, many)] {
        let before = site.gateway.count();
        redrive(&mut site, letters).await;
        let ends = site.ends(2 * many).await;
        let mut redrives = BTreeMap::<String, usize>::new();
        for (id, letter) in ends {
            assert_eq!(letter.is_some(), is_of(&id, "bad"), "{id}: {letter:?}");
            if let Some(letter) = letter {
                *redrives.entry(letter.expect("Queue-Worker-Redrives").to_owned()).or_default() += 1;
            }
        }
        let calls = site.gateway.calls();
        let by_older = calls.iter().skip(before).filter(|call| super::worker(call) == OLDER).count();
        told("redriven", letters, by_older, &format!("died again, by redrives: {redrives:?}"));
        assert_eq!(redrives, [(round.to_string(), many)].into());
    }
}

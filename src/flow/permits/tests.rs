use futures_util::FutureExt;

use super::*;

fn two(limit: usize) -> (Lane, Lane) {
    let mut lanes = Permits::new(limit).lanes(2);
    let due = lanes.pop().unwrap();
    (lanes.pop().unwrap(), due)
}

#[test]
fn a_lane_alone_gets_every_permit() {
    let (fresh, _due) = two(5);
    assert_eq!(fresh.take_free(9).len(), 5);
}

#[test]
fn a_lane_leaves_a_hungry_one_its_half() {
    let (fresh, due) = two(5);
    due.set_hungry(true);
    let fresh_held = fresh.take_free(9);
    fresh.set_hungry(true);
    assert_eq!((fresh_held.len(), due.take_free(9).len()), (3, 2));
}

#[test]
fn lanes_of_a_group_have_one_share_together() {
    let permits = Permits::new(8);
    let (fresh, group) = (permits.lane(), permits.group());
    let (due, held) = (permits.lane_of(group), permits.lane_of(group));
    for lane in [&fresh, &due, &held] {
        lane.set_hungry(true);
    }
    let first = held.take_free(3);
    assert_eq!((due.take_free(9).len(), first.len()), (1, 3));
    assert_eq!(fresh.take_free(9).len(), 4);
}

#[test]
fn one_permit_goes_from_lane_to_lane() {
    let (mut fresh, mut due) = two(1);
    fresh.set_hungry(true);
    due.set_hungry(true);
    let mut running = fresh.acquire().now_or_never().unwrap();
    for _ in 0..3 {
        let mut waiting_fresh = Box::pin(fresh.acquire());
        let mut waiting_due = Box::pin(due.acquire());
        assert!((&mut waiting_fresh).now_or_never().is_none());
        assert!((&mut waiting_due).now_or_never().is_none());
        drop(running);
        let due_permit = waiting_due.now_or_never().expect("the due lane's turn");
        assert!((&mut waiting_fresh).now_or_never().is_none());
        drop(due_permit);
        running = waiting_fresh.now_or_never().expect("the fresh lane's turn");
    }
}

#[test]
fn lanes_that_come_later_get_their_share_and_none_starves() {
    let permits = Permits::new(1);
    let mut lanes = permits.lanes(2);
    let running = lanes[0].take_free(1);
    lanes.extend(permits.lanes(2));
    let mut waiting: Vec<_> = lanes.iter_mut().map(|lane| Box::pin(lane.acquire())).enumerate().collect();
    assert!(waiting.iter_mut().all(|(_, acquire)| acquire.now_or_never().is_none()));
    drop(running);
    // Each one that is served gives its permit back at once; the one that had it before all others is the
    // last.
    let mut served = Vec::new();
    while !waiting.is_empty() {
        let next = waiting.iter_mut().position(|(_, acquire)| acquire.now_or_never().is_some()).unwrap();
        served.push(waiting.remove(next).0);
    }
    assert_eq!(served, [1, 2, 3, 0]);
}

#[test]
fn a_lane_that_ended_is_owed_nothing_and_leaves_its_place_to_the_next() {
    let (fresh, due) = two(4);
    due.set_hungry(true);
    assert_eq!(fresh.take_free(9).len(), 2);
    drop(due);
    let held = fresh.take_free(9);
    assert_eq!(held.len(), 4);
    // One whose calls still run keeps its place until they have ended.
    let permits = fresh.permits.clone();
    drop(fresh);
    let next = permits.lanes(2);
    assert_eq!(next.iter().map(|lane| lane.index).collect::<Vec<_>>(), [1, 2]);
    drop(held);
    assert_eq!((permits.lanes(1)[0].index, next[0].take_free(9).len()), (0, 4));
}

#[test]
fn a_permit_granted_to_a_future_that_is_gone_is_not_lost() {
    let (mut fresh, due) = two(1);
    let held = due.take_free(1);
    let mut waiting = Box::pin(fresh.acquire());
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    drop(held);
    assert_eq!(due.take_free(1).len(), 1);
    let mut waiting = Box::pin(fresh.acquire());
    assert!((&mut waiting).now_or_never().is_some());
}

#[test]
fn messages_have_so_many_bytes_together_and_two_are_always_let_in() {
    let mut lanes = Permits::within(10, 100, 40).lanes(2);
    let mut first = lanes[0].take_free(9);
    assert_eq!(first.len(), 2, "each may become the largest");
    assert!(lanes[1].acquire().now_or_never().is_none());
    first[0].carry(10);
    assert_eq!(lanes[1].take_free(9).len(), 1, "10, 40 and 40");
    first.remove(0).carry(95);
    drop(first);
    let large = Permits::within(10, 1, 40).lanes(1);
    let mut two = large[0].take_free(9);
    assert_eq!(two.len(), 2);
    two.remove(0).carry(90);
    two[0].carry(90);
    assert!(large[0].take_free(1).is_empty());
    drop(two);
    assert_eq!(large[0].take_free(9).len(), 2);
}

#[tokio::test]
async fn whoever_waits_for_room_has_it_when_a_message_turns_out_smaller() {
    let mut lanes = Permits::within(10, 100, 40).lanes(2);
    let mut held = lanes[0].take_free(2);
    let waiting = lanes[1].acquire();
    tokio::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    held[0].carry(5);
    waiting.await;
}

#[test]
fn whoever_waits_for_many_is_served_when_a_part_is_free_and_is_in_nobodys_way() {
    let (mut fresh, mut due) = two(2 * PARTS);
    let mut running = fresh.take_free(2 * PARTS);
    {
        let mut many = Box::pin(fresh.acquire_of_many());
        assert!((&mut many).now_or_never().is_none());
        running.pop();
        assert!((&mut many).now_or_never().is_none(), "one is free, and that is not worth a request");
        let other = due.acquire().now_or_never().expect("another lane is content with one");
        running.pop();
        assert!((&mut many).now_or_never().is_none(), "it has its share");
        running.truncate(PARTS - 2);
        drop(other);
        assert!(many.now_or_never().is_some());
    }
    // None but the first of them is taken.
    running.truncate(0);
    assert_eq!(fresh.take_free(99).len(), 2 * PARTS);
}

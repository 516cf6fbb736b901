//! A message that is the call itself. Input: as for `envelope`.

use std::{sync::Arc, time::SystemTime};

use queue_worker::{
    message::{arrival::Arrival, form::Form, names::Names, successor::Message, target::Target},
    retry::judge::Cause,
};

/// Its headers are the caller's and no others, and what follows from it is the same call.
pub fn check(data: &[u8]) {
    let arrival = super::envelope::arrival(data);
    let url = "http://shop/{1}".parse().expect("a URL");
    let form = Form::Http(Arc::new(Target::new("orders", "orders.>", url).expect("a target")));
    let message = Message::of(&form, &arrival, false);
    let invocation = match message.invocation() {
        Ok(invocation) => invocation,
        Err(undecodable) => return super::is_showable(&undecodable.reason, 200),
    };
    assert_eq!(invocation.body, arrival.payload);
    for (name, mut values) in invocation.headers.iter() {
        let name = name.to_ascii_lowercase();
        assert!(!name.starts_with("nats-") && !name.starts_with("queue-worker-"));
        assert!(values.next().is_some());
    }
    let names = Names::new("orders", "orders");
    for most in [1 << 20, invocation.body.len() + 1_000, 2_000] {
        let letter = message.dead_letter(&names, Cause::Exhausted, SystemTime::UNIX_EPOCH, most);
        let Ok(letter) = letter else { continue };
        let again = Arrival { headers: letter.headers, payload: letter.payload, ..arrival.clone() };
        assert_eq!(Message::of(&form, &again, true).invocation().as_ref(), Ok(&invocation));
    }
}

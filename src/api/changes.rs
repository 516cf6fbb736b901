//! Redrives, discards and cancels: stored operations, which workers carry out.

use axum::http::StatusCode;
use ring::digest::{SHA256, digest};

use super::{
    Answer,
    problem::{Fault, Problem},
    request::{Again, Asked},
    routes::BASE,
    values::Values,
};
use crate::{
    broker::operations::Known,
    message::{
        letter::choice::Choice,
        names::Names,
        operation::{Asked as Key, Canary, Kind},
    },
    operate::{
        audit::because,
        desk::Desk,
        make::{Counted, Wanted, made, make},
        operations::whole,
    },
};

/// Sends letters round again.
pub(super) async fn redrive(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let body = &asked.body;
    let number = |name: &str| body.number(name).and_then(|number| u32::try_from(number).ok());
    if body.number("require").is_some() && body.number("canary").is_none() {
        return Err(Problem::faulty(vec![Fault::new("require", "", "canary beside it")]));
    }
    let canary = number("canary").map(|calls| Canary::first(calls, number("require")));
    let wanted = Wanted {
        rate: number("rate"),
        to: body.text("to").map(str::to_owned),
        canary,
        ..wanted(&desk, Kind::Redrive, body)?
    };
    begin(desk, asked, wanted).await
}

/// Deletes letters for good.
pub(super) async fn discard(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let wanted = wanted(&desk, Kind::Discard, &asked.body)?;
    begin(desk, asked, wanted).await
}

/// Ends parked calls without calling them.
pub(super) async fn cancel(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let wanted = wanted(&desk, Kind::Cancel, &asked.body)?;
    begin(desk, asked, wanted).await
}

fn wanted(desk: &Desk, kind: Kind, body: &Values) -> Result<Wanted, Problem> {
    Ok(Wanted::of(kind, choice(desk, body)?, because(body.text("reason"))))
}

/// What a body chooses. It has to say so: nobody means all by saying nothing.
pub(super) fn choice(desk: &Desk, body: &Values) -> Result<Choice, Problem> {
    let sequences = body.sequences("sequences").to_vec();
    let filter = body.object("filter").filter(|filter| !filter.is_empty());
    let ways = [!sequences.is_empty(), filter.is_some(), body.flag("all")];
    if ways.iter().filter(|way| **way).count() != 1 {
        let expected = "sequences, or a filter that says something, or all: true; one of the three";
        return Err(Problem::faulty(vec![Fault::new("(body)", "", expected)]));
    }
    let filter = filter.map_or_else(Choice::default, |filter| filter.choice(desk.now()));
    Ok(Choice { sequences, ..filter })
}

/// Makes an operation, unless it was made under the same key before.
async fn begin(desk: Desk, asked: Asked, mut wanted: Wanted) -> Result<Answer, Problem> {
    let names = desk.queue()?;
    wanted.asked = asked.again.as_ref().map(|again| key(&names, wanted.kind, again));
    if let Some(key) = &wanted.asked
        && let Some(known) = made(&desk, &names, key).await?
    {
        return begun(&known, &wanted);
    }
    let done = anew(&desk, &names, &wanted, asked.body.flag("dryRun")).await;
    // The same request, sent at the same time, may have taken what this one was about to count.
    if done.is_err()
        && let Some(key) = &wanted.asked
        && let Some(known) = made(&desk, &names, key).await?
    {
        return begun(&known, &wanted);
    }
    done
}

/// Makes an operation, or only says how many it would be about.
async fn anew(desk: &Desk, names: &Names, wanted: &Wanted, dry: bool) -> Result<Answer, Problem> {
    let counted = Counted::of(desk, names, wanted).await?;
    if dry {
        return Ok(Answer::ok(counted.document()));
    }
    let known = make(desk, names, wanted, counted).await?;
    begun(&known, wanted)
}

fn begun(known: &Known, wanted: &Wanted) -> Result<Answer, Problem> {
    let operation = &known.operation;
    if wanted.asked != operation.asked {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the same Idempotency-Key was sent before, with another body",
        ));
    }
    let location = format!("{BASE}/operations/{}", operation.operation);
    Ok(Answer::accepted(whole(operation), Some(location)))
}

/// What is stored of a caller's key.
fn key(names: &Names, kind: Kind, again: &Again) -> Key {
    let hash = |text: &[u8]| {
        digest(&SHA256, text).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let key = format!("{}\n{}\n{}", names.queue, kind.as_str(), again.key);
    Key { key: hash(key.as_bytes()), words: hash(&again.words) }
}

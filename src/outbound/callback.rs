//! The callback: when an invocation ends, its answer is posted to the URL that the caller asked for.
//!
//! ```text
//!  the end of an invocation ─posting─▶ Posting ─http─▶ Outcome ─verdict─▶ delivered │ again later │ dead
//!                                         │    allowed? address? signed
//!                                         └─pack─▶ parked like a retry, for the times after the first
//! ```
//!
//! The first POST is made in place, with the whole answer. Only when it fails does the answer become a
//! message of its own, and the call it came from is never made again for its sake.

mod address;
mod http;
mod sign;

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

pub use self::http::HttpPost;
use crate::{
    flow::{memory::Room, shortage::Shortage},
    message::posting::Posting,
    retry::{callback::Refused, judge::Outcome},
};

/// The reason for making no POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPosted {
    /// It must not be made.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// This machine was short of something.
    #[error("this worker is short of {}", .0.as_str())]
    Short(Shortage),
}

/// The seam to the receivers of callbacks.
pub trait Post: Debug + Send + Sync + 'static {
    /// Makes one POST. `id` is the same at each try and no other callback's.
    fn post<'a>(&'a self, posting: &'a Posting, id: &'a str) -> BoxFuture<'a, Result<Outcome, NotPosted>>;

    /// Closes the connections that are kept for later: others are short of what they take.
    fn close_idle(&self) {}
}

/// The way to make callbacks.
#[derive(Debug, Clone)]
pub struct Callbacks {
    /// Makes one POST.
    pub post: Arc<dyn Post>,
    /// The most tries of one callback, at least one.
    pub attempts: u32,
    /// The most bytes of a function's answer that are passed on.
    pub max_body: usize,
    /// The memory for all answers that are passed on.
    pub room: Room,
}

//! What stands for tracing in a program that was built without it: nothing.

use std::time::SystemTime;

use http::HeaderMap;

use super::Fate;
use crate::{
    config,
    message::{decode::Invocation, successor::Message},
    retry::{callback::Refused, judge::Outcome},
};

/// Makes no traces.
#[derive(Debug, Clone, Default)]
pub struct Tracer(());

/// The trace of a delivery that is not traced.
#[derive(Debug, Default)]
pub struct Trace(());

/// The span of a POST that is not traced.
#[derive(Debug)]
pub struct Post(());

impl Tracer {
    /// There is nothing to be made: `config` lets nobody ask for it.
    #[must_use]
    pub fn new(_config: Option<&config::Tracing>, _instance: &str) -> Self {
        Self(())
    }

    /// Nothing.
    #[must_use]
    pub fn begin(
        &self,
        _queue: &str,
        _parcel: &mut Message,
        _invocation: Option<&Invocation>,
        _now: SystemTime,
    ) -> Trace {
        Trace(())
    }

    /// Nothing.
    pub async fn finish(&self) {}
}

impl Trace {
    /// Nothing.
    pub fn call_id(&self, _call_id: &str) {}

    /// Nothing.
    pub fn ends(&self, _fate: Fate) {}

    /// Nothing.
    pub fn carry(&self, _headers: &mut async_nats::HeaderMap) {}

    /// Nothing.
    #[must_use]
    pub fn call(&self, _function: &str, _attempt: u32, _target: &str) -> Post {
        Post(())
    }

    /// Nothing.
    #[must_use]
    pub fn callback(&self, _attempt: u32, _url: &str) -> Post {
        Post(())
    }
}

impl Post {
    /// Nothing.
    pub fn inject(&self, _headers: &mut HeaderMap) {}

    /// Nothing.
    pub fn ends(self, _outcome: &Outcome) {}

    /// Nothing.
    pub fn refused(self, _why: &Refused) {}
}

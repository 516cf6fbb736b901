//! Settings that are usable, but together hardly do what was meant.

use std::fmt;

use super::{Config, reader::Reader, target};

/// A doubtful setting, its consequence, and the advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The setting.
    pub setting: &'static str,
    /// Its state.
    pub seen: &'static str,
    /// The consequence.
    pub means: &'static str,
    /// The advice.
    pub mend: &'static str,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, seen, means, mend } = self;
        write!(f, "{setting} {seen}: {means}; set {mend}")
    }
}

/// The community edition's gateway speaks NATS Streaming only. Its newer charts bring the cluster's name
/// along, which turns the bridge on; older ones and faasd do not.
const NO_BRIDGE: Doubt = Doubt {
    setting: "faas_nats_address",
    seen: "is set and the bridge is off",
    means: "NATS Streaming is not served, and a gateway of OpenFaaS's community edition speaks nothing else",
    mend: "stan_bridge=true, or stan_bridge=false if no such gateway is there",
};

/// A target of a queue whose messages name a function themselves.
const NO_TARGET: Doubt = Doubt {
    setting: "",
    seen: "has a value for a queue of OpenFaaS's messages",
    means: "nothing uses it, since those go to gateway_url",
    mend: "input=http or cloudevents for that queue, or no value",
};

/// An API that anybody may ask who reaches it.
const OPEN_API: Doubt = Doubt {
    setting: "api_addr",
    seen: "is set without api_token_file",
    means: "whoever reaches it sees names of functions, call ids and errors; nobody changes anything there",
    mend: "api_token_file, or an address of this machine only",
};

/// The doubts about these settings.
pub(super) fn doubts(reader: &Reader, config: &Config) -> Vec<Doubt> {
    let unbridged =
        reader.is_set(NO_BRIDGE.setting) && !reader.is_set("stan_bridge") && config.stan_cluster.is_none();
    let forms: Vec<_> = config.queues.iter().map(|queue| &queue.form).collect();
    let unused = target::unused(reader, &forms).into_iter().map(|setting| Doubt { setting, ..NO_TARGET });
    let open =
        config.api.as_ref().is_some_and(|api| api.token_file.is_none() && !api.addr.ip().is_loopback());
    let known = [unbridged.then_some(NO_BRIDGE), open.then_some(OPEN_API)];
    known.into_iter().flatten().chain(unused).collect()
}

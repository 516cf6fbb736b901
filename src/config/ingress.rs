//! The way in by HTTP.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    reader::{Reader, Reported},
    values::{duration, file, listen, size},
};

/// The way in by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The most bytes of a body; 0: what the broker takes.
    pub max_body: usize,
    /// The longest that a call may be put off.
    pub max_delay: Duration,
    /// The file of the tokens that callers have to show.
    pub token_file: Option<PathBuf>,
}

/// It is off unless its address is set.
pub(super) fn ingress(reader: &mut Reader) -> Result<Option<Ingress>, Reported> {
    let addr = reader.optional("ingress_addr", listen);
    let max_body = reader.value("ingress_max_body", |text| {
        usize::try_from(size(text)?).map_err(|_| "expected fewer bytes".to_owned())
    });
    let max_delay = reader.value("ingress_max_delay", duration);
    let token_file = reader.optional("ingress_token_file", file);
    let (addr, max_body, max_delay, token_file) = (addr?, max_body?, max_delay?, token_file?);
    if addr.is_none() && token_file.is_some() {
        return Err(reader.fault("ingress_token_file", "expected ingress_addr beside it"));
    }
    Ok(addr.map(|addr| Ingress { addr, max_body, max_delay, token_file }))
}

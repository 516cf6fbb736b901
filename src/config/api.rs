//! The operators' API.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    reader::{Reader, Reported},
    values::{file, listen},
};

/// The operators' API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The file of the tokens that operators have to show. Without one nobody changes anything.
    pub token_file: Option<PathBuf>,
}

/// It is off unless its address is set.
pub(super) fn api(reader: &mut Reader) -> Result<Option<Api>, Reported> {
    let addr = reader.optional("api_addr", listen);
    let token_file = reader.optional("api_token_file", file);
    let (addr, token_file) = (addr?, token_file?);
    if addr.is_none() && token_file.is_some() {
        return Err(reader.fault("api_token_file", "expected api_addr beside it"));
    }
    Ok(addr.map(|addr| Api { addr, token_file }))
}

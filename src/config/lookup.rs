//! The look-up of annotations that a gateway does not send along.

use std::{path::PathBuf, time::Duration};

use super::{
    reader::{Reader, Reported},
    values::{boolean, file, positive},
};

/// The look-up of functions' annotations at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionLookup {
    /// The time for which an answer is used.
    pub ttl: Duration,
    /// The folder of the files that hold user and password; `None`: the gateway wants no login.
    pub secrets: Option<PathBuf>,
}

/// The default depends on the gateway. The community edition's sends no annotations. Its chart renders
/// `basic_auth`, and an installation with the bridge for NATS Streaming (`bridged`) has that gateway, too:
/// for both, a change of the image is enough.
pub(super) fn function_lookup(
    reader: &mut Reader,
    bridged: bool,
) -> Result<Option<FunctionLookup>, Reported> {
    let wanted = reader.optional("function_lookup", boolean);
    let ttl = reader.value("function_lookup_ttl", positive);
    let basic_auth = reader.value("basic_auth", boolean);
    let secrets = reader.value("secret_mount_path", file);
    let (wanted, ttl, basic_auth, secrets) = (wanted?, ttl?, basic_auth?, secrets?);
    Ok(wanted
        .unwrap_or(basic_auth || bridged)
        .then(|| FunctionLookup { ttl, secrets: basic_auth.then_some(secrets) }))
}

//! How the annotations are found that a gateway does not send along.

use std::{path::PathBuf, time::Duration};

use super::{
    reader::{Reader, Reported},
    values::{boolean, file, positive},
};

/// How the annotations of functions are looked up at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionLookup {
    /// How long an answer is used before the gateway is asked again.
    pub ttl: Duration,
    /// The folder of the files that hold user and password; `None`: the gateway wants no login.
    pub secrets: Option<PathBuf>,
}

/// The community edition's gateway sends no annotations. Its chart renders `basic_auth`, and who has the
/// bridge for NATS Streaming (`bridged`) has that gateway too: for them an exchange of the image is enough.
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

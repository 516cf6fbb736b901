//! The certificate authorities that the gateway may use: the system's, or those of a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hyper_rustls::ConfigBuilderExt;
use reqwest::{Certificate, ClientBuilder};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The authorities that are trusted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The system's.
    System,
    /// Those of `gateway_ca_file`, and no others.
    These(Vec<CertificateDer<'static>>),
}

/// The file of the authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("gateway_ca_file=\"{}\": {reason}; expected a file of certificates in PEM", path.display())]
pub struct Untrustworthy {
    path: PathBuf,
    reason: String,
}

impl Trust {
    /// The authorities of the file; without one, the system's.
    ///
    /// # Errors
    /// See [`Untrustworthy`].
    pub fn read(file: Option<&Path>) -> Result<Self, Untrustworthy> {
        let Some(path) = file else { return Ok(Self::System) };
        let bad = |reason: String| Untrustworthy { path: path.to_owned(), reason };
        let text = fs::read(path).map_err(|error| bad(error.to_string()))?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(error.to_string()))?;
        if found.is_empty() {
            return Err(bad("no certificate is in it".to_owned()));
        }
        // Checked here, because a useless certificate would show only at the first call.
        for certificate in &found {
            RootCertStore::empty().add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
        }
        Ok(Self::These(found))
    }

    /// TLS with these authorities.
    pub(super) fn tls(&self) -> io::Result<ClientConfig> {
        let builder = ClientConfig::builder();
        let builder = match self {
            Self::System => builder.with_native_roots()?,
            Self::These(found) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(found.iter().cloned());
                builder.with_root_certificates(roots)
            }
        };
        Ok(builder.with_no_client_auth())
    }

    /// The same for the clients that ask the gateway about functions.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match self {
            Self::System => builder,
            // All of them were read before.
            Self::These(found) => {
                builder.tls_certs_only(found.iter().filter_map(|der| Certificate::from_der(der).ok()))
            }
        }
    }
}

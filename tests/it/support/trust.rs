//! What a broker trusts: certificates, and an operator's tokens. Made anew for each test, so that nothing can
//! expire.

use async_nats::ConnectOptions;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
use serde_json::{Value, json};

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Signs the certificates of one network.
pub struct Authority(CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The identity of a server on the loopback address, or of a client.
    pub fn identity(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// An operator with one account that may use JetStream, and the system's account.
pub struct Operator {
    key: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self { key: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// What makes a broker trust this operator, and no other.
    pub fn config(&self) -> String {
        let claims = json!({ "type": "operator", "system_account": self.system.public_key() });
        let operator = token(&self.key, &self.key, claims);
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1,
            "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let mut limited = unlimited.clone();
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limited[name] = json!(0);
        }
        let account = token(&self.key, &self.account, json!({ "type": "account", "limits": unlimited }));
        let system = token(&self.key, &self.system, json!({ "type": "account", "limits": limited }));
        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\n\
             resolver_preload: {{ {}: {account}, {}: {system} }}",
            self.system.public_key(),
            self.account.public_key(),
            self.system.public_key(),
        )
    }

    /// The `.creds` file of a new user of the account.
    pub fn creds(&self) -> String {
        let user = KeyPair::new_user();
        let claims = json!({ "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let jwt = token(&self.account, &user, claims);
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        )
    }

    /// Logs a user of the account in.
    pub fn login(&self) -> ConnectOptions {
        ConnectOptions::with_credentials(&self.creds()).unwrap()
    }
}

/// A JWT as NATS writes it: what `issuer` says of `subject`, for all time.
fn token(issuer: &KeyPair, subject: &KeyPair, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
            "name": "test", "nats": claims,
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = [header, body].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

//! The cluster's keys and certificates: made on first start, loaded afterwards, renewed when they come to their end.
//!
//! Folder layout (`<data-dir>/pki`, mode 0700, files 0600): `ca`, `apiserver`, `admin`, `apiserver-kubelet-client` and
//! `kubelet`, each a `.crt` and a `.key`, and `sa.key`, which signs service-account tokens.
//!
//! Invariant: a key is written before its certificate, each by rename, so a crash leaves either a whole pair or a
//! key without certificate, which the next start replaces. A file that is there but unreadable is never replaced
//! silently: it is an error that names the file.

mod authority;
mod files;
mod kubeconfig;
mod leaf;
mod request;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_base::Timestamp;

use authority::Authority;
use leaf::{Leaf, Purpose};
pub use request::SigningOrder;

/// Whom and what the certificates are for.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// Name of this machine's node.
    pub node_name: String,
    /// Addresses at which clients reach this machine.
    pub addresses: Vec<IpAddr>,
    /// The first address of the service range: that of the `kubernetes` service.
    pub service_address: IpAddr,
    /// Further DNS names of the API server.
    pub names: Vec<String>,
}

/// Why keys and certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged: {why}; restore it from a backup, or remove the pki folder to make new keys", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("cannot issue a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Keys and certificates don't make a TLS configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The verifier of client certificates cannot be made.
    #[error("cannot set up the verification of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PKCS #8 in PEM.
    pub key: String,
}

/// The keys and certificates of a cluster with one control plane.
pub struct Pki {
    authority: Authority,
    service_account_key: String,
    apiserver: Leaf,
    admin: Leaf,
    kubelet_client: Leaf,
    kubelet: Leaf,
}

impl Pki {
    /// Loads the keys under `folder`, making what is missing and renewing what is about to expire or no longer fits.
    pub fn open(folder: &Path, options: &PkiOptions, now: Timestamp) -> Result<Self, PkiError> {
        files::make_folder(folder)?;
        Self::load(Some(folder), options, now)
    }

    /// Keys that live in memory only, for tests.
    pub fn ephemeral(options: &PkiOptions, now: Timestamp) -> Result<Self, PkiError> {
        Self::load(None, options, now)
    }

    fn load(folder: Option<&Path>, options: &PkiOptions, now: Timestamp) -> Result<Self, PkiError> {
        let authority = Authority::load(folder, now)?;
        let leaf = |file: &str, purpose: Purpose| Leaf::load(folder, file, purpose, &authority, now);
        Ok(Self {
            service_account_key: authority::signing_key(folder)?,
            apiserver: leaf("apiserver", apiserver_purpose(options))?,
            admin: leaf("admin", Purpose::client("kubernetes-admin", &["system:masters"]))?,
            kubelet_client: leaf(
                "apiserver-kubelet-client",
                Purpose::client("kube-apiserver-kubelet-client", &["system:masters"]),
            )?,
            kubelet: leaf("kubelet", kubelet_purpose(options))?,
            authority,
        })
    }

    /// The authority's certificate, PEM: what clients and pods trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The private key that signs service-account tokens (ECDSA P-256, PKCS #8 in PEM).
    #[must_use]
    pub fn service_account_key(&self) -> &str {
        &self.service_account_key
    }

    /// A new client certificate, valid for a year: the user's name and groups.
    pub fn issue_client(&self, user: &str, groups: &[&str], now: Timestamp) -> Result<Credentials, PkiError> {
        self.authority.issue(&Purpose::client(user, groups), now)
    }

    /// A new serving certificate, valid for a year.
    pub fn issue_server(
        &self,
        name: &str,
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<Credentials, PkiError> {
        self.authority.issue(&Purpose::server(name, names, addresses), now)
    }

    /// Signs what somebody asks for and somebody else has decided; the certificate, PEM, or why there is none.
    pub fn sign(&self, order: &SigningOrder<'_>) -> Result<String, String> {
        request::sign(order, &self.authority)
    }

    /// The administrator's credentials.
    #[must_use]
    pub fn admin(&self) -> Credentials {
        self.admin.credentials()
    }

    /// A kubeconfig with the administrator's credentials for the API server at `url`.
    #[must_use]
    pub fn admin_kubeconfig(&self, url: &str) -> String {
        kubeconfig::render(url, "kubernetes-admin", self.ca_pem(), &self.admin.credentials())
    }

    /// How the API server serves: HTTP/2 and HTTP/1.1, client certificates optional. The API server itself judges
    /// them (a bad one gets a 401 instead of a broken handshake). Renewal by [`Pki::renew`] reaches it live.
    pub fn apiserver_tls(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        tls::apiserver(&self.authority, self.apiserver.live())
    }

    /// How the kubelet serves: only clients with a certificate of this authority get in.
    pub fn kubelet_tls(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        tls::kubelet(&self.authority, self.kubelet.live())
    }

    /// How the API server speaks to kubelets.
    pub fn kubelet_client_tls(&self) -> Result<Arc<rustls::ClientConfig>, PkiError> {
        tls::client(&self.authority, self.kubelet_client.live())
    }

    /// Verifies client certificates against the authority.
    pub fn client_verifier(&self) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, PkiError> {
        tls::client_verifier(&self.authority)
    }

    /// Replaces every certificate that is about to expire; connections made from now on use the new ones.
    /// Returns whether anything was renewed.
    pub fn renew(&self, now: Timestamp) -> Result<bool, PkiError> {
        let mut renewed = false;
        for leaf in [&self.apiserver, &self.admin, &self.kubelet_client, &self.kubelet] {
            renewed |= leaf.renew(&self.authority, now)?;
        }
        Ok(renewed)
    }
}

fn apiserver_purpose(options: &PkiOptions) -> Purpose {
    let mut names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    names.push(options.node_name.clone());
    names.extend(options.names.iter().cloned());
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), options.service_address];
    addresses.extend(&options.addresses);
    Purpose::server("kube-apiserver", &names, &addresses)
}

fn kubelet_purpose(options: &PkiOptions) -> Purpose {
    let name = format!("system:node:{}", options.node_name);
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
    addresses.extend(&options.addresses);
    Purpose::server(&name, std::slice::from_ref(&options.node_name), &addresses)
}

#[cfg(test)]
mod tests;

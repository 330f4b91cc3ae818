//! The client certificate of a connection.

use std::sync::OnceLock;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

use super::CREDENTIAL;
use crate::discovery::hex;
use crate::identity::Identity;
use crate::server::Server;

/// The certificates that a client showed when it connected. They are judged once for all requests of the connection,
/// and again when one of them has expired.
pub(crate) struct Peer {
    certificates: Vec<CertificateDer<'static>>,
    /// The user, and the last second at which all certificates are valid.
    judged: OnceLock<(Identity, i64)>,
}

impl Peer {
    pub(crate) fn new(certificates: &[CertificateDer<'_>]) -> Self {
        let certificates = certificates.iter().map(|one| one.clone().into_owned()).collect();
        Self { certificates, judged: OnceLock::new() }
    }

    /// Whether the client showed none.
    pub(crate) fn is_nobody(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The user is the certificate's common name, its organisations are the groups. None for one that is not good.
    pub(crate) fn user(&self, server: &Server) -> Option<Identity> {
        let now = server.clock().now().as_second();
        if let Some((user, _)) = self.judged.get().filter(|(_, until)| now <= *until) {
            return Some(user.clone());
        }
        let judged = self.judge(server, now)?;
        Some(self.judged.get_or_init(|| judged.clone()).0.clone()).filter(|_| now <= judged.1)
    }

    fn judge(&self, server: &Server, now: i64) -> Option<(Identity, i64)> {
        let [own, rest @ ..] = self.certificates.as_slice() else { return None };
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).ok()?));
        server.verifier().verify_client_cert(own, rest, at).ok()?;
        let (_, parsed) = parse_x509_certificate(own).ok()?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups: Vec<&str> = parsed.subject().iter_organization().filter_map(|group| group.as_str().ok()).collect();
        let mut user = Identity::new(name, &groups);
        let fingerprint = format!("X509SHA256={}", hex(&Sha256::digest(own)).to_lowercase());
        user.extra.insert(CREDENTIAL.to_owned(), vec![fingerprint]);
        let ends = self
            .certificates
            .iter()
            .map(|one| parse_x509_certificate(one).map_or(now, |(_, parsed)| parsed.validity().not_after.timestamp()));
        Some((user, ends.min().unwrap_or(now)))
    }
}

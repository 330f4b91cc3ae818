//! Certificates of servers and clients, renewed while they are in use.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corten_base::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use super::authority::Authority;
use super::{Credentials, PkiError, files};

const LIFETIME_DAYS: u32 = 365;
/// A certificate with less than this left is replaced.
const RENEW_BEFORE_SECONDS: i64 = 90 * 86_400;

/// What a certificate is for.
#[derive(Clone, Debug)]
pub(super) struct Purpose {
    /// Common name.
    pub(super) name: String,
    groups: Vec<String>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    usage: ExtendedKeyUsagePurpose,
}

impl Purpose {
    /// A client: user and groups.
    pub(super) fn client(user: &str, groups: &[&str]) -> Self {
        Self {
            name: user.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            names: Vec::new(),
            addresses: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    /// A server: the names and addresses it answers to.
    pub(super) fn server(name: &str, names: &[String], addresses: &[IpAddr]) -> Self {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        Self { name: name.to_owned(), groups: Vec::new(), names, addresses, usage: ExtendedKeyUsagePurpose::ServerAuth }
    }

    pub(super) fn params(&self, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        let mut subject = DistinguishedName::new();
        for group in &self.groups {
            subject.push(DnType::OrganizationName, group.as_str());
        }
        subject.push(DnType::CommonName, self.name.as_str());
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, LIFETIME_DAYS);
        Ok(params)
    }

    /// Whether a certificate still serves this purpose, was issued by the authority and has time left.
    fn is_met(&self, certificate: &[u8], key: &KeyPair, authority: &Authority, now: Timestamp) -> Result<bool, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        let (_, issuer) =
            x509_parser::parse_x509_certificate(authority.certificate()).map_err(|error| error.to_string())?;
        let mut names: Vec<String> = Vec::new();
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let Ok(Some(extension)) = parsed.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        names.sort_unstable();
        addresses.sort_unstable();
        let mut groups: Vec<&str> =
            parsed.subject().iter_organization().filter_map(|group| group.as_str().ok()).collect();
        groups.sort_unstable();
        let mut wanted: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        let subject = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(subject == Some(self.name.as_str())
            && groups == wanted
            && names == self.names
            && addresses == self.addresses
            && parsed.issuer().as_raw() == issuer.subject().as_raw()
            && *parsed.public_key().subject_public_key.data == *key.public_key_raw()
            && parsed.validity().not_after.timestamp() - now.as_second() > RENEW_BEFORE_SECONDS)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Makes a certificate valid from yesterday (clocks differ) for so many days.
pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, days: u32) {
    const DAY: Duration = Duration::from_secs(86_400);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + DAY * days;
}

/// A certificate in use.
pub(super) struct Leaf {
    file: Option<PathBuf>,
    purpose: Purpose,
    live: Arc<Live>,
}

/// The current certificate; TLS configurations that hold it see its renewal.
pub(super) struct Live(RwLock<(Credentials, Arc<CertifiedKey>)>);

impl Leaf {
    /// Loads `<file>.crt` and `<file>.key`, or issues a new pair if they are missing, expiring or do not fit.
    pub(super) fn load(
        folder: Option<&Path>,
        file: &str,
        purpose: Purpose,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let file = folder.map(|folder| folder.join(file));
        let credentials = match stored(file.as_deref(), &purpose, authority, now)? {
            Some(credentials) => credentials,
            None => fresh(file.as_deref(), &purpose, authority, now)?,
        };
        let key = certified(&credentials)?;
        Ok(Self { file, purpose, live: Arc::new(Live(RwLock::new((credentials, key)))) })
    }

    /// Certificate and key as they are now.
    pub(super) fn credentials(&self) -> Credentials {
        self.live.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// A handle that follows renewals.
    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Replaces the certificate if it is about to expire.
    pub(super) fn renew(&self, authority: &Authority, now: Timestamp) -> Result<bool, PkiError> {
        let current = self.credentials();
        let certificate = CertificateDer::from_pem_slice(current.certificate.as_bytes());
        let fits = match (certificate, KeyPair::from_pem(&current.key)) {
            (Ok(certificate), Ok(key)) => self.purpose.is_met(&certificate, &key, authority, now).unwrap_or(false),
            _ => false,
        };
        if fits {
            return Ok(false);
        }
        let credentials = fresh(self.file.as_deref(), &self.purpose, authority, now)?;
        let key = certified(&credentials)?;
        *self.live.0.write().unwrap_or_else(PoisonError::into_inner) = (credentials, key);
        Ok(true)
    }
}

impl Live {
    /// The key to present.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

fn stored(
    file: Option<&Path>,
    purpose: &Purpose,
    authority: &Authority,
    now: Timestamp,
) -> Result<Option<Credentials>, PkiError> {
    let Some(file) = file else { return Ok(None) };
    let (certificate_file, key_file) = (file.with_extension("crt"), file.with_extension("key"));
    let (Some(certificate), Some(key)) = (files::read(&certificate_file)?, files::read(&key_file)?) else {
        return Ok(None);
    };
    let damaged = |path: &Path, why: String| PkiError::Damaged { path: path.to_owned(), why };
    let der = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| damaged(&certificate_file, error.to_string()))?;
    let pair = KeyPair::from_pem(&key).map_err(|error| damaged(&key_file, error.to_string()))?;
    let fits = purpose.is_met(&der, &pair, authority, now).map_err(|why| damaged(&certificate_file, why))?;
    Ok(fits.then_some(Credentials { certificate, key }))
}

fn fresh(
    file: Option<&Path>,
    purpose: &Purpose,
    authority: &Authority,
    now: Timestamp,
) -> Result<Credentials, PkiError> {
    let credentials = authority.issue(purpose, now)?;
    if let Some(file) = file {
        files::write(&file.with_extension("key"), &credentials.key)?;
        files::write(&file.with_extension("crt"), &credentials.certificate)?;
    }
    Ok(credentials)
}

fn certified(credentials: &Credentials) -> Result<Arc<CertifiedKey>, PkiError> {
    let general = |error: rustls_pki_types::pem::Error| PkiError::Tls(rustls::Error::General(error.to_string()));
    let certificate = CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).map_err(general)?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).map_err(general)?;
    let key = any_ecdsa_type(&key).map_err(PkiError::Tls)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

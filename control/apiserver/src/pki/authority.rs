//! The certificate authority and the key for service-account tokens.

use std::path::Path;

use corten_base::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::leaf::{Purpose, set_validity};
use super::{Credentials, PkiError, files};

const LIFETIME_DAYS: u32 = 3650;

/// Signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The same key, for what the issuer cannot put into words.
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Loads the authority, or founds one.
    pub(super) fn load(folder: Option<&Path>, now: Timestamp) -> Result<Self, PkiError> {
        let Some(folder) = folder else { return Self::found(None, now) };
        let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
        let Some(pem) = files::read(&certificate_file)? else { return Self::found(Some(folder), now) };
        let Some(key) = files::read(&key_file)? else {
            let why = "it is missing although ca.crt is there".to_owned();
            return Err(PkiError::Damaged { path: key_file, why });
        };
        let damaged = |why: String| PkiError::Damaged { path: certificate_file.clone(), why };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let key = KeyPair::from_pem(&key)
            .map_err(|error| PkiError::Damaged { path: key_file.clone(), why: error.to_string() })?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|error| damaged(error.to_string()))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(damaged("it does not belong to ca.key".to_owned()));
        }
        if parsed.validity().not_after.timestamp() <= now.as_second() {
            return Err(damaged("it has expired".to_owned()));
        }
        let name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .ok_or_else(|| damaged("it has no common name".to_owned()))?
            .to_owned();
        let own = KeyPair::from_pem(&key.serialize_pem())
            .map_err(|error| PkiError::Damaged { path: key_file.clone(), why: error.to_string() })?;
        Ok(Self { issuer: Issuer::new(params(&name, now), key), key: own, certificate, pem })
    }

    fn found(folder: Option<&Path>, now: Timestamp) -> Result<Self, PkiError> {
        // A name of its own, so that certificates of an earlier authority are told apart.
        let name = format!("corten-ca@{}", now.as_millisecond());
        let issue = |source| PkiError::Issue { subject: name.clone(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let params = params(&name, now);
        let certificate = params.self_signed(&key).map_err(issue)?;
        let pem = certificate.pem();
        if let Some(folder) = folder {
            files::write(&folder.join("ca.key"), &key.serialize_pem())?;
            files::write(&folder.join("ca.crt"), &pem)?;
        }
        let own = KeyPair::from_pem(&key.serialize_pem()).map_err(issue)?;
        Ok(Self { issuer: Issuer::new(params, key), key: own, certificate: certificate.into(), pem })
    }

    /// The private key.
    pub(super) fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The certificate, PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate, DER.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Issues a certificate.
    pub(super) fn issue(&self, purpose: &Purpose, now: Timestamp) -> Result<Credentials, PkiError> {
        let issue = |source| PkiError::Issue { subject: purpose.name.clone(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let certificate = purpose.params(now).map_err(issue)?.signed_by(&key, &self.issuer).map_err(issue)?;
        Ok(Credentials { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, now: Timestamp) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, now, LIFETIME_DAYS);
    params
}

/// Loads the key that signs service-account tokens, or makes one.
pub(super) fn signing_key(folder: Option<&Path>) -> Result<String, PkiError> {
    let file = folder.map(|folder| folder.join("sa.key"));
    if let Some(file) = &file
        && let Some(pem) = files::read(file)?
    {
        KeyPair::from_pem(&pem).map_err(|error| PkiError::Damaged { path: file.clone(), why: error.to_string() })?;
        return Ok(pem);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| PkiError::Issue { subject: "service accounts".to_owned(), source })?;
    let pem = key.serialize_pem();
    if let Some(file) = &file {
        files::write(file, &pem)?;
    }
    Ok(pem)
}

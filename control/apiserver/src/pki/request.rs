//! Certificates that others ask for, each signed over the very name and key that its request has.
//!
//! The certificate is put together here, piece by piece: what a request says of its subject may be anything that X.509
//! allows, several organizations for instance, and must come out as it came in.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc5280>
//! Invariant: who gets what is decided elsewhere; here nothing is added to what was decided.

use std::time::Duration;

use base64::Engine;
use corten_base::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SigningKey};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::authority::Authority;

/// A certificate to be signed.
#[derive(Clone, Debug)]
pub struct SigningOrder<'a> {
    /// The request, PEM: subject, key and other names are its.
    pub request: &'a [u8],
    /// What the certificate may be used for, in Kubernetes' words, such as `client auth`.
    pub usages: &'a [String],
    /// How long it lives; never longer than the authority itself.
    pub lifetime: Duration,
    /// A number that no other certificate of the authority has.
    pub serial: [u8; 16],
    /// When it is signed.
    pub now: Timestamp,
}

/// Clocks differ; a certificate that does not live long begins when it is signed.
const BACKDATE: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(8 * 3600);

const SEQUENCE: u8 = 0x30;
const SET_OF_BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const IDENTIFIER: u8 = 0x06;
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// Signs; the certificate, PEM.
pub(super) fn sign(order: &SigningOrder<'_>, authority: &Authority) -> Result<String, String> {
    let block = Pem::iter_from_buffer(order.request).next().and_then(Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("unable to parse certificate request: {error}"))?;
    request.verify_signature().map_err(|error| format!("unable to verify certificate request signature: {error}"))?;
    let (_, issuer) = x509_parser::parse_x509_certificate(authority.certificate())
        .map_err(|error| format!("the authority's certificate is unreadable: {error}"))?;
    let info = &request.certification_request_info;
    let algorithm = algorithm(authority.key())?;
    let body = tlv(
        SEQUENCE,
        &[
            // Version 3.
            tlv(0xa0, &[tlv(INTEGER, &[2])].concat()),
            serial(order.serial),
            algorithm.clone(),
            issuer.subject().as_raw().to_vec(),
            validity(order, issuer.validity().not_after.timestamp())?,
            info.subject.as_raw().to_vec(),
            info.subject_pki.raw.to_vec(),
            tlv(0xa3, &tlv(SEQUENCE, &extensions(order, &request, &issuer)?)),
        ]
        .concat(),
    );
    let signature = authority.key().sign(&body).map_err(|error| format!("unable to sign certificate: {error}"))?;
    let certificate = tlv(SEQUENCE, &[body, algorithm, bits(&signature, 0)].concat());
    Ok(pem(&certificate))
}

/// How the authority's key signs.
fn algorithm(key: &KeyPair) -> Result<Vec<u8>, String> {
    let known: [(_, &[u8]); 4] = [
        (&PKCS_ECDSA_P256_SHA256, &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]),
        (&PKCS_ECDSA_P384_SHA384, &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]),
        (&PKCS_ED25519, &[0x06, 0x03, 0x2b, 0x65, 0x70]),
        // RSA alone has parameters: none.
        (&PKCS_RSA_SHA256, &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00]),
    ];
    let own = known.iter().find(|(algorithm, _)| key.algorithm() == *algorithm);
    own.map(|(_, identifier)| tlv(SEQUENCE, identifier))
        .ok_or_else(|| "the authority's key is of an unknown kind".to_owned())
}

fn validity(order: &SigningOrder<'_>, authority_ends: i64) -> Result<Vec<u8>, String> {
    let backdate = if order.lifetime < SHORT { Duration::ZERO } else { BACKDATE };
    let now = Timestamp::from_second(order.now.as_second()).map_err(|error| error.to_string())?;
    let begin = now.checked_sub(backdate).map_err(|error| error.to_string())?;
    let end = begin.checked_add(order.lifetime).map_err(|error| error.to_string())?;
    let latest = Timestamp::from_second(authority_ends).map_err(|error| error.to_string())?;
    if latest <= now {
        return Err("the authority's certificate has expired".to_owned());
    }
    Ok(tlv(SEQUENCE, &[time(begin), time(end.min(latest))].concat()))
}

fn time(time: Timestamp) -> Vec<u8> {
    // Two digits for the year until 2049, as the standard demands.
    let year = time.strftime("%Y").to_string();
    if year.as_str() < "2050" {
        tlv(0x17, time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

fn extensions(
    order: &SigningOrder<'_>,
    request: &X509CertificationRequest<'_>,
    issuer: &x509_parser::certificate::X509Certificate<'_>,
) -> Result<Vec<u8>, String> {
    let mut all = usages(order.usages)?;
    // No authority.
    all.extend(extension(&[0x55, 0x1d, 0x13], true, &tlv(SEQUENCE, &[])));
    for own in issuer.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(id) = own.parsed_extension() {
            all.extend(extension(&[0x55, 0x1d, 0x23], false, &tlv(SEQUENCE, &tlv(0x80, id.0))));
        }
    }
    // Other names come as they were asked for.
    let attributes = request.certification_request_info.iter_attributes();
    let requested = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
        _ => None,
    });
    for own in requested.flatten() {
        if let ParsedExtension::SubjectAlternativeName(_) = own.parsed_extension() {
            all.extend(extension(&[0x55, 0x1d, 0x11], own.critical, own.value));
        }
    }
    Ok(all)
}

/// Extensions for key usage and extended key usage.
fn usages(usages: &[String]) -> Result<Vec<u8>, String> {
    let (mut plain, mut extended) = (0_u16, Vec::new());
    for usage in usages {
        if let Some(bit) = plain_bit(usage) {
            plain |= 0x8000 >> bit;
        } else if let Some(identifier) = extended_identifier(usage) {
            extended.extend(tlv(IDENTIFIER, identifier));
        } else {
            return Err(format!("unrecognized usage {usage:?}"));
        }
    }
    let mut all = Vec::new();
    if plain != 0 {
        let [high, low] = plain.to_be_bytes();
        let used = if low == 0 { vec![high] } else { vec![high, low] };
        let unused = used.last().map_or(0, |last| last.trailing_zeros()).try_into().unwrap_or(0);
        all.extend(extension(&[0x55, 0x1d, 0x0f], true, &bits(&used, unused)));
    }
    if !extended.is_empty() {
        all.extend(extension(&[0x55, 0x1d, 0x25], false, &tlv(SEQUENCE, &extended)));
    }
    Ok(all)
}

fn plain_bit(usage: &str) -> Option<u32> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

fn extended_identifier(usage: &str) -> Option<&'static [u8]> {
    Some(match usage {
        "any" => &[0x55, 0x1d, 0x25, 0x00],
        "server auth" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
        "client auth" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
        "code signing" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03],
        "email protection" | "s/mime" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x04],
        "ipsec end system" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x05],
        "ipsec tunnel" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x06],
        "ipsec user" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x07],
        "timestamping" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08],
        "ocsp signing" => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09],
        "microsoft sgc" => &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03],
        "netscape sgc" => &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x04, 0x01],
        _ => return None,
    })
}

fn extension(identifier: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &TRUE } else { &[] };
    tlv(SEQUENCE, &[tlv(IDENTIFIER, identifier), critical.to_vec(), tlv(OCTETS, value)].concat())
}

/// A positive number without leading zeros.
fn serial(bytes: [u8; 16]) -> Vec<u8> {
    let mut bytes = bytes;
    // The highest bit would make it negative, and zero is no serial number.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    tlv(INTEGER, &bytes)
}

fn bits(bytes: &[u8], unused: u8) -> Vec<u8> {
    tlv(SET_OF_BITS, &[&[unused], bytes].concat())
}

/// Tag, length and value, as DER has them.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut all = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => all.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
            all.push(0x80 | u8::try_from(used.len()).unwrap_or(8));
            all.extend(used);
        }
    }
    all.extend(value);
    all
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut all = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        all += line;
        all += "\n";
        rest = tail;
    }
    all + "-----END CERTIFICATE-----\n"
}

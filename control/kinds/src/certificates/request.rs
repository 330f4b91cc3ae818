//! What a certificate request says, decoded.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// What rules ask about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// Organizations, which are groups of a user.
    pub(super) organizations: Vec<String>,
    /// The common name, which is the user's.
    pub(super) common_name: String,
}

/// Decodes the PEM text of a request.
pub(super) fn decode(bytes: &[u8]) -> Result<Subject, String> {
    let block = Pem::iter_from_buffer(bytes).next().and_then(Result::ok);
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let (_, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| format!("malformed request: {error}"))?;
    let subject = &request.certification_request_info.subject;
    let texts = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    Ok(Subject {
        organizations: subject.iter_organization().filter_map(texts).collect(),
        common_name: subject.iter_common_name().find_map(texts).unwrap_or_default(),
    })
}

/// What is wrong with the certificates that a signer gives; nothing if they are fine.
pub(super) fn certificates_problem(bytes: &[u8]) -> Option<String> {
    let mut count = 0;
    for block in Pem::iter_from_buffer(bytes) {
        let Ok(block) = block else { return Some("unreadable PEM block".to_owned()) };
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        match x509_parser::certificate::X509Certificate::from_der(&block.contents) {
            Ok((&[], _)) => count += 1,
            Ok(_) => {
                return Some("found multiple certificates in a CERTIFICATE PEM block, expected exactly 1".to_owned());
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    (count == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

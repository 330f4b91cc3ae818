//! Who may ask a node: the API server and cluster administrators, by client certificate.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Common name of the certificate with which the API server calls nodes.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// Whether the peer of a verified TLS connection may use the node's API.
pub(crate) fn is_allowed(certificates: Option<&[CertificateDer<'_>]>) -> bool {
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let subject = certificate.subject();
    subject.iter_common_name().any(|name| name.as_str() == Ok(API_SERVER))
        || subject.iter_organization().any(|name| name.as_str() == Ok(ADMINISTRATORS))
}

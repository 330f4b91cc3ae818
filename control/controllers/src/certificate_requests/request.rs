//! What a certificate request says, and whether a signer may sign it: pure.
//!
//! Rules: pkg/apis/certificates and pkg/controller/certificates/signer of Kubernetes v1.36.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const NODE_SERVER: &str = "kubernetes.io/kubelet-serving";

/// The names in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    hosts: usize,
    addresses: usize,
    emails: usize,
    /// URIs and all others.
    others: usize,
}

/// Reads the PEM text of a request.
pub(super) fn names(pem: &[u8]) -> Result<Names, String> {
    let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("unable to parse certificate request: {error}"))?;
    let info = &request.certification_request_info;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let mut names = Names {
        common_name: info.subject.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: info.subject.iter_organization().filter_map(text).collect(),
        ..Names::default()
    };
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
        for extension in &requested.extensions {
            let ParsedExtension::SubjectAlternativeName(other) = extension.parsed_extension() else { continue };
            for name in &other.general_names {
                match name {
                    GeneralName::DNSName(_) => names.hosts += 1,
                    GeneralName::IPAddress(_) => names.addresses += 1,
                    GeneralName::RFC822Name(_) => names.emails += 1,
                    _ => names.others += 1,
                }
            }
        }
    }
    Ok(names)
}

/// Whether the certificate of a node's own client is asked for.
pub(super) fn node_client(names: &Names, usages: &[String]) -> Result<(), String> {
    node(names)?;
    if names.hosts > 0 {
        return Err("DNS subjectAltNames are not allowed".to_owned());
    }
    if names.addresses > 0 {
        return Err("IP subjectAltNames are not allowed".to_owned());
    }
    exactly(usages, "client auth")
}

/// Whether the certificate of a node's own server is asked for.
pub(super) fn node_server(names: &Names, usages: &[String]) -> Result<(), String> {
    node(names)?;
    if names.hosts == 0 && names.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    exactly(usages, "server auth")
}

/// Whether the certificate of some client of the API server is asked for.
pub(super) fn client(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(usage) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

fn node(names: &Names) -> Result<(), String> {
    if names.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    if names.emails > 0 {
        return Err("Email subjectAltNames are not allowed".to_owned());
    }
    if names.others > 0 {
        return Err("URI subjectAltNames are not allowed".to_owned());
    }
    if !names.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".to_owned());
    }
    Ok(())
}

/// One purpose, the signature, and encipherment for keys that can do it.
fn exactly(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut own: Vec<&str> = usages.iter().map(String::as_str).collect();
    own.sort_unstable();
    own.dedup();
    let mut wanted = [purpose, "digital signature", "key encipherment"];
    wanted.sort_unstable();
    let without: Vec<&str> = wanted.iter().copied().filter(|usage| *usage != "key encipherment").collect();
    if own == wanted || own == without {
        return Ok(());
    }
    Err("usages did not match".to_owned())
}

//! Rules of the signers that Kubernetes names.

use corten_api::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use corten_api::status::Status;

use super::{SigningRequests, request};
use crate::kind::Kind;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const MASTERS: &str = "system:masters";

/// Nobody becomes an administrator by a request. As upstream's admission plugin CertificateSubjectRestriction.
pub(super) fn forbid_masters(csr: &CertificateSigningRequest) -> Result<(), Status> {
    if csr.spec.signer_name != CLIENT {
        return Ok(());
    }
    // What cannot be decoded is refused by the rules of the field.
    let organizations = request::decode(&csr.spec.request.0).unwrap_or_default().organizations;
    if organizations.iter().any(|organization| organization == MASTERS) {
        let name = csr.metadata.name.as_deref().unwrap_or_default();
        let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
        return Err(Status::forbidden(&SigningRequests::NAMES, name, &why));
    }
    Ok(())
}

/// Requests that their signer will not sign.
pub(super) fn warnings(spec: &CertificateSigningRequestSpec) -> Vec<String> {
    let Ok(subject) = request::decode(&spec.request.0) else { return Vec::new() };
    let node = subject.organizations == ["system:nodes"] && subject.common_name.starts_with("system:node:");
    if [KUBELET_CLIENT, SERVING].contains(&spec.signer_name.as_str()) && !node {
        let why =
            "the requested subject must have organization system:nodes and a common name that begins with system:node:";
        return vec![format!("spec.request: signer {} requires: {why}", spec.signer_name)];
    }
    Vec::new()
}

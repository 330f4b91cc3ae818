//! Who may decide on requests for certificates, and who may give the certificates.
//!
//! As upstream's admission plugins CertificateApproval and CertificateSigning: beyond the right to write the request's
//! `/approval` or `/status`, the user needs the verb `approve` or `sign` on the resource `signers` of that name.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::attributes::{Attributes, Resource};
use super::{Authorizer, forbidden};
use crate::identity::Identity;

const GROUP: &str = "certificates.k8s.io";

/// Refuses a decision or a certificate by somebody who may not speak for the signer.
pub(crate) fn check(
    authorizer: &Authorizer,
    user: &Identity,
    names: &Names,
    old: &Value,
    new: &Value,
) -> Result<(), Status> {
    if names.group != GROUP || names.kind != "CertificateSigningRequest" {
        return Ok(());
    }
    let Some(signer) = old["spec"]["signerName"].as_str() else { return Ok(()) };
    let decisions = |object: &Value| -> Vec<Value> {
        let all = object["status"]["conditions"].as_array().into_iter().flatten();
        all.filter(|condition| condition["type"] == "Approved" || condition["type"] == "Denied").cloned().collect()
    };
    let failed = |object: &Value| {
        let all = object["status"]["conditions"].as_array().into_iter().flatten();
        all.filter(|condition| condition["type"] == "Failed").cloned().collect::<Vec<Value>>()
    };
    let verb = if decisions(old) != decisions(new) {
        "approve"
    } else if old["status"]["certificate"] != new["status"]["certificate"] || failed(old) != failed(new) {
        "sign"
    } else {
        return Ok(());
    };
    if speaks_for(authorizer, user, verb, signer) {
        return Ok(());
    }
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(forbidden(GROUP, names.plural, name, &why))
}

/// By the signer's own name, or by `domain/*`.
fn speaks_for(authorizer: &Authorizer, user: &Identity, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allows = |name: &str| {
        let resource = Resource { group: GROUP, resource: "signers", name: name.into(), ..Resource::default() };
        authorizer.allows(user, &Attributes::to(verb, resource))
    };
    allows(signer) || allows(&format!("{domain}/*"))
}

//! Pods on a node: it makes those known that it runs anyway, tells how its pods are, and ends them.

use corten_api::status::Status;
use corten_kinds::Subresource;
use serde_json::Value;

use super::super::guards::Act;
use super::super::list;
use super::Own;
use crate::authorize::{MIRROR, References};
use crate::verbs::Change;

pub(super) fn check(own: &Own<'_>, act: Act) -> Result<(), Status> {
    let node = own.node;
    let is_here = own.old()["spec"]["nodeName"] == *node;
    match act {
        Act::Create => create(own),
        Act::Delete => {
            own.demand(is_here, format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        Act::Change(Change::Status) => status(own, is_here),
        Act::Post(Subresource::Eviction) => {
            own.demand(is_here, format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        Act::Change(Change::Object) => {
            own.refuse(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        Act::Change(Change::Part(part)) | Act::Post(part) => own.refuse(format!(
            "unexpected pod subresource {:?}, only 'status' and 'eviction' are allowed",
            crate::route::subresource_name(part)
        )),
        Act::Change(Change::Internal) => Ok(()),
    }
}

/// A pod that a node makes known is bound to it and owned by it, and uses nothing of its namespace: who has a node's
/// credential has its pods' secrets, and must not be able to choose which pods it has.
fn create(own: &Own<'_>) -> Result<(), Status> {
    let (node, pod) = (own.node, own.new);
    let mirrors = pod["metadata"]["annotations"].get(MIRROR).is_some();
    own.demand(mirrors, format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"))?;
    let is_here = pod["spec"]["nodeName"] == *node;
    own.demand(is_here, format!("node {node:?} can only create pods with spec.nodeName set to itself"))?;
    owned(own, list(&pod["metadata"], "ownerReferences"))?;
    let used = References::named_by(pod);
    let kinds = [
        (used.account.is_some(), "a service account"),
        (!used.secrets.is_empty(), "secrets"),
        (!used.config_maps.is_empty(), "configmaps"),
        (used.bundles, "clustertrustbundles"),
        (!used.claims.is_empty(), "persistentvolumeclaims"),
        (!used.devices.is_empty() || !list(&pod["spec"], "resourceClaims").is_empty(), "resourceclaims"),
    ];
    match kinds.iter().find(|(uses, _)| *uses) {
        Some((_, what)) => own.refuse(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn owned(own: &Own<'_>, owners: &[Value]) -> Result<(), Status> {
    let node = own.node;
    let owner = match owners {
        [owner] => owner,
        [] => {
            return own.refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        _ => {
            let why = format!("node {node:?} can only create pods with a single owner reference set to itself");
            return own.refuse(why);
        }
    };
    let is_node = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == *node;
    own.demand(is_node, format!("node {node:?} can only create pods with an owner reference set to itself"))?;
    let why = format!("node {node:?} can only create pods with a controller owner reference set to itself");
    own.demand(owner["controller"] == true, why)?;
    let why = format!("node {node:?} must not set blockOwnerDeletion on an owner reference");
    own.demand(owner["blockOwnerDeletion"] != true, why)?;
    let Some(object) = own.write.find("minions", None, node)? else {
        return Err(Status::failure(404, "NotFound", format!("nodes {node:?} not found")));
    };
    let (given, is) = (&owner["uid"], &object["metadata"]["uid"]);
    let show = |uid: &Value| uid.as_str().unwrap_or_default().to_owned();
    let why = format!("node {node} UID mismatch: expected {} got {}", show(given), show(is));
    own.demand(given == is, why)
}

fn status(own: &Own<'_>, is_here: bool) -> Result<(), Status> {
    let (node, old, new) = (own.node, own.old(), own.new);
    own.demand(is_here, format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))?;
    let labels = |pod: &Value| pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let why = format!("node {node:?} cannot update labels through pod status");
    own.demand(labels(old) == labels(new), why)?;
    let claims = |pod: &Value| list(&pod["status"], "resourceClaimStatuses").to_vec();
    own.demand(claims(old) == claims(new), format!("node {node:?} cannot update resource claim statues"))
}

//! NamespaceLifecycle: objects come into namespaces that are there and stay; some namespaces always do.

use corten_api::names::Scope;
use corten_api::status::Status;
use serde_json::{Value, json};

use super::guards::Act;
use super::{Attempt, is};
use crate::storage;

/// Namespaces that every cluster has.
const UNDYING: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses to delete a namespace that every cluster has.
pub(super) fn keep(write: &Attempt<'_>, act: Act, _new: Option<&Value>) -> Result<(), Status> {
    if act == Act::Delete && is(write.names(), "", "Namespace") && UNDYING.contains(&write.name) {
        return Err(Status::forbidden(write.kind.names(), write.name, "this namespace may not be deleted"));
    }
    Ok(())
}

const DELETED: &[u8] = b"\"deletionTimestamp\"";

pub(super) fn validate(write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let (Scope::Namespaced, Some(namespace)) = (write.kind.scope(), write.namespace) else { return Ok(()) };
    let Some(own) = write.snapshot.get(&storage::key("namespaces", None, namespace)) else {
        let mut status = Status::failure(404, "NotFound", format!("namespaces \"{namespace}\" not found"));
        status.details = Some(json!({"name": namespace, "kind": "namespaces"}));
        return Err(status);
    };
    // Every write in every namespace comes here, and few namespaces have the word in them.
    let may_end = own.value.windows(DELETED.len()).any(|word| word == DELETED);
    if !may_end || storage::decode(own)?["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = write.forbidden(object, &why);
    let cause = json!({
        "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    });
    if let Some(details) = &mut status.details {
        details["causes"] = json!([cause]);
    }
    Err(status)
}

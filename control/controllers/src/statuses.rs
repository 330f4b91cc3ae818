//! Statuses, written only when they differ and only over the object that was looked at.

use corten_api::k8s_openapi::serde::Serialize;
use corten_client::{Informer, Kind, Writes};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone};

/// Brings an object's status from `before` to `after`. Others may write conditions to it as well, and lists are written
/// as a whole: so the write fails if the object has changed since.
pub(crate) async fn write<K, S>(
    cx: &Context,
    object: &K,
    before: &S,
    after: &S,
    cache: &Informer<K>,
    writes: &mut Writes,
) -> Result<(), Error>
where
    K: Kind + Resource<Scope = NamespaceResourceScope>,
    S: Serialize + PartialEq + Sync,
{
    if before == after {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(cx.client.clone(), &object.namespace().unwrap_or_default());
    let metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": patch(before, after)?}));
    let patched = api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await;
    or_gone(patched)?.iter().for_each(|object| writes.note(cache, object));
    Ok(())
}

/// What is to be merged: the new status, and null for the fields that are no more.
fn patch<S: Serialize>(before: &S, after: &S) -> Result<Value, serde_json::Error> {
    let mut patch = serde_json::to_value(after)?;
    for field in serde_json::to_value(before)?.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_is_removed() {
        let patched = patch(&json!({"a": 1, "b": 2}), &json!({"a": 3, "c": 4})).expect("a patch");
        assert_eq!(patched, json!({"a": 3, "b": null, "c": 4}));
    }
}

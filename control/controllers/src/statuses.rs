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
    store(cx, object, before, after, cache, writes).await?;
    Ok(())
}

/// The same whether or not it differs; returns the object as it was written, if it is still there.
pub(crate) async fn store<K, S>(
    cx: &Context,
    object: &K,
    before: &S,
    after: &S,
    cache: &Informer<K>,
    writes: &mut Writes,
) -> Result<Option<K>, Error>
where
    K: Kind + Resource<Scope = NamespaceResourceScope>,
    S: Serialize + Sync,
{
    let api: Api<K> = Api::namespaced(cx.client.clone(), &object.namespace().unwrap_or_default());
    let metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
    let status = replacing(&serde_json::to_value(before)?, serde_json::to_value(after)?);
    let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
    let patched = or_gone(api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await)?;
    patched.iter().for_each(|object| writes.note(cache, object));
    Ok(patched)
}

/// A merge patch that makes `after` of `before`: what is no more becomes null, at any depth.
fn replacing(before: &Value, after: Value) -> Value {
    let (Value::Object(before), Value::Object(mut patch)) = (before, after.clone()) else { return after };
    for (field, old) in before {
        let new = patch.remove(field).map_or(Value::Null, |new| replacing(old, new));
        patch.insert(field.clone(), new);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_more_is_removed() {
        let before = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": {"f": 1}});
        let after = json!({"b": {"c": [1, 2]}, "e": 3, "g": {}});
        let patch = json!({"a": null, "b": {"c": [1, 2], "d": null}, "e": 3, "g": {}});
        assert_eq!(replacing(&before, after), patch);
    }
}

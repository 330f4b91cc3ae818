//! Which objects are an owner's: those that it controls and that its selector selects. A selected orphan is adopted, and
//! what is no longer selected is released.
//!
//! Behaviour: pkg/controller/controller_ref_manager.go of Kubernetes v1.36.
//! Invariant: nothing of another controller is touched, and nothing is adopted for an owner that is gone or going.

use std::sync::Arc;

use corten_api::meta::ObjectMeta;
use corten_api::selector::Labels;
use corten_client::{Informer, Kind, Writes};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone};
use crate::owners;

/// How an owner stands to the objects that could be its own.
#[derive(Debug)]
pub(crate) struct Claims<K> {
    /// The owner's, among them those that it is yet to adopt.
    pub(crate) own: Vec<Arc<K>>,
    pub(crate) adopt: Vec<Arc<K>>,
    pub(crate) release: Vec<Arc<K>>,
}

impl<K: Resource> Claims<K> {
    /// Sorts the objects of the owner's namespace.
    pub(crate) fn of<'a>(owner: &ObjectMeta, selector: &Labels, objects: impl IntoIterator<Item = &'a Arc<K>>) -> Self
    where
        K: 'a,
    {
        Self::fitting(owner, selector, objects, |_| true)
    }

    /// The same for an owner that has more to ask of its objects than its selector.
    pub(crate) fn fitting<'a>(
        owner: &ObjectMeta,
        selector: &Labels,
        objects: impl IntoIterator<Item = &'a Arc<K>>,
        fits: impl Fn(&K) -> bool,
    ) -> Self
    where
        K: 'a,
    {
        let mut claims = Self { own: Vec::new(), adopt: Vec::new(), release: Vec::new() };
        let stays = owner.deletion_timestamp.is_none();
        for object in objects {
            let meta = object.meta();
            let selected = selector.matches_optional(meta.labels.as_ref()) && fits(object);
            match owners::controller(meta) {
                Some(_) if !owners::is_controlled_by(meta, owner) => {}
                Some(_) if selected => claims.own.push(Arc::clone(object)),
                Some(_) if stays => claims.release.push(Arc::clone(object)),
                None if selected && stays && meta.deletion_timestamp.is_none() => {
                    claims.adopt.push(Arc::clone(object));
                    claims.own.push(Arc::clone(object));
                }
                _ => {}
            }
        }
        claims
    }
}

/// Adopts and releases. The adopted get `finalizers`, and the released lose them.
pub(crate) async fn settle<O, K>(
    cx: &Context,
    owner: &O,
    claims: &Claims<K>,
    finalizers: &[&str],
    cache: &Informer<K>,
    writes: &mut Writes,
) -> Result<(), Error>
where
    O: Kind + Resource<Scope = NamespaceResourceScope>,
    K: Kind + Resource<Scope = NamespaceResourceScope>,
{
    let namespace = owner.namespace().unwrap_or_default();
    if !claims.adopt.is_empty() {
        // The cache may still show an owner that is gone, and what that one adopted would be collected.
        let owners: Api<O> = Api::namespaced(cx.client.clone(), &namespace);
        let live = owners.get_metadata_opt(&owner.name_any()).await?.map(|live| live.metadata);
        if live.is_none_or(|live| live.uid != owner.meta().uid || live.deletion_timestamp.is_some()) {
            return Err(Error::from(format!("{} is not there any more to adopt anything", owner.name_any())));
        }
    }
    let adoptions = claims.adopt.iter().map(|object| (object, adoption(owner, object.meta(), finalizers)));
    let releases = claims.release.iter().map(|object| (object, release(owner.meta(), object.meta(), finalizers)));
    let api: Api<K> = Api::namespaced(cx.client.clone(), &namespace);
    for (object, patch) in adoptions.chain(releases) {
        let patched = api.patch(&object.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        or_gone(patched)?.iter().for_each(|object| writes.note(cache, object));
    }
    Ok(())
}

/// A strategic patch that makes `owner` the object's controller.
fn adoption<O: Resource<DynamicType = ()>>(owner: &O, object: &ObjectMeta, finalizers: &[&str]) -> Value {
    let mut patch = json!({"metadata": {"uid": object.uid, "ownerReferences": [owners::reference(owner)]}});
    if !finalizers.is_empty() {
        patch["metadata"]["finalizers"] = json!(finalizers);
    }
    patch
}

/// A strategic patch that takes the owner away from the object.
fn release(owner: &ObjectMeta, object: &ObjectMeta, finalizers: &[&str]) -> Value {
    let gone = json!([{"$patch": "delete", "uid": owner.uid}]);
    let mut patch = json!({"metadata": {"uid": object.uid, "ownerReferences": gone}});
    if !finalizers.is_empty() {
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
    }
    patch
}

#[cfg(test)]
mod tests {
    use corten_api::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, owner: &str, app: &str, deleted: bool) -> Arc<Pod> {
        let owners = match owner {
            "" => json!([]),
            uid => json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}]),
        };
        let at = deleted.then_some("2026-01-01T00:00:00Z");
        let meta = json!({"name": name, "labels": {"app": app}, "ownerReferences": owners, "deletionTimestamp": at});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).expect("a pod"))
    }

    fn show(deleted: bool) -> String {
        let pods = [
            pod("own", "me", "web", false),
            pod("own-ending", "me", "web", true),
            pod("relabelled", "me", "other", false),
            pod("orphan", "", "web", false),
            pod("orphan-ending", "", "web", true),
            pod("stranger", "", "other", false),
            pod("theirs", "they", "web", false),
            pod("own-unfit", "me", "web", false),
            pod("orphan-unfit", "", "web", false),
        ];
        let at = deleted.then_some("2026-01-01T00:00:00Z");
        let owner = serde_json::from_value(json!({"uid": "me", "deletionTimestamp": at})).expect("metadata");
        let selector = Labels::parse("app=web").expect("a selector");
        let claims = Claims::fitting(&owner, &selector, &pods, |pod| !pod.name_any().ends_with("unfit"));
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(" ");
        format!("own {}; adopt {}; release {}", names(&claims.own), names(&claims.adopt), names(&claims.release))
    }

    #[test]
    fn what_is_selected_is_owned_and_what_is_not_is_let_go() {
        assert_eq!(show(false), "own own own-ending orphan; adopt orphan; release relabelled own-unfit");
    }

    #[test]
    fn who_is_being_deleted_neither_adopts_nor_releases() {
        assert_eq!(show(true), "own own own-ending; adopt ; release ");
    }

    #[test]
    fn finalizers_come_with_the_adoption_and_go_with_the_release() {
        let mut owner = Pod::default();
        owner.metadata.uid = Some("me".to_owned());
        let object = ObjectMeta { uid: Some("o".to_owned()), ..ObjectMeta::default() };
        assert_eq!(adoption(&owner, &object, &["f"])["metadata"]["finalizers"], json!(["f"]));
        assert_eq!(adoption(&owner, &object, &[])["metadata"].get("finalizers"), None);
        let patch = release(&owner.metadata, &object, &["f"]);
        assert_eq!(patch["metadata"]["$deleteFromPrimitiveList/finalizers"], json!(["f"]));
        assert_eq!(patch["metadata"]["ownerReferences"], json!([{"$patch": "delete", "uid": "me"}]));
    }
}

//! Lets claims, volumes and volume attributes classes go that are being deleted, once nobody uses them.
//!
//! Behaviour: pkg/controller/volume/{pvcprotection,pvprotection,vacprotection} of Kubernetes v1.36.
//! Invariant: takes away its own finalizer and nothing else.

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::api::storage::v1::VolumeAttributesClass;
use corten_api::k8s_openapi::serde::de::DeserializeOwned;
use corten_api::meta::ObjectMeta;
use corten_client::{Key, Next};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};
use crate::pods::claims_of;

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

/// Claims stay as long as a pod that has a node mounts them.
pub(crate) async fn claims(cx: Context) {
    let (claims, pods) = (cx.informers.of::<PersistentVolumeClaim>(), cx.informers.of::<Pod>());
    let queue = cx.queue.clone();
    claims.on_change(move |_, new| {
        if let Some(claim) = new.filter(|claim| waits(&claim.metadata, OF_CLAIMS)) {
            queue.add(Key::of(claim));
        }
    });
    let queue = cx.queue.clone();
    pods.on_change(move |old, new| {
        if let (Some(pod), None) = (old, new) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).into_iter().for_each(|claim| queue.add(Key::new(namespace.clone(), claim)));
        }
    });
    tokio::join!(claims.synced(), pods.synced());
    cx.work(1, move |cx, key| {
        let (claims, pods) = (claims.clone(), pods.clone());
        async move {
            let Some(claim) = claims.by_key(&key) else { return Ok(Next::Wait) };
            if pods.list_in(&key.namespace).iter().any(|pod| uses(pod, &key.name)) {
                return Ok(Next::Wait);
            }
            // The cache may lag behind a pod that was just placed, and what is let go takes its data along.
            let live = Api::<Pod>::namespaced(cx.client.clone(), &key.namespace).list(&ListParams::default()).await?;
            if !live.iter().any(|pod| uses(pod, &key.name)) {
                let api = Api::<PersistentVolumeClaim>::namespaced(cx.client, &key.namespace);
                release(&api, &claim.metadata, OF_CLAIMS).await?;
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

/// Volumes stay as long as they are bound to a claim.
pub(crate) async fn volumes(cx: Context) {
    let volumes = cx.informers.of::<PersistentVolume>();
    let queue = cx.queue.clone();
    volumes.on_change(move |_, new| {
        if let Some(volume) = new.filter(|volume| waits(&volume.metadata, OF_VOLUMES)) {
            queue.add(Key::of(volume));
        }
    });
    volumes.synced().await;
    cx.work(1, move |cx, key| {
        let volumes = volumes.clone();
        async move {
            let Some(volume) = volumes.by_key(&key) else { return Ok(Next::Wait) };
            if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
                release(&Api::<PersistentVolume>::all(cx.client), &volume.metadata, OF_VOLUMES).await?;
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

/// Classes stay as long as a volume or a claim names them.
pub(crate) async fn classes(cx: Context) {
    let classes = cx.informers.of::<VolumeAttributesClass>();
    let (volumes, claims) = (cx.informers.of::<PersistentVolume>(), cx.informers.of::<PersistentVolumeClaim>());
    let queue = cx.queue.clone();
    classes.on_change(move |_, new| {
        if let Some(class) = new.filter(|class| waits(&class.metadata, OF_CLASSES)) {
            queue.add(Key::of(class));
        }
    });
    let queue = cx.queue.clone();
    volumes.on_change(move |old, _| {
        old.and_then(class_of_volume).into_iter().for_each(|class| queue.add(Key::new("", class)));
    });
    let queue = cx.queue.clone();
    claims.on_change(move |old, _| {
        old.into_iter().flat_map(classes_of_claim).for_each(|class| queue.add(Key::new("", class)));
    });
    tokio::join!(classes.synced(), volumes.synced(), claims.synced());
    cx.work(1, move |cx, key| {
        let (classes, volumes, claims) = (classes.clone(), volumes.clone(), claims.clone());
        async move {
            let Some(class) = classes.by_key(&key) else { return Ok(Next::Wait) };
            let used = volumes.list().iter().any(|volume| class_of_volume(volume).as_ref() == Some(&key.name))
                || claims.list().iter().any(|claim| classes_of_claim(claim).contains(&key.name));
            if !used {
                release(&Api::<VolumeAttributesClass>::all(cx.client), &class.metadata, OF_CLASSES).await?;
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

/// Whether it is being deleted, and the finalizer holds it.
fn waits(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.deletion_timestamp.is_some() && metadata.finalizers.iter().flatten().any(|own| own == finalizer)
}

/// A pod without a node does not hold a claim: it will find it gone.
fn uses(pod: &Pod, claim: &str) -> bool {
    let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    placed && claims_of(pod).iter().any(|own| own == claim)
}

fn class_of_volume(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone())
}

/// The class that a claim wants, and the one that its volume has.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let has = claim.status.as_ref().and_then(|status| status.current_volume_attributes_class_name.clone());
    [wanted, has].into_iter().flatten().collect()
}

/// Takes the finalizer away, unless the object changed meanwhile: then it is looked at again.
async fn release<K>(api: &Api<K>, metadata: &ObjectMeta, finalizer: &str) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    if !waits(metadata, finalizer) {
        return Ok(());
    }
    let rest: Vec<&String> = metadata.finalizers.iter().flatten().filter(|own| *own != finalizer).collect();
    let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": metadata.resource_version}});
    let name = metadata.name.as_deref().unwrap_or_default();
    or_gone(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: &str, volume: &Value) -> Pod {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [], "volumes": [volume]}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn claims_are_held_by_pods_that_have_a_node() {
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let made = json!({"name": "v", "ephemeral": {}});
        for (node, volume, claim, used) in [
            ("n", &named, "c", true),
            ("n", &named, "other", false),
            ("", &named, "c", false),
            ("n", &made, "p-v", true),
            ("n", &json!({"name": "v", "emptyDir": {}}), "c", false),
        ] {
            assert_eq!(uses(&pod(node, volume), claim), used, "{node} {volume} {claim}");
        }
    }

    #[test]
    fn only_what_is_being_deleted_and_held_waits() {
        let meta = |value: Value| serde_json::from_value::<ObjectMeta>(value).expect("metadata");
        let deleted = "2026-01-01T00:00:00Z";
        assert!(waits(&meta(json!({"deletionTimestamp": deleted, "finalizers": ["a", OF_CLAIMS]})), OF_CLAIMS));
        assert!(!waits(&meta(json!({"deletionTimestamp": deleted, "finalizers": ["a"]})), OF_CLAIMS));
        assert!(!waits(&meta(json!({"finalizers": [OF_CLAIMS]})), OF_CLAIMS));
    }
}

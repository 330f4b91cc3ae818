//! The built-in provisioner: a claim of its class gets a folder of the node on which it is first used.
//!
//! This half makes the volume, which names the folder, and deletes it when it is released. The node's agent makes the
//! folder itself, and removes it before it lets the volume go, so that a node that is away cleans up when it is back.
//!
//! Invariant: a volume's data is removed by the node that has it, or not at all.

use std::sync::Arc;

use corten_api::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use corten_api::api::storage::v1::StorageClass;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone, or_there};
use crate::persistent_volumes::facts::{
    PROVISIONED_BY, PROVISIONER as WANTED, SELECTED_NODE, annotation, class_of_claim, phase_of_volume, volume_of,
};

/// The provisioner's name in storage classes.
pub(crate) const PROVISIONER: &str = "corten.dev/local-path";
/// Where a node keeps the folders: an annotation of the node.
const FOLDER: &str = "corten.dev/local-path";
/// Holds a volume until its node has removed the folder.
const FINALIZER: &str = "corten.dev/local-path";
/// Label of a volume: the node that keeps its folder.
const NODE: &str = "corten.dev/node";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(crate) async fn run(cx: Context) {
    let (claims, volumes) = (cx.informers.of::<PersistentVolumeClaim>(), cx.informers.of::<PersistentVolume>());
    let (classes, nodes) = (cx.informers.of::<StorageClass>(), cx.informers.of::<Node>());
    let queue = cx.queue.clone();
    claims.on_change(move |_, new| {
        new.filter(|claim| is_ours(claim)).into_iter().for_each(|claim| queue.add(Key::of(claim)));
    });
    let queue = cx.queue.clone();
    volumes.on_change(move |_, new| {
        new.filter(|volume| made_here(volume)).into_iter().for_each(|volume| queue.add(Key::of(volume)));
    });
    let (queue, known, wanting) = (cx.queue.clone(), volumes.clone(), claims.clone());
    nodes.on_change(move |old, new| {
        let Some(node) = new.or(old).map(ResourceExt::name_any) else { return };
        if new.is_none() {
            let theirs = |volume: &&Arc<PersistentVolume>| volume.labels().get(NODE) == Some(&node);
            known.list().iter().filter(theirs).for_each(|volume| queue.add(Key::of(&**volume)));
        } else if old.is_none_or(|old| new.is_some_and(|new| folder(old) != folder(new))) {
            let waits = |claim: &&Arc<PersistentVolumeClaim>| {
                is_ours(claim) && annotation(&claim.metadata, SELECTED_NODE) == Some(&node)
            };
            wanting.list().iter().filter(waits).for_each(|claim| queue.add(Key::of(&**claim)));
        }
    });
    tokio::join!(claims.synced(), volumes.synced(), classes.synced(), nodes.synced());
    let caches = Caches { claims, volumes, classes, nodes };
    cx.work(2, move |cx, key| {
        let caches = caches.clone();
        async move {
            let mut writes = Writes::default();
            let result = caches.sync(&cx, &key, &mut writes).await;
            writes.settle().await;
            result.map(|()| Next::Wait)
        }
    })
    .await;
}

#[derive(Clone)]
struct Caches {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
}

/// A claim for which this provisioner was asked, and which has no volume yet.
fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, WANTED) == Some(PROVISIONER)
        && volume_of(claim).is_empty()
        && claim.metadata.deletion_timestamp.is_none()
}

fn made_here(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

fn folder(node: &Node) -> Option<&str> {
    annotation(&node.metadata, FOLDER)
}

/// The volume for a claim, or why there is none.
fn provision(
    claim: &PersistentVolumeClaim,
    class: Option<&StorageClass>,
    node: Result<&Node, &str>,
) -> Result<Value, String> {
    let class = class.ok_or_else(|| format!("storageclass.storage.k8s.io {:?} not found", class_of_claim(claim)))?;
    let node = match node {
        Ok(node) => node,
        Err("") => return Err("a folder of a node is made once a pod that uses the claim has a node".to_owned()),
        Err(name) => return Err(format!("node {name:?} not found")),
    };
    let folder = folder(node).ok_or_else(|| {
        format!("node {:?} keeps no folders for claims: it has no annotation {FOLDER}", node.name_any())
    })?;
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("a folder is no block device: volumeMode must be Filesystem".to_owned());
    }
    if spec.selector.is_some() {
        return Err("claim.Spec.Selector is not supported".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Err("a folder cannot be filled from a dataSource".to_owned());
    }
    let elsewhere = |mode: &&String| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
    if let Some(mode) = spec.access_modes.iter().flatten().find(elsewhere) {
        return Err(format!("a folder of one node cannot be {mode}: only ReadWriteOnce and ReadWriteOncePod"));
    }
    let size =
        spec.resources.and_then(|resources| resources.requests).and_then(|amounts| amounts.get("storage").cloned());
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let hostname = node.labels().get(HOSTNAME).cloned().unwrap_or_else(|| node.name_any());
    let here = json!({"key": HOSTNAME, "operator": "In", "values": [hostname]});
    Ok(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": name, "labels": {NODE: node.name_any()}, "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes, "capacity": {"storage": size},
            "storageClassName": class.metadata.name, "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.metadata.namespace,
                "name": claim.metadata.name, "uid": claim.metadata.uid,
                "resourceVersion": claim.metadata.resource_version,
            },
            "local": {"path": format!("{}/{name}", folder.trim_end_matches('/'))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }))
}

/// What a volume of ours needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    Nothing,
    /// Nobody wants its data any more.
    Delete,
    /// The node that had its data is gone for good.
    Release,
}

fn care(volume: &PersistentVolume, node_is_there: bool) -> Care {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let has = |name: &str| volume.finalizers().iter().any(|own| own == name);
    // A claim that holds the volume holds its data, too.
    let held = has(FINALIZER) && !has("kubernetes.io/pv-protection");
    match volume.metadata.deletion_timestamp {
        None if phase_of_volume(volume) == "Released" && policy == Some("Delete") => Care::Delete,
        Some(_) if held && !node_is_there => Care::Release,
        _ => Care::Nothing,
    }
}

impl Caches {
    async fn sync(&self, cx: &Context, key: &Key, writes: &mut Writes) -> Result<(), Error> {
        if key.namespace.is_empty() {
            match self.volumes.by_key(key).filter(|volume| made_here(volume)) {
                Some(volume) => self.look_after(cx, &volume, writes).await,
                None => Ok(()),
            }
        } else {
            match self.claims.by_key(key).filter(|claim| is_ours(claim)) {
                Some(claim) => self.make(cx, &claim, writes).await,
                None => Ok(()),
            }
        }
    }

    async fn make(&self, cx: &Context, claim: &PersistentVolumeClaim, writes: &mut Writes) -> Result<(), Error> {
        let class = self.classes.get("", class_of_claim(claim));
        let name = annotation(&claim.metadata, SELECTED_NODE).unwrap_or_default();
        let node = self.nodes.get("", name);
        match provision(claim, class.as_deref(), node.as_deref().ok_or(name)) {
            Ok(volume) => {
                let volume: PersistentVolume = serde_json::from_value(volume)?;
                let api: Api<PersistentVolume> = Api::all(cx.client.clone());
                if let Some(made) = or_there(api.create(&PostParams::default(), &volume).await)? {
                    writes.note(&self.volumes, &made);
                    let message = format!("Successfully provisioned volume {}", made.name_any());
                    cx.recorder.normal(&cx.config.clock, reference(claim), "ProvisioningSucceeded", message);
                }
            }
            Err(why) => {
                let message =
                    format!("failed to provision volume with StorageClass {:?}: {why}", class_of_claim(claim));
                cx.recorder.warning(&cx.config.clock, reference(claim), "ProvisioningFailed", message);
            }
        }
        Ok(())
    }

    async fn look_after(&self, cx: &Context, volume: &PersistentVolume, writes: &mut Writes) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(cx.client.clone());
        let name = volume.name_any();
        let node = volume.labels().get(NODE).cloned().unwrap_or_default();
        match care(volume, self.nodes.get("", &node).is_some()) {
            Care::Nothing => {}
            Care::Delete => {
                let preconditions = Preconditions { uid: volume.uid(), resource_version: volume.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                if let Some(either) = or_gone(api.delete(&name, &params).await)? {
                    either.map_left(|volume| writes.note(&self.volumes, &volume));
                }
            }
            Care::Release => {
                let nodes: Api<Node> = Api::all(cx.client.clone());
                if nodes.get_opt(&node).await?.is_some() {
                    return Ok(());
                }
                let rest: Vec<&String> = volume.finalizers().iter().filter(|own| *own != FINALIZER).collect();
                let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": volume.resource_version()}});
                or_gone(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
                tracing::info!(volume = name, node, "a volume's node is gone, and with it the volume's data");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<K: corten_api::k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut object = json!({"metadata": {"name": "data", "namespace": "a", "uid": "1"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
            "resources": {"requests": {"storage": "1Gi"}}}});
        for (field, value) in spec.as_object().expect("fields") {
            object["spec"][field] = value.clone();
        }
        of(object)
    }

    #[test]
    fn a_claim_gets_a_folder_of_its_node() {
        let class: StorageClass = of(json!({"metadata": {"name": "local-path"}, "provisioner": PROVISIONER}));
        let node: Node = of(json!({"metadata": {"name": "n1", "annotations": {FOLDER: "/data/volumes"}}}));
        let made = provision(&claim(json!({})), Some(&class), Ok(&node)).expect("a volume");
        expect_test::expect![[r#"{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"local-path","volumeMode":"Filesystem","persistentVolumeReclaimPolicy":"Delete","claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","namespace":"a","name":"data","uid":"1","resourceVersion":null},"local":{"path":"/data/volumes/pvc-1"},"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["n1"]}]}]}}}"#]]
        .assert_eq(&made["spec"].to_string());
        let other: Node = of(json!({"metadata": {"name": "n2"}}));
        let why = |spec: Value, node: Result<&Node, &str>| provision(&claim(spec), Some(&class), node).err();
        let lines: Vec<String> = [
            why(json!({}), Ok(&other)),
            why(json!({}), Err("gone")),
            why(json!({}), Err("")),
            why(json!({"accessModes": ["ReadWriteMany"]}), Ok(&node)),
            why(json!({"volumeMode": "Block"}), Ok(&node)),
            why(json!({"selector": {}}), Ok(&node)),
            provision(&claim(json!({})), None, Ok(&node)).err(),
        ]
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
        expect_test::expect![[r#"
            node "n2" keeps no folders for claims: it has no annotation corten.dev/local-path
            node "gone" not found
            a folder of a node is made once a pod that uses the claim has a node
            a folder of one node cannot be ReadWriteMany: only ReadWriteOnce and ReadWriteOncePod
            a folder is no block device: volumeMode must be Filesystem
            claim.Spec.Selector is not supported
            storageclass.storage.k8s.io "local-path" not found"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_volume_goes_when_it_is_released_and_waits_for_its_node() {
        let volume = |phase: &str, policy: &str, deleted: bool| -> PersistentVolume {
            let deleted = deleted.then_some("2026-01-01T00:00:00Z");
            of(json!({
                "metadata": {"name": "v", "finalizers": [FINALIZER], "deletionTimestamp": deleted},
                "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
            }))
        };
        for (phase, policy, deleted, there, expected) in [
            ("Bound", "Delete", false, true, Care::Nothing),
            ("Released", "Delete", false, true, Care::Delete),
            ("Released", "Delete", false, false, Care::Delete),
            ("Released", "Retain", false, true, Care::Nothing),
            ("Released", "Delete", true, true, Care::Nothing),
            ("Released", "Delete", true, false, Care::Release),
            ("Bound", "Retain", true, false, Care::Release),
        ] {
            assert_eq!(care(&volume(phase, policy, deleted), there), expected, "{phase} {policy} {deleted} {there}");
        }
    }
}

//! Claims: from a pod's volume to the storage of this node that its claim is bound to.
//!
//! Behaviour: what the kubelet's volume manager checks before it mounts, in Kubernetes v1.36.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use corten_api::selector::selects_node;
use kube::ResourceExt;

use super::render::Plan;
use super::{VolumeError, Volumes};
use crate::sources::PodSources;

/// Who says that it made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The built-in provisioner.
pub(super) const LOCAL_PATH: &str = "corten.dev/local-path";

impl Volumes {
    /// What a volume that is a claim is to be, once the claim is bound.
    pub(super) async fn claimed(
        &self,
        pod: &Pod,
        volume: &Volume,
        name: &str,
        used: &PodSources,
    ) -> Result<Plan, VolumeError> {
        let namespace = pod.namespace().unwrap_or_default();
        let failed = |message: String| VolumeError::Claim {
            volume: volume.name.clone(),
            claim: format!("{namespace}/{name}"),
            message,
        };
        let claim = used.claim(name).await.map_err(failed)?;
        let claim = claim.ok_or_else(|| failed(format!("persistentvolumeclaim {name:?} not found")))?;
        let bound_to = bound(pod, volume, &claim).map_err(failed)?;
        let found = self.sources.volume(bound_to).await.map_err(failed)?;
        let found = found.ok_or_else(|| failed(format!("persistentvolume {bound_to:?} not found")))?;
        belongs(&found, &claim).map_err(failed)?;
        let set_up = |message: String| VolumeError::SetUp { volume: found.name_any(), message };
        let (node, labels) = self.sources.node().await;
        reachable(&found, &node, &labels).map_err(set_up)?;
        let used_as_disk =
            pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let used_as_disk = used_as_disk
            .flat_map(|container| container.volume_devices.iter().flatten())
            .any(|device| device.name == volume.name);
        let read_only = volume.persistent_volume_claim.as_ref().and_then(|source| source.read_only) == Some(true);
        storage(&found, &self.local_dir, read_only, used_as_disk).map_err(set_up)
    }
}

/// The volume that a claim is bound to.
fn bound<'a>(pod: &Pod, volume: &Volume, claim: &'a PersistentVolumeClaim) -> Result<&'a str, String> {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let made_for_it =
        owners.iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref());
    if volume.ephemeral.is_some() && !made_for_it {
        return Err(format!("PVC {} was not created for pod {} (pod is not owner)", claim.name_any(), pod.name_any()));
    }
    // A pod that runs keeps its claim until it ends; one that is new must not begin with it.
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let began = statuses.into_iter().flatten().any(|status| status.container_id.is_some());
    if claim.metadata.deletion_timestamp.is_some() && !began {
        return Err("PVC is being deleted".to_owned());
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.filter(|_| phase == Some("Bound")).ok_or_else(|| "PVC is not bound".to_owned())
}

/// Nobody else's data is ever shown.
fn belongs(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = volume.name_any();
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!("PV {name} is not bound to any claim"));
    };
    if reference.uid != claim.metadata.uid {
        return Err(format!("PV {name} is bound to another claim, {:?}", reference.uid.as_deref().unwrap_or_default()));
    }
    Ok(())
}

fn reachable(volume: &PersistentVolume, node: &str, labels: &BTreeMap<String, String>) -> Result<(), String> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required.as_ref()) {
        Some(selector) if !selects_node(selector, node, labels) => {
            Err(format!("MountVolume.NodeAffinity check failed: no matching NodeSelectorTerms for node {node:?}"))
        }
        _ => Ok(()),
    }
}

/// Where the storage of a volume is on this node. `folder` holds the folders that the agent keeps for claims.
fn storage(volume: &PersistentVolume, folder: &Path, read_only: bool, used_as_disk: bool) -> Result<Plan, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    let is_disk = spec.volume_mode.as_deref() == Some("Block");
    match (is_disk, used_as_disk) {
        (true, true) => return Err("volumes with volumeMode Block are not supported yet".to_owned()),
        (true, false) => return Err("it has volumeMode Block, but is specified in volumeMounts".to_owned()),
        (false, true) => return Err("it has volumeMode Filesystem, but is specified in volumeDevices".to_owned()),
        (false, false) => {}
    }
    if let Some(source) = spec.host_path {
        return Ok(Plan::Host { path: source.path.into(), kind: source.type_.unwrap_or_default(), read_only });
    }
    if let Some(source) = spec.local {
        let path = PathBuf::from(source.path);
        let made_by = volume.metadata.annotations.as_ref().and_then(|all| all.get(PROVISIONED_BY));
        let own = made_by.is_some_and(|by| by == LOCAL_PATH) && path == folder.join(volume.name_any());
        return Ok(Plan::Local { path, own, read_only });
    }
    Err("only hostPath and local volumes can be mounted so far".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(spec: &Value) -> PersistentVolume {
        let object = json!({"metadata": {"name": "pv", "annotations": {PROVISIONED_BY: LOCAL_PATH}}, "spec": spec});
        serde_json::from_value(object).expect("a volume")
    }

    #[test]
    fn a_claim_is_used_once_it_is_bound_and_by_whom_it_was_made_for() {
        let pod = |status: Value| {
            let object = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": []}, "status": status});
            serde_json::from_value::<Pod>(object).expect("a pod")
        };
        let bound_to = |phase: &str, metadata: Value, volume: Value, status: Value| {
            let object = json!({"metadata": metadata, "spec": {"volumeName": "pv"}, "status": {"phase": phase}});
            let claim: PersistentVolumeClaim = serde_json::from_value(object).expect("a claim");
            let volume = serde_json::from_value(volume).expect("a volume");
            bound(&pod(status), &volume, &claim).map(str::to_owned)
        };
        let named = || json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let made = || json!({"name": "v", "ephemeral": {}});
        let owned_by = |uid: &str| {
            json!({"name": "p-v", "ownerReferences":
                [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]})
        };
        let dying = || json!({"name": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let running = json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "containerID": "corten://1"}]});
        let not_ours = "PVC p-v was not created for pod p (pod is not owner)";
        for (phase, metadata, volume, status, expected) in [
            ("Bound", json!({"name": "c"}), named(), json!({}), Ok("pv")),
            ("Pending", json!({"name": "c"}), named(), json!({}), Err("PVC is not bound")),
            ("Lost", json!({"name": "c"}), named(), json!({}), Err("PVC is not bound")),
            ("Bound", dying(), named(), json!({}), Err("PVC is being deleted")),
            ("Bound", dying(), named(), running, Ok("pv")),
            ("Bound", owned_by("u"), made(), json!({}), Ok("pv")),
            ("Bound", owned_by("other"), made(), json!({}), Err(not_ours)),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(bound_to(phase, metadata.clone(), volume, status), expected, "{phase} {metadata}");
        }
    }

    #[test]
    fn storage_is_where_the_volume_says() {
        let folder = Path::new("/data/volumes");
        let find = |spec: Value, read_only: bool| storage(&volume(&spec), folder, read_only, false);
        let local = |path: &str, own: bool| Ok(Plan::Local { path: path.into(), own, read_only: false });
        assert_eq!(
            find(json!({"hostPath": {"path": "/x", "type": "Directory"}}), true),
            Ok(Plan::Host { path: "/x".into(), kind: "Directory".to_owned(), read_only: true })
        );
        assert_eq!(find(json!({"local": {"path": "/data/volumes/pv"}}), false), local("/data/volumes/pv", true));
        assert_eq!(find(json!({"local": {"path": "/data/volumes/other"}}), false), local("/data/volumes/other", false));
        assert_eq!(find(json!({"local": {"path": "/disk"}}), false), local("/disk", false));
        assert!(find(json!({"nfs": {"path": "/x", "server": "s"}}), false).is_err());
        assert!(find(json!({"local": {"path": "/disk"}, "volumeMode": "Block"}), false).is_err());
    }

    #[test]
    fn a_volume_belongs_to_one_claim_and_to_its_nodes() {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c", "uid": "1"}})).expect("a claim");
        assert!(belongs(&volume(&json!({"claimRef": {"uid": "1"}})), &claim).is_ok());
        assert!(belongs(&volume(&json!({"claimRef": {"uid": "2"}})), &claim).is_err());
        assert!(belongs(&volume(&json!({})), &claim).is_err());
        let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]});
        let pinned =
            volume(&json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}}));
        let labels = |name: &str| BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        assert!(reachable(&pinned, "n1", &labels("n1")).is_ok());
        assert!(reachable(&pinned, "n2", &labels("n2")).is_err());
        assert!(reachable(&volume(&json!({})), "n2", &labels("n2")).is_ok());
    }
}

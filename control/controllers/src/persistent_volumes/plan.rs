//! What is to be written so that claims and volumes find each other: pure.
//!
//! A bond has two halves, the volume's `claimRef` and the claim's `volumeName`. The volume's is written first, so that
//! a start that was broken off is always taken up from there.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use corten_api::api::storage::v1::StorageClass;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::facts::{
    BETA_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, annotation,
    claim_of, class_of_claim, default_class, is_block, is_for, leaves_class_open, phase_of_claim, phase_of_volume,
    uid_of, volume_of, waits_for_consumer,
};
use super::matching::{Place, best, objection};
use crate::local_path;

/// Volumes of such a class are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// What the provisioners that were once part of Kubernetes are called.
const IN_TREE: &str = "kubernetes.io/";

/// One thing to do, in order; the first that fails ends the work.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Changes a volume's metadata and spec.
    Volume { name: String, patch: Value },
    /// Changes a volume's status.
    VolumeStatus { name: String, patch: Value },
    /// Changes the claim's metadata and spec.
    Claim { patch: Value },
    /// Changes the claim's status.
    ClaimStatus { patch: Value },
    /// Tells people, about the claim or the volume that is worked on.
    Tell { warning: bool, reason: &'static str, message: String },
    /// The claim must be looked at.
    Look,
}

fn tell(reason: &'static str, message: impl Into<String>) -> Step {
    Step::Tell { warning: false, reason, message: message.into() }
}

fn warn(reason: &'static str, message: impl Into<String>) -> Step {
    Step::Tell { warning: true, reason, message: message.into() }
}

/// What a claim is planned from.
pub(super) struct Surroundings<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    /// All volumes; for a claim that names one, that one is enough.
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    pub(super) classes: &'a [Arc<StorageClass>],
    /// The node that was selected for the claim.
    pub(super) place: Option<Place<'a>>,
    /// Names of the pods that use the claim and wait for a node.
    pub(super) waiting: &'a BTreeSet<String>,
    /// The node of a pod that uses the claim and has one.
    pub(super) used_on: Option<&'a str>,
}

/// Brings a claim to its volume.
pub(super) fn claim(around: &Surroundings<'_>) -> Vec<Step> {
    let claim = around.claim;
    let wanted = volume_of(claim);
    if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return bound(around);
    }
    if wanted.is_empty() {
        return unbound(around);
    }
    let Some(volume) = find(around.volumes, wanted) else { return pending(claim) };
    match claim_of(volume) {
        None => match objection(volume, claim) {
            Some(why) => {
                let message = format!("Cannot bind to requested volume {wanted:?}: {why}");
                [vec![warn("VolumeMismatch", message)], pending(claim)].concat()
            }
            None => bind(volume, claim),
        },
        Some(_) if is_for(volume, claim) => bind(volume, claim),
        Some(_) => {
            let message = format!("volume {wanted:?} already bound to a different claim.");
            [vec![warn("FailedBinding", message)], pending(claim)].concat()
        }
    }
}

fn find<'a>(volumes: &'a [Arc<PersistentVolume>], name: &str) -> Option<&'a Arc<PersistentVolume>> {
    volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name))
}

/// A claim that was bound once: it has that volume or none.
fn bound(around: &Surroundings<'_>) -> Vec<Step> {
    let claim = around.claim;
    let lost = |reason, message: &str| {
        if phase_of_claim(claim) == "Lost" {
            return Vec::new();
        }
        vec![warn(reason, message), Step::ClaimStatus { patch: json!({"status": {"phase": "Lost"}}) }]
    };
    if volume_of(claim).is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    }
    let Some(volume) = find(around.volumes, volume_of(claim)) else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    if claim_of(volume).is_none_or(|reference| uid_of(reference) == claim.metadata.uid.as_deref()) {
        return bind(volume, claim);
    }
    lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

/// A claim that takes any volume that fits.
fn unbound(around: &Surroundings<'_>) -> Vec<Step> {
    let claim = around.claim;
    if claim.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let class_name = class_of_claim(claim);
    let class = around.classes.iter().find(|class| class.metadata.name.as_deref() == Some(class_name));
    let selected = annotation(&claim.metadata, SELECTED_NODE).is_some();
    let waits = !selected && class.is_some_and(|class| waits_for_consumer(class));
    if let Some(volume) = best(claim, around.volumes, waits, around.place) {
        return bind(volume, claim);
    }
    if leaves_class_open(claim)
        && let Some(class) = default_class(around.classes.iter().map(|class| &**class))
    {
        return vec![Step::Claim { patch: json!({"spec": {"storageClassName": class.metadata.name}}) }];
    }
    let mut steps = match class {
        _ if class_name.is_empty() => {
            vec![tell("FailedBinding", "no persistent volumes available for this claim and no storage class is set")]
        }
        None => {
            vec![warn("ProvisioningFailed", format!("storageclass.storage.k8s.io {class_name:?} not found"))]
        }
        // A pod that was given its node by hand: no scheduler will tell.
        Some(_) if waits && around.used_on.is_some() => {
            vec![Step::Claim { patch: json!({"metadata": {"annotations": {SELECTED_NODE: around.used_on}}}) }]
        }
        Some(_) if waits => vec![await_consumer(around.waiting)],
        Some(class) => provision(claim, class),
    };
    steps.extend(pending(claim));
    steps
}

fn await_consumer(pods: &BTreeSet<String>) -> Step {
    match pods.len() {
        0 => tell("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        1 => tell("WaitForPodScheduled", format!("waiting for pod {} to be scheduled", join(pods))),
        _ => tell("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", join(pods))),
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// Says who is to make a volume for the claim.
fn provision(claim: &PersistentVolumeClaim, class: &StorageClass) -> Vec<Step> {
    let provisioner = class.provisioner.as_str();
    if provisioner == NO_PROVISIONER || (provisioner.starts_with(IN_TREE) && provisioner.matches('/').count() == 1) {
        let message = format!("no volume plugin matched name: {provisioner}");
        return vec![warn("ProvisioningFailed", message)];
    }
    let mut steps = Vec::new();
    let known = [PROVISIONER, BETA_PROVISIONER].iter().all(|key| annotation(&claim.metadata, key) == Some(provisioner));
    if !known {
        let annotations = json!({PROVISIONER: provisioner, BETA_PROVISIONER: provisioner});
        steps.push(Step::Claim { patch: json!({"metadata": {"annotations": annotations}}) });
    }
    if provisioner != local_path::PROVISIONER {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        steps.push(tell("ExternalProvisioning", message));
    }
    steps
}

fn pending(claim: &PersistentVolumeClaim) -> Vec<Step> {
    if phase_of_claim(claim) == "Pending" {
        return Vec::new();
    }
    vec![Step::ClaimStatus { patch: json!({"status": {"phase": "Pending"}}) }]
}

/// Whatever is missing of the bond.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = volume.name_any();
    let reference = claim_of(volume);
    if reference.and_then(uid_of) != claim.metadata.uid.as_deref() {
        let mut patch = json!({"spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.metadata.namespace,
            "name": claim.metadata.name, "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
        }}});
        if reference.is_none() {
            patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
        }
        steps.push(Step::Volume { name: name.clone(), patch });
    }
    steps.extend(phase(volume, "Bound"));
    let mut patch = json!({});
    if annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        patch["metadata"] = json!({"annotations": {BIND_COMPLETED: "yes"}});
    }
    if volume_of(claim) != name {
        patch["spec"] = json!({"volumeName": name});
        patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
    }
    if patch != json!({}) {
        steps.push(Step::Claim { patch });
    }
    let (spec, status) = (volume.spec.clone().unwrap_or_default(), claim.status.clone().unwrap_or_default());
    let mut changed = Map::new();
    if phase_of_claim(claim) != "Bound" {
        changed.insert("phase".to_owned(), "Bound".into());
        // Afterwards it changes only when the volume has grown.
        changed.insert("capacity".to_owned(), json!(spec.capacity));
    }
    if status.access_modes != spec.access_modes {
        changed.insert("accessModes".to_owned(), json!(spec.access_modes));
    }
    if status.current_volume_attributes_class_name != spec.volume_attributes_class_name {
        let class = json!(spec.volume_attributes_class_name);
        changed.insert("currentVolumeAttributesClassName".to_owned(), class);
    }
    if !changed.is_empty() {
        steps.push(Step::ClaimStatus { patch: json!({"status": changed}) });
    }
    steps
}

/// Whatever is missing of a volume's phase. What others have said of a volume in this phase stays.
fn phase(volume: &PersistentVolume, phase: &str) -> Option<Step> {
    (phase_of_volume(volume) != phase).then(|| Step::VolumeStatus {
        name: volume.name_any(),
        patch: json!({"status": {"phase": phase, "message": null, "reason": null}}),
    })
}

/// Brings a volume to the phase that its claim gives it. `claim` is the one that it names, if that is there; the API
/// server was asked.
pub(super) fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Vec<Step> {
    let Some(reference) = claim_of(volume) else { return phase(volume, "Available").into_iter().collect() };
    let Some(uid) = uid_of(reference) else {
        let mut steps: Vec<Step> = phase(volume, "Available").into_iter().collect();
        steps.extend(claim.map(|_| Step::Look));
        return steps;
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else {
        return reclaim(volume);
    };
    match volume_of(claim) {
        "" => {
            let mode = |mode: Option<&String>| is_block(mode);
            let (has, wants) = (volume.spec.as_ref(), claim.spec.as_ref());
            let has = mode(has.and_then(|spec| spec.volume_mode.as_ref()));
            if has != mode(wants.and_then(|spec| spec.volume_mode.as_ref())) {
                let message = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                    claim.name_any()
                );
                return vec![warn("VolumeMismatch", message)];
            }
            vec![Step::Look]
        }
        name if name == volume.name_any() => phase(volume, "Bound").into_iter().collect(),
        // The claim has found another one.
        _ if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete" => reclaim(volume),
        _ => unbind(volume),
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// What becomes of a volume whose claim is gone.
fn reclaim(volume: &PersistentVolume) -> Vec<Step> {
    let failed = |reason, message: String| {
        if phase_of_volume(volume) == "Failed" {
            return Vec::new();
        }
        let patch = json!({"status": {"phase": "Failed", "message": message, "reason": null}});
        vec![Step::VolumeStatus { name: volume.name_any(), patch }, warn(reason, message)]
    };
    match policy(volume) {
        "Recycle" => failed("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        // Whoever made it sees that it is released, and deletes it.
        "Delete" if annotation(&volume.metadata, PROVISIONED_BY).is_some() => released(volume),
        "Delete" => {
            let message = format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.name_any()
            );
            failed("VolumeFailedDelete", message)
        }
        _ => released(volume),
    }
}

fn released(volume: &PersistentVolume) -> Vec<Step> {
    if phase_of_volume(volume) == "Failed" {
        return Vec::new();
    }
    phase(volume, "Released").into_iter().collect()
}

/// Takes the claim from a volume; if an administrator wrote it there, its name stays.
fn unbind(volume: &PersistentVolume) -> Vec<Step> {
    let patch = if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() {
        json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}})
    } else {
        json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}})
    };
    let mut steps = vec![Step::Volume { name: volume.name_any(), patch }];
    steps.extend(phase(volume, "Available"));
    steps
}

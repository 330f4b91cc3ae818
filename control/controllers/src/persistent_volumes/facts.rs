//! What volumes, claims and classes say of themselves.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use corten_api::api::storage::v1::StorageClass;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::meta::ObjectMeta;
use corten_api::quantity::Quantity;

/// The claim knows its volume, and the volume its claim.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// It was the controller who chose, so the controller may take it back.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who made a volume.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Who is to make a volume for a claim.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, for provisioners that are older.
pub(crate) const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The node from which the storage must be reachable: that of the first pod.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// How objects named their class before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Class of a claim; empty for none.
pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, BETA_CLASS).or(named).unwrap_or_default()
}

/// Whether a claim leaves its class to the cluster; the empty class is a choice, too.
pub(super) fn leaves_class_open(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
    !named && annotation(&claim.metadata, BETA_CLASS).is_none()
}

pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, BETA_CLASS).or(named).unwrap_or_default()
}

/// The default class: the newest, of several as old the first by name.
pub(super) fn default_class<'a>(classes: impl Iterator<Item = &'a StorageClass>) -> Option<&'a StorageClass> {
    let marked =
        classes.filter(|class| DEFAULT_MARKS.iter().any(|mark| annotation(&class.metadata, mark) == Some("true")));
    marked.min_by_key(|class| {
        let created = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), class.metadata.name.clone())
    })
}

/// Claims of this class wait for their first pod.
pub(super) fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

pub(crate) fn phase_of_volume(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn phase_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The volume that a claim names; empty for none.
pub(crate) fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// The claim that a volume names.
pub(crate) fn claim_of(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume names this claim: by its UID, or by its name alone if an administrator wrote it.
pub(super) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_of(volume).is_some_and(|reference| {
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && uid_of(reference).is_none_or(|uid| claim.metadata.uid.as_deref() == Some(uid))
    })
}

/// The UID in a reference, if it is bound to one object.
pub(super) fn uid_of(reference: &ObjectReference) -> Option<&str> {
    reference.uid.as_deref().filter(|uid| !uid.is_empty())
}

fn storage(amounts: Option<&BTreeMap<String, Text>>) -> Quantity {
    let text = amounts.and_then(|amounts| amounts.get("storage"));
    text.and_then(|text| Quantity::of(text).ok()).unwrap_or(Quantity::ZERO)
}

pub(crate) fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// How much a claim asks for.
pub(crate) fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// How much a claim has.
pub(crate) fn granted(claim: &PersistentVolumeClaim) -> Quantity {
    storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref()))
}

pub(super) fn is_block(mode: Option<&String>) -> bool {
    mode.is_some_and(|mode| mode == "Block")
}

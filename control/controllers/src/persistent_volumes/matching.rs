//! Which volume a claim gets: pure.
//!
//! Spec: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding>

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use corten_api::selector::{Labels, selects_node};
use kube::ResourceExt;

use super::facts::{capacity, claim_of, class_of_claim, class_of_volume, is_block, is_for, phase_of_volume, requested};

/// The node on which a claim will be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// The volume for a claim: one that names it already; else, unless the claim `waits` for its first pod, of those that
/// are free and fit the one with the fewest access modes, and of these the smallest.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    waits: bool,
    place: Option<Place<'_>>,
) -> Option<&'a Arc<PersistentVolume>> {
    let big_enough = |volume: &&Arc<PersistentVolume>| {
        volume.metadata.deletion_timestamp.is_none() && shape(volume, claim).is_none()
    };
    if let Some(named) = volumes.iter().filter(|volume| is_for(volume, claim)).find(big_enough) {
        return Some(named);
    }
    if waits {
        return None;
    }
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector.map(Labels::from_selector) {
        None => Labels::default(),
        Some(Ok(selector)) => selector,
        // What cannot be understood selects nothing.
        Some(Err(_)) => return None,
    };
    let free = volumes.iter().filter(|volume| {
        claim_of(volume).is_none()
            && phase_of_volume(volume) == "Available"
            && class_of_volume(volume) == class_of_claim(claim)
            && attributes(volume) == wanted_attributes(claim)
            && selector.matches_optional(volume.metadata.labels.as_ref())
            && place.is_none_or(|place| reaches(volume, place))
    });
    free.filter(big_enough).min_by_key(|volume| {
        let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len);
        (modes, capacity(volume), volume.name_any())
    })
}

/// Why a volume that a claim asks for by name cannot be its own.
pub(super) fn objection(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    if attributes(volume) != wanted_attributes(claim) {
        return Some("volumeAttributesClassName does not match");
    }
    shape(volume, claim)
}

/// Why the storage itself does not do, whoever it belongs to.
fn shape(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return Some("it has no spec") };
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small");
    }
    if is_block(has.volume_mode.as_ref()) != is_block(wants.volume_mode.as_ref()) {
        return Some("incompatible volumeMode");
    }
    let modes = has.access_modes.as_deref().unwrap_or_default();
    if !wants.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        return Some("incompatible accessMode");
    }
    None
}

fn attributes(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

fn wanted_attributes(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

fn reaches(volume: &PersistentVolume, place: Place<'_>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let selector = affinity.and_then(|affinity| affinity.required.as_ref());
    selector.is_none_or(|selector| selects_node(selector, place.name, place.labels))
}

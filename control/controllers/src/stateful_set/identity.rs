//! What makes each pod of a StatefulSet itself: its name, its labels, its host name and its volumes.

use std::collections::BTreeMap;

use corten_api::api::apps::v1::{StatefulSet, StatefulSetSpec};
use corten_api::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use corten_api::meta::ObjectMeta;
use kube::ResourceExt;

use crate::history;
use crate::own_pods;

/// The label that carries a pod's name, by which a service can select one pod.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label that carries a pod's ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the set that a pod of this name would belong to, and its ordinal there.
pub(super) fn split(pod: &str) -> Option<(&str, i32)> {
    let (set, ordinal) = pod.rsplit_once('-')?;
    let number: i32 = ordinal.parse().ok().filter(|number| *number >= 0)?;
    // Only the plain form of a number names a pod.
    (number.to_string() == ordinal).then_some((set, number))
}

/// The ordinal that a pod of this name has in the set.
pub(super) fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    split(pod).filter(|(name, _)| Some(*name) == set.metadata.name.as_deref()).map(|(_, ordinal)| ordinal)
}

/// The labels by which a pod is known.
fn labels(name: &str, ordinal: i32) -> [(String, String); 2] {
    [(POD_NAME.to_owned(), name.to_owned()), (POD_INDEX.to_owned(), ordinal.to_string())]
}

/// The labels of its identity that a pod lacks.
pub(super) fn missing_labels(pod: &ObjectMeta, ordinal: i32) -> BTreeMap<String, String> {
    let name = pod.name.as_deref().unwrap_or_default();
    let own = pod.labels.as_ref();
    let has = |key: &str, value: &str| own.and_then(|own| own.get(key)).is_some_and(|own| own == value);
    labels(name, ordinal).into_iter().filter(|(key, value)| !has(key, value)).collect()
}

/// The pod of an ordinal, of one revision.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = own_pods::of_template(set, template);
    let name = format!("{}-{ordinal}", set.name_any());
    let own = pod.metadata.labels.get_or_insert_default();
    own.extend(labels(&name, ordinal));
    own.insert(history::HASH.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    let set_spec = set.spec.as_ref();
    spec.subdomain = set_spec.and_then(|spec| spec.service_name.clone()).filter(|service| !service.is_empty());
    let mut volumes: Vec<Volume> =
        set_spec.into_iter().flat_map(templates).map(|template| volume(set, template, ordinal)).collect();
    // A claim takes the place of a volume of the same name.
    let others = spec.volumes.take().unwrap_or_default();
    let replaced: Vec<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
    volumes.extend(others.into_iter().filter(|volume| !replaced.contains(&volume.name)));
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    pod.metadata.name = Some(name);
    pod
}

fn volume(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> Volume {
    let claim_name = claim_name(set, template, ordinal);
    Volume {
        name: template.name_any(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, ..Default::default() }),
        ..Volume::default()
    }
}

fn templates(spec: &StatefulSetSpec) -> impl Iterator<Item = &PersistentVolumeClaim> {
    spec.volume_claim_templates.iter().flatten()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set.name_any())
}

/// The names of the claims of an ordinal.
pub(super) fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> + '_ {
    set.spec.iter().flat_map(templates).map(move |template| claim_name(set, template, ordinal))
}

/// Whether a claim of this name could be one of the set's.
pub(super) fn is_claim_name(set: &StatefulSet, claim: &str) -> bool {
    let Some((name, _)) = split(claim) else { return false };
    set.spec.iter().flat_map(templates).any(|template| format!("{}-{}", template.name_any(), set.name_any()) == name)
}

/// The claims of an ordinal, as they are made. Nobody owns them: what is in a volume outlives pods and sets, unless the
/// set's retention policy says otherwise.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let claim = |template: &PersistentVolumeClaim| {
        let mut labels = template.labels().clone();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.namespace(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    };
    templates(spec).map(claim).collect()
}

//! What of a pod's spec may change after its creation.

use corten_api::api::core::v1::PodSpec;
use corten_api::field::FieldErrors;

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) {
    if new.containers.len() != old.containers.len() {
        errs.forbidden("spec.containers", "pod updates may not add or remove containers");
        return;
    }
    let mut allowed = old.clone();
    for (container, changed) in allowed.containers.iter_mut().zip(&new.containers) {
        container.image = changed.image.clone();
    }
    if let (Some(before), Some(after)) = (&mut allowed.init_containers, &new.init_containers) {
        for (container, changed) in before.iter_mut().zip(after) {
            container.image = changed.image.clone();
        }
    }
    allowed.active_deadline_seconds = new.active_deadline_seconds;
    let kept = |toleration: &_| new.tolerations.iter().flatten().any(|other| other == toleration);
    if old.tolerations.iter().flatten().all(kept) {
        allowed.tolerations = new.tolerations.clone();
    }
    let gates = |spec: &PodSpec| spec.scheduling_gates.clone().unwrap_or_default();
    if gates(new).iter().all(|gate| gates(old).contains(gate)) {
        allowed.scheduling_gates = new.scheduling_gates.clone();
    }
    for (index, container) in new.containers.iter().enumerate() {
        if container.image.as_deref().is_none_or(str::is_empty) {
            errs.required(format!("spec.containers[{index}].image"), "");
        }
    }
    if allowed != *new {
        errs.forbidden("spec", WHY);
    }
}

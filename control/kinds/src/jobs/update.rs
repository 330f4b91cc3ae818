//! What of a job may change after its creation.

use corten_api::api::batch::v1::{Job, JobSpec};
use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::field::FieldErrors;

use super::{holds, is_indexed};
use crate::counts;

pub(super) fn validate(job: &Job, old: &Job, errs: &mut FieldErrors) {
    let (Some(new), Some(before)) = (&job.spec, &old.spec) else { return };
    validate_completions(new, before, errs);
    counts::immutable(&new.selector, &before.selector, "spec.selector", errs);
    let mut allowed = before.template.clone();
    if waits(old, before) {
        allow(&mut allowed, &new.template);
    }
    counts::immutable(&new.template, &allowed, "spec.template", errs);
    counts::immutable(&new.completion_mode, &before.completion_mode, "spec.completionMode", errs);
    counts::immutable(&new.pod_failure_policy, &before.pod_failure_policy, "spec.podFailurePolicy", errs);
    let path = "spec.backoffLimitPerIndex";
    counts::immutable(&new.backoff_limit_per_index, &before.backoff_limit_per_index, path, errs);
    counts::immutable(&new.managed_by, &before.managed_by, "spec.managedBy", errs);
    counts::immutable(&new.success_policy, &before.success_policy, "spec.successPolicy", errs);
}

/// An indexed job can grow and shrink, if it runs all its indexes at a time.
fn validate_completions(new: &JobSpec, old: &JobSpec, errs: &mut FieldErrors) {
    let path = "spec.completions";
    if !is_indexed(new) {
        return counts::immutable(&new.completions, &old.completions, path, errs);
    }
    if let Some(completions) = new.completions
        && new.completions != old.completions
        && new.parallelism != Some(completions)
    {
        errs.invalid(path, completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// Whether no pod of the job runs or did since it was suspended: then queues may still decide where they will.
fn waits(job: &Job, spec: &JobSpec) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let suspended = holds(status.conditions.as_deref(), "Suspended") && status.active.unwrap_or(0) == 0;
    spec.suspend == Some(true) && (status.start_time.is_none() || suspended)
}

/// Takes over from the new template what may change: where pods run, and what they are given there.
fn allow(allowed: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let metadata = new.metadata.clone().unwrap_or_default();
    if let Some(own) = &mut allowed.metadata {
        own.labels = metadata.labels;
        own.annotations = metadata.annotations;
    } else {
        allowed.metadata = new.metadata.clone();
    }
    let (Some(own), Some(new)) = (&mut allowed.spec, &new.spec) else { return };
    own.node_selector = new.node_selector.clone();
    own.tolerations = new.tolerations.clone();
    own.scheduling_gates = new.scheduling_gates.clone();
    match (&mut own.affinity, &new.affinity) {
        (own @ Some(_), None) => {
            let only_nodes =
                own.as_ref().is_some_and(|own| own.pod_affinity.is_none() && own.pod_anti_affinity.is_none());
            if only_nodes {
                *own = None;
            }
        }
        (own, Some(new)) => own.get_or_insert_default().node_affinity = new.node_affinity.clone(),
        (None, None) => {}
    }
    let inits = own.init_containers.iter_mut().flatten().zip(new.init_containers.iter().flatten());
    for (own, new) in own.containers.iter_mut().zip(&new.containers).chain(inits) {
        own.resources = new.resources.clone();
    }
}

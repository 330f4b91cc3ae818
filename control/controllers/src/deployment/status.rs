//! How a deployment is.

use std::time::Duration;

use corten_api::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use corten_api::meta::Time;
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::plan::{Rollout, wanted};

/// The counts of sets, added up.
fn sum(sets: &[&ReplicaSet], count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(|set| count(set)).sum()
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Whether every pod is of the new template and available, and no old one is left.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    let old = sum(&rollout.old, replicas);
    rollout.new.is_some_and(|new| {
        replicas(new) == rollout.replicas && available(new) == rollout.replicas && wanted(new) == rollout.replicas
    }) && old == 0
}

/// The status as a merge patch, if it changed; and when to look again.
pub(super) fn status(rollout: &Rollout<'_>, now: Timestamp) -> (Option<Value>, Option<Duration>) {
    let deployment = rollout.deployment;
    let before = deployment.status.clone().unwrap_or_default();
    let all: Vec<&ReplicaSet> = rollout.old.iter().copied().chain(rollout.new).collect();
    let some = |number: i32| Some(number).filter(|&number| number != 0);
    let total_available = sum(&all, available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&all, replicas)),
        updated_replicas: some(rollout.new.map_or(0, replicas)),
        ready_replicas: some(sum(&all, ready)),
        available_replicas: some(total_available),
        unavailable_replicas: some((sum(&all, wanted).max(rollout.replicas) - total_available).max(0)),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
        ..DeploymentStatus::default()
    };
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let enough = total_available >= rollout.replicas - rollout.unavailable;
    let condition = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".to_owned())
    };
    set(&mut conditions, "Available", condition, false, now);
    let again = progress(rollout, &before, &status, &mut conditions, now);
    conditions.sort_by(|left, right| left.type_.cmp(&right.type_));
    status.conditions = Some(conditions);
    if status == before {
        return (None, again);
    }
    let mut patch = serde_json::to_value(&status).unwrap_or_default();
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"] {
        if patch.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    (Some(patch), again)
}

/// Says whether the rollout goes on; returns when it will have gone on for too long.
fn progress(
    rollout: &Rollout<'_>,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = i64::from(rollout.spec.progress_deadline_seconds.filter(|&seconds| seconds < i32::MAX)?);
    let name = rollout.new.map_or_else(|| rollout.deployment.name_any(), ResourceExt::name_any);
    let subject = if rollout.new.is_some() { format!("ReplicaSet {name:?}") } else { format!("Deployment {name:?}") };
    let current = conditions.iter().find(|condition| condition.type_ == "Progressing").cloned();
    if rollout.spec.paused == Some(true) {
        let paused = ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        if current.as_ref().and_then(|condition| condition.reason.as_deref()) != Some("DeploymentPaused") {
            set(conditions, "Progressing", paused, true, now);
        }
        return None;
    }
    let reason = current.as_ref().and_then(|condition| condition.reason.clone()).unwrap_or_default();
    if is_complete(rollout) {
        let message = format!("{subject} has successfully progressed.");
        if reason != "NewReplicaSetAvailable" || current.as_ref().and_then(|c| c.message.as_ref()) != Some(&message) {
            set(conditions, "Progressing", ("True", "NewReplicaSetAvailable", message), true, now);
        }
        return None;
    }
    let count = |number: Option<i32>| number.unwrap_or(0);
    // A rollout that is done stays done when pods come and go; only another template begins a new one.
    if reason == "NewReplicaSetAvailable" && count(status.replicas) == count(status.updated_replicas) {
        return None;
    }
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    let moved = count(status.updated_replicas) > count(before.updated_replicas)
        || old(status) < old(before)
        || count(status.ready_replicas) > count(before.ready_replicas)
        || count(status.available_replicas) > count(before.available_replicas);
    if current.is_none() || moved || reason == "NewReplicaSetAvailable" || reason == "DeploymentPaused" {
        let (reason, message) = if rollout.new.is_none() {
            ("NewReplicaSetCreated", format!("Created new replica set for {subject}"))
        } else {
            ("ReplicaSetUpdated", format!("{subject} is progressing."))
        };
        set(conditions, "Progressing", ("True", reason, message), true, now);
        return Some(Duration::from_secs(deadline.unsigned_abs() + 1));
    }
    if reason == "ProgressDeadlineExceeded" {
        return None;
    }
    let since = current.and_then(|condition| condition.last_update_time).map_or(now, |time| time.0);
    let left = since.as_second() + deadline - now.as_second();
    if left <= 0 {
        let message = format!("{subject} has timed out progressing.");
        set(conditions, "Progressing", ("False", "ProgressDeadlineExceeded", message), true, now);
        return None;
    }
    Some(Duration::from_secs(left.unsigned_abs() + 1))
}

/// Sets a condition; its time of transition moves only with its status.
fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    (status, reason, message): (&str, &str, String),
    always: bool,
    now: Timestamp,
) {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let old = conditions.iter().find(|condition| condition.type_ == kind).cloned();
    if !always && old.as_ref().is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let same = old.as_ref().filter(|old| old.status == status);
    let since = same.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| now.clone());
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now),
        last_transition_time: Some(since),
    });
}

//! How a deployment is.

use std::time::Duration;

use corten_api::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition};
use corten_api::meta::Time;
use corten_base::Timestamp;
use kube::ResourceExt;

use super::plan::{Outlook, Rollout, actual, available, wanted};

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

// Reasons of Progressing, which clients know.
const CREATED: &str = "NewReplicaSetCreated";
const FOUND: &str = "FoundNewReplicaSet";
const MOVING: &str = "ReplicaSetUpdated";
const DONE: &str = "NewReplicaSetAvailable";
const LATE: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
pub(super) const NOT_CREATED: &str = "ReplicaSetCreateError";

/// The counts of sets, added up.
fn sum(sets: &[&ReplicaSet], count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(|set| count(set)).sum()
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

/// Pods of all sets that are ending; nothing as long as a set does not tell.
fn terminating(sets: &[&ReplicaSet]) -> Option<i32> {
    let mut sum = 0;
    for status in sets.iter().map(|set| set.status.clone().unwrap_or_default()) {
        match status.terminating_replicas {
            Some(count) => sum += count,
            // A set that nobody has looked at yet.
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(sum)
}

/// Whether every pod is of the new template and available, and no old one is left.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    let old = sum(&rollout.old, actual);
    rollout.new.is_some_and(|new| {
        actual(new) == rollout.replicas && available(new) == rollout.replicas && wanted(new) == rollout.replicas
    }) && old == 0
}

/// The status, if it changed; and when to look again.
pub(super) fn status(
    rollout: &Rollout<'_>,
    outlook: &Outlook,
    now: Timestamp,
) -> (Option<DeploymentStatus>, Option<Duration>) {
    let deployment = rollout.deployment;
    let before = deployment.status.clone().unwrap_or_default();
    let all: Vec<&ReplicaSet> = rollout.old.iter().copied().chain(rollout.new).collect();
    let some = |number: i32| Some(number).filter(|&number| number != 0);
    let total_available = sum(&all, available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&all, actual)),
        updated_replicas: some(rollout.new.map_or(0, actual)),
        ready_replicas: some(sum(&all, ready)),
        available_replicas: some(total_available),
        unavailable_replicas: some((sum(&all, wanted) - total_available).max(0)),
        terminating_replicas: terminating(&all),
        collision_count: before.collision_count,
        conditions: None,
    };
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let enough = total_available >= rollout.replicas - rollout.unavailable;
    let condition = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".to_owned())
    };
    set(&mut conditions, "Available", condition, false, now);
    let again = progress(rollout, outlook, &before, &status, &mut conditions, now);
    if outlook.rolls {
        failure(rollout, &mut conditions);
    }
    conditions.sort_by(|left, right| left.type_.cmp(&right.type_));
    status.conditions = Some(conditions);
    ((status != before).then_some(status), again)
}

/// Takes over what keeps a set from making its pods: the new one's trouble before that of others.
fn failure(rollout: &Rollout<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let own = |set: &ReplicaSet| {
        let conditions = set.status.as_ref().and_then(|status| status.conditions.clone());
        conditions.into_iter().flatten().find(|condition| condition.type_ == FAILURE)
    };
    let failed = rollout.new.and_then(own).or_else(|| rollout.old.iter().copied().find_map(own));
    let known = conditions.iter().find(|condition| condition.type_ == FAILURE);
    let same = |failed: &ReplicaSetCondition| {
        known.is_some_and(|known| known.status == failed.status && known.reason == failed.reason)
    };
    if failed.as_ref().is_some_and(same) {
        return;
    }
    conditions.retain(|condition| condition.type_ != FAILURE);
    conditions.extend(failed.map(|failed| DeploymentCondition {
        type_: failed.type_,
        status: failed.status,
        reason: failed.reason,
        message: failed.message,
        last_update_time: failed.last_transition_time.clone(),
        last_transition_time: failed.last_transition_time,
    }));
}

/// Says whether the rollout goes on; returns when it will have gone on for too long.
fn progress(
    rollout: &Rollout<'_>,
    outlook: &Outlook,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = rollout.spec.progress_deadline_seconds.filter(|&seconds| seconds < i32::MAX);
    let Some(deadline) = deadline.map(i64::from) else {
        conditions.retain(|condition| condition.type_ != PROGRESSING);
        return None;
    };
    let reason_now = |conditions: &[DeploymentCondition]| {
        let condition = conditions.iter().find(|condition| condition.type_ == PROGRESSING);
        condition.map(|condition| condition.reason.clone().unwrap_or_default())
    };
    // That it took too long is not hidden by a pause.
    let late = reason_now(conditions).is_some_and(|reason| reason == LATE);
    let paused = reason_now(conditions).is_some_and(|reason| reason == PAUSED);
    if rollout.spec.paused == Some(true) {
        if !paused && !late {
            set(conditions, PROGRESSING, ("Unknown", PAUSED, "Deployment is paused".to_owned()), true, now);
        }
        return None;
    }
    if paused {
        set(conditions, PROGRESSING, ("Unknown", RESUMED, "Deployment is resumed".to_owned()), true, now);
    }
    if !outlook.rolls {
        return None;
    }
    if let Some(created) = &outlook.created {
        let message = format!("Created new replica set {created:?}");
        set(conditions, PROGRESSING, ("True", CREATED, message), true, now);
        return Some(Duration::from_secs(deadline.unsigned_abs() + 1));
    }
    if let Some(new) = rollout.new
        && reason_now(conditions).is_none()
    {
        let message = format!("Found new replica set {:?}", new.name_any());
        set(conditions, PROGRESSING, ("True", FOUND, message), true, now);
    }
    let subject = match rollout.new {
        Some(new) => format!("ReplicaSet {:?}", new.name_any()),
        None => format!("Deployment {:?}", rollout.deployment.name_any()),
    };
    let current = conditions.iter().find(|condition| condition.type_ == PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|condition| condition.reason.clone()).unwrap_or_default();
    if is_complete(rollout) {
        let message = format!("{subject} has successfully progressed.");
        if reason != DONE || current.as_ref().and_then(|c| c.message.as_ref()) != Some(&message) {
            set(conditions, PROGRESSING, ("True", DONE, message), true, now);
        }
        return None;
    }
    let count = |number: Option<i32>| number.unwrap_or(0);
    // A rollout that is done stays done when pods come and go; only another template begins a new one.
    if reason == DONE && count(status.replicas) == count(status.updated_replicas) {
        return None;
    }
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    let moved = count(status.updated_replicas) > count(before.updated_replicas)
        || old(status) < old(before)
        || count(status.ready_replicas) > count(before.ready_replicas)
        || count(status.available_replicas) > count(before.available_replicas);
    // Another template began: one that had its turn before, since otherwise its set would have been created.
    if moved || reason == DONE {
        let message = format!("{subject} is progressing.");
        set(conditions, PROGRESSING, ("True", MOVING, message), true, now);
        return Some(Duration::from_secs(deadline.unsigned_abs() + 1));
    }
    if reason == LATE {
        return None;
    }
    let since = current.and_then(|condition| condition.last_update_time).map_or(now, |time| time.0);
    let left = since.as_second() + deadline - now.as_second();
    if left <= 0 {
        let message = format!("{subject} has timed out progressing.");
        set(conditions, PROGRESSING, ("False", LATE, message), true, now);
        return None;
    }
    Some(Duration::from_secs(left.unsigned_abs() + 1))
}

/// What clients look for to learn why no set could be made.
pub(super) fn not_created(before: &DeploymentStatus, name: &str, error: &str, now: Timestamp) -> DeploymentStatus {
    let mut status = before.clone();
    let mut conditions = status.conditions.take().unwrap_or_default();
    let message = format!("Failed to create new replica set {name:?}: {error}");
    set(&mut conditions, PROGRESSING, ("False", NOT_CREATED, message), false, now);
    status.conditions = Some(conditions);
    status
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

//! How a set of equal pods is.

use std::sync::Arc;

use corten_api::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use corten_api::api::core::v1::Pod;
use corten_api::meta::Time;
use corten_api::selector::Labels;
use corten_base::Timestamp;

use super::kinds::{Replicated, Wanted};
use crate::pods::is_ready;

/// The condition that says that pods cannot be made or deleted.
const FAILURE: &str = "ReplicaFailure";

/// Counts the pods; the conditions stay as they are.
pub(super) fn of<K: Replicated>(
    set: &K,
    wanted: &Wanted<'_>,
    active: &[Arc<Pod>],
    available: usize,
    terminating: Option<usize>,
) -> ReplicaSetStatus {
    let template = wanted.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let template = Labels::from_map(&template.unwrap_or_default());
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let some = |number: usize| Some(count(number)).filter(|&number| number > 0);
    let labelled = active.iter().filter(|pod| template.matches_optional(pod.metadata.labels.as_ref()));
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(labelled.count()),
        ready_replicas: some(active.iter().filter(|pod| is_ready(pod)).count()),
        available_replicas: some(available),
        terminating_replicas: terminating.map(count),
        observed_generation: set.meta().generation,
        conditions: set.status().conditions,
    }
}

/// The status with its failure: said when it begins, with reason and message, and taken back when it is over.
pub(super) fn with_failure(
    mut status: ReplicaSetStatus,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let known = status.conditions.iter().flatten().any(|condition| condition.type_ == FAILURE);
    match failure {
        Some((reason, message)) if !known => {
            status.conditions.get_or_insert_default().push(ReplicaSetCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            });
        }
        None if known => {
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|condition| condition.type_ != FAILURE);
            status.conditions = Some(std::mem::take(conditions)).filter(|left| !left.is_empty());
        }
        _ => {}
    }
    status
}

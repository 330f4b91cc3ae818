//! How a StatefulSet is.

use std::time::Duration;

use corten_api::api::apps::v1::StatefulSetStatus;
use corten_base::Timestamp;

use super::plan::{Revision, View, is_rolling, revision_of};
use crate::pods::{available_in, is_running_and_ready};

/// The status that follows from the pods; and when one will have been ready long enough.
pub(super) fn status(view: &View<'_>, now: Timestamp) -> (StatefulSetStatus, Option<Duration>) {
    let before = view.set.status.clone().unwrap_or_default();
    let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
    let mut soonest: Option<i64> = None;
    for pod in view.pods.values() {
        if is_running_and_ready(pod) {
            ready += 1;
            match available_in(pod, view.spec.min_ready_seconds.unwrap_or(0), now) {
                Some(0) => available += 1,
                Some(wait) => soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait))),
                None => {}
            }
        }
        if pod.metadata.deletion_timestamp.is_none() {
            let is = |revision: &Revision| revision_of(pod) == Some(&revision.name);
            current += i32::from(is(&view.current));
            updated += i32::from(is(&view.update));
        }
    }
    let some = |count: i32| Some(count).filter(|&count| count > 0);
    let replicas = i32::try_from(view.pods.len()).unwrap_or(i32::MAX);
    let mut status = StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(view.current.name.clone()),
        update_revision: Some(view.update.name.clone()),
        collision_count: Some(view.collisions),
        conditions: before.conditions,
    };
    let wanted = view.spec.replicas.unwrap_or(1);
    // A rolling update is complete: what was new is now what there is.
    if is_rolling(view.spec) && [updated, ready, replicas].iter().all(|&count| count == wanted) {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    (status, soonest.map(|wait| Duration::from_secs(wait.unsigned_abs())))
}

//! How a DaemonSet is.

use std::time::Duration;

use corten_api::api::apps::v1::DaemonSetStatus;

use super::plan::Scene;
use super::template::Verdict;
use crate::pods::is_ready;

/// The status that follows from nodes and pods; and when a pod will have been ready long enough.
pub(super) fn status(scene: &Scene<'_>) -> (DaemonSetStatus, Option<Duration>) {
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for place in &scene.places {
        // The oldest stands for its node.
        let pod = place.pods.first();
        if place.verdict != Verdict::Runs {
            misplaced += i32::from(pod.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = pod else { continue };
        current += 1;
        ready += i32::from(is_ready(pod));
        available += i32::from(scene.is_available(pod));
        updated += i32::from(scene.is_new(pod));
    }
    // Also of a pod that is to take over from the first one of its node.
    let waits = scene.view.pods.iter().filter_map(|pod| scene.available_in(pod)).filter(|&wait| wait > 0);
    let again = waits.min().map(|wait| Duration::from_secs(wait.unsigned_abs()));
    let some = |count: i32| Some(count).filter(|&count| count > 0);
    let before = scene.view.set.status.as_ref();
    let status = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misplaced,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: scene.view.set.metadata.generation,
        collision_count: scene.view.collisions,
        conditions: before.and_then(|before| before.conditions.clone()),
    };
    (status, again)
}

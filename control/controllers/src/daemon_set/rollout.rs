//! Rolling updates: which old pods go, and which nodes get a second pod that takes over.

use std::sync::Arc;

use corten_api::api::core::v1::Pod;

use super::plan::{Place, Scene};
use super::template::Verdict;
use crate::amounts;

/// How far a rollout may go at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    rolling: bool,
    unavailable: usize,
    surge: usize,
}

impl Limits {
    pub(super) fn of(scene: &Scene<'_>) -> Self {
        let strategy = scene.view.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let nodes = scene.places.iter().filter(|place| place.verdict == Verdict::Runs).count();
        let nodes = i32::try_from(nodes).unwrap_or(i32::MAX);
        let amount = |amount| usize::try_from(amounts::of(nodes, amount, true)).unwrap_or(0);
        let unavailable = amount(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
        let surge = amount(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
        Self {
            rolling: strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete"),
            // Without either, nothing would ever move.
            unavailable: if unavailable == 0 && surge == 0 { 1 } else { unavailable },
            surge,
        }
    }

    pub(super) fn rolls(&self) -> bool {
        self.rolling
    }

    /// Whether a node may have two pods for a while.
    pub(super) fn surges(&self) -> bool {
        self.rolling && self.surge > 0
    }
}

/// A pod of the new template and one of an old one.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// The node's pod of the new template and that of an old one; nothing if it has more, which is for others to mend.
fn pods_of<'a>(scene: &Scene<'_>, place: &'a Place) -> Option<Pair<'a>> {
    let alive = place.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (new, old): (Vec<_>, Vec<_>) = alive.partition(|pod| scene.is_new(pod));
    (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
}

/// One step of a rolling update.
pub(super) fn roll<'a>(scene: &'a Scene<'_>, limits: &Limits, made: &mut Vec<&'a str>, delete: &mut Vec<Arc<Pod>>) {
    // On a node that keeps its pod but would get no other, the old one is better than none.
    let places = || scene.places.iter().filter(|place| place.verdict == Verdict::Runs);
    if limits.surges() {
        surge(scene, limits.surge, places(), made, delete);
    } else {
        replace(scene, limits.unavailable, places(), delete);
    }
}

/// Deletes old pods as long as enough nodes have one that serves. Those that do not serve go in any case.
fn replace<'a>(scene: &Scene<'_>, most: usize, places: impl Iterator<Item = &'a Place>, delete: &mut Vec<Arc<Pod>>) {
    let (mut unavailable, mut candidates) = (0, Vec::new());
    for place in places {
        match pods_of(scene, place) {
            Some((None, Some(old))) if scene.is_available(old) => candidates.push(Arc::clone(old)),
            Some((None, Some(old))) => {
                unavailable += 1;
                delete.push(Arc::clone(old));
            }
            Some((Some(new), None)) if scene.is_available(new) => {}
            _ => unavailable += 1,
        }
    }
    delete.extend(candidates.into_iter().take(most.saturating_sub(unavailable)));
}

/// Gives nodes a second pod; the old one goes when the new one serves.
fn surge<'a>(
    scene: &Scene<'_>,
    most: usize,
    places: impl Iterator<Item = &'a Place>,
    made: &mut Vec<&'a str>,
    delete: &mut Vec<Arc<Pod>>,
) {
    let (mut surging, mut candidates) = (0, Vec::new());
    for place in places {
        match pods_of(scene, place) {
            None => surging += 1,
            Some((_, None)) => {}
            Some((None, Some(old))) if scene.is_available(old) => candidates.push(&*place.node),
            // Nobody is served here: a replacement more or less.
            Some((None, Some(_))) => made.push(&place.node),
            Some((Some(new), Some(old))) if scene.is_available(new) => delete.push(Arc::clone(old)),
            Some((Some(_), Some(_))) => surging += 1,
        }
    }
    made.extend(candidates.into_iter().take(most.saturating_sub(surging)));
}

//! What is to be done about a DaemonSet, decided on plain data.
//!
//! Invariant: a node has one pod of the set; a second one only while it takes over from the first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use corten_api::api::core::v1::{Node, Pod};
use corten_api::placement::target;
use corten_base::Timestamp;
use kube::ResourceExt;

use super::rollout::{Limits, roll};
use super::status;
use super::template::{Verdict, is_updated, pod_for, template, verdict};
use crate::pods::{available_in, has_ended, is_ready, phase};

/// Most pods made or deleted at one go.
const BURST: usize = 250;

/// What is known.
pub(super) struct View<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) spec: &'a DaemonSetSpec,
    pub(super) nodes: Vec<Arc<Node>>,
    /// The set's pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// The hash of the current template's revision.
    pub(super) hash: &'a str,
    pub(super) collisions: Option<i32>,
    /// How long failed pods are yet to be left alone, by UID.
    pub(super) held: BTreeMap<String, Duration>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<Pod>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Those of them that ended by themselves, each with its node.
    pub(super) ended: Vec<(Arc<Pod>, String)>,
    pub(super) status: DaemonSetStatus,
    pub(super) again: Option<Duration>,
}

/// A node and the set's pods for it, the oldest first. Pods that ended and are being deleted do not count.
pub(super) struct Place {
    pub(super) node: String,
    pub(super) verdict: Verdict,
    pub(super) pods: Vec<Arc<Pod>>,
}

/// The set and its pods by node.
pub(super) struct Scene<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) places: Vec<Place>,
    pub(super) now: Timestamp,
}

impl Scene<'_> {
    pub(super) fn is_new(&self, pod: &Pod) -> bool {
        is_updated(self.view.set, pod, self.view.hash)
    }

    /// When the pod will have been ready long enough: 0 if it has been.
    pub(super) fn available_in(&self, pod: &Pod) -> Option<i64> {
        available_in(pod, self.view.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        self.available_in(pod) == Some(0)
    }
}

/// Decides.
pub(super) fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let template = template(view.set, view.hash);
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &view.pods {
        let gone = has_ended(pod) && pod.metadata.deletion_timestamp.is_some();
        if let Some(node) = pod.spec.as_ref().and_then(target).filter(|_| !gone) {
            by_node.entry(node.to_owned()).or_default().push(Arc::clone(pod));
        }
    }
    by_node.values_mut().for_each(|pods| pods.sort_by_cached_key(|pod| seniority(pod)));
    let spec = template.spec.clone().unwrap_or_default();
    let place = |node: &Arc<Node>| {
        let name = node.name_any();
        let pods = by_node.remove(&name).unwrap_or_default();
        Place { verdict: verdict(&spec, node), pods, node: name }
    };
    let scene = Scene { view, places: view.nodes.iter().map(place).collect(), now };
    let limits = Limits::of(&scene);
    let (status, again) = status::status(&scene);
    let mut plan = Plan { status, again, ..Plan::default() };
    if view.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut made = Vec::new();
    for place in &scene.places {
        settle(&scene, place, limits.surges(), &mut made, &mut plan);
    }
    // What waits for a node that is no more; what runs there is for others to end.
    let waiting = by_node.into_values().flatten().filter(|pod| {
        let unplaced = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_none_or(str::is_empty);
        unplaced && pod.metadata.deletion_timestamp.is_none()
    });
    plan.delete.extend(waiting);
    // A rollout goes on when every node has its pod.
    if made.is_empty() && plan.delete.is_empty() && limits.rolls() {
        roll(&scene, &limits, &mut made, &mut plan.delete);
    }
    plan.delete.truncate(BURST);
    plan.create = made.into_iter().take(BURST).map(|node| pod_for(view.set, &template, node)).collect();
    plan
}

/// Who counts as a node's pod if there are several: one that is placed, then the oldest.
fn seniority(pod: &Pod) -> impl Ord + use<> {
    let unplaced = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_none_or(str::is_empty);
    (unplaced, pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.name_any())
}

/// Sees to it that the node has a pod, if it is to have one, and only one.
fn settle<'a>(scene: &Scene<'_>, place: &'a Place, surges: bool, made: &mut Vec<&'a str>, plan: &mut Plan) {
    let stays = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none();
    match place.verdict {
        Verdict::Runs if place.pods.is_empty() => made.push(&place.node),
        Verdict::Not => plan.delete.extend(place.pods.iter().filter(stays).cloned()),
        Verdict::Runs | Verdict::Keeps => {
            let (ended, alive): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
                place.pods.iter().filter(stays).partition(|pod| has_ended(pod));
            for pod in ended {
                let failed = phase(pod) == "Failed";
                let held = pod.uid().and_then(|uid| scene.view.held.get(&uid)).filter(|left| failed && !left.is_zero());
                match held {
                    // The node may refuse it again and again: not more often than it pays.
                    Some(&left) => plan.again = Some(plan.again.map_or(left, |before| before.min(left))),
                    None => {
                        plan.ended.push((Arc::clone(pod), place.node.clone()));
                        plan.delete.push(Arc::clone(pod));
                    }
                }
            }
            let kept: BTreeSet<Option<String>> = if surges { pair(scene, &alive) } else { first(&alive) };
            plan.delete.extend(alive.into_iter().filter(|pod| !kept.contains(&pod.uid())).cloned());
        }
    }
}

fn first(alive: &[&Arc<Pod>]) -> BTreeSet<Option<String>> {
    alive.first().map(|pod| pod.uid()).into_iter().collect()
}

/// The oldest pod of the new template and the oldest of another one: both only while the old one serves and the new one
/// does not yet.
fn pair(scene: &Scene<'_>, alive: &[&Arc<Pod>]) -> BTreeSet<Option<String>> {
    if alive.len() <= 1 {
        return first(alive);
    }
    let new = alive.iter().find(|pod| scene.is_new(pod));
    let old = alive.iter().find(|pod| !scene.is_new(pod));
    let takes_over = |old: &Pod| new.is_some_and(|new| !is_ready(old) || scene.is_available(new));
    let old = old.filter(|old| !takes_over(old));
    [new, old].into_iter().flatten().map(|pod| pod.uid()).collect()
}

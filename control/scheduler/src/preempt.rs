//! Preemption: less important pods make room for one that fits nowhere else.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::framework::Cycle;
use crate::model::PodInfo;
use crate::schedule::{Unfit, filter_with_nominated, move_pod};

/// Candidates that are tried: this share of all, and at least so many.
const TRIED_PERCENT: usize = 10;
const TRIED_LEAST: usize = 100;

/// Room that can be made on a node.
pub(crate) struct Room {
    pub(crate) slot: u32,
    /// Pods that have to go, the most important first.
    pub(crate) victims: Vec<Arc<PodInfo>>,
    /// How many of them break a disruption budget.
    broken: usize,
}

/// Why no room is made.
pub(crate) enum NoRoom {
    /// The pod may not, or its turn is still to come: what was promised to it stays.
    NotNow(&'static str),
    /// There is no way: what was promised is void.
    NoWay(String),
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotNow(why) => f.write_str(why),
            Self::NoWay(why) => f.write_str(why),
        }
    }
}

/// Finds the node on which room can be made with least harm. `start` says with which candidate the search begins.
pub(crate) fn make_room(cycle: &Cycle<'_>, unfit: &Unfit, start: usize) -> Result<Room, NoRoom> {
    eligible(cycle, unfit)?;
    let candidates: Vec<u32> = unfit.rejections.iter().filter(|own| !own.why.final_).map(|own| own.slot).collect();
    let most = (candidates.len() * TRIED_PERCENT / 100).max(TRIED_LEAST);
    let mut rooms: Vec<Room> = Vec::new();
    let mut objections: Vec<Cow<'static, str>> = Vec::new();
    let start = start % candidates.len().max(1);
    for slot in candidates.iter().skip(start).chain(candidates.iter().take(start)) {
        if rooms.len() >= most && rooms.iter().any(|room| room.broken == 0) {
            break;
        }
        match victims(cycle, unfit, *slot) {
            Ok(room) => rooms.push(room),
            Err(reasons) => objections.extend(reasons),
        }
    }
    // The first of equals: the search order is random enough.
    rooms.into_iter().min_by_key(harm).ok_or_else(|| {
        let hopeless = unfit.nodes - candidates.len();
        NoRoom::NoWay(explain(unfit.nodes, hopeless, &objections))
    })
}

/// Whether the pod may have others removed now.
fn eligible(cycle: &Cycle<'_>, unfit: &Unfit) -> Result<(), NoRoom> {
    if cycle.wants.never_preempts {
        return Err(NoRoom::NotNow("not eligible due to preemptionPolicy=Never."));
    }
    let nominated = cycle.cache.nominated.node_of(&cycle.pod.key).and_then(|node| cycle.cache.slot_of(node));
    let Some(slot) = nominated else { return Ok(()) };
    // If nothing that happens there can help any more, another node may be looked for.
    if unfit.rejections.iter().any(|own| own.slot == slot && own.why.final_) {
        return Ok(());
    }
    let leaving = |pod: &Arc<PodInfo>| pod.deleting && pod.preempted && pod.priority < cycle.pod.priority;
    if cycle.cache.node(slot).pods.iter().any(leaving) {
        return Err(NoRoom::NotNow("not eligible due to a terminating pod on the nominated node."));
    }
    Ok(())
}

fn explain(nodes: usize, hopeless: usize, objections: &[Cow<'static, str>]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    if hopeless > 0 {
        counts.insert("Preemption is not helpful for scheduling", hopeless);
    }
    objections.iter().for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort_unstable();
    format!("0/{nodes} nodes are available: {}.", texts.join(", "))
}

/// More important pods come first.
fn importance(pod: &PodInfo) -> impl Ord + use<> {
    (Reverse(pod.priority), pod.start(), pod.key.clone())
}

/// The fewest and least important pods that have to leave the node, or why that is no use.
fn victims(cycle: &Cycle<'_>, unfit: &Unfit, slot: u32) -> Result<Room, Vec<Cow<'static, str>>> {
    let asked = unfit.asked;
    let node = cycle.cache.node(slot);
    let mut lesser: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|pod| pod.priority < cycle.pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".into()]);
    }
    let (mut state, mut node) = (unfit.state.clone(), node.clone());
    for pod in &lesser {
        move_pod(cycle, &mut state, asked, &mut node, pod, false);
    }
    filter_with_nominated(cycle, &state, asked, &node).map_err(|(_, why)| why.reasons)?;
    lesser.sort_by_cached_key(|pod| importance(pod));
    let pods: Vec<&PodInfo> = lesser.iter().map(AsRef::as_ref).collect();
    let breaks = cycle.cache.budgets.broken_by(&pods);
    let (mut victims, mut broken) = (Vec::new(), 0);
    // Those whose loss would break a budget are spared first, then the more important ones.
    for protected in [true, false] {
        for (pod, _) in lesser.iter().zip(&breaks).filter(|(_, breaks)| **breaks == protected) {
            move_pod(cycle, &mut state, asked, &mut node, pod, true);
            if filter_with_nominated(cycle, &state, asked, &node).is_err() {
                move_pod(cycle, &mut state, asked, &mut node, pod, false);
                victims.push(Arc::clone(pod));
                broken += usize::from(protected);
            }
        }
    }
    victims.sort_by_cached_key(|pod| importance(pod));
    Ok(Room { slot, victims, broken })
}

/// What it costs: budgets broken, the most important victim, their sum, their number, and how long the most important
/// ones have been running.
fn harm(room: &Room) -> impl Ord + use<> {
    let highest = room.victims.first().map_or(i32::MIN, |pod| pod.priority);
    let sum: i64 = room.victims.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
    let longest = room.victims.iter().filter(|pod| pod.priority == highest).map(|pod| pod.start()).min();
    (room.broken, highest, sum, room.victims.len(), Reverse(longest))
}

//! A node takes only as much as it has; and the emptier (or the fuller) it is, the better.

use std::borrow::Cow;

use crate::cache::Cache;
use crate::config::Scoring;
use crate::framework::{Ahead, Change, Cycle, MOST, Plugin, Rejection, State};
use crate::model::{Amounts, NodeInfo, PodInfo};

pub(crate) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn before_filter(&self, _cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        Ahead::Look
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        let (wanted, has, used) = (&cycle.pod.requests, &node.facts.allocatable, &node.requested);
        let free = |wanted: i64, has: i64, used: i64| wanted <= 0 || wanted <= has - used;
        let fits = (node.pods.len() as i64) < node.facts.most_pods
            && free(wanted.cpu, has.cpu, used.cpu)
            && free(wanted.memory, has.memory, used.memory)
            && free(wanted.storage, has.storage, used.storage)
            && wanted.others().iter().all(|(name, wanted)| free(*wanted, has.get_other(*name), used.get_other(*name)));
        if fits { Ok(()) } else { Err(objection(cycle, node)) }
    }

    fn before_score(&self, _cycle: &Cycle<'_>, _state: &mut State, _nodes: &[u32]) -> bool {
        true
    }

    fn score(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> i64 {
        let (mut total, mut weights) = (0, 0);
        for (name, weight) in &cycle.profile.scored_resources {
            let has = node.facts.allocatable.get(name);
            let used = match name.as_str() {
                "cpu" => node.counted_cpu.saturating_add(cycle.pod.counted_cpu),
                "memory" => node.counted_memory.saturating_add(cycle.pod.counted_memory),
                name => {
                    let wanted = cycle.pod.requests.get(name);
                    // What the pod does not ask for says nothing about where it should go.
                    if wanted == 0 {
                        continue;
                    }
                    node.requested.get(name).saturating_add(wanted)
                }
            };
            if has == 0 {
                continue;
            }
            total += share(&cycle.profile.scoring, has, used) * weight;
            weights += weight;
        }
        match (&cycle.profile.scoring, weights) {
            (_, 0) => 0,
            (Scoring::RequestedToCapacityRatio(_), weights) => (total as f64 / weights as f64).round() as i64,
            (_, weights) => total / weights,
        }
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        change.node().is_some() || matches!(change, Change::PodGone(_))
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, cache: &Cache) -> bool {
        match change {
            Change::NodeCame(node) => pod.requests.fit_in(&node.allocatable),
            Change::NodeChanged { old, new } => {
                pod.requests.fit_in(&new.allocatable) && !new.allocatable.fit_in(&old.allocatable)
            }
            Change::PodGone(gone) => gone.requests.share_with(&pod.requests) || was_full(gone, cache),
            _ => false,
        }
    }
}

/// Whether the pod that is gone was one too many on its node.
fn was_full(gone: &PodInfo, cache: &Cache) -> bool {
    cache.slot(&gone.node).is_some_and(|slot| {
        let node = cache.node(slot);
        (node.pods.len() as i64 + 1) >= node.facts.most_pods
    })
}

/// All that is lacking.
fn objection(cycle: &Cycle<'_>, node: &NodeInfo) -> Rejection {
    let (wanted, has, used) = (&cycle.pod.requests, &node.facts.allocatable, &node.requested);
    let mut rejection = Rejection { reasons: Vec::new(), detail: None, final_: false };
    if node.pods.len() as i64 + 1 > node.facts.most_pods {
        rejection.reasons.push("Too many pods".into());
    }
    let mut check = |reason: Cow<'static, str>, wanted: i64, has: i64, used: i64| {
        if wanted > 0 && wanted > has - used {
            rejection.reasons.push(reason);
            // Not even an empty node of this size would do.
            rejection.final_ |= wanted > has;
        }
    };
    check("Insufficient cpu".into(), wanted.cpu, has.cpu, used.cpu);
    check("Insufficient memory".into(), wanted.memory, has.memory, used.memory);
    check("Insufficient ephemeral-storage".into(), wanted.storage, has.storage, used.storage);
    for (hash, name) in &cycle.wants.resource_names {
        let of = |amounts: &Amounts| amounts.get_other(*hash);
        check(format!("Insufficient {name}").into(), of(wanted), of(has), of(used));
    }
    rejection
}

/// The score of one resource.
fn share(scoring: &Scoring, has: i64, used: i64) -> i64 {
    match scoring {
        Scoring::LeastAllocated if used > has => 0,
        Scoring::LeastAllocated => scaled(has - used, has),
        // The pod is on no node that it does not fit on, but what is counted for nothing may exceed the node.
        Scoring::MostAllocated => scaled(used.min(has), has),
        Scoring::RequestedToCapacityRatio(points) => between(points, if used > has { 100 } else { scaled(used, has) }),
    }
}

fn scaled(part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(part) * i128::from(MOST) / i128::from(whole)).unwrap_or(0)
}

/// The height of a line through points, scaled from ten to [`MOST`].
fn between(points: &[(i64, i64)], at: i64) -> i64 {
    let scale = |score: i64| score * MOST / 10;
    let Some(next) = points.iter().position(|(place, _)| at <= *place) else {
        return points.last().map_or(0, |(_, score)| scale(*score));
    };
    let (right, to) = points[next];
    let Some((left, from)) = next.checked_sub(1).map(|before| points[before]) else { return scale(to) };
    scale(from) + (scale(to) - scale(from)) * (at - left) / (right - left).max(1)
}

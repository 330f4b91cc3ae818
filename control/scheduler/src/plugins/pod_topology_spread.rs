//! Pods spread over the domains of a topology: zones, nodes.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>

use std::borrow::Cow;
use std::sync::Arc;

use crate::cache::{Cache, NOWHERE, Topology};
use crate::framework::{Ahead, Change, Cycle, MOST, Plugin, Rejection, State};
use crate::model::{
    NodeFacts, NodeInfo, PodGroup, PodInfo, Selector, SpreadConstraint, Unsatisfiable, hashed, tolerates,
};

use super::affinity_accepts;

pub(crate) struct PodTopologySpread;

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
/// A domain in which no node counts.
const ABSENT: u32 = u32::MAX;

#[derive(Clone, Default)]
pub(crate) struct SpreadState {
    strict: Vec<Strict>,
    soft: Vec<Soft>,
    /// Candidates that lack a label of a constraint: the worst there are.
    ignored: Vec<u32>,
}

/// A constraint that must be kept.
#[derive(Clone)]
struct Strict {
    max_skew: i64,
    min_domains: usize,
    topology: Arc<Topology>,
    group: PodGroup,
    /// Whether the pod counts itself.
    own: i64,
    /// Pods in each domain.
    counts: Vec<u32>,
    least: i64,
    honour_affinity: bool,
    honour_taints: bool,
}

/// A constraint that weighs.
#[derive(Clone)]
struct Soft {
    topology: Arc<Topology>,
    max_skew: i64,
    weight: f64,
    /// Pods in each domain.
    counts: Vec<u32>,
}

impl Strict {
    /// The least of all domains; none if there are fewer than there should be.
    fn settle(&mut self) {
        let present = self.counts.iter().filter(|count| **count != ABSENT);
        let (mut domains, mut least) = (0, u32::MAX);
        for count in present {
            domains += 1;
            least = least.min(*count);
        }
        self.least = if domains < self.min_domains || domains == 0 { 0 } else { i64::from(least) };
    }
}

fn constraints<'a>(cycle: &Cycle<'a>, kind: Unsatisfiable) -> Cow<'a, [SpreadConstraint]> {
    let own = cycle.wants.spread.as_slice();
    if own.iter().all(|constraint| constraint.otherwise == kind) {
        return Cow::Borrowed(own);
    }
    Cow::Owned(own.iter().filter(|constraint| constraint.otherwise == kind).cloned().collect())
}

/// Constraints of pods that have none, if something says which pods belong together.
fn defaults(cycle: &Cycle<'_>) -> Vec<SpreadConstraint> {
    let peers = if cycle.profile.spread_by_default { cycle.cache.workloads.peers(cycle.pod) } else { None };
    let Some(selector) = peers else { return Vec::new() };
    let constraint = |topology: &str, max_skew: i64, selector: Selector| SpreadConstraint {
        topology: hashed(topology),
        max_skew,
        min_domains: 1,
        otherwise: Unsatisfiable::ScheduleAnyway,
        selector,
        honour_affinity: true,
        honour_taints: false,
    };
    vec![
        constraint("kubernetes.io/hostname", 3, selector.clone()),
        constraint("topology.kubernetes.io/zone", 5, selector),
    ]
}

/// Whether pods on the node count for the pod.
fn counts(cycle: &Cycle<'_>, node: &NodeFacts, honour_affinity: bool, honour_taints: bool) -> bool {
    let repels = || {
        let strict = node.taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
        strict.into_iter().any(|taint| !tolerates(&cycle.wants.tolerations, taint))
    };
    (!honour_affinity || affinity_accepts(cycle.wants, node)) && !(honour_taints && repels())
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, state: &mut State) -> Ahead {
        let strict = constraints(cycle, Unsatisfiable::DoNotSchedule);
        if strict.is_empty() {
            return Ahead::Skip;
        }
        let topologies: Vec<Arc<Topology>> = strict.iter().map(|own| cycle.cache.topology(own.topology)).collect();
        state.spread.strict = strict
            .iter()
            .zip(&topologies)
            .map(|(own, topology)| {
                let group = PodGroup::within(cycle.pod.namespace, own.selector.clone());
                let mut counts_by_domain = vec![ABSENT; topology.len()];
                cycle.cache.tally(std::slice::from_ref(&group), true, |tally| {
                    for slot in cycle.cache.order() {
                        let domain = topology.domain(*slot);
                        let everywhere = topologies.iter().all(|topology| topology.domain(*slot) != NOWHERE);
                        let node = &cycle.cache.node(*slot).facts;
                        if everywhere && counts(cycle, node, own.honour_affinity, own.honour_taints) {
                            let count = &mut counts_by_domain[domain as usize];
                            let more = tally.get(*slot as usize).copied().unwrap_or(0);
                            *count = if *count == ABSENT { more } else { *count + more };
                        }
                    }
                });
                let mut strict = Strict {
                    max_skew: own.max_skew,
                    min_domains: own.min_domains,
                    topology: Arc::clone(topology),
                    group,
                    own: i64::from(own.selector.matches(&cycle.pod.labels)),
                    counts: counts_by_domain,
                    least: 0,
                    honour_affinity: own.honour_affinity,
                    honour_taints: own.honour_taints,
                };
                strict.settle();
                strict
            })
            .collect();
        Ahead::Look
    }

    fn filter(&self, _cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        for constraint in &state.spread.strict {
            let domain = constraint.topology.domain(node.slot);
            if domain == NOWHERE {
                return Err(Rejection::for_good(UNLABELLED));
            }
            let count = match constraint.counts[domain as usize] {
                ABSENT => 0,
                count => i64::from(count),
            };
            if count + constraint.own - constraint.least > constraint.max_skew {
                return Err(Rejection::for_now(SKEWED));
            }
        }
        Ok(())
    }

    fn moved(&self, cycle: &Cycle<'_>, state: &mut State, pod: &PodInfo, node: &NodeInfo, comes: bool) {
        let everywhere = state.spread.strict.iter().all(|own| own.topology.domain(node.slot) != NOWHERE);
        if !everywhere || pod.deleting {
            return;
        }
        for constraint in &mut state.spread.strict {
            let domain = constraint.topology.domain(node.slot) as usize;
            let matters = constraint.group.contains(pod.namespace, &pod.labels, cycle.cache.namespaces())
                && counts(cycle, &node.facts, constraint.honour_affinity, constraint.honour_taints)
                && constraint.counts[domain] != ABSENT;
            if matters {
                let count = &mut constraint.counts[domain];
                *count = if comes { *count + 1 } else { count.saturating_sub(1) };
                constraint.settle();
            }
        }
    }

    fn before_score(&self, cycle: &Cycle<'_>, state: &mut State, nodes: &[u32]) -> bool {
        let own = !cycle.wants.spread.is_empty();
        let soft = match own {
            true => constraints(cycle, Unsatisfiable::ScheduleAnyway),
            false => Cow::Owned(defaults(cycle)),
        };
        if soft.is_empty() {
            return false;
        }
        let topologies: Vec<Arc<Topology>> = soft.iter().map(|own| cycle.cache.topology(own.topology)).collect();
        // Constraints that nobody wrote do not ask for their labels.
        let lacks = |slot: &u32| own && topologies.iter().any(|topology| topology.domain(*slot) == NOWHERE);
        let ignored: Vec<u32> = nodes.iter().copied().filter(lacks).collect();
        state.spread.soft = soft
            .iter()
            .zip(&topologies)
            .map(|(constraint, topology)| {
                let mut counts_by_domain = vec![ABSENT; topology.len()];
                for slot in nodes.iter().filter(|slot| !lacks(slot)) {
                    let domain = topology.domain(*slot);
                    if domain != NOWHERE {
                        counts_by_domain[domain as usize] = 0;
                    }
                }
                let domains = counts_by_domain.iter().filter(|count| **count != ABSENT).count();
                let group = PodGroup::within(cycle.pod.namespace, constraint.selector.clone());
                cycle.cache.tally(&[group], true, |tally| {
                    for slot in cycle.cache.order() {
                        let more = tally.get(*slot as usize).copied().unwrap_or(0);
                        let domain = topology.domain(*slot);
                        if more == 0 || domain == NOWHERE || counts_by_domain[domain as usize] == ABSENT || lacks(slot)
                        {
                            continue;
                        }
                        let node = &cycle.cache.node(*slot).facts;
                        if counts(cycle, node, constraint.honour_affinity, constraint.honour_taints) {
                            counts_by_domain[domain as usize] += more;
                        }
                    }
                });
                Soft {
                    topology: Arc::clone(topology),
                    max_skew: constraint.max_skew,
                    // The more domains, the less each pod counts in one of them, and the more does the constraint.
                    weight: ((domains + 2) as f64).ln(),
                    counts: counts_by_domain,
                }
            })
            .collect();
        state.spread.ignored = ignored;
        true
    }

    fn score(&self, _cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> i64 {
        let of = |soft: &Soft| {
            let domain = soft.topology.domain(node.slot);
            if domain == NOWHERE || soft.counts[domain as usize] == ABSENT {
                return 0.0;
            }
            f64::from(soft.counts[domain as usize]) * soft.weight + (soft.max_skew - 1) as f64
        };
        state.spread.soft.iter().map(of).sum::<f64>().round() as i64
    }

    fn normalize(&self, state: &State, nodes: &[u32], scores: &mut [i64]) {
        let is_ignored: Vec<bool> = nodes.iter().map(|slot| state.spread.ignored.contains(slot)).collect();
        let counted = || scores.iter().zip(&is_ignored).filter(|(_, ignored)| !**ignored).map(|(score, _)| *score);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for (score, ignored) in scores.iter_mut().zip(&is_ignored) {
            *score = match (ignored, most) {
                (true, _) => 0,
                (false, 0) => MOST,
                (false, most) => MOST * (most + least - *score) / most,
            };
        }
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        !matches!(change, Change::Storage | Change::Claim(_) | Change::Namespaces)
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        let Some(wants) = &pod.wants else { return false };
        let mut strict = wants.spread.iter().filter(|own| own.otherwise == Unsatisfiable::DoNotSchedule);
        match change {
            Change::PodCame(other) | Change::PodGone(other) => {
                other.namespace == pod.namespace && strict.any(|own| own.selector.matches(&other.labels))
            }
            Change::NodeCame(node) | Change::NodeGone(node) => {
                strict.all(|own| node.labels.get(own.topology).is_some())
            }
            Change::NodeChanged { old, new } => {
                strict.any(|own| old.labels.get(own.topology) != new.labels.get(own.topology))
                    || old.taints != new.taints
            }
            Change::Storage | Change::Claim(_) | Change::Namespaces => false,
        }
    }
}

//! The decision: which node a pod goes to, or why to none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::cache::Cache;
use crate::framework::{Ahead, Cycle, Rejection, State};
use crate::model::{NodeInfo, PodInfo};
use crate::plugins::PLUGINS;

/// Fewer nodes than this are all looked at.
const FEW_NODES: usize = 100;

/// Which plugins have a say in filtering, as bits in the order of [`PLUGINS`].
type Asked = u32;

/// Where a pod goes.
pub(crate) struct Chosen {
    pub(crate) slot: u32,
    /// How many nodes were looked at.
    pub(crate) looked_at: usize,
    pub(crate) rejections: Vec<Rejected>,
    pub(crate) scores: Scores,
    pub(crate) state: State,
}

/// What a choice was between.
#[derive(Default)]
pub(crate) struct Scores {
    pub(crate) nodes: Vec<u32>,
    /// The weighted score of each node, in the same order.
    pub(crate) totals: Vec<i64>,
    /// Those of the plugins that gave any, by their place in [`PLUGINS`].
    pub(crate) by_plugin: Vec<(usize, Vec<i64>)>,
}

/// Why a pod goes nowhere.
#[derive(Default)]
pub(crate) struct Unfit {
    pub(crate) nodes: usize,
    /// What a plugin said before any node was looked at.
    pub(crate) refused: Option<(usize, Rejection)>,
    pub(crate) rejections: Vec<Rejected>,
    /// Nodes that were left out without a look, and the plugin that did so.
    pub(crate) left_out: Option<(usize, usize)>,
    /// What preemption had to say.
    pub(crate) preemption: String,
    pub(crate) state: State,
    pub(crate) asked: Asked,
}

/// Why one node cannot take the pod.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) slot: u32,
    /// The plugin's place in [`PLUGINS`].
    pub(crate) plugin: usize,
    pub(crate) why: Rejection,
}

impl Unfit {
    /// The plugins that objected, as bits.
    pub(crate) fn objectors(&self) -> u32 {
        if self.nodes == 0 {
            return u32::MAX;
        }
        let refused = self.refused.as_ref().map(|(plugin, _)| *plugin);
        let left_out = self.left_out.map(|(_, plugin)| plugin);
        let all = self.rejections.iter().map(|own| own.plugin).chain(refused).chain(left_out);
        all.fold(0, |bits, plugin| bits | 1 << plugin)
    }
}

impl fmt::Display for Unfit {
    /// As upstream words it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some((_, why)) = &self.refused {
            write!(f, " {}.", why.reasons.join(", "))?;
        } else {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for reason in self.rejections.iter().flat_map(|own| &own.why.reasons) {
                *counts.entry(reason).or_default() += 1;
            }
            let texts = counts.into_iter().map(|(reason, count)| format!("{count} {reason}"));
            let left_out = self.left_out.map(|(count, plugin)| {
                format!("{count} node(s) didn't satisfy plugin(s) [{}]", PLUGINS[plugin].0.name())
            });
            let mut texts: Vec<String> = texts.chain(left_out).collect();
            // Upstream sorts the texts, numbers and all.
            texts.sort_unstable();
            if !texts.is_empty() {
                write!(f, " {}.", texts.join(", "))?;
            }
        }
        if self.preemption.is_empty() { Ok(()) } else { write!(f, " {}", self.preemption) }
    }
}

/// How many nodes must be found feasible before the search ends.
fn enough(nodes: usize, percentage: Option<u32>) -> usize {
    if nodes < FEW_NODES {
        return nodes;
    }
    let percentage = match percentage.map(|percentage| percentage as usize) {
        Some(percentage) if percentage > 0 => percentage.min(100),
        // The larger the cluster, the less it matters to see all of it.
        _ => 50_usize.saturating_sub(nodes / 125).max(5),
    };
    (nodes * percentage / 100).max(FEW_NODES)
}

/// Asks the filters about one node.
pub(crate) fn filter(
    cycle: &Cycle<'_>,
    state: &State,
    asked: Asked,
    node: &NodeInfo,
) -> Result<(), (usize, Rejection)> {
    let mut left = asked;
    while left != 0 {
        let plugin = left.trailing_zeros() as usize;
        left &= left - 1;
        PLUGINS[plugin].0.filter(cycle, state, node).map_err(|why| (plugin, why))?;
    }
    Ok(())
}

/// Asks the filters about one node: as it will be once the pods that wait for room there have come, and as it is.
pub(crate) fn filter_with_nominated(
    cycle: &Cycle<'_>,
    state: &State,
    asked: Asked,
    node: &NodeInfo,
) -> Result<(), (usize, Rejection)> {
    let waits = |pod: &&Arc<PodInfo>| pod.priority >= cycle.pod.priority && pod.key != cycle.pod.key;
    let mut nominated = cycle.cache.nominated.on(node.facts.hash).iter().filter(waits).peekable();
    if nominated.peek().is_some() {
        let (mut state, mut full) = (state.clone(), node.clone());
        for pod in nominated {
            move_pod(cycle, &mut state, asked, &mut full, pod, true);
        }
        filter(cycle, &state, asked, &full)?;
    }
    filter(cycle, state, asked, node)
}

/// Tries what would be if a pod came to, or left, the node.
pub(crate) fn move_pod(
    cycle: &Cycle<'_>,
    state: &mut State,
    asked: Asked,
    node: &mut NodeInfo,
    pod: &Arc<PodInfo>,
    comes: bool,
) {
    if comes {
        node.add(Arc::clone(pod));
    } else {
        node.remove(pod);
    }
    for (plugin, (own, _)) in PLUGINS.iter().enumerate() {
        if asked & (1 << plugin) != 0 {
            own.moved(cycle, state, pod, node, comes);
        }
    }
}

/// Finds the best node. The search begins at `start` in the cache's order and ends once it has found enough; among
/// equals `seed` decides.
pub(crate) fn schedule(cycle: &Cycle<'_>, start: usize, seed: usize) -> Result<Chosen, Box<Unfit>> {
    let cache = cycle.cache;
    let mut unfit = Unfit { nodes: cache.len(), ..Unfit::default() };
    if unfit.nodes == 0 {
        return Err(Box::new(unfit));
    }
    let only = match prepare(cycle, &mut unfit.state, &mut unfit.asked) {
        Ok(only) => only,
        Err(refused) => {
            unfit.refused = Some(refused);
            return Err(Box::new(unfit));
        }
    };
    let (feasible, looked_at) = find(cycle, &mut unfit, only, start);
    if feasible.is_empty() {
        return Err(Box::new(unfit));
    }
    let Unfit { rejections, mut state, .. } = unfit;
    let scores = score(cycle, &mut state, feasible);
    let most = scores.totals.iter().copied().max().unwrap_or(0);
    let best = || scores.nodes.iter().zip(&scores.totals).filter(|(_, total)| **total == most).map(|(slot, _)| *slot);
    // There is one at least.
    let slot = best().nth(seed % best().count().max(1)).unwrap_or_default();
    Ok(Chosen { slot, looked_at, rejections, scores, state })
}

/// Nodes (as hashes of names) that alone come into question, and the plugin that says so.
type Only = Option<(Vec<u64>, usize)>;

/// Has the plugins look at the pod: which of them want to see the nodes, or why none need be seen.
pub(crate) fn prepare(cycle: &Cycle<'_>, state: &mut State, asked: &mut Asked) -> Result<Only, (usize, Rejection)> {
    let mut only = None;
    for (number, (plugin, _)) in PLUGINS.iter().enumerate() {
        if !cycle.profile.has(plugin.name()) {
            continue;
        }
        match plugin.before_filter(cycle, state) {
            Ahead::Skip => continue,
            Ahead::Look => {}
            Ahead::LookAt(names) => only = Some((names, number)),
            Ahead::Refuse(why) => return Err((number, why)),
        }
        *asked |= 1 << number;
    }
    Ok(only)
}

/// The nodes that come through all filters, and how many were looked at.
fn find(cycle: &Cycle<'_>, unfit: &mut Unfit, only: Only, start: usize) -> (Vec<u32>, usize) {
    let (cache, asked) = (cycle.cache, unfit.asked);
    // Where room was made for the pod, it goes if it can.
    let nominated = cache.nominated.node_of(&cycle.pod.key).and_then(|node| cache.slot_of(node));
    if let Some(slot) = nominated.filter(|slot| cache.node(*slot).exists)
        && only.as_ref().is_none_or(|(names, _)| names.contains(&cache.node(slot).facts.hash))
        && filter_with_nominated(cycle, &unfit.state, asked, cache.node(slot)).is_ok()
    {
        return (vec![slot], 0);
    }
    let order = cache.order();
    let named: Vec<u32>;
    let candidates = match only {
        Some((names, plugin)) => {
            let slots = names.iter().filter_map(|name| cache.slot_of(*name));
            named = slots.filter(|slot| cache.node(*slot).exists).collect();
            unfit.left_out = Some((order.len() - named.len(), plugin)).filter(|(count, _)| *count > 0);
            named.as_slice()
        }
        None => order,
    };
    let enough = enough(candidates.len(), cycle.profile.percentage_of_nodes);
    let (mut feasible, mut looked_at) = (Vec::with_capacity(enough.min(candidates.len())), 0);
    let start = start % candidates.len().max(1);
    for slot in candidates[start..].iter().chain(&candidates[..start]) {
        if feasible.len() >= enough {
            break;
        }
        looked_at += 1;
        match filter_with_nominated(cycle, &unfit.state, asked, cache.node(*slot)) {
            Ok(()) => feasible.push(*slot),
            Err((plugin, why)) => unfit.rejections.push(Rejected { slot: *slot, plugin, why }),
        }
    }
    (feasible, looked_at)
}

/// The weighted scores of the nodes. One node alone needs none.
fn score(cycle: &Cycle<'_>, state: &mut State, nodes: Vec<u32>) -> Scores {
    let mut scores = Scores { totals: vec![0; nodes.len()], nodes, by_plugin: Vec::new() };
    if scores.nodes.len() == 1 {
        return scores;
    }
    for (number, ((plugin, _), weight)) in PLUGINS.iter().zip(cycle.profile.weights()).enumerate() {
        if weight == 0 || !plugin.before_score(cycle, state, &scores.nodes) {
            continue;
        }
        let of = |slot: &u32| plugin.score(cycle, state, cycle.cache.node(*slot));
        let mut own: Vec<i64> = scores.nodes.iter().map(of).collect();
        plugin.normalize(state, &scores.nodes, &mut own);
        for (total, score) in scores.totals.iter_mut().zip(&mut own) {
            *score *= weight;
            *total += *score;
        }
        scores.by_plugin.push((number, own));
    }
    scores
}

/// A cycle of a pod that has wants; `None` for one that has a node.
pub(crate) fn cycle<'a>(cache: &'a Cache, profile: &'a crate::config::Profile, pod: &'a PodInfo) -> Option<Cycle<'a>> {
    Some(Cycle { cache, profile, pod, wants: pod.wants.as_deref()? })
}

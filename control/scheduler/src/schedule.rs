//! The decision.

use std::collections::BTreeMap;

use crate::plugins::{FILTERS, SCORES};
use crate::snapshot::{NodeInfo, PodInfo};

/// Why no node takes the pod: how many nodes object with each reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    nodes: usize,
    reasons: BTreeMap<String, usize>,
}

impl std::fmt::Display for Unfit {
    /// As upstream words it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. ...`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        // Upstream sorts the texts, numbers and all.
        let mut texts: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort_unstable();
        write!(f, "0/{} nodes are available: {}. ", self.nodes, texts.join(", "))?;
        write!(f, "no new claims to deallocate, preemption: 0/{} nodes are available: ", self.nodes)?;
        write!(f, "{} Preemption is not helpful for scheduling.", self.nodes)
    }
}

/// The best node for the pod. Among equals `seed` decides.
pub(crate) fn schedule<'a>(pod: &PodInfo, nodes: &'a [NodeInfo], seed: usize) -> Result<&'a str, Unfit> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Vec<&NodeInfo> = Vec::new();
    let mut most = i64::MIN;
    for node in nodes {
        let objection = FILTERS.iter().map(|filter| filter(pod, node)).find(|objection| !objection.is_empty());
        if let Some(objection) = objection {
            objection.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            continue;
        }
        let score = SCORES.iter().map(|(score, weight)| score(pod, node) * weight).sum();
        if score > most {
            best.clear();
            most = score;
        }
        if score == most {
            best.push(node);
        }
    }
    match best.len() {
        0 => Err(Unfit { nodes: nodes.len(), reasons }),
        count => Ok(&best[seed % count].name),
    }
}

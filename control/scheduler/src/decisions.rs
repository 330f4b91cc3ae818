//! The reasons of the last decisions, for those who ask: each node's verdict, each plugin's score.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use corten_base::Timestamp;
use corten_client::Key;
use serde::Serialize;

use crate::cache::Cache;
use crate::plugins::PLUGINS;
use crate::schedule::{Chosen, Unfit};

/// Decisions that are kept, and nodes in all of them together; the oldest go first.
const MOST_DECISIONS: usize = 2048;
const MOST_NODES: usize = 50_000;
/// Nodes that are kept of one decision; the best come first.
const MOST_OF_ONE: usize = 500;

/// The last decision about each of the last pods. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Arc<Mutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    by_pod: HashMap<Key, Arc<Decision>>,
    /// From the oldest; one that was replaced meanwhile is passed over.
    ages: VecDeque<(Key, Arc<Decision>)>,
    nodes: usize,
}

/// A decision about a pod, and why it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// When it was made.
    pub time: Timestamp,
    /// How many attempts it took so far.
    pub attempt: u32,
    /// The node that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why none was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Pods that have to make room, as namespace/name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preempts: Vec<String>,
    /// Nodes in the cluster.
    pub cluster_nodes: usize,
    /// How many of them were looked at: enough to choose from.
    pub evaluated_nodes: usize,
    /// What was found; the best first, at most 500.
    pub nodes: Vec<Verdict>,
}

/// What was found about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub node: Arc<str>,
    /// The plugin that objected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_by: Option<&'static str>,
    /// What it said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Each plugin's score, weighted; those that gave none are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<(&'static str, i64)>,
    /// Their sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl Decisions {
    /// The last decision about a pod.
    #[must_use]
    pub fn get(&self, namespace: &str, pod: &str) -> Option<Arc<Decision>> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.by_pod.get(&Key::new(namespace, pod)).cloned()
    }

    /// The document of a path below `/corten/v1/scheduling`: `namespaces/NAMESPACE/pods/POD`.
    #[must_use]
    pub fn answer(&self, path: &[&str]) -> Option<serde_json::Value> {
        let ["namespaces", namespace, "pods", pod] = path else { return None };
        serde_json::to_value(&*self.get(namespace, pod)?).ok()
    }

    pub(crate) fn record(&self, decision: Decision) {
        let key = Key::new(decision.namespace.clone(), decision.pod.clone());
        let decision = Arc::new(decision);
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.nodes += decision.nodes.len();
        store.ages.push_back((key.clone(), Arc::clone(&decision)));
        store.by_pod.insert(key, decision);
        while store.ages.len() > MOST_DECISIONS || store.nodes > MOST_NODES {
            let Some((key, oldest)) = store.ages.pop_front() else { break };
            store.nodes -= oldest.nodes.len();
            if store.by_pod.get(&key).is_some_and(|own| Arc::ptr_eq(own, &oldest)) {
                store.by_pod.remove(&key);
            }
        }
    }
}

/// The verdicts of a choice.
pub(crate) fn of_choice(cache: &Cache, chosen: &Chosen) -> Vec<Verdict> {
    let total = |scores: &[i64]| scores.iter().sum::<i64>();
    let mut order: Vec<&(u32, Vec<i64>)> = chosen.scores.iter().collect();
    let rank = |own: &&(u32, Vec<i64>)| (own.0 != chosen.slot, std::cmp::Reverse(total(&own.1)));
    order.sort_by_key(rank);
    let scored = order.into_iter().map(|(slot, scores)| {
        let given = PLUGINS.iter().zip(scores).filter(|(_, score)| **score != 0);
        Verdict {
            node: Arc::clone(&cache.node(*slot).facts.name),
            rejected_by: None,
            reasons: Vec::new(),
            scores: given.map(|((plugin, _), score)| (plugin.name(), *score)).collect(),
            score: Some(total(scores)),
        }
    });
    scored.chain(rejected(cache, &chosen.rejections)).take(MOST_OF_ONE).collect()
}

/// The verdicts where no node will do.
pub(crate) fn of_failure(cache: &Cache, unfit: &Unfit) -> Vec<Verdict> {
    rejected(cache, &unfit.rejections).take(MOST_OF_ONE).collect()
}

fn rejected<'a>(cache: &'a Cache, all: &'a [crate::schedule::Rejected]) -> impl Iterator<Item = Verdict> + 'a {
    all.iter().map(|own| Verdict {
        node: Arc::clone(&cache.node(own.slot).facts.name),
        rejected_by: Some(PLUGINS[own.plugin].0.name()),
        reasons: own.why.reasons.iter().map(ToString::to_string).chain(own.why.detail.clone()).collect(),
        scores: Vec::new(),
        score: None,
    })
}

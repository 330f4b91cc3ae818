//! The reasons of the last decisions, for those who ask: each node's verdict, each plugin's score.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use corten_base::Timestamp;
use corten_client::Key;
use serde::Serialize;

use crate::cache::Cache;
use crate::framework::Rejection;
use crate::plugins::PLUGINS;
use crate::schedule::{Rejected, Scores};

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
    by_pod: HashMap<Key, Arc<Record>>,
    /// From the oldest; one that was replaced meanwhile is passed over.
    ages: VecDeque<Arc<Record>>,
    nodes: usize,
}

/// A decision as it is kept: made of what the decision had anyway, and put in words when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) time: Timestamp,
    pub(crate) attempt: u32,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) message: String,
    pub(crate) preempts: Vec<Key>,
    pub(crate) cluster_nodes: usize,
    pub(crate) evaluated_nodes: usize,
    pub(crate) findings: Findings,
}

/// What was found about nodes.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Those that would do, their scores, and the scores of each plugin.
    scored: Vec<Arc<str>>,
    totals: Vec<i64>,
    by_plugin: Vec<(usize, Vec<i64>)>,
    rejected: Vec<(Arc<str>, usize, Rejection)>,
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
    pub fn get(&self, namespace: &str, pod: &str) -> Option<Decision> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = store.by_pod.get(&Key::new(namespace, pod)).cloned();
        drop(store);
        record.map(|record| record.told())
    }

    /// The document of a path below `/corten/v1/scheduling`: `namespaces/NAMESPACE/pods/POD`.
    #[must_use]
    pub fn answer(&self, path: &[&str]) -> Option<serde_json::Value> {
        let ["namespaces", namespace, "pods", pod] = path else { return None };
        serde_json::to_value(self.get(namespace, pod)?).ok()
    }

    pub(crate) fn record(&self, record: Record) {
        let record = Arc::new(record);
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.nodes += record.findings.len();
        store.ages.push_back(Arc::clone(&record));
        store.by_pod.insert(record.key.clone(), record);
        while store.ages.len() > MOST_DECISIONS || store.nodes > MOST_NODES {
            let Some(oldest) = store.ages.pop_front() else { break };
            store.nodes -= oldest.findings.len();
            if store.by_pod.get(&oldest.key).is_some_and(|own| Arc::ptr_eq(own, &oldest)) {
                store.by_pod.remove(&oldest.key);
            }
        }
    }
}

impl Findings {
    /// What was found before a choice.
    pub(crate) fn of_choice(cache: &Cache, scores: Scores, rejections: Vec<Rejected>) -> Self {
        let Scores { nodes, totals, by_plugin } = scores;
        let scored = nodes.iter().map(|slot| Arc::clone(&cache.node(*slot).facts.name)).collect();
        Self { scored, totals, by_plugin, ..Self::of_rejections(cache, rejections) }
    }

    /// What was found where no node will do.
    pub(crate) fn of_rejections(cache: &Cache, rejections: Vec<Rejected>) -> Self {
        let few = rejections.into_iter().take(MOST_OF_ONE);
        let named = few.map(|own| (Arc::clone(&cache.node(own.slot).facts.name), own.plugin, own.why));
        Self { rejected: named.collect(), ..Self::default() }
    }

    fn len(&self) -> usize {
        self.scored.len() + self.rejected.len()
    }

    /// All in words: `chosen` first, then the best.
    fn told(&self, chosen: Option<&Arc<str>>) -> Vec<Verdict> {
        let mut order: Vec<usize> = (0..self.scored.len()).collect();
        order.sort_by_key(|place| (Some(&self.scored[*place]) != chosen, Reverse(self.totals[*place])));
        let scored = order.into_iter().map(|place| {
            let given = self.by_plugin.iter().map(|(plugin, scores)| (PLUGINS[*plugin].0.name(), scores[place]));
            Verdict {
                node: Arc::clone(&self.scored[place]),
                rejected_by: None,
                reasons: Vec::new(),
                scores: given.filter(|(_, score)| *score != 0).collect(),
                score: Some(self.totals[place]),
            }
        });
        let rejected = self.rejected.iter().map(|(node, plugin, why)| Verdict {
            node: Arc::clone(node),
            rejected_by: Some(PLUGINS[*plugin].0.name()),
            reasons: why.reasons.iter().map(ToString::to_string).chain(why.detail.clone()).collect(),
            scores: Vec::new(),
            score: None,
        });
        scored.chain(rejected).take(MOST_OF_ONE).collect()
    }
}

impl Record {
    fn told(&self) -> Decision {
        Decision {
            namespace: self.key.namespace.clone(),
            pod: self.key.name.clone(),
            uid: self.uid.clone(),
            time: self.time,
            attempt: self.attempt,
            node: self.node.as_ref().map(ToString::to_string),
            message: self.message.clone(),
            preempts: self.preempts.iter().map(ToString::to_string).collect(),
            cluster_nodes: self.cluster_nodes,
            evaluated_nodes: self.evaluated_nodes,
            nodes: self.findings.told(self.node.as_ref()),
        }
    }
}

//! What the scheduler knows of the cluster, kept up to date change by change.
//!
//! One task owns it and no one else reads it, so there are no locks and no snapshots: a decision is a pure function of
//! the cache. Nodes live in numbered slots; whatever is counted per node is a plain vector by slot.
//!
//! Invariant: a cache that saw any sequence of changes decides as one that is built of the last state alone.

mod budgets;
mod images;
mod nodes;
mod nominated;
mod storage;
mod tallies;
mod terms;
mod topology;
mod workloads;

use std::cell::RefCell;
use std::collections::HashMap as ByText;
use std::sync::Arc;

use corten_client::Key;

use crate::model::{HashMap, Labels, NodeFacts, NodeInfo, PodGroup, PodInfo};

pub(crate) use budgets::{Budget, Budgets};
pub(crate) use nominated::{Dropped, Nominated};
pub(crate) use storage::{ClaimInfo, ClassInfo, SELECTED_NODE, Storage, VolumeInfo};
pub(crate) use terms::TermIndex;
pub(crate) use topology::{NOWHERE, Topologies, Topology};
pub(crate) use workloads::Workloads;

use images::Images;
use nodes::Nodes;
use tallies::Tallies;

/// Everything that is known.
#[derive(Default)]
pub(crate) struct Cache {
    nodes: Nodes,
    /// Pods that have a node, or are about to.
    pods: ByText<Key, Placed>,
    /// Labels of namespaces.
    namespaces: HashMap<u64, Labels>,
    pub(crate) storage: Storage,
    pub(crate) workloads: Workloads,
    pub(crate) budgets: Budgets,
    pub(crate) nominated: Nominated,
    images: Images,
    terms: TermIndex,
    topologies: RefCell<Topologies>,
    tallies: RefCell<Tallies>,
}

/// A pod in its place.
struct Placed {
    pod: Arc<PodInfo>,
    slot: u32,
    /// Decided here, not yet seen in the API.
    assumed: bool,
}

impl Cache {
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.order().len()
    }

    /// Slots of all nodes, in turns between zones.
    pub(crate) fn order(&self) -> &[u32] {
        self.nodes.order()
    }

    /// Puts the order right after nodes came or went; to be called before a decision.
    pub(crate) fn settle(&mut self) {
        self.nodes.settle();
    }

    pub(crate) fn node(&self, slot: u32) -> &NodeInfo {
        self.nodes.at(slot)
    }

    pub(crate) fn slot(&self, name: &str) -> Option<u32> {
        self.nodes.slot(name)
    }

    /// The slot of a node by the hash of its name.
    pub(crate) fn slot_of(&self, name: u64) -> Option<u32> {
        self.nodes.slot_of(name)
    }

    /// Takes in what a node says of itself; what it said before.
    pub(crate) fn set_node(&mut self, facts: NodeFacts) -> Option<Arc<NodeFacts>> {
        let slot = self.nodes.claim(&facts.name);
        let node = self.nodes.at_mut(slot);
        let facts = Arc::new(facts);
        let old = node.exists.then(|| Arc::clone(&node.facts));
        node.exists = true;
        node.facts = Arc::clone(&facts);
        if old.as_ref().is_none_or(|old| old.zone != facts.zone) {
            self.nodes.unsettle();
        }
        self.images.replace(old.as_deref(), Some(&facts));
        self.topologies.get_mut().set(slot, Some(&facts));
        old
    }

    /// Forgets a node; its pods stay known until they are gone themselves.
    pub(crate) fn remove_node(&mut self, name: &str) -> Option<Arc<NodeFacts>> {
        let slot = self.nodes.slot(name).filter(|slot| self.nodes.at(*slot).exists)?;
        let node = self.nodes.at_mut(slot);
        node.exists = false;
        let old = Arc::clone(&node.facts);
        self.nodes.unsettle();
        self.images.replace(Some(&old), None);
        self.topologies.get_mut().set(slot, None);
        self.nodes.release(slot);
        Some(old)
    }

    /// Takes in a pod that has a node; the pod as it was.
    pub(crate) fn place(&mut self, pod: Arc<PodInfo>) -> Option<Arc<PodInfo>> {
        self.put(pod, false)
    }

    /// Counts a pod on the node that was decided for it, before the API shows it.
    pub(crate) fn assume(&mut self, pod: Arc<PodInfo>) {
        self.put(pod, true);
    }

    /// Whether this pod was given a node that the API does not show yet.
    pub(crate) fn is_assumed(&self, pod: &PodInfo) -> bool {
        self.pods.get(&pod.key).is_some_and(|placed| placed.assumed && placed.pod.uid == pod.uid)
    }

    /// Takes back what was assumed; nothing if the API has shown it meanwhile.
    pub(crate) fn forget(&mut self, pod: &PodInfo) {
        if self.is_assumed(pod) {
            self.remove_pod(&pod.key);
        }
    }

    fn put(&mut self, pod: Arc<PodInfo>, assumed: bool) -> Option<Arc<PodInfo>> {
        let slot = self.nodes.claim(&pod.node);
        if let Some(placed) = self.pods.get_mut(&pod.key)
            && placed.slot == slot
            && counts_as(&placed.pod, &pod)
        {
            // The common case: the API shows what was assumed, or a status changed.
            let node = self.nodes.at_mut(slot);
            if let Some(own) = node.pods.iter_mut().find(|own| own.uid == pod.uid) {
                *own = Arc::clone(&pod);
            }
            placed.assumed = assumed;
            return Some(std::mem::replace(&mut placed.pod, pod));
        }
        let old = self.remove_pod(&pod.key);
        let slot = self.nodes.claim(&pod.node);
        self.nodes.at_mut(slot).add(Arc::clone(&pod));
        self.terms.count(&pod, slot, true);
        self.tallies.get_mut().count(&pod, slot, true, &self.namespaces);
        self.storage.use_claims(&pod, true);
        self.pods.insert(pod.key.clone(), Placed { pod, slot, assumed });
        old
    }

    /// Forgets a pod that is gone or has ended.
    pub(crate) fn remove_pod(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        let Placed { pod, slot, .. } = self.pods.remove(key)?;
        self.nodes.at_mut(slot).remove(&pod);
        self.terms.count(&pod, slot, false);
        self.tallies.get_mut().count(&pod, slot, false, &self.namespaces);
        self.storage.use_claims(&pod, false);
        self.nodes.release(slot);
        Some(pod)
    }

    /// Labels of namespaces, by the hash of their names.
    pub(crate) fn namespaces(&self) -> &HashMap<u64, Labels> {
        &self.namespaces
    }

    /// Takes in the labels of a namespace, or that it is gone; whether something changed.
    pub(crate) fn set_namespace(&mut self, name: u64, labels: Option<Labels>) -> bool {
        let changed = self.namespaces.get(&name) != labels.as_ref();
        if changed {
            match labels {
                Some(labels) => drop(self.namespaces.insert(name, labels)),
                None => drop(self.namespaces.remove(&name)),
            }
            self.tallies.get_mut().namespaces_changed();
        }
        changed
    }

    /// Affinity terms of pods that have a node.
    pub(crate) fn terms(&self) -> &TermIndex {
        &self.terms
    }

    /// Image sizes and how many nodes have them.
    pub(crate) fn image(&self, name: u64) -> Option<(i64, usize)> {
        self.images.get(name)
    }

    /// Which nodes share the value of a label.
    pub(crate) fn topology(&self, key: u64) -> Arc<Topology> {
        self.topologies.borrow_mut().get(key, &self.nodes)
    }

    /// Reads how many pods on each node are in all of these groups; with `alive`, without those that are being deleted.
    pub(crate) fn tally<R>(&self, groups: &[PodGroup], alive: bool, read: impl FnOnce(&[u32]) -> R) -> R {
        self.tallies.borrow_mut().read(groups, alive, self.nodes.all(), &self.namespaces, read)
    }
}

/// Whether nothing that is counted differs.
fn counts_as(old: &PodInfo, new: &PodInfo) -> bool {
    old.uid == new.uid
        && old.node == new.node
        && old.deleting == new.deleting
        && old.requests == new.requests
        && old.counted_cpu == new.counted_cpu
        && old.counted_memory == new.counted_memory
        && old.labels == new.labels
        && old.terms == new.terms
        && old.ports == new.ports
        && old.claims == new.claims
}

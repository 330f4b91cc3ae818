//! Pods for which preemption is making room: they count on their node for others that are no more important.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::Key;

use crate::model::{HashMap, PodInfo, hashed};

#[derive(Default)]
pub(crate) struct Nominated {
    by_node: HashMap<u64, Vec<Arc<PodInfo>>>,
    nodes: BTreeMap<Key, u64>,
}

impl Nominated {
    /// A pod waits for room on this node, in place of any other.
    pub(crate) fn set(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.remove(&pod.key);
        let node = hashed(node);
        self.nodes.insert(pod.key.clone(), node);
        self.by_node.entry(node).or_default().push(Arc::clone(pod));
    }

    /// The pod asks for something else now.
    pub(crate) fn update(&mut self, pod: &Arc<PodInfo>) {
        let node = self.nodes.get(&pod.key);
        let pods = node.and_then(|node| self.by_node.get_mut(node)).into_iter().flatten();
        pods.filter(|own| own.key == pod.key).for_each(|own| *own = Arc::clone(pod));
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(node) = self.nodes.remove(key)
            && let Some(pods) = self.by_node.get_mut(&node)
        {
            pods.retain(|pod| pod.key != *key);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// Pods that wait for room on this node.
    pub(crate) fn on(&self, node: u64) -> &[Arc<PodInfo>] {
        self.by_node.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The node (as a hash) on which room is being made for a pod.
    pub(crate) fn node_of(&self, key: &Key) -> Option<u64> {
        self.nodes.get(key).copied()
    }
}

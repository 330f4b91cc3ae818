//! Pods for which preemption is making room: they count on their node for others that are no more important.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::Key;

use crate::model::{HashMap, PodInfo, hashed};

#[derive(Default)]
pub(crate) struct Nominated {
    by_node: HashMap<u64, Vec<Arc<PodInfo>>>,
    /// The hash of the node's name, and the name.
    nodes: BTreeMap<Key, (u64, Arc<str>)>,
}

/// A pod for which room is no longer kept, and the node on which it was: others may have waited for that room.
pub(crate) type Dropped = (Arc<PodInfo>, Arc<str>);

impl Nominated {
    /// A pod waits for room on this node, in place of any other: which it was, if it was another.
    pub(crate) fn set(&mut self, pod: &Arc<PodInfo>, node: &str) -> Option<Dropped> {
        let dropped = self.remove(&pod.key);
        let hash = hashed(node);
        self.nodes.insert(pod.key.clone(), (hash, node.into()));
        self.by_node.entry(hash).or_default().push(Arc::clone(pod));
        dropped.filter(|(_, old)| **old != *node)
    }

    /// The pod asks for something else now.
    pub(crate) fn update(&mut self, pod: &Arc<PodInfo>) {
        let node = self.nodes.get(&pod.key);
        let pods = node.and_then(|(hash, _)| self.by_node.get_mut(hash)).into_iter().flatten();
        pods.filter(|own| own.key == pod.key).for_each(|own| *own = Arc::clone(pod));
    }

    /// The pod waits for room nowhere.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Dropped> {
        let (hash, node) = self.nodes.remove(key)?;
        let pods = self.by_node.get_mut(&hash)?;
        let at = pods.iter().position(|pod| pod.key == *key)?;
        let pod = pods.remove(at);
        if pods.is_empty() {
            self.by_node.remove(&hash);
        }
        Some((pod, node))
    }

    /// Pods that wait for room on this node.
    pub(crate) fn on(&self, node: u64) -> &[Arc<PodInfo>] {
        self.by_node.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The node (as a hash) on which room is being made for a pod.
    pub(crate) fn node_of(&self, key: &Key) -> Option<u64> {
        self.nodes.get(key).map(|(hash, _)| *hash)
    }
}

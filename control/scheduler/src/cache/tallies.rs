//! How many pods of a group each node has, counted as pods come and go: what makes spreading and affinity quick.

use crate::model::{HashMap, Labels, NodeInfo, PodGroup, PodInfo};

/// Groups that are counted at a time; the one that was not asked for longest gives way.
const MOST: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// A pod counts if it is in all of these.
    groups: Vec<PodGroup>,
    /// Pods that are being deleted do not count.
    alive: bool,
}

impl Key {
    fn counts(&self, pod: &PodInfo, namespaces: &HashMap<u64, Labels>) -> bool {
        !(self.alive && pod.deleting)
            && self.groups.iter().all(|group| group.contains(pod.namespace, &pod.labels, namespaces))
    }
}

struct Tally {
    by_slot: Vec<u32>,
    asked: u64,
}

#[derive(Default)]
pub(super) struct Tallies {
    all: HashMap<Key, Tally>,
    asked: u64,
}

impl Tallies {
    pub(super) fn count(&mut self, pod: &PodInfo, slot: u32, comes: bool, namespaces: &HashMap<u64, Labels>) {
        for (key, tally) in &mut self.all {
            if key.counts(pod, namespaces) {
                let at = slot as usize;
                if tally.by_slot.len() <= at {
                    tally.by_slot.resize(at + 1, 0);
                }
                let count = &mut tally.by_slot[at];
                *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            }
        }
    }

    /// What was counted by labels of namespaces is void.
    pub(super) fn namespaces_changed(&mut self) {
        self.all.retain(|key, _| !key.groups.iter().any(PodGroup::asks_for_namespaces));
    }

    pub(super) fn read<R>(
        &mut self,
        groups: &[PodGroup],
        alive: bool,
        nodes: &[NodeInfo],
        namespaces: &HashMap<u64, Labels>,
        read: impl FnOnce(&[u32]) -> R,
    ) -> R {
        let key = Key { groups: groups.to_vec(), alive };
        self.asked += 1;
        if !self.all.contains_key(&key) && self.all.len() >= MOST {
            let oldest = self.all.values().map(|tally| tally.asked).min().unwrap_or(0);
            self.all.retain(|_, tally| tally.asked != oldest);
        }
        let tally = self.all.entry(key).or_insert_with_key(|key| {
            let of = |node: &NodeInfo| node.pods.iter().filter(|pod| key.counts(pod, namespaces)).count();
            let by_slot = nodes.iter().map(|node| u32::try_from(of(node)).unwrap_or(u32::MAX)).collect();
            Tally { by_slot, asked: 0 }
        });
        tally.asked = self.asked;
        read(&tally.by_slot)
    }
}

//! Nodes in numbered slots.

use std::collections::HashMap as ByText;
use std::sync::Arc;

use crate::model::{HashMap, NodeFacts, NodeInfo, hashed};

#[derive(Default)]
pub(crate) struct Nodes {
    all: Vec<NodeInfo>,
    slots: HashMap<u64, u32>,
    free: Vec<u32>,
    order: Vec<u32>,
    stale: bool,
}

impl Nodes {
    pub(super) fn at(&self, slot: u32) -> &NodeInfo {
        &self.all[slot as usize]
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> &mut NodeInfo {
        &mut self.all[slot as usize]
    }

    pub(super) fn all(&self) -> &[NodeInfo] {
        &self.all
    }

    pub(super) fn slot(&self, name: &str) -> Option<u32> {
        self.slot_of(hashed(name))
    }

    pub(super) fn slot_of(&self, name: u64) -> Option<u32> {
        self.slots.get(&name).copied()
    }

    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }

    /// The slot of a node, a new one if it has none: a pod may be known before its node.
    pub(super) fn claim(&mut self, name: &str) -> u32 {
        let hash = hashed(name);
        if let Some(slot) = self.slots.get(&hash) {
            return *slot;
        }
        let facts = Arc::new(NodeFacts { name: name.into(), hash, ..NodeFacts::default() });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.all.push(NodeInfo::default());
            u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
        });
        self.all[slot as usize] = NodeInfo { slot, facts, ..NodeInfo::default() };
        self.slots.insert(hash, slot);
        slot
    }

    /// Gives a slot back if there is neither a node nor a pod in it.
    pub(super) fn release(&mut self, slot: u32) {
        let node = &self.all[slot as usize];
        if !node.exists && node.pods.is_empty() && self.slots.remove(&node.facts.hash).is_some() {
            self.all[slot as usize] = NodeInfo { slot, ..NodeInfo::default() };
            self.free.push(slot);
        }
    }

    pub(super) fn unsettle(&mut self) {
        self.stale = true;
    }

    /// Orders nodes by name, taking turns between zones, so that the first few are in different ones.
    pub(super) fn settle(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut names: Vec<&NodeInfo> = self.all.iter().filter(|node| node.exists).collect();
        names.sort_unstable_by(|left, right| left.facts.name.cmp(&right.facts.name));
        let mut zones: Vec<Vec<u32>> = Vec::new();
        let mut known: ByText<u64, usize> = ByText::new();
        for node in names {
            let zone = *known.entry(node.facts.zone).or_insert_with(|| {
                zones.push(Vec::new());
                zones.len() - 1
            });
            zones[zone].push(node.slot);
        }
        let turns = zones.iter().map(Vec::len).max().unwrap_or(0);
        self.order = (0..turns).flat_map(|turn| zones.iter().filter_map(move |zone| zone.get(turn))).copied().collect();
    }
}

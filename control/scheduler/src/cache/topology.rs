//! Which nodes share the value of a label: the domains of a topology.

use std::sync::Arc;

use super::nodes::Nodes;
use crate::model::{HashMap, NodeFacts};

/// The domain of a node that does not have the label.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The domains of one label, numbered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    /// The domain of each slot.
    domains: Vec<u32>,
    numbers: HashMap<u64, u32>,
    /// The value and the number of nodes of each domain.
    sizes: Vec<(u64, u32)>,
    free: Vec<u32>,
}

impl Topology {
    /// The domain of a node; [`NOWHERE`] if it has none.
    pub(crate) fn domain(&self, slot: u32) -> u32 {
        self.domains.get(slot as usize).copied().unwrap_or(NOWHERE)
    }

    /// One more than the greatest number of a domain.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    fn set(&mut self, slot: u32, value: Option<u64>) {
        let at = slot as usize;
        if self.domains.len() <= at {
            self.domains.resize(at + 1, NOWHERE);
        }
        let old = self.domains[at];
        if old != NOWHERE {
            if Some(self.sizes[old as usize].0) == value {
                return;
            }
            let (old_value, nodes) = &mut self.sizes[old as usize];
            *nodes -= 1;
            if *nodes == 0 {
                self.numbers.remove(old_value);
                self.free.push(old);
            }
        }
        self.domains[at] = match value {
            None => NOWHERE,
            Some(value) => {
                let number = *self.numbers.entry(value).or_insert_with(|| {
                    self.free.pop().unwrap_or_else(|| {
                        self.sizes.push((value, 0));
                        u32::try_from(self.sizes.len() - 1).unwrap_or(NOWHERE)
                    })
                });
                let nodes = self.sizes[number as usize].1 + 1;
                self.sizes[number as usize] = (value, nodes);
                number
            }
        };
    }
}

/// The topologies that somebody asked for.
#[derive(Default)]
pub(crate) struct Topologies(HashMap<u64, Arc<Topology>>);

impl Topologies {
    pub(super) fn get(&mut self, key: u64, nodes: &Nodes) -> Arc<Topology> {
        let make = || {
            let mut topology = Topology::default();
            for node in nodes.all().iter().filter(|node| node.exists) {
                topology.set(node.slot, node.facts.labels.get(key));
            }
            Arc::new(topology)
        };
        Arc::clone(self.0.entry(key).or_insert_with(make))
    }

    pub(super) fn set(&mut self, slot: u32, facts: Option<&NodeFacts>) {
        for (key, topology) in &mut self.0 {
            Arc::make_mut(topology).set(slot, facts.and_then(|facts| facts.labels.get(*key)));
        }
    }
}

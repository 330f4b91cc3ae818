//! Amounts of resources.

use std::collections::BTreeMap;

use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;

use super::hashed;

/// Amounts of resources: what a node has, what a pod asks for, what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a CPU.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes on disk.
    pub(crate) storage: i64,
    /// All others, by the hash of their name.
    others: Vec<(u64, i64)>,
}

impl Amounts {
    pub(crate) fn of(texts: Option<&BTreeMap<String, Text>>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in texts.into_iter().flatten() {
            if let Ok(quantity) = Quantity::of(text) {
                let amount = if name == "cpu" { quantity.millis() } else { quantity.units() };
                *amounts.slot(name) = amount;
            }
        }
        amounts
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.storage,
            other => self.other(hashed(other)),
        }
    }

    fn other(&mut self, name: u64) -> &mut i64 {
        let at = self.others.iter().position(|(own, _)| *own == name).unwrap_or_else(|| {
            self.others.push((name, 0));
            self.others.len() - 1
        });
        &mut self.others[at].1
    }

    /// So much of a resource that has no field of its own.
    pub(crate) fn get_other(&self, name: u64) -> i64 {
        self.others.iter().find(|(own, _)| *own == name).map_or(0, |(_, amount)| *amount)
    }

    /// All that has no field of its own.
    pub(crate) fn others(&self) -> &[(u64, i64)] {
        &self.others
    }

    /// So much of the resource of this name.
    pub(crate) fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.storage,
            other => self.get_other(hashed(other)),
        }
    }

    pub(crate) fn set(&mut self, name: &str, amount: i64) {
        *self.slot(name) = amount;
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.merge(more, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, less: &Self) {
        self.merge(less, i64::saturating_sub);
        self.others.retain(|(_, amount)| *amount != 0);
    }

    /// Whether an amount is as great as can be told: what was added up may have been more.
    pub(crate) fn is_saturated(&self) -> bool {
        [self.cpu, self.memory, self.storage].contains(&i64::MAX)
            || self.others.iter().any(|(_, amount)| *amount == i64::MAX)
    }

    /// The greater of each.
    pub(crate) fn raise(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, join: fn(i64, i64) -> i64) {
        self.cpu = join(self.cpu, other.cpu);
        self.memory = join(self.memory, other.memory);
        self.storage = join(self.storage, other.storage);
        for (name, amount) in &other.others {
            let own = self.other(*name);
            *own = join(*own, *amount);
        }
    }

    /// Whether nothing is more than in `other`.
    pub(crate) fn fit_in(&self, other: &Self) -> bool {
        self.cpu <= other.cpu
            && self.memory <= other.memory
            && self.storage <= other.storage
            && self.others.iter().all(|(name, amount)| *amount <= other.get_other(*name))
    }

    /// Whether something is asked for of which `other` has some.
    pub(crate) fn share_with(&self, other: &Self) -> bool {
        self.cpu > 0 && other.cpu > 0
            || self.memory > 0 && other.memory > 0
            || self.storage > 0 && other.storage > 0
            || self.others.iter().any(|(name, amount)| *amount > 0 && other.get_other(*name) > 0)
    }
}

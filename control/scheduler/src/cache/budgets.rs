//! Disruption budgets: which pods should rather not be preempted.

use std::collections::BTreeMap;

use corten_client::Key;

use crate::model::{PodInfo, Selector};

/// A budget.
pub(crate) struct Budget {
    pub(crate) namespace: u64,
    pub(crate) selector: Selector,
    pub(crate) allowed: i32,
    /// Pods whose disruption is under way and counted already.
    pub(crate) disrupted: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Budgets(BTreeMap<Key, Budget>);

impl Budgets {
    pub(crate) fn set(&mut self, key: Key, budget: Option<Budget>) {
        match budget {
            Some(budget) => drop(self.0.insert(key, budget)),
            None => drop(self.0.remove(&key)),
        }
    }

    /// For each of the pods, in this order, whether losing it too would break a budget.
    pub(crate) fn broken_by(&self, pods: &[&PodInfo]) -> Vec<bool> {
        if self.0.is_empty() {
            return vec![false; pods.len()];
        }
        let mut left: Vec<(&Budget, i32)> = self.0.values().map(|budget| (budget, budget.allowed)).collect();
        let breaks = |pod: &&PodInfo| {
            let mut breaks = false;
            for (budget, left) in &mut left {
                let covers = budget.namespace == pod.namespace
                    && !budget.selector.is_everything()
                    && budget.selector.matches(&pod.labels)
                    && !budget.disrupted.contains(&pod.key.name);
                if covers {
                    *left -= 1;
                    breaks |= *left < 0;
                }
            }
            breaks
        };
        pods.iter().map(breaks).collect()
    }
}

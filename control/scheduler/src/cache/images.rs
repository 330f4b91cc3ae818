//! Which images are on how many nodes.

use crate::model::{HashMap, NodeFacts};

#[derive(Default)]
pub(super) struct Images(HashMap<u64, (i64, usize)>);

impl Images {
    pub(super) fn replace(&mut self, old: Option<&NodeFacts>, new: Option<&NodeFacts>) {
        if old.map(|old| &old.images) == new.map(|new| &new.images) {
            return;
        }
        for (name, _) in old.into_iter().flat_map(|old| &old.images) {
            if let Some((_, nodes)) = self.0.get_mut(name) {
                *nodes = nodes.saturating_sub(1);
                if *nodes == 0 {
                    self.0.remove(name);
                }
            }
        }
        for (name, size) in new.into_iter().flat_map(|new| &new.images) {
            let image = self.0.entry(*name).or_default();
            *image = (*size, image.1 + 1);
        }
    }

    /// Size, and number of nodes that have it.
    pub(super) fn get(&self, name: u64) -> Option<(i64, usize)> {
        self.0.get(&name).copied()
    }
}

//! A node takes only as many volumes of a driver as the driver allows there.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{NodeInfo, PodInfo};

pub(crate) struct NodeVolumeLimits;

/// The volumes of a pod by driver; one that is not made yet goes by the name of its claim.
fn add_volumes(cache: &Cache, pod: &PodInfo, to: &mut BTreeMap<String, BTreeSet<String>>) {
    let namespace = &pod.key.namespace;
    for claim_name in &pod.claims {
        let Some(claim) = cache.storage.claim(namespace, &claim_name.name) else { continue };
        if claim.volume.is_empty() {
            let class = cache.storage.class(&claim.class);
            if let Some(class) = class.filter(|class| !class.provisioner.is_empty()) {
                let name = format!("{namespace}/{}", claim_name.name);
                to.entry(class.provisioner.clone()).or_default().insert(name);
            }
        } else if let Some((driver, handle)) = cache.storage.volume(&claim.volume).and_then(|own| own.csi.clone()) {
            to.entry(driver).or_default().insert(handle);
        }
    }
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        if cycle.pod.claims.is_empty() || !cycle.cache.storage.has_limits() { Ahead::Skip } else { Ahead::Look }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        let limits = cycle.cache.storage.limits(node.facts.hash);
        if limits.is_empty() {
            return Ok(());
        }
        let mut wanted = BTreeMap::new();
        add_volumes(cycle.cache, cycle.pod, &mut wanted);
        wanted.retain(|driver, _| limits.iter().any(|(own, _)| own == driver));
        if wanted.is_empty() {
            return Ok(());
        }
        let mut attached = BTreeMap::new();
        node.pods.iter().for_each(|pod| add_volumes(cycle.cache, pod, &mut attached));
        for (driver, most) in limits {
            let there = attached.get(driver).cloned().unwrap_or_default();
            let new = wanted.get(driver).map_or(0, |wanted| wanted.difference(&there).count());
            if new > 0 && (there.len() + new) as i64 > *most {
                return Err(Rejection::for_now("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        matches!(change, Change::Storage | Change::Claim(_) | Change::NodeCame(_) | Change::PodGone(_))
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        match change {
            Change::Storage | Change::Claim(_) => change.is_storage_of(pod),
            Change::NodeCame(_) => true,
            Change::PodGone(gone) => !gone.claims.is_empty(),
            _ => false,
        }
    }
}

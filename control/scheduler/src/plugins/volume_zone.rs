//! A volume with labels of a zone is used in that zone.

use std::sync::Arc;

use crate::cache::{Cache, VolumeInfo};
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{NodeInfo, PodInfo, hashed};

pub(crate) struct VolumeZone;

fn volumes<'a>(cycle: &Cycle<'a>) -> impl Iterator<Item = &'a Arc<VolumeInfo>> {
    let storage = &cycle.cache.storage;
    let namespace = &cycle.pod.key.namespace;
    let claims = cycle.pod.claims.iter().filter_map(move |claim| storage.claim(namespace, &claim.name));
    claims.filter_map(move |claim| storage.volume(&claim.volume)).filter(|volume| !volume.zones.is_empty())
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        if volumes(cycle).next().is_none() { Ahead::Skip } else { Ahead::Look }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        // A node without any zone is in a cluster without zones.
        let keys = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
        let old = ["failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"];
        let label = |key: &str| node.facts.labels.get(hashed(key));
        if keys.iter().chain(&old).all(|key| label(key).is_none()) {
            return Ok(());
        }
        let value = |key: u64| {
            let own = node.facts.labels.get(key);
            // Labels were renamed; either name stands for the other.
            own.or_else(|| {
                let other = keys.iter().zip(&old).flat_map(|(new, old)| [(new, old), (old, new)]);
                other.into_iter().find(|(from, _)| hashed(from) == key).and_then(|(_, to)| label(to))
            })
        };
        let fits = |volume: &Arc<VolumeInfo>| {
            volume.zones.iter().all(|(key, values)| value(*key).is_some_and(|value| values.contains(&value)))
        };
        if volumes(cycle).all(fits) { Ok(()) } else { Err(Rejection::for_good("node(s) had no available volume zone")) }
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        matches!(change, Change::Storage | Change::Claim(_)) || change.node().is_some()
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        change.is_storage_of(pod) || change.node().is_some()
    }
}

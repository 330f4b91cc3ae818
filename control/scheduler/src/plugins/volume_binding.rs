//! A pod goes where its volumes are, or where volumes for its claims can be.
//!
//! Claims whose class waits for the first consumer get their volume here: one that is free and reachable from the node,
//! or the provisioner is told the node.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_client::Key;

use crate::cache::{Cache, ClaimInfo, VolumeInfo};
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{NodeInfo, PodInfo};

pub(crate) struct VolumeBinding;

#[derive(Clone, Default)]
pub(crate) struct VolumeState {
    /// Volumes that the pod's claims have.
    bound: Vec<Arc<VolumeInfo>>,
    /// Whether a claim has a volume that is gone.
    is_missing_one: bool,
    /// Claims that wait for their first consumer.
    waiting: Vec<(Key, Arc<ClaimInfo>)>,
    /// How many pods use claims of this pod that are for one pod only.
    pub(super) users_of_single: usize,
}

/// What becomes of a claim when its pod goes to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimPlan {
    /// It gets this volume.
    Bind { claim: Key, uid: String, volume: String },
    /// A volume is made for it, near the node.
    Provision { claim: Key },
}

/// What becomes of the pod's waiting claims on this node.
pub(crate) fn plan(cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> Result<Vec<ClaimPlan>, Rejection> {
    let storage = &cycle.cache.storage;
    let (mut plans, mut taken) = (Vec::new(), BTreeSet::new());
    for (key, claim) in &state.volumes.waiting {
        let elsewhere = claim.selected_node.as_ref().is_some_and(|selected| **selected != *node.facts.name);
        let there = |volume: &VolumeInfo| volume.nodes.as_ref().is_none_or(|nodes| nodes.matches(&node.facts));
        let found = match claim.selected_node {
            // Provisioning has begun: nothing else will come of it.
            Some(_) => None,
            None => storage.find(key, claim, &taken, there),
        };
        if let Some(volume) = found {
            taken.insert(volume.name.clone());
            plans.push(ClaimPlan::Bind { claim: key.clone(), uid: claim.uid.clone(), volume: volume.name.clone() });
            continue;
        }
        let class = storage.class(&claim.class).filter(|class| !class.provisioner.is_empty());
        if elsewhere || !class.is_some_and(|class| class.serves(&node.facts.labels)) {
            return Err(Rejection::for_good("node(s) didn't find available persistent volumes to bind"));
        }
        plans.push(ClaimPlan::Provision { claim: key.clone() });
    }
    Ok(plans)
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, state: &mut State) -> Ahead {
        let (pod, storage) = (cycle.pod, &cycle.cache.storage);
        for name in &pod.claims {
            let key = Key::new(pod.key.namespace.clone(), name.name.clone());
            let quoted = format!("persistentvolumeclaim {:?}", key.name);
            let Some(claim) = storage.claim(&key.namespace, &key.name) else {
                let why = if name.own {
                    format!("waiting for ephemeral volume controller to create the {quoted}")
                } else {
                    format!("{quoted} not found")
                };
                return Ahead::Refuse(Rejection::for_good(why));
            };
            let why = if name.own && claim.owner != pod.uid {
                Some(format!("PVC {}/{} was not created for pod {}", key.namespace, key.name, pod.key))
            } else if claim.lost {
                Some(format!("{quoted} bound to non-existent persistentvolume {:?}", claim.volume))
            } else if claim.deleting {
                Some(format!("{quoted} is being deleted"))
            } else {
                None
            };
            if let Some(why) = why {
                return Ahead::Refuse(Rejection::for_good(why));
            }
            if claim.bound {
                match storage.volume(&claim.volume) {
                    Some(volume) => state.volumes.bound.push(Arc::clone(volume)),
                    None => state.volumes.is_missing_one = true,
                }
            } else if claim.volume.is_empty() && storage.class(&claim.class).is_some_and(|class| class.waits) {
                state.volumes.waiting.push((key, Arc::clone(claim)));
            } else {
                return Ahead::Refuse(Rejection::for_good("pod has unbound immediate PersistentVolumeClaims"));
            }
        }
        if pod.claims.is_empty() { Ahead::Skip } else { Ahead::Look }
    }

    fn filter(&self, cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        if state.volumes.is_missing_one {
            let why = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
            return Err(Rejection::for_good(why));
        }
        let there = |volume: &Arc<VolumeInfo>| volume.nodes.as_ref().is_none_or(|nodes| nodes.matches(&node.facts));
        if !state.volumes.bound.iter().all(there) {
            return Err(Rejection::for_good("node(s) didn't match PersistentVolume's node affinity"));
        }
        plan(cycle, state, node).map(drop)
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        matches!(change, Change::Storage | Change::Claim(_)) || change.node().is_some()
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        change.is_storage_of(pod) || change.node().is_some()
    }
}

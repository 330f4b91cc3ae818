//! A claim that is for one pod has one user.

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{NodeInfo, PodInfo};
use corten_client::Key;

pub(crate) struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, state: &mut State) -> Ahead {
        let storage = &cycle.cache.storage;
        let namespace = &cycle.pod.key.namespace;
        let mut users = 0;
        for claim in &cycle.pod.claims {
            if storage.claim(namespace, &claim.name).is_some_and(|own| own.is_for_one_pod()) {
                users += storage.users(&Key::new(namespace.clone(), claim.name.clone()));
            }
        }
        state.volumes.users_of_single = users;
        if users == 0 { Ahead::Skip } else { Ahead::Look }
    }

    fn filter(&self, _cycle: &Cycle<'_>, state: &State, _node: &NodeInfo) -> Result<(), Rejection> {
        if state.volumes.users_of_single == 0 {
            return Ok(());
        }
        Err(Rejection::for_now(
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
        ))
    }

    fn moved(&self, cycle: &Cycle<'_>, state: &mut State, pod: &PodInfo, _node: &NodeInfo, comes: bool) {
        if pod.namespace != cycle.pod.namespace {
            return;
        }
        let single = |name: &str| {
            let claim = cycle.cache.storage.claim(&pod.key.namespace, name);
            claim.is_some_and(|claim| claim.is_for_one_pod())
        };
        let wanted = cycle.pod.claims.iter().filter(|claim| single(&claim.name));
        let shared = wanted.filter(|claim| pod.claims.iter().any(|own| own.name == claim.name)).count();
        let users = &mut state.volumes.users_of_single;
        *users = if comes { *users + shared } else { users.saturating_sub(shared) };
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        matches!(change, Change::Claim(_) | Change::PodGone(_))
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        match change {
            Change::Claim(_) => change.is_storage_of(pod),
            Change::PodGone(gone) => {
                gone.namespace == pod.namespace
                    && gone.claims.iter().any(|claim| pod.claims.iter().any(|own| own.name == claim.name))
            }
            _ => false,
        }
    }
}

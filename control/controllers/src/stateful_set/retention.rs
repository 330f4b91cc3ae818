//! Whether a StatefulSet's claims go with it or with their pods: by owner references, so that the garbage collector does
//! the deleting.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention>

use corten_api::api::apps::v1::StatefulSet;
use corten_api::api::core::v1::{PersistentVolumeClaim, Pod};
use corten_api::meta::OwnerReference;
use serde_json::{Value, json};

use crate::owners;

/// What becomes of claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    with_set: bool,
    with_pod: bool,
}

impl Policy {
    pub(super) fn of(set: &StatefulSet) -> Self {
        let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
        Self {
            with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            with_pod: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }

    /// Who a claim should belong to. `condemned`: the set has been scaled below its pod.
    fn owner(self, set: &StatefulSet, pod: Option<&Pod>, condemned: bool) -> Option<OwnerReference> {
        if condemned && self.with_pod {
            return pod.map(owners::reference);
        }
        self.with_set.then(|| owners::reference(set))
    }

    /// The owners that a new claim is made with.
    pub(super) fn first_owners(self, set: &StatefulSet) -> Option<Vec<OwnerReference>> {
        self.owner(set, None, false).map(|owner| vec![owner])
    }

    /// A strategic patch that makes the claim belong to whom it should, if it does not.
    pub(super) fn mend(
        self,
        set: &StatefulSet,
        pod: &Pod,
        claim: &PersistentVolumeClaim,
        condemned: bool,
    ) -> Option<Value> {
        let all = claim.metadata.owner_references.as_deref().unwrap_or_default();
        let (set_uid, pod_uid) = (set.metadata.uid.as_deref(), pod.metadata.uid.as_deref());
        let is_ours = |own: &&OwnerReference| Some(&*own.uid) == set_uid || Some(&*own.uid) == pod_uid;
        // What somebody else controls is theirs.
        let foreign = all.iter().any(|own| own.controller == Some(true) && !is_ours(&own));
        let wanted = self.owner(set, Some(pod), condemned).filter(|_| !foreign);
        let has = |owner: &OwnerReference| all.iter().any(|own| own.uid == owner.uid && own.controller == Some(true));
        let mut changes: Vec<Value> = all
            .iter()
            .filter(is_ours)
            .filter(|own| wanted.as_ref().is_none_or(|wanted| wanted.uid != own.uid))
            .map(|own| json!({"$patch": "delete", "uid": own.uid}))
            .collect();
        changes.extend(wanted.filter(|wanted| !has(wanted)).map(|wanted| json!(wanted)));
        let metadata = json!({"uid": claim.metadata.uid, "ownerReferences": changes});
        (!changes.is_empty()).then(|| json!({"metadata": metadata}))
    }
}

/// Whether a claim is about to go, so that the next pod of its name must wait for it: it is being deleted, or it belongs
/// to a pod of that name that is no more.
pub(super) fn is_stale(claim: &PersistentVolumeClaim, pod: &str) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    claim.metadata.deletion_timestamp.is_some()
        || owners.into_iter().any(|owner| owner.kind == "Pod" && owner.api_version == "v1" && owner.name == pod)
}

//! What ReplicaSets and ReplicationControllers have in common.

use corten_api::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use corten_api::api::core::v1::{PodTemplateSpec, ReplicationController};
use corten_api::selector::Labels;
use corten_client::Kind;
use kube::Resource;
use kube::core::NamespaceResourceScope;

/// What is wanted of such an object.
pub(crate) struct Wanted<'a> {
    pub(super) replicas: usize,
    pub(super) selector: Labels,
    pub(super) template: &'a PodTemplateSpec,
    pub(super) min_ready_seconds: i32,
}

/// A kind that keeps a number of equal pods.
pub(crate) trait Replicated: Kind + Resource<Scope = NamespaceResourceScope> {
    /// Whether its status counts the pods that are ending.
    const TELLS_TERMINATING: bool;

    /// Nothing if the object does not say.
    fn wanted(&self) -> Option<Wanted<'_>>;

    /// Its status, in the one form.
    fn status(&self) -> ReplicaSetStatus;
}

fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

impl Replicated for ReplicaSet {
    const TELLS_TERMINATING: bool = true;

    fn wanted(&self) -> Option<Wanted<'_>> {
        let spec = self.spec.as_ref()?;
        Some(Wanted {
            replicas: count(spec.replicas),
            selector: Labels::from_selector(&spec.selector).ok()?,
            template: spec.template.as_ref()?,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        })
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
}

impl Replicated for ReplicationController {
    const TELLS_TERMINATING: bool = false;

    fn wanted(&self) -> Option<Wanted<'_>> {
        let spec = self.spec.as_ref()?;
        Some(Wanted {
            replicas: count(spec.replicas),
            selector: Labels::from_map(spec.selector.as_ref().filter(|selector| !selector.is_empty())?),
            template: spec.template.as_ref()?,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        })
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.map(|conditions| {
            let condition = |own: corten_api::api::core::v1::ReplicationControllerCondition| ReplicaSetCondition {
                type_: own.type_,
                status: own.status,
                reason: own.reason,
                message: own.message,
                last_transition_time: own.last_transition_time,
            };
            conditions.into_iter().map(condition).collect()
        });
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
            terminating_replicas: None,
        }
    }
}

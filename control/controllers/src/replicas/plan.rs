//! What is to be done about a set of equal pods, decided on plain data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::ReplicaSetStatus;
use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use kube::ResourceExt;

use super::kinds::Replicated;
use super::status;
use crate::claims::Claims;
use crate::own_pods;
use crate::owners;
use crate::pods::{available_in, has_ended, is_active, is_ready, phase, ready_since, restarts};

/// Most pods made or deleted at one go.
const BURST: usize = 500;
/// What a pod says that its deletion costs: the cheaper goes first.
pub(super) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) claims: Claims<Pod>,
    pub(super) create: Vec<Pod>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// The status that follows from what is there, with the conditions as they are.
    pub(super) status: ReplicaSetStatus,
    /// When a pod will have been ready long enough.
    pub(super) again: Option<Duration>,
}

/// Decides. `pods` are all of the namespace, `related` the UIDs of the sets whose pods do the same work.
pub(super) fn plan<K: Replicated>(set: &K, pods: &[Arc<Pod>], related: &[String], now: Timestamp) -> Plan {
    let claims = Claims { own: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let mut plan = Plan { claims, create: Vec::new(), delete: Vec::new(), status: set.status(), again: None };
    let Some(wanted) = set.wanted() else { return plan };
    plan.claims = Claims::of(set.meta(), &wanted.selector, pods.iter().filter(|pod| is_active(pod)));
    let active = &plan.claims.own;
    if set.meta().deletion_timestamp.is_none() {
        let missing = wanted.replicas.saturating_sub(active.len()).min(BURST);
        plan.create = vec![own_pods::of_template(set, wanted.template); missing];
        let surplus = active.len().saturating_sub(wanted.replicas).min(BURST);
        if surplus > 0 {
            let mut ranked = active.clone();
            let beside = beside(pods, related);
            ranked.sort_by_cached_key(|pod| deletion_rank(pod, beside.get(node_of(pod)).copied().unwrap_or(0), now));
            plan.delete = ranked.into_iter().take(surplus).collect();
        }
    }
    let waits: Vec<i64> = active.iter().filter_map(|pod| available_in(pod, wanted.min_ready_seconds, now)).collect();
    let soonest = waits.iter().filter(|&&wait| wait > 0).min();
    plan.again = soonest.map(|&wait| Duration::from_secs(wait.unsigned_abs()));
    let available = waits.iter().filter(|&&wait| wait == 0).count();
    let is_ending = |pod: &&Arc<Pod>| {
        let own = owners::is_controlled_by(&pod.metadata, set.meta());
        own && pod.metadata.deletion_timestamp.is_some() && !has_ended(pod)
    };
    let terminating = K::TELLS_TERMINATING.then(|| pods.iter().filter(is_ending).count());
    plan.status = status::of(set, &wanted, active, available, terminating);
    plan
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// How many pods of related sets each node has.
fn beside<'a>(pods: &'a [Arc<Pod>], related: &[String]) -> BTreeMap<&'a str, usize> {
    let mut on_node = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_active(pod)) {
        if owners::controller(&pod.metadata).is_some_and(|owner| related.contains(&owner.uid)) {
            *on_node.entry(node_of(pod)).or_default() += 1;
        }
    }
    on_node
}

/// Who goes first, smallest first: without a node, pending, unready, cheap, beside many of its kind, ready for a short
/// time, often restarted, young. Ages count by their magnitude: of those that are about as old, any may go.
fn deletion_rank(pod: &Pod, beside: usize, now: Timestamp) -> impl Ord + use<> {
    let cost = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST));
    let cost: i32 = cost.and_then(|text| text.parse().ok()).unwrap_or(0);
    let phase = match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let magnitude = |since: Option<Timestamp>| {
        since.map(|since| (now.as_second() - since.as_second()).max(0).unsigned_abs().checked_ilog2())
    };
    (
        !node_of(pod).is_empty(),
        phase,
        is_ready(pod),
        cost,
        std::cmp::Reverse(beside),
        magnitude(ready_since(pod)),
        -restarts(pod),
        magnitude(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        pod.uid(),
    )
}

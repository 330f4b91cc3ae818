//! What is to be done about a StatefulSet, decided on plain data.
//!
//! Invariants: no two pods have one ordinal; an ordered set makes, deletes and updates one pod at a time, and goes on
//! only when all before it are available.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corten_api::IntOrString;
use corten_api::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use corten_api::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::identity;
use super::retention::{Policy, is_stale};
use super::status;
use crate::amounts;
use crate::history;
use crate::pods::{available_in, has_ended, is_running_and_ready, keeps_crashing, phase};

/// Most pods made at one go.
const BURST: usize = 500;

/// A revision of the template.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) name: String,
    pub(super) template: PodTemplateSpec,
}

/// What is known.
pub(super) struct View<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a StatefulSetSpec,
    /// The set's pods by ordinal.
    pub(super) pods: BTreeMap<i32, Arc<Pod>>,
    /// The claims of its pods by name.
    pub(super) claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// What all pods were of when the last rollout was complete.
    pub(super) current: Revision,
    /// What all pods are to be of.
    pub(super) update: Revision,
    /// How long failed pods are yet to be left alone, by UID.
    pub(super) held: BTreeMap<String, Duration>,
    pub(super) collisions: i32,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It failed, and another takes its place.
    Failed,
    /// It ended, and another takes its place.
    Ended,
    /// The set is smaller than its ordinal.
    Scaled,
    /// It is of a revision that it should not be of.
    Outdated,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Claims that get or lose an owner: name and patch.
    pub(super) own: Vec<(String, Value)>,
    /// Pods that lack labels of their identity: name and patch.
    pub(super) label: Vec<(String, Value)>,
    /// Claims to make, each with the pod that it is for.
    pub(super) claims: Vec<(String, PersistentVolumeClaim)>,
    pub(super) create: Vec<Pod>,
    pub(super) delete: Vec<(Arc<Pod>, Why)>,
    pub(super) status: StatefulSetStatus,
    pub(super) again: Option<Duration>,
}

pub(super) fn is_rolling(spec: &StatefulSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// The name of the revision that a pod is of.
pub(super) fn revision_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(history::HASH)
}

/// Decides.
pub(super) fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let (status, again) = status::status(view, now);
    let start = view.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).max(0);
    let end = start.saturating_add(view.spec.replicas.unwrap_or(1).max(0));
    let ordered = view.spec.pod_management_policy.as_deref() != Some("Parallel");
    let plan = Plan { status, again, ..Plan::default() };
    let mut round = Round { view, now, start, end, ordered, doomed: BTreeSet::new(), plan };
    if view.set.metadata.deletion_timestamp.is_none() {
        round.retain();
        if round.fill() && round.shrink() {
            round.update();
        }
    }
    round.plan
}

struct Round<'a> {
    view: &'a View<'a>,
    now: Timestamp,
    /// The first ordinal, and the one after the last.
    start: i32,
    end: i32,
    ordered: bool,
    /// Ordinals of pods that are deleted in this round.
    doomed: BTreeSet<i32>,
    plan: Plan,
}

impl Round<'_> {
    /// Gives the claims to those with whom they are to go.
    fn retain(&mut self) {
        let policy = Policy::of(self.view.set);
        for (&ordinal, pod) in &self.view.pods {
            let condemned = !(self.start..self.end).contains(&ordinal);
            for name in identity::claim_names(self.view.set, ordinal) {
                let claim = self.view.claims.get(&name);
                let patch = claim.and_then(|claim| policy.mend(self.view.set, pod, claim, condemned));
                self.plan.own.extend(patch.map(|patch| (name, patch)));
            }
        }
    }

    /// Makes what is missing and replaces what has ended, in ascending order. Whether the round goes on.
    fn fill(&mut self) -> bool {
        for ordinal in self.start..self.end {
            let settled = self.replica(ordinal);
            if (self.ordered && !settled) || self.plan.create.len() >= BURST {
                return false;
            }
        }
        true
    }

    /// One wanted pod. Whether it is there and available.
    fn replica(&mut self, ordinal: i32) -> bool {
        let Some(pod) = self.view.pods.get(&ordinal) else {
            self.create(ordinal);
            return false;
        };
        let ending = pod.metadata.deletion_timestamp.is_some();
        if has_ended(pod) {
            let held = pod.uid().and_then(|uid| self.view.held.get(&uid).copied()).filter(|left| !left.is_zero());
            match held {
                _ if ending => {}
                Some(left) => self.again(left),
                None => self.delete(ordinal, pod, if phase(pod) == "Failed" { Why::Failed } else { Why::Ended }),
            }
            return false;
        }
        if phase(pod) == "Pending" && !ending {
            self.missing_claims(ordinal, &pod.name_any());
        }
        if ending {
            return false;
        }
        if self.is_lost(pod, ordinal) {
            self.delete(ordinal, pod, Why::Outdated);
            return false;
        }
        if !self.is_available(pod) {
            return false;
        }
        let missing = identity::missing_labels(&pod.metadata, ordinal);
        if !missing.is_empty() {
            let patch = json!({"metadata": {"uid": pod.uid(), "labels": missing}});
            self.plan.label.push((pod.name_any(), patch));
        }
        true
    }

    fn create(&mut self, ordinal: i32) {
        let wanted = if self.stays_current(ordinal) { &self.view.current } else { &self.view.update };
        let pod = identity::pod(self.view.set, &wanted.template, &wanted.name, ordinal);
        let name = pod.name_any();
        // With claims that are about to go a pod would start on volumes that vanish. Their end is seen.
        let mut known = identity::claim_names(self.view.set, ordinal).filter_map(|name| self.view.claims.get(&name));
        if known.any(|claim| is_stale(claim, &name)) {
            return;
        }
        self.missing_claims(ordinal, &name);
        self.plan.create.push(pod);
    }

    fn missing_claims(&mut self, ordinal: i32, pod: &str) {
        let owners = Policy::of(self.view.set).first_owners(self.view.set);
        for mut claim in identity::claims(self.view.set, ordinal) {
            if !self.view.claims.contains_key(&claim.name_any()) {
                claim.metadata.owner_references.clone_from(&owners);
                self.plan.claims.push((pod.to_owned(), claim));
            }
        }
    }

    fn delete(&mut self, ordinal: i32, pod: &Arc<Pod>, why: Why) {
        self.doomed.insert(ordinal);
        self.plan.delete.push((Arc::clone(pod), why));
    }

    fn again(&mut self, after: Duration) {
        self.plan.again = Some(self.plan.again.map_or(after, |before| before.min(after)));
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.view.spec.min_ready_seconds.unwrap_or(0);
        is_running_and_ready(pod) && available_in(pod, min_ready, self.now) == Some(0)
    }

    /// Whether a pod of this ordinal is still made of the current revision, not of the new one.
    fn stays_current(&self, ordinal: i32) -> bool {
        if !is_rolling(self.view.spec) {
            return false;
        }
        let rolling = self.view.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let before = self.view.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
        let kept = rolling.map_or(before, |rolling| rolling.partition.unwrap_or(0));
        ordinal < self.start.saturating_add(kept)
    }

    /// Whether a pod waits for nothing: what it was to become has been given up, and as it is it does not run. An ordered
    /// set would wait for it for ever. (Upstream does; there a person must delete it.)
    fn is_lost(&self, pod: &Pod, ordinal: i32) -> bool {
        let Some(own) = revision_of(pod).filter(|_| is_rolling(self.view.spec)) else { return false };
        let (current, update) = (&self.view.current.name, &self.view.update.name);
        let wanted = if self.stays_current(ordinal) { current } else { update };
        let given_up = own != current && own != update;
        own != wanted && !is_running_and_ready(pod) && (given_up || phase(pod) == "Pending" || keeps_crashing(pod))
    }

    /// Deletes what is beyond the wanted number, in descending order. Whether the round goes on.
    fn shrink(&mut self) -> bool {
        let view = self.view;
        let inside = self.start..self.end;
        let condemned: Vec<(i32, &Arc<Pod>)> =
            view.pods.iter().filter(|(ordinal, _)| !inside.contains(ordinal)).map(|(&own, pod)| (own, pod)).collect();
        let is_healthy = |pod: &Pod| is_running_and_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        let first_ill = condemned.iter().find(|(_, pod)| !is_healthy(pod)).map(|(ordinal, _)| *ordinal);
        for &(ordinal, pod) in condemned.iter().rev() {
            let ending = pod.metadata.deletion_timestamp.is_some();
            // An ordered set goes on only when what it deleted is gone, and only if the others are well: the ill one
            // itself may be deleted when it is the last that is.
            if self.ordered && (ending || (!self.is_available(pod) && first_ill != Some(ordinal))) {
                return false;
            }
            if !ending {
                self.delete(ordinal, pod, Why::Scaled);
                if self.ordered {
                    return false;
                }
            }
        }
        true
    }

    /// Deletes pods of old revisions in descending order, as many as may be unavailable; they come back as new ones.
    fn update(&mut self) {
        if !is_rolling(self.view.spec) {
            return;
        }
        let rolling = self.view.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0);
        let one = IntOrString::Int(1);
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one);
        let most = amounts::of(self.end - self.start, Some(most), false).max(1);
        let there = |ordinal: &i32| {
            let pod = self.view.pods.get(ordinal).filter(|_| !self.doomed.contains(ordinal))?;
            pod.metadata.deletion_timestamp.is_none().then_some(pod)
        };
        let missing = (self.start..self.end).filter(|own| !there(own).is_some_and(|pod| self.is_available(pod)));
        let mut room = most - i32::try_from(missing.count()).unwrap_or(i32::MAX);
        let mut doomed = Vec::new();
        for ordinal in (self.start.saturating_add(partition)..self.end).rev() {
            let Some(pod) = there(&ordinal) else { continue };
            if revision_of(pod) == Some(&self.view.update.name) {
                continue;
            }
            // One that is not available is missed by nobody.
            let costs = self.is_available(pod);
            if !costs || room > 0 {
                room -= i32::from(costs);
                doomed.push((ordinal, pod));
            }
        }
        doomed.into_iter().for_each(|(ordinal, pod)| self.delete(ordinal, pod, Why::Outdated));
    }
}

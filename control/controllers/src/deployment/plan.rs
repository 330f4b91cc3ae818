//! What is to be done about a deployment, decided on plain data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use corten_api::api::core::v1::{Pod, PodTemplateSpec};
use corten_api::meta::{LabelSelector, ObjectMeta};
use corten_api::selector::Labels;
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::status;
use crate::pods::{has_ended, is_active};
use crate::{amounts, history, owners};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub(super) const HASH: &str = "pod-template-hash";

/// What is known.
pub(super) struct View {
    pub(super) deployment: Arc<Deployment>,
    /// All replica sets of the namespace.
    pub(super) sets: Vec<Arc<ReplicaSet>>,
    /// All pods of the namespace.
    pub(super) pods: Vec<Arc<Pod>>,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Op {
    CreateSet(Box<ReplicaSet>),
    /// A strategic merge patch.
    PatchSet {
        name: String,
        patch: Value,
    },
    DeleteSet(String),
    /// Annotations of the deployment.
    Annotate(BTreeMap<String, String>),
    Event(String),
    /// A merge patch of the status.
    Status(Value),
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) again: Option<Duration>,
}

/// A deployment and its sets, sorted out.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    /// The set of the current template.
    pub(super) new: Option<&'a ReplicaSet>,
    /// The others, oldest first.
    pub(super) old: Vec<&'a ReplicaSet>,
    pub(super) replicas: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Decides.
pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let deployment = &*view.deployment;
    let mut plan = Plan::default();
    let Some(spec) = &deployment.spec else { return plan };
    let Ok(selector) = Labels::from_selector(&spec.selector) else { return plan };
    let mut own: Vec<&ReplicaSet> = Vec::new();
    for set in &view.sets {
        let matches = selector.matches_optional(set.metadata.labels.as_ref());
        if owners::is_controlled_by(&set.metadata, &deployment.metadata) {
            own.push(set);
        } else if matches
            && owners::controller(&set.metadata).is_none()
            && deployment.metadata.deletion_timestamp.is_none()
        {
            let patch = owners::adoption(deployment, set.metadata.uid.as_ref());
            plan.ops.push(Op::PatchSet { name: set.name_any(), patch });
        }
    }
    if !plan.ops.is_empty() {
        // The adopted come back by the watch, and then all are seen at once.
        return plan;
    }
    own.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name_any()));
    let new = own.iter().copied().find(|set| is_of(set, &spec.template));
    let old: Vec<&ReplicaSet> =
        own.iter().copied().filter(|set| new.is_none_or(|new| new.uid() != set.uid())).collect();
    let replicas = spec.replicas.unwrap_or(1);
    let (surge, unavailable) = bounds(spec, replicas);
    let rollout = Rollout { deployment, spec, new, old, replicas, surge, unavailable };
    if deployment.metadata.deletion_timestamp.is_none() {
        if spec.paused == Some(true) || is_scaling(&rollout) {
            scale(&rollout, &mut plan.ops);
        } else if is_recreate(spec) {
            recreate(&rollout, view, now, &mut plan.ops);
        } else {
            roll(&rollout, now, &mut plan.ops);
        }
        clean_up(&rollout, &mut plan.ops);
    }
    let (status, again) = status::status(&rollout, now);
    plan.ops.extend(status.map(Op::Status));
    plan.again = again;
    plan
}

fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Pods above and below the wanted number that a rolling update may have: surge rounds up, unavailable down, not both 0.
fn bounds(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let Some(rolling) = rolling else { return (0, 0) };
    let surge = amounts::of(replicas, rolling.max_surge.as_ref(), true);
    let unavailable = amounts::of(replicas, rolling.max_unavailable.as_ref(), false).min(replicas);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Whether the set's pods are of this template.
fn is_of(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let own = set.spec.as_ref().and_then(|spec| spec.template.clone());
    own.is_some_and(|own| without_hash(own) == without_hash(template.clone()))
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let meta = template.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    if meta.labels.as_ref().is_some_and(BTreeMap::is_empty) {
        meta.labels = None;
    }
    template
}

/// The wanted number changed while a rollout may be under way.
fn is_scaling(rollout: &Rollout<'_>) -> bool {
    active(rollout).any(|set| {
        annotation(&set.metadata, DESIRED)
            .and_then(|text| text.parse::<i32>().ok())
            .is_some_and(|desired| desired != rollout.replicas)
    })
}

fn active<'a>(rollout: &'a Rollout<'_>) -> impl Iterator<Item = &'a ReplicaSet> {
    rollout.old.iter().copied().chain(rollout.new).filter(|set| wanted(set) > 0)
}

/// Sets a set's size, and tells of it.
fn resize(rollout: &Rollout<'_>, set: &ReplicaSet, to: i32, ops: &mut Vec<Op>) {
    let from = wanted(set);
    let annotations = json!({
        DESIRED: rollout.replicas.to_string(), MAX: (rollout.replicas + rollout.surge).to_string(),
    });
    let same = |name: &str| annotation(&set.metadata, name) == annotations[name].as_str();
    if from == to && same(DESIRED) && same(MAX) {
        return;
    }
    let patch = json!({"metadata": {"uid": set.uid(), "annotations": annotations}, "spec": {"replicas": to}});
    ops.push(Op::PatchSet { name: set.name_any(), patch });
    if from != to {
        let way = if to > from { "up" } else { "down" };
        ops.push(Op::Event(format!("Scaled {way} replica set {} from {from} to {to}", set.name_any())));
    }
}

/// Brings the sets to the wanted number without rolling on.
fn scale(rollout: &Rollout<'_>, ops: &mut Vec<Op>) {
    let sets: Vec<&ReplicaSet> = active(rollout).collect();
    let latest = rollout.new.or_else(|| rollout.old.last().copied());
    if sets.len() <= 1 {
        if let Some(set) = sets.first().copied().or(latest) {
            resize(rollout, set, rollout.replicas, ops);
        }
        return;
    }
    if let Some(new) = rollout.new.filter(|new| wanted(new) == rollout.replicas && available(new) == rollout.replicas) {
        resize(rollout, new, rollout.replicas, ops);
        rollout.old.iter().for_each(|set| resize(rollout, set, 0, ops));
        return;
    }
    // In the middle of a rollout each set gets its share, and the largest what is left over.
    let total: i32 = sets.iter().map(|set| wanted(set)).sum();
    let allowed = if rollout.replicas > 0 { rollout.replicas + rollout.surge } else { 0 };
    let mut left = allowed - total;
    let mut sorted = sets;
    sorted.sort_by_key(|set| std::cmp::Reverse((wanted(set), revision(set))));
    let shares: Vec<i32> = sorted
        .iter()
        .map(|set| {
            let share = i64::from(wanted(set)) * i64::from(allowed - total) / i64::from(total.max(1));
            let share = i32::try_from(share).unwrap_or(0);
            left -= share;
            share
        })
        .collect();
    for (index, (set, share)) in sorted.iter().zip(shares).enumerate() {
        let extra = if index == 0 { left } else { 0 };
        resize(rollout, set, (wanted(set) + share + extra).max(0), ops);
    }
}

/// Kills all old pods before it makes new ones.
fn recreate(rollout: &Rollout<'_>, view: &View, now: Timestamp, ops: &mut Vec<Op>) {
    let before = ops.len();
    rollout.old.iter().filter(|set| wanted(set) > 0).for_each(|set| resize(rollout, set, 0, ops));
    if ops.len() > before {
        return;
    }
    let is_old = |pod: &Pod| rollout.old.iter().any(|set| owners::is_controlled_by(&pod.metadata, &set.metadata));
    if view.pods.iter().any(|pod| is_old(pod) && (is_active(pod) || !has_ended(pod))) {
        return;
    }
    match rollout.new {
        None => create(rollout, rollout.replicas, now, ops),
        Some(new) => {
            renew(rollout, new, ops);
            resize(rollout, new, rollout.replicas, ops);
        }
    }
}

/// One step of a rolling update.
fn roll(rollout: &Rollout<'_>, now: Timestamp, ops: &mut Vec<Op>) {
    let total: i32 = rollout.old.iter().copied().chain(rollout.new).map(wanted).sum();
    let Some(new) = rollout.new else {
        return create(rollout, (rollout.replicas + rollout.surge - total).clamp(0, rollout.replicas), now, ops);
    };
    renew(rollout, new, ops);
    let size = wanted(new);
    if size > rollout.replicas {
        return resize(rollout, new, rollout.replicas, ops);
    }
    let room = rollout.replicas + rollout.surge - total;
    if size < rollout.replicas && room > 0 {
        return resize(rollout, new, size + room.min(rollout.replicas - size), ops);
    }
    resize(rollout, new, size, ops);
    let least = rollout.replicas - rollout.unavailable;
    let missing = size - available(new);
    let mut removable = total - least - missing;
    // Old pods that serve nobody go first.
    let mut sizes: BTreeMap<String, i32> = rollout.old.iter().map(|set| (set.name_any(), wanted(set))).collect();
    for set in &rollout.old {
        let useless = (wanted(set) - available(set)).clamp(0, removable.max(0));
        removable -= useless;
        sizes.entry(set.name_any()).and_modify(|size| *size -= useless);
    }
    // Then those that serve, as long as enough do.
    let all_available: i32 = rollout.old.iter().copied().map(available).sum::<i32>() + available(new);
    let mut spare = (all_available - least).min(removable).max(0);
    for set in &rollout.old {
        let left = sizes.get(&set.name_any()).copied().unwrap_or(0);
        let down = left.min(spare);
        spare -= down;
        if left - down != wanted(set) {
            resize(rollout, set, left - down, ops);
        }
    }
}

/// The set of a template that has none yet.
fn create(rollout: &Rollout<'_>, size: i32, _now: Timestamp, ops: &mut Vec<Op>) {
    let deployment = rollout.deployment;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = history::hash(&rollout.spec.template, collisions);
    let number = rollout.old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let mut template = rollout.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = rollout.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let mut annotations = inherited(deployment);
    annotations.insert(REVISION.to_owned(), number.to_string());
    annotations.insert(DESIRED.to_owned(), rollout.replicas.to_string());
    annotations.insert(MAX.to_owned(), (rollout.replicas + rollout.surge).to_string());
    let name = format!("{}-{hash}", deployment.name_any());
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owners::reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: rollout.spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    ops.push(Op::CreateSet(Box::new(set)));
    if size > 0 {
        ops.push(Op::Event(format!("Scaled up replica set {name} from 0 to {size}")));
    }
    annotate(rollout, number, ops);
}

/// Annotations that a set takes over from its deployment.
fn inherited(deployment: &Deployment) -> BTreeMap<String, String> {
    let own = [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"];
    let all = deployment.metadata.annotations.iter().flatten();
    all.filter(|(name, _)| !own.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A template that had its turn before gets the newest revision: that is what undoing a rollout is.
fn renew(rollout: &Rollout<'_>, new: &ReplicaSet, ops: &mut Vec<Op>) {
    let newest = rollout.old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let own = revision(new);
    let number = if own > newest { own } else { newest + 1 };
    let mut annotations = inherited(rollout.deployment);
    annotations.retain(|name, value| annotation(&new.metadata, name) != Some(value.as_str()));
    if number != own {
        annotations.insert(REVISION.to_owned(), number.to_string());
        if own > 0 {
            let before = annotation(&new.metadata, REVISION_HISTORY).map(|text| format!("{text},")).unwrap_or_default();
            annotations.insert(REVISION_HISTORY.to_owned(), format!("{before}{own}"));
        }
    }
    let min_ready = rollout.spec.min_ready_seconds;
    let spec_differs = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds) != min_ready;
    if !annotations.is_empty() || spec_differs {
        let mut patch = json!({"metadata": {"uid": new.uid(), "annotations": annotations}});
        if spec_differs {
            patch["spec"] = json!({"minReadySeconds": min_ready});
        }
        ops.push(Op::PatchSet { name: new.name_any(), patch });
    }
    annotate(rollout, number, ops);
}

fn annotate(rollout: &Rollout<'_>, number: i64, ops: &mut Vec<Op>) {
    if annotation(&rollout.deployment.metadata, REVISION) != Some(number.to_string().as_str()) {
        ops.push(Op::Annotate(BTreeMap::from([(REVISION.to_owned(), number.to_string())])));
    }
}

/// Drops old sets that nobody could want back.
fn clean_up(rollout: &Rollout<'_>, ops: &mut Vec<Op>) {
    let Some(limit) = rollout.spec.revision_history_limit else { return };
    if !status::is_complete(rollout) {
        return;
    }
    let mut idle: Vec<&&ReplicaSet> = rollout
        .old
        .iter()
        .filter(|set| {
            let status = set.status.clone().unwrap_or_default();
            let settled = status.observed_generation >= set.metadata.generation && status.replicas == 0;
            wanted(set) == 0 && settled && set.metadata.deletion_timestamp.is_none()
        })
        .collect();
    idle.sort_by_key(|set| revision(set));
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    ops.extend(idle.into_iter().take(surplus).map(|set| Op::DeleteSet(set.name_any())));
}

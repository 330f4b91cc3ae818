//! What is to be done about a deployment, decided on plain data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use corten_api::api::core::v1::{Pod, PodTemplateSpec};
use corten_api::meta::{LabelSelector, ObjectMeta};
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
/// So many letters may tell of a set's past.
const LONGEST_HISTORY: usize = 2000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub(super) const HASH: &str = "pod-template-hash";

/// What is known.
pub(super) struct View {
    pub(super) deployment: Arc<Deployment>,
    /// The deployment's replica sets.
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
    DeleteSet(Box<ObjectMeta>),
    /// Annotations of the deployment.
    Annotate(BTreeMap<String, String>),
    Event(String),
    Status(Box<DeploymentStatus>),
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

impl Rollout<'_> {
    /// As many pods as there may be at a time.
    fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }
}

/// The counts of sets, added up. Numbers that nobody can mean do not overflow.
pub(super) fn sum(sets: &[&ReplicaSet], count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(|set| count(set)).fold(0, i32::saturating_add)
}

pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Pods that a set has, whatever it wants.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
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
    let mut own: Vec<&ReplicaSet> = view.sets.iter().map(|set| &**set).collect();
    own.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name_any()));
    let new = own.iter().copied().find(|set| is_of(set, &spec.template));
    let old: Vec<&ReplicaSet> =
        own.iter().copied().filter(|set| new.is_none_or(|new| new.uid() != set.uid())).collect();
    let replicas = spec.replicas.unwrap_or(1);
    let (surge, unavailable) = bounds(spec, replicas);
    let rollout = Rollout { deployment, spec, new, old, replicas, surge, unavailable };
    let mut outlook = Outlook::default();
    if deployment.metadata.deletion_timestamp.is_none() {
        if let Some(new) = new {
            renew(&rollout, new, &mut plan.ops);
        }
        if spec.paused == Some(true) || is_scaling(&rollout) {
            scale(&rollout, &mut plan.ops);
        } else {
            outlook.rolls = true;
            if is_recreate(spec) {
                recreate(&rollout, view, &mut plan.ops);
            } else {
                roll(&rollout, &mut plan.ops);
            }
        }
        outlook.created = plan.ops.iter().find_map(|op| match op {
            Op::CreateSet(set) => Some(set.name_any()),
            _ => None,
        });
        if spec.paused == Some(true) || (outlook.rolls && status::is_complete(&rollout)) {
            clean_up(&rollout, &mut plan.ops);
        }
    }
    let (status, again) = status::status(&rollout, &outlook, now);
    plan.ops.extend(status.map(|status| Op::Status(Box::new(status))));
    plan.again = again;
    plan
}

/// What the plan does, as far as the status tells of it.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// The rollout goes on: it is neither paused nor waits for a change of size.
    pub(super) rolls: bool,
    /// The set that is made for the current template.
    pub(super) created: Option<String>,
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
        DESIRED: rollout.replicas.to_string(), MAX: rollout.most().to_string(),
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
    if let Some(new) = rollout.new.filter(|new| is_saturated(rollout, new)) {
        resize(rollout, new, rollout.replicas, ops);
        rollout.old.iter().for_each(|set| resize(rollout, set, 0, ops));
        return;
    }
    if !is_recreate(rollout.spec) {
        share_out(rollout, sets, ops);
    }
}

/// Whether a set has all pods of the deployment, and has been told how many those are.
fn is_saturated(rollout: &Rollout<'_>, set: &ReplicaSet) -> bool {
    let told = number(&set.metadata, DESIRED) == Some(rollout.replicas);
    told && wanted(set) == rollout.replicas && available(set) == rollout.replicas
}

fn number(meta: &ObjectMeta, name: &str) -> Option<i32> {
    annotation(meta, name).and_then(|text| text.parse().ok())
}

/// In the middle of a rollout each set keeps its share of the whole, and the largest gets what is left over.
fn share_out(rollout: &Rollout<'_>, mut sets: Vec<&ReplicaSet>, ops: &mut Vec<Op>) {
    let total = sum(&sets, wanted);
    let allowed = if rollout.replicas > 0 { rollout.most() } else { 0 };
    let change = allowed.saturating_sub(total);
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    if change > 0 {
        sets.sort_by_key(|set| std::cmp::Reverse((wanted(set), created(set))));
    } else {
        sets.sort_by_key(|set| (std::cmp::Reverse(wanted(set)), created(set)));
    }
    let mut left = change;
    let sizes: Vec<i32> = sets
        .iter()
        .map(|set| {
            let share = share(rollout, set, allowed);
            let share = if change > 0 { share.min(left) } else { share.max(left) };
            let share = if change == 0 { 0 } else { share };
            left -= share;
            wanted(set).saturating_add(share)
        })
        .collect();
    for (index, (set, size)) in sets.iter().zip(sizes).enumerate() {
        let extra = if index == 0 { left } else { 0 };
        resize(rollout, set, size.saturating_add(extra).max(0), ops);
    }
}

/// By how much a set changes if it keeps its part of the most that there may be.
fn share(rollout: &Rollout<'_>, set: &ReplicaSet, allowed: i32) -> i32 {
    let size = wanted(set);
    if rollout.replicas == 0 {
        return -size;
    }
    let status = rollout.deployment.status.as_ref().and_then(|status| status.replicas);
    let before = number(&set.metadata, MAX).or(status).filter(|&before| before > 0);
    let Some(before) = before else { return 0 };
    // Rounded to the nearest.
    let (size, allowed, before) = (i64::from(size), i64::from(allowed), i64::from(before));
    let scaled = (2 * size * allowed + before).div_euclid(2 * before);
    i32::try_from(scaled - size).unwrap_or(0)
}

/// Kills all old pods before it makes new ones.
fn recreate(rollout: &Rollout<'_>, view: &View, ops: &mut Vec<Op>) {
    let mut running = rollout.old.iter().filter(|set| wanted(set) > 0).peekable();
    if running.peek().is_some() {
        return running.for_each(|set| resize(rollout, set, 0, ops));
    }
    if rollout.old.iter().any(|set| actual(set) > 0) {
        return;
    }
    let is_old = |pod: &Pod| rollout.old.iter().any(|set| owners::is_controlled_by(&pod.metadata, &set.metadata));
    if view.pods.iter().any(|pod| is_old(pod) && (is_active(pod) || !has_ended(pod))) {
        return;
    }
    match rollout.new {
        None => create(rollout, rollout.replicas, ops),
        Some(new) => resize(rollout, new, rollout.replicas, ops),
    }
}

/// One step of a rolling update.
fn roll(rollout: &Rollout<'_>, ops: &mut Vec<Op>) {
    let all: Vec<&ReplicaSet> = rollout.old.iter().copied().chain(rollout.new).collect();
    let total = sum(&all, wanted);
    let Some(new) = rollout.new else {
        return create(rollout, rollout.most().saturating_sub(total).clamp(0, rollout.replicas), ops);
    };
    let size = wanted(new);
    if size > rollout.replicas {
        return resize(rollout, new, rollout.replicas, ops);
    }
    let room = rollout.most().saturating_sub(total);
    if size < rollout.replicas && room > 0 {
        return resize(rollout, new, size + room.min(rollout.replicas - size), ops);
    }
    resize(rollout, new, size, ops);
    let least = rollout.replicas - rollout.unavailable;
    let missing = size - available(new);
    let mut removable = total.saturating_sub(least).saturating_sub(missing);
    // Old pods that serve nobody go first.
    let mut sizes: BTreeMap<String, i32> = rollout.old.iter().map(|set| (set.name_any(), wanted(set))).collect();
    for set in &rollout.old {
        let useless = (wanted(set) - available(set)).clamp(0, removable.max(0));
        removable -= useless;
        sizes.entry(set.name_any()).and_modify(|size| *size -= useless);
    }
    // Then those that serve, as long as enough do.
    let mut spare = sum(&all, available).saturating_sub(least).min(removable).max(0);
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
fn create(rollout: &Rollout<'_>, size: i32, ops: &mut Vec<Op>) {
    let deployment = rollout.deployment;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = history::hash(&rollout.spec.template, collisions);
    let number = rollout.old.iter().map(|set| revision(set)).max().unwrap_or(0).saturating_add(1);
    let mut template = rollout.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = rollout.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let mut annotations = inherited(deployment);
    annotations.insert(REVISION.to_owned(), number.to_string());
    annotations.insert(DESIRED.to_owned(), rollout.replicas.to_string());
    annotations.insert(MAX.to_owned(), rollout.most().to_string());
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
    let number = if own > newest { own } else { newest.saturating_add(1) };
    let mut annotations = inherited(rollout.deployment);
    annotations.retain(|name, value| annotation(&new.metadata, name) != Some(value.as_str()));
    if number != own {
        annotations.insert(REVISION.to_owned(), number.to_string());
        if own > 0 {
            annotations.insert(REVISION_HISTORY.to_owned(), past(new, own));
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

/// The revisions that a set has had, and one more; the oldest go when there are too many.
fn past(set: &ReplicaSet, revision: i64) -> String {
    let known = annotation(&set.metadata, REVISION_HISTORY).unwrap_or_default();
    let mut all: Vec<String> = known.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
    all.push(revision.to_string());
    while all.len() > 1 && all.iter().map(|text| text.len() + 1).sum::<usize>() > LONGEST_HISTORY {
        all.remove(0);
    }
    all.join(",")
}

fn annotate(rollout: &Rollout<'_>, number: i64, ops: &mut Vec<Op>) {
    if annotation(&rollout.deployment.metadata, REVISION) != Some(number.to_string().as_str()) {
        ops.push(Op::Annotate(BTreeMap::from([(REVISION.to_owned(), number.to_string())])));
    }
}

/// Drops old sets that nobody could want back.
fn clean_up(rollout: &Rollout<'_>, ops: &mut Vec<Op>) {
    let Some(limit) = rollout.spec.revision_history_limit else { return };
    let mut alive: Vec<&&ReplicaSet> =
        rollout.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    alive.sort_by_key(|set| revision(set));
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let is_idle = |set: &&&ReplicaSet| {
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        wanted(set) == 0 && actual(set) == 0 && seen >= set.metadata.generation
    };
    let gone = alive.into_iter().take(surplus).filter(is_idle);
    ops.extend(gone.map(|set| Op::DeleteSet(Box::new(set.metadata.clone()))));
}

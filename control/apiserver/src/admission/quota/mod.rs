//! ResourceQuota: what a namespace holds is counted, and bounded.
//!
//! An object and what it uses are written in one transaction, so a quota's count is true at every revision. What was
//! decided before a quota bounded something, and is written after it, is decided anew: every write of what is counted
//! demands that the namespace's fence is where it was, and a quota that bounds something new moves it. What was written
//! while that quota was counting, it finds when it looks again (`settle`).
//!
//! Wording: k8s.io/apiserver/pkg/admission/plugin/resourcequota of Kubernetes v1.36.

mod matching;
mod settle;
mod usage;

use std::collections::BTreeMap;

use bytes::Bytes;
use corten_api::names::{Names, Scope};
use corten_api::quantity::Quantity;
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS};
use corten_store::{Revision, Snapshot};
use serde_json::{Map, Value, json};

use super::pod_resources::{Amounts, amounts};
use super::{Attempt, all, is, is_pod, list};
use crate::storage;

pub(crate) use settle::{settle, settle_all};

const STORAGE: &str = "resourcequotas";

/// A quota that a write charges or relieves: written with it, and only if it is still what it was.
pub(crate) struct Charge {
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) quota: Value,
}

/// All that a write does to quotas.
#[derive(Default)]
pub(crate) struct Charges {
    pub(crate) list: Vec<Charge>,
    /// The fence of the namespace, if the object is counted.
    pub(crate) fence: Option<Fence>,
}

/// A key that is written whenever a quota of its namespace bounds something new.
pub(crate) struct Fence {
    pub(crate) key: Bytes,
    /// Where it was when the write was decided.
    pub(crate) revision: Revision,
    /// Whether this write moves it.
    pub(crate) moves: bool,
}

/// What a write does to the quotas of its namespace; refused if there is not enough left. `new` is `None` if the object
/// is to be gone.
pub(crate) fn charges(write: &Attempt<'_>, new: Option<&Value>) -> Result<Charges, Status> {
    let (Some(namespace), names) = (write.namespace, write.names()) else { return Ok(Charges::default()) };
    if !usage::is_counted(names) {
        return Ok(Charges::default());
    }
    let key = storage::claim_key(&format!("quotas/{namespace}"));
    let revision = write.snapshot.get(&key).map_or(0, |entry| entry.mod_revision);
    let moves = new.is_some_and(|new| bounds_anew(write, new));
    let mut charges = Charges { list: Vec::new(), fence: Some(Fence { key, revision, moves }) };
    for (key, entry) in write.snapshot.prefix(&storage::prefix(STORAGE, Some(namespace))) {
        let Ok(quota) = storage::decode(entry) else { continue };
        let object = new.or(write.old).unwrap_or(&Value::Null);
        let itself = is_quota(names) && object["metadata"]["name"] == quota["metadata"]["name"];
        if itself {
            continue;
        }
        let delta = delta(&quota, names, write.old, new);
        if let Some(new) = new.filter(|_| write.old.is_none()) {
            constrain(write, &quota, new)?;
        }
        if delta.values().all(|change| change.is_zero()) {
            continue;
        }
        if let Some(new) = new {
            fits(write, &quota, &delta, new)?;
        }
        charges.list.push(Charge { key: key.clone(), revision: entry.mod_revision, quota: charged(quota, &delta) });
    }
    Ok(charges)
}

/// The refusal of a write that lost the race for its quotas again and again.
pub(crate) fn raced(charges: &Charges) -> Status {
    let quota = charges.list.first().map_or(&Value::Null, |charge| &charge.quota);
    let kind = Names { group: "", version: "v1", kind: "", plural: STORAGE, singular: "", short: &[], categories: &[] };
    Status::modified(&kind, quota["metadata"]["name"].as_str().unwrap_or_default())
}

/// Gives a quota that is new, or bounds something else than before, its status.
pub(crate) fn count(write: &Attempt<'_>, quota: &mut Value) {
    if bounds_anew(write, quota) {
        let itself = write.old.is_none();
        counted(write.snapshot, write.namespace, quota, itself);
    }
}

/// Whether a quota is new, or bounds something else than before. After that it has to be settled.
pub(crate) fn bounds_anew(write: &Attempt<'_>, quota: &Value) -> bool {
    let hard = |quota: &Value| quota["spec"]["hard"].as_object().cloned().unwrap_or_default();
    is_quota(write.names()) && write.old.is_none_or(|old| old["status"]["hard"] != Value::from(hard(quota)))
}

/// Counts what is there, and the quota itself if it is not there yet.
fn counted(snapshot: &Snapshot, namespace: Option<&str>, quota: &mut Value, itself: bool) {
    let hard = quota["spec"]["hard"].as_object().cloned().unwrap_or_default();
    let mut used: BTreeMap<&String, Quantity> = hard.keys().map(|name| (name, Quantity::ZERO)).collect();
    let mut take = |names: &Names, object: &Value| {
        if matching::matches(quota, names, object) {
            for (name, amount) in usage::of(names, object) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum += amount;
                }
            }
        }
    };
    for kind in KINDS.iter().filter(|kind| kind.scope() == Scope::Namespaced && !kind.is_view() && !kind.is_virtual()) {
        let names = kind.names();
        if hard.keys().any(|resource| usage::may_use(names, resource)) {
            all(snapshot, kind.storage(), namespace).iter().for_each(|object| take(names, object));
        }
    }
    if itself && let Some(kind) = kind() {
        take(kind.names(), quota);
    }
    let used: Map<String, Value> =
        used.into_iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    if hard.is_empty() {
        quota["status"] = json!({});
    } else {
        quota["status"] = json!({"hard": hard, "used": used});
    }
}

fn kind() -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|kind| is_quota(kind.names()))
}

fn is_quota(names: &Names) -> bool {
    is(names, "", "ResourceQuota")
}

/// How the use of what the quota bounds changes.
fn delta(quota: &Value, names: &Names, old: Option<&Value>, new: Option<&Value>) -> Amounts {
    let bounded = quota["status"]["hard"].as_object();
    let mut delta = Amounts::new();
    for (object, sign) in [(old, false), (new, true)] {
        let Some(object) = object.filter(|object| matching::matches(quota, names, object)) else { continue };
        for (name, amount) in usage::of(names, object) {
            if bounded.is_some_and(|bounded| bounded.contains_key(&name)) {
                let own = delta.entry(name).or_default();
                if sign { *own += amount } else { *own -= amount }
            }
        }
    }
    delta
}

/// A pod must say of what is bounded how much of it each container wants.
fn constrain(write: &Attempt<'_>, quota: &Value, pod: &Value) -> Result<(), Status> {
    const BOUND: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    if !is_pod(write.names()) || !matching::matches(quota, write.names(), pod) {
        return Ok(());
    }
    let bounded = quota["status"]["hard"].as_object();
    let containers = || list(&pod["spec"], "containers").iter().chain(list(&pod["spec"], "initContainers"));
    let mut missing = Vec::new();
    for resource in BOUND.iter().filter(|name| bounded.is_some_and(|bounded| bounded.contains_key(**name))) {
        let (part, name) = match resource.split_once('.') {
            Some((part, name)) => (part, name),
            None => ("requests", *resource),
        };
        if !pod["spec"]["resources"][part][name].is_null() {
            continue;
        }
        let mut names: Vec<&str> = containers()
            .filter(|container| container["resources"][part][name].is_null())
            .filter_map(|container| container["name"].as_str())
            .collect();
        if !names.is_empty() {
            names.sort_unstable();
            missing.push(format!("{resource} for: {}", names.join(",")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    Err(write.forbidden(pod, &format!("failed quota: {name}: must specify {}", missing.join("; "))))
}

/// Whether there is enough left of what more is used of.
fn fits(write: &Attempt<'_>, quota: &Value, delta: &Amounts, object: &Value) -> Result<(), Status> {
    let (hard, used) = (amounts(&quota["status"]["hard"]), amounts(&quota["status"]["used"]));
    let of = |amounts: &Amounts, name: &String| amounts.get(name).copied().unwrap_or_default();
    let exceeded: Vec<&String> = delta
        .iter()
        .filter(|(name, more)| **more > Quantity::ZERO && of(&used, name) + **more > of(&hard, name))
        .map(|(name, _)| name)
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let pairs = exceeded.iter().map(|name| format!("{name}={}", of(amounts, name)));
        pairs.collect::<Vec<_>>().join(",")
    };
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let why =
        format!("exceeded quota: {name}, requested: {}, used: {}, limited: {}", show(delta), show(&used), show(&hard));
    Err(write.forbidden(object, &why))
}

/// The quota with its new count.
fn charged(mut quota: Value, delta: &Amounts) -> Value {
    let used = amounts(&quota["status"]["used"]);
    for (name, change) in delta.iter().filter(|(_, change)| !change.is_zero()) {
        let now = (used.get(name).copied().unwrap_or_default() + *change).max(Quantity::ZERO);
        quota["status"]["used"][name] = now.to_string().into();
    }
    quota
}

//! The default policy: roles and bindings that every cluster has, kept true at every start.
//!
//! As upstream: what is missing is made; what is there gains what it lacks and keeps what was added, unless its
//! annotation `rbac.authorization.kubernetes.io/autoupdate` is `false`.

mod table;

use bytes::Bytes;
use corten_api::status::Status;
use corten_store::{Compare, Op, Outcome, Snapshot, Txn};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::authorize::rules::{Rule, lacking};
use crate::objects::time;
use crate::server::Server;
use crate::storage;
use table::{Entry, Preset, presets};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const VERSION: &str = "rbac.authorization.k8s.io/v1";
/// How often a start decides anew because another process wrote meanwhile.
const ATTEMPTS: u32 = 8;

/// Writes what is missing, all at once; nothing if nothing is.
pub(crate) async fn reconcile(server: &Server) -> Result<(), Status> {
    let presets = presets();
    for _ in 0..ATTEMPTS {
        let txn = plan(server, &server.store().snapshot(), &presets)?;
        if txn.then.is_empty() {
            return Ok(());
        }
        if let Outcome::Committed { .. } = server.store().transact(txn).await.map_err(storage::refused)? {
            return Ok(());
        }
    }
    Err(Status::internal("the default policy changes again and again while it is written"))
}

/// The rules that upstream's authorizer for nodes goes by where it does not look at the object.
pub(crate) fn of_nodes() -> Vec<Rule> {
    let own = presets().into_iter().find(|preset| preset.name == "system:node" && preset.kind() == "ClusterRole");
    match own.map(|preset| preset.entry) {
        Some(Entry::Role { rules, .. }) => rules,
        _ => Vec::new(),
    }
}

fn plan(server: &Server, snapshot: &Snapshot, presets: &[Preset]) -> Result<Txn, Status> {
    let mut txn = Txn::default();
    for preset in presets {
        let key = storage::key(preset.storage(), preset.namespace.as_deref(), &preset.name);
        let (revision, object) = match snapshot.get(&key) {
            None => (0, Some(created(server, preset, presets))),
            Some(entry) => (entry.mod_revision, updated(server, preset, storage::decode(entry)?)),
        };
        let Some(object) = object else { continue };
        let (value, stamp) = storage::encode(&object)?;
        txn.compare.push(Compare::ModRevision(key.clone(), revision));
        txn.then.push(Op::Put { key: Bytes::clone(&key), value, stamp: Some(stamp), lease: 0 });
    }
    Ok(txn)
}

/// The object as it is made.
fn created(server: &Server, preset: &Preset, presets: &[Preset]) -> Value {
    let uid = uuid::Builder::from_random_bytes(server.config().random.bytes16()).into_uuid().to_string();
    let mut metadata = json!({
        "annotations": {AUTOUPDATE: "true"},
        "creationTimestamp": time(server.clock().now()),
        "labels": preset.labels(),
        "name": preset.name,
    });
    if let Some(namespace) = &preset.namespace {
        metadata["namespace"] = namespace.as_str().into();
    }
    metadata["uid"] = uid.into();
    let mut object = json!({"apiVersion": VERSION, "kind": preset.kind(), "metadata": metadata});
    match &preset.entry {
        Entry::Role { rules, from, .. } => {
            object["rules"] = json!(rules);
            if !from.is_empty() {
                object["aggregationRule"] = selectors(from);
                // What the controller will find; so it holds from the first moment on.
                object["rules"] = json!(aggregated(from, presets));
            }
        }
        Entry::Binding { role, subjects } => {
            object["roleRef"] = json!(role);
            object["subjects"] = subjects.clone().into();
        }
    }
    object
}

fn selectors(from: &[String]) -> Value {
    let selectors: Vec<Value> = from.iter().map(|role| json!({"matchLabels": {table::label(role): "true"}})).collect();
    json!({"clusterRoleSelectors": selectors})
}

/// The rules of all roles that are labelled for one of `from`, in the order of their names.
fn aggregated(from: &[String], presets: &[Preset]) -> Vec<Rule> {
    let mut roles: Vec<(&str, Vec<Rule>)> = Vec::new();
    for preset in presets {
        if let Entry::Role { rules, to, from: own } = &preset.entry
            && from.iter().any(|role| to.contains(role))
        {
            let rules = if own.is_empty() { rules.clone() } else { aggregated(own, presets) };
            roles.push((&preset.name, rules));
        }
    }
    roles.sort_by_key(|(name, _)| *name);
    let mut all: Vec<Rule> = Vec::new();
    for rule in roles.into_iter().flat_map(|(_, rules)| rules) {
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    all
}

/// The object with what it lacks; `None` if it lacks nothing.
fn updated(server: &Server, preset: &Preset, mut object: Value) -> Option<Value> {
    if object["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let before = object.clone();
    for (key, value) in preset.labels() {
        complete(&mut object["metadata"], "labels", &key, value);
    }
    complete(&mut object["metadata"], "annotations", AUTOUPDATE, "true".into());
    match &preset.entry {
        Entry::Role { rules, from, .. } if from.is_empty() => {
            let own: Vec<Rule> = Vec::deserialize(&object["rules"]).unwrap_or_default();
            let lacking = lacking(&own, rules);
            if !lacking.is_empty() {
                append(&mut object, "rules", lacking.iter().map(|rule| json!(rule)));
            }
        }
        Entry::Role { from, .. } => {
            if object["aggregationRule"].is_null() {
                object["aggregationRule"] = selectors(from);
            }
        }
        Entry::Binding { role, subjects } => {
            // A binding cannot be changed to another role: it is made anew.
            if object["roleRef"] != json!(role) {
                return Some(created(server, preset, &[]));
            }
            let mut own = object["subjects"].as_array().cloned().unwrap_or_default();
            if let Some(withdrawn) = preset.withdrawn() {
                own.retain(|subject| *subject != withdrawn);
                object["subjects"] = own.clone().into();
            }
            let missing: Vec<Value> = subjects.iter().filter(|subject| !own.contains(subject)).cloned().collect();
            if !missing.is_empty() {
                append(&mut object, "subjects", missing);
            }
        }
    }
    (object != before).then_some(object)
}

fn complete(metadata: &mut Value, field: &str, key: &str, value: Value) {
    if !metadata[field].is_object() {
        metadata[field] = Value::Object(Map::new());
    }
    if metadata[field].get(key).is_none() {
        metadata[field][key] = value;
    }
}

fn append(object: &mut Value, field: &str, more: impl IntoIterator<Item = Value>) {
    match &mut object[field] {
        Value::Array(list) => list.extend(more),
        other => *other = more.into_iter().collect::<Vec<_>>().into(),
    }
}

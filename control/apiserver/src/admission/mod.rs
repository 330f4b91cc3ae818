//! What is added to, and demanded of, objects for reasons beyond their kind. One file a plugin; [`PLUGINS`] is the only
//! list, in upstream's order.
//!
//! A write goes through `begin` (may it be at all?), `admit` (plugins change the object, defaults filled in),
//! `AnyKind::process`, then [`guards`] (may this user do this to it?), `validate` (plugins judge what is to be stored) and [`quota`] (what it uses is charged in
//! the same transaction).

pub(crate) mod guards;
mod ingress_class;
mod legacy_tokens;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taints;
mod pod_resources;
mod pod_security;
mod priority;
pub(crate) mod quota;
mod runtime_class;
mod service_account;
mod storage_class;
mod storage_protection;
mod tolerations;
mod volume_resize;

use corten_api::names::Names;
use corten_api::status::Status;
use corten_kinds::{AnyKind, Warnings};
use corten_store::Snapshot;
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::server::Server;
use crate::storage;

/// Every plugin, in the order in which they have their say.
static PLUGINS: &[&dyn Plugin] = &[
    &limit_ranger::LimitRanger,
    &service_account::ServiceAccount,
    &node_taints::TaintNodesByCondition,
    &pod_security::PodSecurity,
    &priority::Priority,
    &tolerations::DefaultTolerationSeconds,
    &storage_class::DefaultStorageClass,
    &storage_protection::StorageObjectInUseProtection,
    &volume_resize::PersistentVolumeClaimResize,
    &runtime_class::RuntimeClass,
    &ingress_class::DefaultIngressClass,
    &legacy_tokens::LegacyTokens,
];

/// Something that changes or judges objects on their way in.
trait Plugin: Sync {
    /// Whether it may change objects of this kind.
    fn changes(&self, _names: &Names) -> bool {
        false
    }
    /// Changes an object of such a kind. Its defaults are filled in, it is not judged yet.
    fn admit(&self, _write: &Attempt<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }
    /// Judges an object as it is to be stored. Asked for every kind.
    fn validate(&self, _write: &Attempt<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// A write that is being decided.
pub(crate) struct Attempt<'a> {
    pub(crate) server: &'a Server,
    /// Who writes.
    pub(crate) user: &'a Identity,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) kind: &'a dyn AnyKind,
    pub(crate) namespace: Option<&'a str>,
    /// Name of the object.
    pub(crate) name: &'a str,
    /// What is stored; `None` for a creation.
    pub(crate) old: Option<&'a Value>,
    /// What the client is told although the write is fine.
    pub(crate) told: &'a Warnings,
}

impl Attempt<'_> {
    fn names(&self) -> &'static Names {
        self.kind.stored()
    }

    fn is(&self, group: &str, kind: &str) -> bool {
        is(self.names(), group, kind)
    }

    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Status::forbidden(self.kind.names(), name, why)
    }

    /// Another object.
    fn find(&self, storage: &str, namespace: Option<&str>, name: &str) -> Result<Option<Value>, Status> {
        storage::find(self.snapshot, storage, namespace, name)
    }

    /// All objects of a kind, in one namespace or in all. One that is damaged has no say.
    fn all(&self, storage: &str, namespace: Option<&str>) -> Vec<Value> {
        let prefix = storage::prefix(storage, namespace);
        self.snapshot.prefix(&prefix).filter_map(|(_, entry)| storage::decode(entry).ok()).collect()
    }

    /// The class that is marked as the default one: the newest, of several as old the first by name.
    fn default_class(&self, storage: &str, marks: &[&str]) -> Option<Value> {
        let mut classes = self.all(storage, None);
        classes.retain(|class| marks.iter().any(|mark| class["metadata"]["annotations"][*mark] == "true"));
        let text = |class: &Value, field: &str| class["metadata"][field].as_str().unwrap_or_default().to_owned();
        classes.sort_by_key(|class| (std::cmp::Reverse(text(class, "creationTimestamp")), text(class, "name")));
        classes.into_iter().next()
    }
}

/// Whether a new object may be where it is to be.
pub(crate) fn begin(write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    namespace_lifecycle::validate(write, object)
}

/// Adds to an object what the cluster decides.
pub(crate) fn admit(write: &Attempt<'_>, mut object: Value) -> Result<Value, Status> {
    let names = write.names();
    let mut plugins = PLUGINS.iter().filter(|plugin| plugin.changes(names)).peekable();
    if plugins.peek().is_some() {
        object = write.kind.defaulted(&object)?;
    }
    plugins.try_for_each(|plugin| plugin.admit(write, &mut object))?;
    Ok(object)
}

/// Judges an object as it is to be stored.
pub(crate) fn validate(write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    PLUGINS.iter().try_for_each(|plugin| plugin.validate(write, object))
}

fn is(names: &Names, group: &str, kind: &str) -> bool {
    names.group == group && names.kind == kind
}

fn is_pod(names: &Names) -> bool {
    is(names, "", "Pod")
}

/// Appends to a list that may not be there.
fn append(object: &mut Value, field: &str, item: Value) {
    match &mut object[field] {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

/// The entries of a list that may not be there.
fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

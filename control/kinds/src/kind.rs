//! The typed side of a kind, and the adapter that erases its type.

use std::time::Duration;

use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::Metadata;
use corten_api::meta::ObjectMeta;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{AnyKind, ColumnHead, Deletion, Operation, Proxied, Subresource, WriteContext, meta};

/// A kind: its declaration and its own rules. Everything has a default that fits a kind without behaviour.
pub(crate) trait Kind: Sync + 'static {
    /// The type of its objects.
    type Object: Serialize + DeserializeOwned + Metadata<Ty = ObjectMeta>;

    const NAMES: Names;
    const SCOPE: Scope = Scope::Namespaced;
    /// Part of the storage key after `/registry/`.
    const STORAGE: &'static str = Self::NAMES.plural;
    const SUBRESOURCES: &'static [Subresource] = &[];
    const COLUMNS: &'static [ColumnHead];
    /// What an object's name must be.
    const NAME_RULE: meta::NameRule = meta::NameRule::Subdomain;
    /// Whether `metadata.generation` counts the changes of what is neither metadata nor status.
    const GENERATION: bool = false;
    /// Whether a status that comes with a new object stays. Others begin with none, or with what `prepare` makes of it.
    const STATUS_ON_CREATE: bool = false;
    /// Field selectors besides metadata.name and metadata.namespace.
    const FIELDS: &'static [&'static str] = &[];
    const TIME_TO_LIVE: Option<Duration> = None;
    /// Whether a collection can be deleted at one go.
    const DELETE_COLLECTION: bool = true;
    /// Whether a PUT creates an object that is not there.
    const CREATE_ON_UPDATE: bool = false;
    /// Whether a PUT that names no version replaces whatever is there.
    const UNCONDITIONAL_UPDATE: bool = true;
    /// What is behind `/proxy`.
    const PROXIED: Option<Proxied> = None;
    /// What every request for the kind is warned of, if it is outdated.
    const DEPRECATION: Option<&'static str> = None;
    /// Whether a deletion that says nothing of dependents lets them go instead of deleting them.
    const ORPHAN_DEPENDENTS: bool = false;
    /// What a deletion that orphans because nobody said otherwise is warned of.
    const ORPHAN_WARNING: Option<&'static str> = None;
    /// Whether a deletion is answered with the object; others say `Success` and whom it befell.
    const SHOW_DELETED: bool = false;

    /// One cell per column.
    fn cells(object: &Self::Object, now: Timestamp) -> Vec<Value>;
    /// Fills in what the client left out.
    fn default(_new: &mut Self::Object) {}
    /// Takes away what a client may not set, and sets what the server decides.
    fn prepare(_new: &mut Self::Object, _old: Option<&Self::Object>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// What is wrong with the object, or with the change.
    fn validate(_new: &Self::Object, _old: Option<&Self::Object>, _errs: &mut FieldErrors) {}
    /// What the client is to be told although nothing is wrong: outdated fields, likely mistakes.
    fn warnings(_new: &Self::Object, _old: Option<&Self::Object>) -> Vec<String> {
        Vec::new()
    }
    /// Takes away what a write of the status may not set. All but status and metadata is the old object's already.
    fn prepare_status(_new: &mut Self::Object, _old: &Self::Object, _cx: &WriteContext<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// The object to store after a write to one of its parts (`/ephemeralcontainers`, `/resize`, `/approval`), made of
    /// the stored one and what the client sent. `None`, the default, takes metadata and status as `/status` does.
    fn part(
        _part: Subresource,
        _new: &Self::Object,
        _old: &Self::Object,
        _cx: &WriteContext<'_>,
    ) -> Result<Option<Self::Object>, Status> {
        Ok(None)
    }
    /// What is wrong with the change of a part.
    fn validate_part(_part: Subresource, _new: &Self::Object, _old: &Self::Object, _errs: &mut FieldErrors) {}
    /// What is wrong with the change of a status.
    fn validate_status(_new: &Self::Object, _old: &Self::Object, _errs: &mut FieldErrors) {}
    /// See [`AnyKind::deletion`].
    fn deletion(_object: &Value, _grace: Option<i64>) -> Deletion {
        Deletion::Immediate
    }
    /// See [`AnyKind::mark_deleted`].
    fn mark_deleted(_object: &mut Value) {}
    /// See [`AnyKind::held`].
    fn held(_object: &Value) -> bool {
        false
    }
    /// The value of one of `FIELDS`: by default, what its path leads to.
    fn field(object: &Value, name: &str) -> String {
        plain(at(object, name))
    }
    /// See [`AnyKind::unknown_field`].
    fn unknown_field(name: &str) -> String {
        crate::unknown_field(name, Self::FIELDS)
    }
    /// See [`AnyKind::claims`].
    fn claims(_object: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// What a dotted path leads to.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, key| value.get(key).unwrap_or(&Value::Null))
}

/// A scalar as field selectors compare it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A kind without its type.
pub(crate) struct Erased<K>(pub(crate) K);

impl<K: Kind> Erased<K> {
    pub(crate) fn typed(value: &Value) -> Result<K::Object, Status> {
        // Conforming to the schema is checked before; what is left are values that the type cannot hold.
        serde::Deserialize::deserialize(value).map_err(|error: serde_json::Error| {
            let version = K::NAMES.version;
            let kind = K::NAMES.kind;
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
        })
    }

    /// The object as it is stored, with its generation one up if the spec is another one.
    fn counted(object: &K::Object, old_object: &K::Object, old: &Value) -> Result<Value, Status> {
        let mut new = serde_json::to_value(object).map_err(Status::internal)?;
        if K::GENERATION {
            let before = old_object.metadata().generation.unwrap_or(1);
            let changed = content(&new).ne(content(old)) && {
                let renewed = renewed::<K>(old)?;
                content(&new).ne(content(&renewed))
            };
            set_generation(&mut new, before + i64::from(changed));
        }
        Ok(new)
    }

    fn invalid(object: &K::Object, errs: &FieldErrors) -> Result<(), Status> {
        if errs.is_empty() {
            return Ok(());
        }
        let name = object.metadata().name.as_deref().unwrap_or_default();
        Err(Status::invalid(&K::NAMES, name, errs))
    }
}

impl<K: Kind> AnyKind for Erased<K> {
    fn names(&self) -> &'static Names {
        &const { K::NAMES }
    }

    fn scope(&self) -> Scope {
        K::SCOPE
    }

    fn subresources(&self) -> &'static [Subresource] {
        K::SUBRESOURCES
    }

    fn storage(&self) -> &'static str {
        K::STORAGE
    }

    fn verbs(&self) -> &'static [&'static str] {
        if K::DELETE_COLLECTION {
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        } else {
            &["create", "delete", "get", "list", "patch", "update", "watch"]
        }
    }

    fn columns(&self) -> &'static [ColumnHead] {
        K::COLUMNS
    }

    fn cells(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, Status> {
        let object = serde_json::from_slice(object).map_err(Status::internal)?;
        Ok(K::cells(&object, now))
    }

    fn defaulted(&self, object: &Value) -> Result<Value, Status> {
        renewed::<K>(object)
    }

    fn process(&self, new: Value, operation: Operation<'_>, cx: &WriteContext<'_>) -> Result<Value, Status> {
        let has_status = K::SUBRESOURCES.contains(&Subresource::Status);
        let mut errs = FieldErrors::default();
        match operation {
            Operation::Create => {
                let mut new = new;
                if has_status
                    && !K::STATUS_ON_CREATE
                    && let Some(map) = new.as_object_mut()
                {
                    map.shift_remove("status");
                }
                let mut object = Self::typed(&new)?;
                K::default(&mut object);
                if K::GENERATION {
                    object.metadata_mut().generation = Some(1);
                }
                K::prepare(&mut object, None, cx)?;
                meta::validate(object.metadata(), K::SCOPE, K::NAME_RULE, &mut errs);
                K::validate(&object, None, &mut errs);
                Self::invalid(&object, &errs)?;
                cx.warnings.extend(K::warnings(&object, None));
                serde_json::to_value(&object).map_err(Status::internal)
            }
            Operation::Update { old } => {
                let mut new = new;
                if has_status && let Some(map) = new.as_object_mut() {
                    put_or_remove(map, "status", old.get("status"));
                }
                let (mut object, old_object) = (Self::typed(&new)?, Self::typed(old)?);
                K::default(&mut object);
                K::prepare(&mut object, Some(&old_object), cx)?;
                meta::validate(object.metadata(), K::SCOPE, K::NAME_RULE, &mut errs);
                meta::validate_update(object.metadata(), old_object.metadata(), &mut errs);
                K::validate(&object, Some(&old_object), &mut errs);
                Self::invalid(&object, &errs)?;
                cx.warnings.extend(K::warnings(&object, Some(&old_object)));
                Self::counted(&object, &old_object, old)
            }
            Operation::UpdateStatus { old } => {
                let (mut object, old_object) = (Self::typed(&with_status_of(old, &new))?, Self::typed(old)?);
                K::prepare_status(&mut object, &old_object, cx)?;
                meta::validate(object.metadata(), K::SCOPE, K::NAME_RULE, &mut errs);
                meta::validate_update(object.metadata(), old_object.metadata(), &mut errs);
                K::validate_status(&object, &old_object, &mut errs);
                Self::invalid(&object, &errs)?;
                serde_json::to_value(&object).map_err(Status::internal)
            }
            Operation::UpdatePart { old, part } => {
                let (given, old_object) = (Self::typed(&new)?, Self::typed(old)?);
                let object = match K::part(part, &given, &old_object, cx)? {
                    Some(object) => object,
                    None => Self::typed(&with_status_of(old, &new))?,
                };
                meta::validate(object.metadata(), K::SCOPE, K::NAME_RULE, &mut errs);
                meta::validate_update(object.metadata(), old_object.metadata(), &mut errs);
                K::validate_part(part, &object, &old_object, &mut errs);
                Self::invalid(&object, &errs)?;
                Self::counted(&object, &old_object, old)
            }
        }
    }

    fn creates_on_update(&self) -> bool {
        K::CREATE_ON_UPDATE
    }

    fn updates_unconditionally(&self) -> bool {
        K::UNCONDITIONAL_UPDATE
    }

    fn proxied(&self) -> Option<Proxied> {
        K::PROXIED
    }

    fn orphans_dependents(&self) -> bool {
        K::ORPHAN_DEPENDENTS
    }

    fn orphan_warning(&self) -> Option<&'static str> {
        K::ORPHAN_WARNING
    }

    fn deprecation(&self) -> Option<&'static str> {
        K::DEPRECATION
    }

    fn shows_deleted(&self) -> bool {
        K::SHOW_DELETED
    }

    fn deletion(&self, object: &Value, grace: Option<i64>) -> Deletion {
        K::deletion(object, grace)
    }

    fn mark_deleted(&self, object: &mut Value) {
        K::mark_deleted(object);
    }

    fn held(&self, object: &Value) -> bool {
        K::held(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        K::FIELDS.iter().map(|name| (*name, K::field(object, name))).collect()
    }

    fn field_names(&self) -> &'static [&'static str] {
        K::FIELDS
    }

    fn unknown_field(&self, name: &str) -> String {
        K::unknown_field(name)
    }

    fn claims(&self, object: &Value) -> Vec<String> {
        K::claims(object)
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        K::SUBRESOURCES.contains(&Subresource::Scale).then(|| scale(object))
    }

    fn set_scale(&self, object: &mut Value, replicas: i64) {
        object["spec"]["replicas"] = replicas.into();
    }

    fn time_to_live(&self) -> Option<Duration> {
        K::TIME_TO_LIVE
    }
}

/// The old object with the status and the metadata of the new one, but for what its life hangs on: who may only write a
/// status neither keeps an object alive nor lets go of it.
fn with_status_of(old: &Value, new: &Value) -> Value {
    let mut merged = old.clone();
    if let Some(map) = merged.as_object_mut() {
        put_or_remove(map, "status", new.get("status"));
        put_or_remove(map, "metadata", new.get("metadata"));
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers"] {
                put_or_remove(metadata, field, old["metadata"].get(field));
            }
        }
    }
    merged
}

/// A stored object as the defaults of today would have it: a default that came in later is no change by the client.
fn renewed<K: Kind>(old: &Value) -> Result<Value, Status> {
    let mut object = Erased::<K>::typed(old)?;
    K::default(&mut object);
    serde_json::to_value(&object).map_err(Status::internal)
}

/// What the generation counts the changes of: all but metadata and status.
fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let apart = ["apiVersion", "kind", "metadata", "status"];
    object.as_object().into_iter().flatten().filter(move |(field, _)| !apart.contains(&field.as_str()))
}

fn set_generation(object: &mut Value, generation: i64) {
    object["metadata"]["generation"] = generation.into();
}

fn put_or_remove(map: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    match value {
        Some(value) => drop(map.insert(key.to_owned(), value.clone())),
        None => drop(map.shift_remove(key)),
    }
}

/// `autoscaling/v1` Scale of an object with `spec.replicas`, `status.replicas` and a label selector.
fn scale(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut meta = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        put_or_remove(&mut meta, key, metadata.get(key));
    }
    let selector = scale_selector(at(object, "spec.selector"));
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {},
        "status": {"replicas": at(object, "status.replicas").as_i64().unwrap_or(0)},
    });
    // Upstream writes neither a zero nor an empty text here; the status' count is there always.
    match at(object, "spec.replicas").as_i64().unwrap_or(1) {
        0 => {}
        replicas => scale["spec"]["replicas"] = replicas.into(),
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// A selector in the text form that a Scale has. Replication controllers hold a plain map of labels.
fn scale_selector(selector: &Value) -> String {
    let parsed = match serde::Deserialize::deserialize(selector) {
        Ok(labels) => Some(corten_api::selector::Labels::from_map(&labels)),
        Err(_) => serde::Deserialize::deserialize(selector)
            .ok()
            .and_then(|selector| corten_api::selector::Labels::from_selector(&selector).ok()),
    };
    parsed.map_or_else(String::new, |labels| labels.to_string())
}

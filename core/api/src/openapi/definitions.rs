//! Definitions as documents hold them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::operations::{DELETE_OPTIONS, Gvk, WATCH_EVENT};
use crate::schema::{Field, ListKind, MapKind, Schema, Type, descriptions};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// Kinds of discovery, which are no objects.
const DISCOVERY: [&str; 4] = ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions"];

/// Fields that are required besides those that k8s-openapi says are.
const REQUIRED: &[(&str, &str)] =
    &[("io.k8s.api.core.v1.Event", "metadata"), ("io.k8s.api.events.v1.Event", "eventTime")];

/// Fields of a union, and what its discriminator calls them.
type Members = [(&'static str, &'static str)];

/// Types of which one field counts: the type, the field that says which, and the fields by its values.
const UNIONS: &[(&str, &str, &Members)] = &[
    ("io.k8s.api.core.v1.AppArmorProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("io.k8s.api.core.v1.PodSchedulingGroup", "", &[("podGroupName", "PodGroupName")]),
    ("io.k8s.api.core.v1.SeccompProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("io.k8s.api.flowcontrol.v1.LimitResponse", "type", &[("queuing", "Queuing")]),
    (
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec",
        "type",
        &[("exempt", "Exempt"), ("limited", "Limited")],
    ),
    (
        "io.k8s.api.flowcontrol.v1.Subject",
        "kind",
        &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")],
    ),
];

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V2,
    V3,
}

impl Form {
    /// What a reference begins with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    /// A reference to a definition.
    pub(super) fn reference(self, definition: &str) -> Value {
        json!({"$ref": format!("{}{definition}", self.prefix())})
    }
}

/// All definitions, as schemars tells them, and the graph that knows more of their fields.
pub(super) struct Library {
    definitions: Map<String, Value>,
    schema: Schema,
    /// What kinds of all groups are of.
    group_versions: Vec<(&'static str, &'static str)>,
}

impl Library {
    pub(super) fn read(group_versions: Vec<(&'static str, &'static str)>) -> Self {
        Self { definitions: descriptions(), schema: Schema::build(), group_versions }
    }

    /// Name of the definition of a kind; that of nothing if there is none.
    pub(super) fn find(&self, (group, version, kind): Gvk) -> String {
        let found = self.schema.find(group, version, kind).and_then(|ty| self.schema.object(ty));
        found.map(|object| object.name.to_string()).unwrap_or_default()
    }

    /// The named definitions and everything they refer to.
    pub(super) fn closure(&self, roots: impl IntoIterator<Item = String>, form: Form) -> Map<String, Value> {
        let mut wanted: Vec<String> = roots.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if let Some(definition) = self.definitions.get(&name)
                && found.insert(name)
            {
                references(definition, &mut wanted);
            }
        }
        found.into_iter().map(|name| (name.clone(), self.definition(&name, form))).collect()
    }

    /// Group, version and kind of everything that a definition describes.
    fn kinds_of(&self, name: &str) -> Vec<Value> {
        let in_every_group = [DELETE_OPTIONS, WATCH_EVENT].contains(&name);
        let mut kinds: Vec<(&str, &str, &str)> = if in_every_group {
            let kind = name.rsplit('.').next().unwrap_or_default();
            let everywhere = self.group_versions.iter().map(|(group, version)| (*group, kind, *version));
            everywhere.collect()
        } else {
            let own = |ty| self.schema.object(ty).is_some_and(|object| *object.name == *name);
            let kinds = self.schema.kinds().filter(|(group, _, _, ty)| *group != "*" && own(*ty));
            let discovery = DISCOVERY.iter().filter(|kind| name.strip_prefix(META) == Some(*kind));
            kinds
                .map(|(group, version, kind, _)| (group, kind, version))
                .chain(discovery.map(|kind| ("", *kind, "v1")))
                .collect()
        };
        kinds.sort_unstable();
        let one = |(group, kind, version)| json!({"group": group, "kind": kind, "version": version});
        kinds.into_iter().map(one).collect()
    }

    fn definition(&self, name: &str, form: Form) -> Value {
        if let Some(special) = special(name, form) {
            return special;
        }
        let Some(source) = self.definitions.get(name) else { return json!({}) };
        let mut definition = Map::new();
        copy(source, "description", &mut definition);
        definition.insert("type".to_owned(), "object".into());
        let object = self.schema.definition(name).and_then(|ty| self.schema.object(ty));
        if let Some(properties) = source.get("properties").and_then(Value::as_object) {
            let properties: Map<String, Value> = properties
                .iter()
                .map(|(field, property)| {
                    let mut property = rewritten(property, form);
                    if let (Some(map), Some(known)) = (property.as_object_mut(), object.and_then(|o| o.field(field))) {
                        extend(map, known.facts(), matches!(self.schema.get(known.ty), Type::List(_)), form);
                    }
                    (field.clone(), property)
                })
                .collect();
            definition.insert("properties".to_owned(), properties.into());
        }
        if let Some(object) = object {
            let is_required = |field: &&Field| field.required && field.facts().default != Some("\"\"");
            let mut required: Vec<&str> =
                object.fields().iter().filter(is_required).map(|field| &*field.name).collect();
            required.extend(REQUIRED.iter().filter(|(of, _)| *of == name).map(|(_, field)| *field));
            required.sort_unstable();
            if !required.is_empty() {
                definition.insert("required".to_owned(), required.into());
            }
        }
        if object.is_none() {
            copy(source, "required", &mut definition);
            atomic_lists(&mut definition);
        }
        if object.is_some_and(|object| object.map == MapKind::Atomic) {
            definition.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        if let Some((_, discriminator, fields)) = UNIONS.iter().find(|(of, ..)| *of == name) {
            definition.insert("x-kubernetes-unions".to_owned(), union(discriminator, fields));
        }
        let kinds = self.kinds_of(name);
        if !kinds.is_empty() {
            definition.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
        definition.into()
    }
}

/// Lists of what discovery answers are owned as a whole.
fn atomic_lists(definition: &mut Map<String, Value>) {
    let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        // The one that upstream leaves undeclared.
        if property["type"] == "array" && name != "verbs" {
            property["x-kubernetes-list-type"] = "atomic".into();
        }
    }
}

/// A union: its discriminator, if it has one, and its fields by what the discriminator calls them.
fn union(discriminator: &str, fields: &Members) -> Value {
    let fields: Map<String, Value> =
        fields.iter().map(|(field, value)| ((*field).to_owned(), (*value).into())).collect();
    let mut union = json!({"fields-to-discriminateBy": fields});
    if !discriminator.is_empty() {
        union["discriminator"] = discriminator.into();
    }
    json!([union])
}

/// Adds what strategic merge and apply need to know.
fn extend(property: &mut Map<String, Value>, facts: &crate::schema::Facts, is_list: bool, form: Form) {
    let mut add = |name: &str, value: Value| property.insert(format!("x-kubernetes-{name}"), value);
    match &facts.list {
        ListKind::Undeclared => {}
        ListKind::Atomic => drop(add("list-type", "atomic".into())),
        ListKind::Set => drop(add("list-type", "set".into())),
        ListKind::Map(keys) => {
            add("list-type", "map".into());
            let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
            add("list-map-keys", keys.into());
        }
    }
    match facts.map {
        MapKind::Atomic if !is_list => drop(add("map-type", "atomic".into())),
        MapKind::Granular => drop(add("map-type", "granular".into())),
        _ => {}
    }
    if form == Form::V3
        && let Some(default) = facts.default.and_then(|text| serde_json::from_str(text).ok())
    {
        property.insert("default".to_owned(), default);
    }
    let mut add = |name: &str, value: Value| property.insert(format!("x-kubernetes-{name}"), value);
    if let Some(key) = &facts.merge_key {
        add("patch-merge-key", key.as_ref().into());
    }
    let strategies = [(facts.merge, "merge"), (facts.retain_keys, "retainKeys"), (facts.replace, "replace")];
    let strategy: Vec<&str> = strategies.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    if !strategy.is_empty() {
        add("patch-strategy", strategy.join(",").into());
    }
}

/// A property with its references in this document, and without what OpenAPI does not know.
fn rewritten(property: &Value, form: Form) -> Value {
    let mut new = Map::new();
    if let Some(name) = property.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
        copy(property, "description", &mut new);
        let reference = form.reference(name);
        match form {
            // Siblings of a reference are ignored in v3.
            Form::V3 => {
                new.insert("allOf".to_owned(), json!([reference]));
            }
            Form::V2 => {
                new.insert("$ref".to_owned(), reference["$ref"].clone());
            }
        }
        return new.into();
    }
    for key in ["description", "type", "format"] {
        copy(property, key, &mut new);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = property.get(key).filter(|inner| inner.is_object()) {
            new.insert(key.to_owned(), plain(rewritten(inner, form)));
        }
    }
    new.into()
}

/// A lone reference needs no wrapping.
fn plain(schema: Value) -> Value {
    match schema.get("allOf").and_then(|all| all.get(0)) {
        Some(reference) if schema.get("description").is_none() => reference.clone(),
        _ => schema,
    }
}

fn copy(from: &Value, key: &str, to: &mut Map<String, Value>) {
    if let Some(value) = from.get(key) {
        to.insert(key.to_owned(), value.clone());
    }
}

/// Names that a definition refers to.
pub(super) fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
                into.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, into));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, into)),
        _ => {}
    }
}

/// Definitions whose JSON is not what their struct says.
fn special(name: &str, form: Form) -> Option<Value> {
    let (_, short) = name.rsplit_once('.')?;
    Some(match (short, form) {
        ("Quantity", Form::V2) => json!({"type": "string", "description": "A fixed-point number such as 100m or 1Gi."}),
        ("Quantity", Form::V3) => json!({
            "description": "A fixed-point number such as 100m or 1Gi.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        }),
        ("IntOrString", Form::V2) => {
            json!({"type": "string", "format": "int-or-string", "description": "A 32-bit number or a text."})
        }
        ("IntOrString", Form::V3) => json!({
            "description": "A 32-bit number or a text.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }),
        ("Time" | "MicroTime", _) => {
            json!({"type": "string", "format": "date-time", "description": "A moment, as RFC 3339 writes it."})
        }
        ("FieldsV1" | "RawExtension", _) => json!({"type": "object", "description": "Any object."}),
        _ => return None,
    })
}

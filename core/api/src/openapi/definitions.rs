//! Definitions as documents hold them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::schema::{ListKind, MapKind, Schema, Type, descriptions};

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
}

/// All definitions, as schemars tells them, and the graph that knows more of their fields.
pub(super) struct Library {
    definitions: Map<String, Value>,
    schema: Schema,
}

impl Library {
    pub(super) fn read() -> Self {
        Self { definitions: descriptions(), schema: Schema::build() }
    }

    /// The definitions of the kinds and of everything they refer to.
    pub(super) fn closure(&self, kinds: &[(String, String, String)], form: Form) -> Map<String, Value> {
        let roots = kinds.iter().filter_map(|(group, version, kind)| {
            Some(self.schema.object(self.schema.find(group, version, kind)?)?.name.to_string())
        });
        let mut wanted: Vec<String> = roots.collect();
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
                        extend(map, known.facts(), matches!(self.schema.get(known.ty), Type::List(_)));
                    }
                    (field.clone(), property)
                })
                .collect();
            definition.insert("properties".to_owned(), properties.into());
        }
        if let Some(object) = object {
            let mut required: Vec<&str> =
                object.fields().iter().filter(|field| field.required).map(|field| &*field.name).collect();
            required.sort_unstable();
            if !required.is_empty() {
                definition.insert("required".to_owned(), required.into());
            }
        }
        let kinds: Vec<Value> = self
            .schema
            .kinds()
            .filter(|(group, _, _, ty)| *group != "*" && self.schema.object(*ty).is_some_and(|o| *o.name == *name))
            .map(|(group, version, kind, _)| json!({"group": group, "kind": kind, "version": version}))
            .collect();
        if !kinds.is_empty() {
            definition.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
        definition.into()
    }
}

/// Adds what strategic merge and apply need to know.
fn extend(property: &mut Map<String, Value>, facts: &crate::schema::Facts, is_list: bool) {
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
    if facts.map == MapKind::Atomic && !is_list {
        add("map-type", "atomic".into());
    }
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
        let reference = json!({"$ref": format!("{}{name}", form.prefix())});
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
fn references(value: &Value, into: &mut Vec<String>) {
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

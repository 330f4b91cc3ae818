//! From schemars' definitions and the fact table to the graph.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::facts::{Facts, ListKind, MapKind, Table};
use super::{Field, Object, Scalar, Schema, Type, TypeRef, roots};

pub(super) fn schema() -> Schema {
    let (definitions, roots) = roots::definitions();
    let mut builder = Builder::default();
    for name in definitions.keys() {
        builder.declare(name);
    }
    let table = Table::read();
    for (name, definition) in &definitions {
        builder.define(name, definition, &table);
    }
    let mut schema = builder.schema;
    for root in roots {
        if let Some(&ty) = schema.definitions.get(root.definition.as_str()) {
            schema.kinds.insert(root.gvk, ty);
        }
    }
    schema.types.shrink_to_fit();
    schema
}

#[derive(Default)]
struct Builder {
    schema: Schema,
    /// Types without name, so that there is one of each.
    scalars: HashMap<Scalar, TypeRef>,
    lists: HashMap<TypeRef, TypeRef>,
    maps: HashMap<TypeRef, TypeRef>,
    any: Option<TypeRef>,
    strings: HashSet<Arc<str>>,
}

impl Builder {
    fn add(&mut self, ty: Type) -> TypeRef {
        let index = u32::try_from(self.schema.types.len()).unwrap_or(u32::MAX);
        self.schema.types.push(ty);
        TypeRef(index)
    }

    fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.strings.insert(Arc::clone(&new));
        new
    }

    /// Gives a definition its place in the graph, so that others can refer to it.
    fn declare(&mut self, name: &str) {
        let ty = match special(name) {
            Some(Type::Scalar(scalar)) => self.scalar(scalar),
            Some(_) => self.any(),
            None => self.add(Type::Any),
        };
        let name = self.string(name);
        self.schema.definitions.insert(name, ty);
    }

    fn define(&mut self, name: &str, definition: &Value, table: &Table) {
        if special(name).is_some() {
            return;
        }
        let Some(&ty) = self.schema.definitions.get(name) else { return };
        let facts = table.of(name);
        let no_fields = Map::new();
        let properties = definition.get("properties").and_then(Value::as_object).unwrap_or(&no_fields);
        let mut fields: Vec<Field> = properties
            .iter()
            .map(|(field, property)| {
                let ty = self.type_of(property);
                let facts = facts.and_then(|facts| facts.get(field.as_str())).cloned();
                Field {
                    name: self.string(field),
                    ty,
                    required: is_required(definition, field),
                    facts: facts.map(|facts| Box::new(self.settle(facts, ty))),
                }
            })
            .collect();
        fields.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let map = facts.and_then(|facts| facts.get("")).map_or(MapKind::Undeclared, |facts| facts.map);
        let object = Object { name: self.string(name), map, fields: fields.into() };
        if let Some(place) = self.schema.types.get_mut(ty.0 as usize) {
            *place = Type::Object(object);
        }
    }

    /// `atomic` means the list or the map, whichever the field is.
    fn settle(&self, mut facts: Facts, ty: TypeRef) -> Facts {
        // Bytes are a list of bytes to Go.
        let is_list = matches!(self.schema.get(ty), Type::List(_) | Type::Scalar(Scalar::Bytes));
        if facts.list == ListKind::Atomic && !is_list {
            facts.list = ListKind::Undeclared;
            facts.map = MapKind::Atomic;
        }
        facts
    }

    fn type_of(&mut self, property: &Value) -> TypeRef {
        if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
            let known = self.schema.definitions.get(name).copied();
            return known.unwrap_or_else(|| self.any());
        }
        let format = property.get("format").and_then(Value::as_str);
        match (property.get("type").and_then(Value::as_str), format) {
            (Some("string"), Some("byte")) => self.scalar(Scalar::Bytes),
            (Some("string"), Some("date-time")) => self.scalar(Scalar::Time),
            (Some("string"), _) => self.scalar(Scalar::String),
            (Some("integer"), Some("int32")) => self.scalar(Scalar::Int32),
            (Some("integer"), _) => self.scalar(Scalar::Int64),
            (Some("number"), _) => self.scalar(Scalar::Double),
            (Some("boolean"), _) => self.scalar(Scalar::Bool),
            (Some("array"), _) => {
                let item = self.inner(property.get("items"));
                if let Some(&list) = self.lists.get(&item) {
                    return list;
                }
                let list = self.add(Type::List(item));
                self.lists.insert(item, list);
                list
            }
            (Some("object"), _) if property.get("additionalProperties").is_some_and(Value::is_object) => {
                let value = self.inner(property.get("additionalProperties"));
                if let Some(&map) = self.maps.get(&value) {
                    return map;
                }
                let map = self.add(Type::Map(value));
                self.maps.insert(value, map);
                map
            }
            _ => self.any(),
        }
    }

    fn inner(&mut self, property: Option<&Value>) -> TypeRef {
        match property {
            Some(property) => self.type_of(property),
            None => self.any(),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> TypeRef {
        if let Some(&ty) = self.scalars.get(&scalar) {
            return ty;
        }
        let ty = self.add(Type::Scalar(scalar));
        self.scalars.insert(scalar, ty);
        ty
    }

    fn any(&mut self) -> TypeRef {
        if let Some(ty) = self.any {
            return ty;
        }
        let ty = self.add(Type::Any);
        self.any = Some(ty);
        ty
    }
}

/// `metadata` is never required, whatever k8s-openapi says.
fn is_required(definition: &Value, field: &str) -> bool {
    let required = definition.get("required").and_then(Value::as_array);
    field != "metadata" && required.is_some_and(|required| required.iter().any(|name| name.as_str() == Some(field)))
}

/// Definitions that are no structs.
fn special(name: &str) -> Option<Type> {
    const META: &str = "io.k8s.apimachinery.pkg.";
    const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
    if let Some(name) = name.strip_prefix(META) {
        return Some(match name {
            "api.resource.Quantity" => Type::Scalar(Scalar::Quantity),
            "apis.meta.v1.Time" => Type::Scalar(Scalar::Time),
            "apis.meta.v1.MicroTime" => Type::Scalar(Scalar::MicroTime),
            "util.intstr.IntOrString" => Type::Scalar(Scalar::IntOrString),
            "apis.meta.v1.FieldsV1" | "runtime.RawExtension" => Type::Any,
            _ => return None,
        });
    }
    match name.strip_prefix(EXTENSIONS)? {
        "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray"
        | "CustomResourceSubresourceStatus" => Some(Type::Any),
        _ => None,
    }
}

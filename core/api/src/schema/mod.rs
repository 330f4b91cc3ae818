//! The schema graph: every type, every field, in one place.
//!
//! Joined from k8s-openapi's schemars output (names, types) and our own fact tables (list types and keys, merge
//! strategies, Go type names). Serves decoding, defaulting, patches, OpenAPI and explain.
//!
//! Architecture invariant: descriptions are not held in memory; OpenAPI asks schemars for them again.

mod build;
mod facts;
mod roots;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use facts::{Facts, ListKind, MapKind};

/// A type in the graph, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(pub u32);

/// The graph. Built once at start (a few milliseconds), immutable.
#[derive(Debug, Default)]
pub struct Schema {
    types: Vec<Type>,
    /// By definition name.
    definitions: HashMap<Arc<str>, TypeRef>,
    /// (group, version, kind); a group of `*` stands for every group.
    kinds: HashMap<(&'static str, &'static str, &'static str), TypeRef>,
}

/// The shape of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A struct: known fields.
    Object(Object),
    /// Any keys, values of one type.
    Map(TypeRef),
    /// Items of one type.
    List(TypeRef),
    /// A value without parts.
    Scalar(Scalar),
    /// Anything: raw JSON that is kept as it is.
    Any,
}

/// Values without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// A number with fraction.
    Double,
    /// Bytes, written as base64.
    Bytes,
    /// Time to the second.
    Time,
    /// Time to the microsecond.
    MicroTime,
    /// A 32-bit number or text.
    IntOrString,
    /// A quantity such as `100m`.
    Quantity,
}

/// A struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Definition name, such as `io.k8s.api.core.v1.PodSpec`.
    pub name: Arc<str>,
    /// Whether server-side apply sees it as one value.
    pub map: MapKind,
    /// Sorted by name.
    fields: Box<[Field]>,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// JSON name.
    pub name: Arc<str>,
    /// Type of its value.
    pub ty: TypeRef,
    /// Whether the OpenAPI document requires it.
    pub required: bool,
    facts: Option<Box<Facts>>,
}

impl Schema {
    /// Builds the graph of all kinds that are served.
    #[must_use]
    pub fn build() -> Self {
        build::schema()
    }

    /// The type of a kind.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Option<TypeRef> {
        let exact = self.kinds.get(&(group, version, kind));
        exact.or_else(|| self.kinds.get(&("*", version, kind))).copied()
    }

    /// The type of a definition, such as `io.k8s.api.core.v1.Pod`.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<TypeRef> {
        self.definitions.get(name).copied()
    }

    /// All kinds: group (`*` for every group), version, kind and type, in no particular order.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, TypeRef)> {
        self.kinds.iter().map(|(&(group, version, kind), &ty)| (group, version, kind, ty))
    }

    /// The shape of a type. A reference from another graph is `Any`.
    #[must_use]
    pub fn get(&self, ty: TypeRef) -> &Type {
        self.types.get(ty.0 as usize).unwrap_or(&Type::Any)
    }

    /// The struct behind a type, if it is one.
    #[must_use]
    pub fn object(&self, ty: TypeRef) -> Option<&Object> {
        match self.get(ty) {
            Type::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The type that a dotted path of fields leads to, through lists and maps: `spec.containers.ports`.
    #[must_use]
    pub fn walk(&self, from: TypeRef, path: &str) -> Option<&Field> {
        let mut ty = from;
        let mut found = None;
        for name in path.split('.') {
            while let Type::List(inner) | Type::Map(inner) = self.get(ty) {
                ty = *inner;
            }
            let field = self.object(ty)?.field(name)?;
            ty = field.ty;
            found = Some(field);
        }
        found
    }

    /// How Go prints the type: `v1.PodSpec`, `[]string`, `map[string]string`.
    #[must_use]
    pub fn go_type(&self, ty: TypeRef) -> String {
        match self.get(ty) {
            Type::Object(object) => object.go_type().to_owned(),
            Type::Map(inner) => format!("map[string]{}", self.go_type(*inner)),
            Type::List(inner) => format!("[]{}", self.go_type(*inner)),
            Type::Scalar(scalar) => scalar.go_type().to_owned(),
            Type::Any => "runtime.RawExtension".to_owned(),
        }
    }

    /// Rough size in memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let fields: usize = self.types.iter().map(Type::memory).sum();
        let tables = self.definitions.capacity() * (size_of::<(Arc<str>, TypeRef)>() + 1);
        fields + tables + self.types.capacity() * size_of::<Type>()
    }
}

impl Type {
    fn memory(&self) -> usize {
        let Self::Object(object) = self else { return 0 };
        let facts = object.fields.iter().filter(|field| field.facts.is_some()).count();
        object.name.len() + object.fields.len() * size_of::<Field>() + facts * size_of::<Facts>()
    }
}

impl Object {
    /// The fields, sorted by name.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A field by its JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// `PodSpec`.
    #[must_use]
    pub fn go_name(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(_, name)| name)
    }

    /// `v1.PodSpec`.
    #[must_use]
    pub fn go_type(&self) -> &str {
        let dots = self.name.rmatch_indices('.').nth(1);
        dots.map_or(&self.name, |(at, _)| &self.name[at + 1..])
    }
}

impl Field {
    /// What is known of the field besides its type.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        static NONE: Facts = Facts {
            list: ListKind::Undeclared,
            map: MapKind::Undeclared,
            merge: false,
            merge_key: None,
            retain_keys: false,
            replace: false,
            go: None,
            default: None,
        };
        self.facts.as_deref().unwrap_or(&NONE)
    }
}

impl Scalar {
    /// How Go prints the type.
    #[must_use]
    pub fn go_type(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Double => "float64",
            Self::Bytes => "[]uint8",
            Self::Time => "v1.Time",
            Self::MicroTime => "v1.MicroTime",
            Self::IntOrString => "intstr.IntOrString",
            Self::Quantity => "resource.Quantity",
        }
    }
}

/// All definitions as schemars tells them, with descriptions; references read `#/$defs/NAME`.
/// Takes milliseconds and megabytes: for OpenAPI documents only, and not to be kept.
pub(crate) fn descriptions() -> Map<String, Value> {
    roots::documented()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_fields_are_found() {
        let schema = Schema::build();
        let deployment = schema.find("apps", "v1", "Deployment").unwrap();
        assert_eq!(schema.definition("io.k8s.api.apps.v1.Deployment"), Some(deployment));
        let containers = schema.walk(deployment, "spec.template.spec.containers").unwrap();
        assert_eq!(containers.facts().merge_key.as_deref(), Some("name"));
        assert_eq!(schema.go_type(containers.ty), "[]v1.Container");
        let image = schema.walk(deployment, "spec.template.spec.containers.image").unwrap();
        assert_eq!(schema.get(image.ty), &Type::Scalar(Scalar::String));
        for (path, scalar) in [
            ("metadata.creationTimestamp", Scalar::Time),
            ("spec.replicas", Scalar::Int32),
            ("spec.strategy.rollingUpdate.maxSurge", Scalar::IntOrString),
            ("spec.template.spec.terminationGracePeriodSeconds", Scalar::Int64),
            ("spec.template.spec.hostNetwork", Scalar::Bool),
        ] {
            assert_eq!(schema.get(schema.walk(deployment, path).unwrap().ty), &Type::Scalar(scalar), "{path}");
        }
        let limits = schema.walk(deployment, "spec.template.spec.containers.resources.limits").unwrap();
        assert_eq!(limits.facts().go, Some("v1.ResourceList"));
        assert_eq!(schema.go_type(limits.ty), "map[string]resource.Quantity");
        assert!(schema.find("apps", "v1", "DeleteOptions").is_some());
        assert!(schema.find("", "v1", "PodList").is_some());
        assert!(schema.find("", "v1", "Gizmo").is_none());
    }

    #[test]
    fn the_graph_is_small() {
        let schema = Schema::build();
        assert!(schema.memory() < 512 << 10, "{} bytes", schema.memory());
    }
}

//! How the schema splits values into parts that can have owners.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::Element;
use crate::schema::{Facts, Field, ListKind, MapKind, Object, Scalar, Schema, Type, TypeRef};

/// A place in the schema.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) schema: &'a Schema,
    pub(super) ty: TypeRef,
    facts: Option<&'a Facts>,
}

/// What values at a place are made of.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// One value with one owner: a scalar, or a list or map that is replaced as a whole.
    Leaf,
    /// Unique scalars.
    Set,
    /// Objects told apart by these fields.
    Keyed(&'a [Cow<'static, str>], Node<'a>),
    /// Known fields.
    Struct(&'a Object),
    /// Any keys.
    Map(Node<'a>),
}

impl<'a> Node<'a> {
    pub(super) fn root(schema: &'a Schema, ty: TypeRef) -> Self {
        Self { schema, ty, facts: None }
    }

    pub(super) fn field(self, field: &'a Field) -> Self {
        Self { schema: self.schema, ty: field.ty, facts: Some(field.facts()) }
    }

    /// The type of a list's items or a map's values.
    pub(super) fn inner(self, ty: TypeRef) -> Self {
        Self { schema: self.schema, ty, facts: None }
    }

    pub(super) fn is_any(self) -> bool {
        matches!(self.schema.get(self.ty), Type::Any)
    }

    /// The shape of values here; of raw JSON, the shape of this value.
    pub(super) fn shape(self, value: Option<&Value>) -> Shape<'a> {
        let atomic = self.facts.is_some_and(|facts| facts.map == MapKind::Atomic);
        match self.schema.get(self.ty) {
            Type::Scalar(_) => Shape::Leaf,
            Type::Any if !atomic && value.is_some_and(Value::is_object) => Shape::Map(self),
            Type::Any => Shape::Leaf,
            Type::Object(_) | Type::Map(_) if atomic => Shape::Leaf,
            Type::Object(object) => match (object.map, self.facts.map(|facts| facts.map)) {
                (MapKind::Atomic, Some(MapKind::Granular)) => Shape::Struct(object),
                (MapKind::Atomic, _) => Shape::Leaf,
                _ => Shape::Struct(object),
            },
            Type::Map(inner) => Shape::Map(self.inner(*inner)),
            Type::List(item) => match self.facts.map(|facts| &facts.list) {
                Some(ListKind::Set) => Shape::Set,
                Some(ListKind::Map(keys)) => Shape::Keyed(keys, self.inner(*item)),
                _ => Shape::Leaf,
            },
        }
    }

    /// The step to an item of a list, if it has one.
    pub(super) fn element(self, shape: Shape<'a>, item: &Value) -> Result<Element, String> {
        match shape {
            Shape::Keyed(keys, node) => node.key(keys, item).map(|fields| Element::Key(fields.into())),
            _ => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                scalar => Ok(Element::Value(scalar.clone())),
            },
        }
    }

    fn key(self, keys: &[Cow<'static, str>], item: &Value) -> Result<Vec<(Arc<str>, Value)>, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut fields = Vec::with_capacity(keys.len());
        for key in keys {
            let field = self.schema.object(self.ty).and_then(|object| object.field(key));
            let name = || field.map_or_else(|| Arc::from(&**key), |field| Arc::clone(&field.name));
            match map.get(&**key) {
                Some(value) => fields.push((name(), value.clone())),
                None => fields.extend(field.and_then(|field| self.default(field)).map(|value| (name(), value))),
            }
        }
        if fields.is_empty() {
            let quoted: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                quoted.join(" ")
            ));
        }
        if fields.len() > 1 {
            fields.sort_by(|left, right| left.0.cmp(&right.0));
        }
        Ok(fields)
    }

    /// What a key that is left out is taken for: its default, or if it is required, its zero.
    fn default(self, field: &Field) -> Option<Value> {
        if let Some(default) = field.facts().default {
            return serde_json::from_str(default).ok();
        }
        match self.schema.get(field.ty) {
            Type::Scalar(Scalar::Int32 | Scalar::Int64) if field.required => Some(0.into()),
            Type::Scalar(Scalar::String) if field.required => Some("".into()),
            _ => None,
        }
    }

    /// What Go writes for a field that was left out of a struct: `{}` for structs held by value, null for what it does
    /// not omit. Go's side of a comparison always has these.
    pub(super) fn absent(self, object: &Object, field: &Field) -> Option<&'static Value> {
        static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
        static NULL: Value = Value::Null;
        match self.schema.get(field.ty) {
            Type::Object(_) if is_by_value(object.go_name(), &field.name) => Some(&EMPTY),
            Type::Object(_) | Type::List(_) | Type::Map(_) if field.required => Some(&NULL),
            _ => None,
        }
    }
}

/// The items of a list by their steps. Items without a step are passed over.
pub(super) struct Index<'a> {
    order: Vec<Element>,
    /// The items of each step, in that order.
    items: Vec<Vec<&'a Value>>,
    /// Where steps are in the order: for lists that are too long to look through.
    places: BTreeMap<Element, usize>,
}

/// Longest list that is looked through.
const SHORT: usize = 12;

impl<'a> Index<'a> {
    pub(super) fn new(node: Node<'_>, shape: Shape<'_>, list: &'a [Value]) -> Self {
        let order = Vec::with_capacity(list.len());
        let mut index = Self { order, items: Vec::with_capacity(list.len()), places: BTreeMap::new() };
        let is_long = list.len() > SHORT;
        for item in list {
            let Ok(element) = node.element(shape, item) else { continue };
            let place = if is_long {
                index.places.get(&element).copied()
            } else {
                index.order.iter().position(|own| *own == element)
            };
            match place.and_then(|place| index.items.get_mut(place)) {
                Some(same) => same.push(item),
                None => {
                    if is_long {
                        index.places.insert(element.clone(), index.order.len());
                    }
                    index.order.push(element);
                    index.items.push(vec![item]);
                }
            }
        }
        index
    }

    /// The steps, in the order in which they come first.
    pub(super) fn order(&self) -> &[Element] {
        &self.order
    }

    /// The items of a step.
    pub(super) fn get(&self, element: &Element) -> &[&'a Value] {
        let place = if self.places.is_empty() {
            self.order.iter().position(|own| own == element)
        } else {
            self.places.get(element).copied()
        };
        place.and_then(|place| self.items.get(place)).map_or(&[], Vec::as_slice)
    }

    /// The item of a step, if it is the only one.
    pub(super) fn single(&self, element: &Element) -> Option<&'a Value> {
        match self.get(element) {
            [item] => Some(item),
            _ => None,
        }
    }
}

/// Whether Go holds the struct in the field itself, not a pointer to it.
fn is_by_value(holder: &str, field: &str) -> bool {
    match field {
        "metadata" | "spec" | "status" | "updateStrategy" | "jobTemplate" | "scaleTargetRef" | "loadBalancer" => true,
        "template" => holder != "ReplicationControllerSpec",
        "resources" => {
            matches!(holder, "Container" | "EphemeralContainer" | "PersistentVolumeClaimSpec")
        }
        "state" | "lastState" => holder == "ContainerStatus",
        "source" => matches!(holder, "Event" | "VolumeAttachmentSpec"),
        "involvedObject" | "regarding" | "deprecatedSource" => holder == "Event",
        "daemonEndpoints" | "nodeInfo" => holder == "NodeStatus",
        "kubeletEndpoint" => holder == "NodeDaemonEndpoints",
        "target" | "current" | "metric" | "describedObject" => holder.contains("Metric") || holder == "Binding",
        "strategy" => holder == "DeploymentSpec",
        "conditions" => holder == "Endpoint",
        "priorityLevelConfiguration" => holder == "FlowSchemaSpec",
        "limitResponse" => holder == "LimitedPriorityLevelConfiguration",
        "backend" => holder == "HTTPIngressPath",
        "port" => holder == "IngressServiceBackend",
        "podSelector" => holder == "NetworkPolicySpec",
        "roleRef" => matches!(holder, "RoleBinding" | "ClusterRoleBinding"),
        "clientConfig" => matches!(holder, "MutatingWebhook" | "ValidatingWebhook"),
        "names" => holder == "CustomResourceDefinitionSpec",
        "acceptedNames" => holder == "CustomResourceDefinitionStatus",
        "preference" => holder == "PreferredSchedulingTerm",
        "podAffinityTerm" => holder == "WeightedPodAffinityTerm",
        "devices" => matches!(holder, "AllocationResult" | "ResourceClaimSpec"),
        "pool" => holder == "ResourceSliceSpec",
        "schedulingPolicy" => matches!(holder, "PodGroupSpec" | "PodGroupTemplate"),
        _ => false,
    }
}

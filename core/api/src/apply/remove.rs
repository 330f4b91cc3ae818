//! Takes paths out of an object.

use serde_json::{Map, Value};

use super::FieldSet;
use super::shape::{Node, Shape};

/// The value without what is in the set; `None` if nothing is left of it.
pub(super) fn remove(node: Node<'_>, value: &Value, set: &FieldSet) -> Option<Value> {
    let shape = node.shape(Some(value));
    match (shape, value) {
        (Shape::Set | Shape::Keyed(..), Value::Array(items)) => {
            let left: Vec<Value> = items
                .iter()
                .filter_map(|item| {
                    let Ok(element) = node.element(shape, item) else { return Some(item.clone()) };
                    if set.has(&element) {
                        return None;
                    }
                    match (shape, set.child(&element)) {
                        (Shape::Keyed(_, inner), Some(below)) => remove(inner, item, below),
                        _ => Some(item.clone()),
                    }
                })
                .collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        (Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => {
            let mut left = Map::with_capacity(map.len());
            for (key, value) in map {
                let element = super::Element::field(key);
                if set.has(&element) {
                    continue;
                }
                let inner = match shape {
                    Shape::Struct(object) => object.field(key).map(|field| node.field(field)),
                    Shape::Map(inner) => Some(inner),
                    _ => None,
                };
                let rest = match (inner, set.child(&element)) {
                    (Some(inner), Some(below)) => remove(inner, value, below),
                    _ => Some(value.clone()),
                };
                if let Some(rest) = rest {
                    left.insert(key.clone(), rest);
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        _ => Some(value.clone()),
    }
}

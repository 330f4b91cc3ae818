//! Puts an applied configuration over a live object.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Element;
use super::shape::{Index, Node, Shape};

/// The live value with the configuration over it: what the configuration says wins, everything else stays.
pub(super) fn merge(node: Node<'_>, live: Option<&Value>, config: &Value) -> Value {
    let Some(live) = live else { return merged(node, None, config) };
    if node.is_any() && live.is_object() != config.is_object() && !config.is_null() {
        return config.clone();
    }
    merged(node, Some(live), config)
}

fn merged(node: Node<'_>, live: Option<&Value>, config: &Value) -> Value {
    let shape = node.shape(Some(if config.is_null() { live.unwrap_or(config) } else { config }));
    match shape {
        Shape::Leaf => config.clone(),
        Shape::Set | Shape::Keyed(..) => {
            let of = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
            let (old, new) = (of(live), of(Some(config)));
            // Both empty: the configuration may tell null from an empty list.
            if old.is_empty() && new.is_empty() {
                return config.clone();
            }
            Value::Array(list(node, shape, &old, &new))
        }
        Shape::Struct(_) | Shape::Map(_) => {
            let empty = Map::new();
            let (old, new) = (live.and_then(Value::as_object).unwrap_or(&empty), config.as_object().unwrap_or(&empty));
            if old.is_empty() && new.is_empty() {
                return config.clone();
            }
            let mut map = old.clone();
            for (key, value) in new {
                let inner = match shape {
                    Shape::Struct(object) => match object.field(key) {
                        Some(field) => node.field(field),
                        None => continue,
                    },
                    Shape::Map(inner) => inner,
                    _ => continue,
                };
                let value = merge(inner, old.get(key), value);
                map.insert(key.clone(), value);
            }
            Value::Object(map)
        }
    }
}

/// Items of both lists. Items of the configuration stand in its order; items that only the live list has stay where
/// they are, as far as the configuration's order lets them.
fn list(node: Node<'_>, shape: Shape<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (old, new) = (Index::new(node, shape, live), Index::new(node, shape, config));
    // Of the live list each item, also those whose key appears twice.
    let live: Vec<(Element, &Value)> =
        live.iter().filter_map(|item| Some((node.element(shape, item).ok()?, item))).collect();
    let config = new.order();
    let mut shared = config.iter().filter(|element| !old.get(element).is_empty()).peekable();
    let joined = |element: &Element| -> Option<Value> {
        let item = new.single(element)?;
        Some(match shape {
            Shape::Keyed(_, inner) => merge(inner, old.single(element), item),
            _ => item.clone(),
        })
    };
    let mut result = Vec::with_capacity(live.len().max(config.len()));
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if let (Some((here, _)), Some(wanted)) = (live.get(left), config.get(right)) {
            if here == wanted {
                result.extend(joined(wanted));
                done.insert(wanted);
                shared.next();
                (left, right) = (left + 1, right + 1);
                continue;
            }
            // Shared, but not the one whose turn it is: the configuration's order will bring it.
            if !new.get(here).is_empty() && shared.peek().is_some_and(|next| *next != here) {
                left += 1;
                continue;
            }
        }
        if let Some((here, item)) = live.get(left) {
            if new.get(here).is_empty() {
                result.push((*item).clone());
                left += 1;
                continue;
            }
            if done.contains(here) {
                left += 1;
            }
        }
        if let Some(wanted) = config.get(right) {
            result.extend(joined(wanted));
            done.insert(wanted);
            if shared.peek().is_some_and(|next| *next == wanted) {
                shared.next();
            }
            right += 1;
        }
    }
    result
}

//! Strategic merge patch: lists of objects are merged by key, and directives say more than values can.
//!
//! Behaviour: k8s.io/apimachinery/pkg/util/strategicpatch. Directives:
//! `$patch: replace|delete|merge` in an object, or in an item of a list; `$retainKeys: [..]` in an object;
//! `$setElementOrder/FIELD: [..]` and `$deleteFromPrimitiveList/FIELD: [..]` beside the list's field.

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Facts, Schema, Type, TypeRef};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch, with all directives, by the merge keys of the schema. All or nothing.
pub fn strategic_merge_patch(
    schema: &Schema,
    root: TypeRef,
    target: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    let (Value::Object(map), Value::Object(patch)) = (&*target, patch) else {
        return Err(PatchError::malformed("a strategic merge patch must be an object"));
    };
    *target = Value::Object(merge_maps(schema, Some(root), map.clone(), patch)?);
    Ok(())
}

/// The type and facts of a field; `None` where the schema says nothing.
fn field<'a>(schema: &'a Schema, ty: Option<TypeRef>, name: &str) -> (Option<TypeRef>, Option<&'a Facts>) {
    match ty.map(|ty| schema.get(ty)) {
        Some(Type::Object(object)) => {
            object.field(name).map_or((None, None), |field| (Some(field.ty), Some(field.facts())))
        }
        Some(Type::Map(inner)) => (Some(*inner), None),
        _ => (None, None),
    }
}

fn merge_maps(
    schema: &Schema,
    ty: Option<TypeRef>,
    mut target: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE).map(|value| value.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            let mut new = patch.clone();
            new.shift_remove(DIRECTIVE);
            return Ok(new);
        }
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(PatchError::malformed(format!("Unknown patch type found: {other}"))),
    }
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        let names = strings(retain, RETAIN_KEYS)?;
        if let Some(stray) = patch.keys().find(|key| !key.starts_with('$') && !names.contains(&key.as_str())) {
            return Err(PatchError::unfit(format!("{stray} is in the patch but not in the {RETAIN_KEYS} list")));
        }
        target.retain(|key, _| names.contains(&key.as_str()));
    }
    for (name, values) in patch.iter().filter_map(|(key, value)| Some((key.strip_prefix(DELETE_FROM)?, value))) {
        let Value::Array(values) = values else {
            return Err(PatchError::malformed(format!("{DELETE_FROM}{name} must be a list")));
        };
        if let Some(Value::Array(list)) = target.get_mut(name) {
            list.retain(|item| !values.contains(item));
        }
    }
    for (key, change) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let (field_type, facts) = field(schema, ty, key);
        if change.is_null() {
            target.shift_remove(key);
            continue;
        }
        let merged = match (target.get_mut(key).map(Value::take), change) {
            (Some(Value::Object(_)), Value::Object(change)) if facts.is_some_and(|facts| facts.replace) => {
                let mut new = change.clone();
                new.shift_remove(DIRECTIVE);
                Value::Object(new)
            }
            (Some(Value::Object(old)), Value::Object(change)) => {
                Value::Object(merge_maps(schema, field_type, old, change)?)
            }
            (_, Value::Object(change)) => Value::Object(merge_maps(schema, field_type, Map::new(), change)?),
            (old, Value::Array(change)) if facts.is_some_and(|facts| facts.merge) => {
                let old = if let Some(Value::Array(old)) = old { old } else { Vec::new() };
                let order = patch.get(&format!("{SET_ORDER}{key}"));
                Value::Array(merge_lists(schema, field_type, facts, key, old, change, order)?)
            }
            (_, change) => change.clone(),
        };
        target.insert(key.clone(), merged);
    }
    // An order without changes still orders.
    for (name, order) in patch.iter().filter_map(|(key, value)| Some((key.strip_prefix(SET_ORDER)?, value))) {
        if patch.contains_key(name) {
            continue;
        }
        let (_, facts) = field(schema, ty, name);
        if let (Some(Value::Array(list)), Some(facts)) = (target.get_mut(name), facts) {
            let old = std::mem::take(list);
            *list = ordered(&old.clone(), old, order, facts.merge_key.as_deref())?;
        }
    }
    Ok(target)
}

fn merge_lists(
    schema: &Schema,
    ty: Option<TypeRef>,
    facts: Option<&Facts>,
    name: &str,
    old: Vec<Value>,
    changes: &[Value],
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let item_type = ty.and_then(|ty| match schema.get(ty) {
        Type::List(item) => Some(*item),
        _ => None,
    });
    let key = facts.and_then(|facts| facts.merge_key.as_deref());
    let before = old.clone();
    let merged = match key {
        None => {
            let mut list = old;
            for change in changes {
                if !list.contains(change) {
                    list.push(change.clone());
                }
            }
            list
        }
        Some(key) => merge_by_key(schema, item_type, name, key, old, changes)?,
    };
    match order {
        Some(order) => ordered(&before, merged, order, key),
        None => Ok(merged),
    }
}

fn merge_by_key(
    schema: &Schema,
    item_type: Option<TypeRef>,
    name: &str,
    key: &str,
    mut list: Vec<Value>,
    changes: &[Value],
) -> Result<Vec<Value>, PatchError> {
    if changes.iter().any(|change| change.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")) {
        let is_value = |change: &&Value| change.get(DIRECTIVE).is_none();
        return Ok(changes.iter().filter(is_value).cloned().collect());
    }
    for change in changes {
        let Value::Object(fields) = change else {
            return Err(PatchError::malformed(format!("an item of {name} in the patch is no object")));
        };
        let Some(identity) = fields.get(key) else {
            return Err(PatchError::unfit(format!("map: {change} does not contain declared merge key: {key}")));
        };
        let position = list.iter().position(|item| item.get(key) == Some(identity));
        if fields.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
            list.retain(|item| item.get(key) != Some(identity));
            continue;
        }
        let old = match position.and_then(|at| list.get_mut(at)).map(Value::take) {
            Some(Value::Object(old)) => old,
            _ => Map::new(),
        };
        let merged = Value::Object(merge_maps(schema, item_type, old, fields)?);
        match position.and_then(|at| list.get_mut(at)) {
            Some(place) => *place = merged,
            None => list.push(merged),
        }
    }
    Ok(list)
}

/// Puts `list` in the asked order. Items that the order does not name stay where they were relative to the
/// others, as far as `before` tells.
fn ordered(before: &[Value], list: Vec<Value>, order: &Value, key: Option<&str>) -> Result<Vec<Value>, PatchError> {
    let Value::Array(order) = order else {
        return Err(PatchError::malformed(format!("{SET_ORDER} must be a list")));
    };
    let same = |left: &Value, right: &Value| match key {
        Some(key) => left.get(key).is_some() && left.get(key) == right.get(key),
        None => left == right,
    };
    let rank = |item: &Value| order.iter().position(|entry| same(entry, item));
    let place = |item: &Value| before.iter().position(|entry| same(entry, item));
    let (mut named, others): (Vec<Value>, Vec<Value>) = list.into_iter().partition(|item| rank(item).is_some());
    named.sort_by_key(|item| rank(item));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(next), Some(other)) = (named.peek(), others.peek()) {
        let other_first = place(next).zip(place(other)).is_some_and(|(next, other)| other < next);
        result.extend(if other_first { others.next() } else { named.next() });
    }
    result.extend(named);
    result.extend(others);
    Ok(result)
}

fn strings<'a>(value: &'a Value, what: &str) -> Result<Vec<&'a str>, PatchError> {
    let list = value.as_array().ok_or_else(|| PatchError::unfit(format!("{what} must be a list")))?;
    list.iter()
        .map(|item| item.as_str().ok_or_else(|| PatchError::unfit(format!("{what} must hold strings"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);

    fn patched(mut target: Value, patch: &Value) -> Result<Value, PatchError> {
        let root = SCHEMA.find("", "v1", "Pod").expect("pods");
        strategic_merge_patch(&SCHEMA, root, &mut target, patch)?;
        Ok(target)
    }

    fn pod(containers: &Value) -> Value {
        json!({"metadata": {"name": "a", "finalizers": ["x", "y"]}, "spec": {"containers": containers}})
    }

    #[test]
    fn lists_merge_by_key_and_keep_their_order() {
        let target = pod(&json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let patch = json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}});
        let new = patched(target, &patch).expect("fits");
        let expected = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]);
        assert_eq!(new["spec"]["containers"], expected);
    }

    #[test]
    fn directives_replace_delete_and_order() {
        let target = || pod(&json!([{"name": "a", "image": "1"}, {"name": "b"}]));
        let cases = [
            (json!([{"$patch": "replace"}, {"name": "z"}]), json!([{"name": "z"}])),
            (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b"}])),
            (json!([{"name": "a", "image": null}]), json!([{"name": "a"}, {"name": "b"}])),
        ];
        for (containers, expected) in cases {
            let new = patched(target(), &json!({"spec": {"containers": containers}})).expect("fits");
            assert_eq!(new["spec"]["containers"], expected);
        }
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c"}],
        }});
        let new = patched(target(), &patch).expect("fits");
        let names: Vec<&Value> =
            new["spec"]["containers"].as_array().expect("a list").iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["c", "b", "a"]);
    }

    #[test]
    fn primitive_lists_are_sets() {
        let target = pod(&json!([]));
        let patch = json!({"metadata": {"finalizers": ["y", "z"], "$deleteFromPrimitiveList/finalizers": ["x"]}});
        assert_eq!(patched(target, &patch).expect("fits")["metadata"]["finalizers"], json!(["y", "z"]));
    }

    #[test]
    fn retained_keys_drop_the_others() {
        let target = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let volume = json!({"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]});
        let new = patched(target, &json!({"spec": {"volumes": [volume]}})).expect("fits");
        assert_eq!(new["spec"]["volumes"], json!([{"name": "v", "hostPath": {"path": "/"}}]));
    }

    #[test]
    fn bad_patches_say_what_is_wrong() {
        let error = patched(pod(&json!([])), &json!({"spec": {"containers": [{"image": "x"}]}})).expect_err("no key");
        assert!(error.message.contains("merge key: name"), "{error}");
        assert!(patched(pod(&json!([])), &json!({"spec": {"$patch": "explode"}})).is_err());
        assert!(patched(pod(&json!([])), &json!([])).is_err());
    }

    proptest! {
        /// `kubectl apply` sends the same patch again when nothing changed.
        #[test]
        fn applying_twice_changes_nothing_more(
            names in prop::collection::btree_set("[a-e]", 0..5),
            changes in prop::collection::btree_map("[a-e]", "[0-9]", 0..5),
        ) {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "old"})).collect();
            let items: Vec<Value> = changes.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
            let patch = json!({"spec": {"containers": items}});
            let once = patched(pod(&json!(containers)), &patch).expect("fits");
            prop_assert_eq!(patched(once.clone(), &patch).expect("fits"), once);
        }
    }
}

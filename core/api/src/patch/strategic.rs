//! Strategic merge patch: lists of objects are merged by key, and directives say more than values can.
//!
//! Behaviour: k8s.io/apimachinery/pkg/util/strategicpatch. Directives:
//! `$patch: replace|delete|merge` in an object, or in an item of a list; `$retainKeys: [..]` in an object;
//! `$setElementOrder/FIELD: [..]` and `$deleteFromPrimitiveList/FIELD: [..]` beside the list's field.

use std::collections::{HashMap, HashSet};

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
    match patch.get(DIRECTIVE) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("merge") => {}
            Some("replace") => {
                let mut new = patch.clone();
                new.shift_remove(DIRECTIVE);
                return Ok(new);
            }
            Some("delete") => return Ok(Map::new()),
            _ => return Err(unknown_directive(directive, patch)),
        },
    }
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        let bad = || PatchError::malformed("invalid patch format of retainKeys");
        let names: HashSet<&str> = retain.as_array().ok_or_else(bad)?.iter().filter_map(Value::as_str).collect();
        let stray = |(key, value): (&String, &Value)| {
            !value.is_null() && !key.starts_with('$') && !names.contains(key.as_str())
        };
        if patch.iter().any(stray) {
            return Err(bad());
        }
        target.retain(|key, _| names.contains(key.as_str()));
    }
    for (name, values) in patch.iter().filter_map(|(key, value)| Some((key.strip_prefix(DELETE_FROM)?, value))) {
        let Value::Array(values) = values else {
            return Err(PatchError::malformed("invalid patch format of primitive list"));
        };
        if let Some(Value::Array(list)) = target.get_mut(name) {
            let gone: HashSet<String> = values.iter().map(Value::to_string).collect();
            list.retain(|item| !gone.contains(&item.to_string()));
        }
    }
    // Removed at one go: one by one, each removal would move all that follow.
    let mut removed: HashSet<&str> = HashSet::new();
    for (key, change) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let (field_type, facts) = field(schema, ty, key);
        if change.is_null() {
            removed.insert(key);
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
                Value::Array(merge_lists(schema, field_type, facts, old, change, order)?)
            }
            (_, change) => change.clone(),
        };
        target.insert(key.clone(), merged);
    }
    target.retain(|key, _| !removed.contains(key.as_str()));
    // An order without changes still orders.
    for (name, order) in patch.iter().filter_map(|(key, value)| Some((key.strip_prefix(SET_ORDER)?, value))) {
        let Value::Array(order) = order else { return Err(bad_order()) };
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

fn bad_order() -> PatchError {
    PatchError::malformed("invalid patch format of setElementOrder list")
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    let text = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    PatchError::malformed(format!("unknown patch type: {text} in map: {}", Value::Object(patch.clone())))
}

fn no_key(item: &Value, key: &str) -> PatchError {
    PatchError::unfit(format!("map: {item} does not contain declared merge key: {key}"))
}

/// What makes an item of a list what it is: the value of its merge key, or itself.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

fn merge_lists(
    schema: &Schema,
    ty: Option<TypeRef>,
    facts: Option<&Facts>,
    old: Vec<Value>,
    changes: &[Value],
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let item_type = ty.and_then(|ty| match schema.get(ty) {
        Type::List(item) => Some(*item),
        _ => None,
    });
    let key = facts.and_then(|facts| facts.merge_key.as_deref());
    if old.iter().chain(changes).any(Value::is_array) {
        return Err(PatchError::unfit("lists of lists are not supported"));
    }
    let order = order.map(|order| order.as_array().ok_or_else(bad_order)).transpose()?;
    if let Some(order) = order {
        fits_order(changes, order, key)?;
    }
    let Some(key) = key else {
        let mut known: HashSet<String> = HashSet::new();
        let merged: Vec<Value> =
            old.iter().chain(changes).filter(|item| known.insert(item.to_string())).cloned().collect();
        return ordered(&old, merged, order.map_or(changes, Vec::as_slice), None);
    };
    let is_directive = |item: &Value, name: &str| item.get(DIRECTIVE).and_then(Value::as_str) == Some(name);
    for change in changes {
        let Value::Object(fields) = change else {
            return Err(PatchError::unfit(format!(
                "expected a map in the patch of a list by {key}, but received {change}"
            )));
        };
        match fields.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            None | Some((_, Some("replace"))) => {}
            Some((_, Some("delete"))) if fields.contains_key(key) => {}
            Some((_, Some("delete"))) => return Err(no_key(change, key)),
            Some((_, Some("merge"))) => {
                return Err(PatchError::malformed("merging lists cannot yet be specified in the patch"));
            }
            Some((directive, _)) => return Err(unknown_directive(directive, fields)),
        }
    }
    let values: Vec<Value> = changes.iter().filter(|change| change.get(DIRECTIVE).is_none()).cloned().collect();
    if changes.iter().any(|change| is_directive(change, "replace")) {
        return Ok(values);
    }
    let gone: HashSet<String> = changes
        .iter()
        .filter(|change| is_directive(change, "delete"))
        .filter_map(|change| identity(change, Some(key)))
        .collect();
    let mut list = old;
    list.retain(|item| identity(item, Some(key)).is_none_or(|identity| !gone.contains(&identity)));
    let before = list.clone();
    let list = merge_by_key(schema, item_type, key, list, &values)?;
    ordered(&before, list, order.map_or(values.as_slice(), Vec::as_slice), Some(key))
}

fn merge_by_key(
    schema: &Schema,
    item_type: Option<TypeRef>,
    key: &str,
    mut list: Vec<Value>,
    changes: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        if let Some(identity) = identity(item, Some(key)) {
            places.entry(identity).or_insert(place);
        }
    }
    for change in changes {
        let Some(fields) = change.as_object() else { continue };
        let Some(identity) = identity(change, Some(key)) else { return Err(no_key(change, key)) };
        let position = places.get(&identity).copied();
        let old = match position.and_then(|at| list.get_mut(at)).map(Value::take) {
            Some(Value::Object(old)) => old,
            _ => Map::new(),
        };
        let merged = Value::Object(merge_maps(schema, item_type, old, fields)?);
        match position.and_then(|at| list.get_mut(at)) {
            Some(place) => *place = merged,
            None => {
                places.insert(identity, list.len());
                list.push(merged);
            }
        }
    }
    Ok(list)
}

/// Refuses an order in which the patch's own items do not come in the patch's order.
fn fits_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for change in changes.iter().filter(|change| change.get(DIRECTIVE).is_none()) {
        let own = identity(change, key);
        if !wanted.any(|entry| identity(entry, key) == own) {
            return Err(PatchError::unfit(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                Value::from(changes),
                Value::from(order)
            )));
        }
    }
    Ok(())
}

/// Puts `list` in the asked order. Items that the order does not name stay where they were relative to the
/// others, as far as `before` tells.
fn ordered(before: &[Value], list: Vec<Value>, order: &[Value], key: Option<&str>) -> Result<Vec<Value>, PatchError> {
    let places = |items: &[Value]| -> Result<HashMap<String, usize>, PatchError> {
        let mut places = HashMap::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let identity = identity(item, key).ok_or_else(|| no_key(item, key.unwrap_or_default()))?;
            places.entry(identity).or_insert(place);
        }
        Ok(places)
    };
    let (ranks, before) = (places(order)?, places(before)?);
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in list {
        let identity = identity(&item, key).ok_or_else(|| no_key(&item, key.unwrap_or_default()))?;
        let place = before.get(&identity).copied();
        match ranks.get(&identity) {
            Some(&rank) => named.push((rank, place, item)),
            None => others.push((place, item)),
        }
    }
    named.sort_by_key(|(rank, ..)| *rank);
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, place, item) in named {
        while let Some((_, other)) =
            others.next_if(|(other, _)| place.zip(*other).is_some_and(|(place, other)| other < place))
        {
            result.push(other);
        }
        result.push(item);
    }
    result.extend(others.map(|(_, item)| item));
    Ok(result)
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

    /// Each row: what is there, what changes it, what comes of it.
    #[test]
    fn lists_come_in_the_order_that_patches_want() {
        let cases = [
            ("ab", "ba", "", "ba"),
            ("abc", "b", "", "abc"),
            ("abc", "ca", "", "bca"),
            ("abc", "xb", "", "xabc"),
            ("ab", "x", "xab", "xab"),
            ("ab", "x", "bx", "abx"),
            ("sab", "x", "xba", "xsba"),
            ("asb", "", "ba", "sba"),
            ("", "ab", "", "ab"),
            ("abc", "-b", "ac", "ac"),
            ("abc", "-b", "ca", "ca"),
        ];
        for (before, change, order, expected) in cases {
            let mut delete = false;
            let mut items = Vec::new();
            for letter in change.chars() {
                if letter == '-' {
                    delete = true;
                } else if std::mem::take(&mut delete) {
                    items.push(json!({"name": letter, "$patch": "delete"}));
                } else {
                    items.push(json!({"name": letter}));
                }
            }
            let names = |text: &str| text.chars().map(|letter| json!({"name": letter})).collect::<Vec<Value>>();
            let mut spec = json!({});
            if !items.is_empty() {
                spec["containers"] = items.into();
            }
            if !order.is_empty() {
                spec["$setElementOrder/containers"] = names(order).into();
            }
            let new = patched(pod(&json!(names(before))), &json!({"spec": spec})).expect("fits");
            let found: String = new["spec"]["containers"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|item| item["name"].as_str().unwrap_or_default())
                .collect();
            assert_eq!(found, expected, "{before} {change} {order}");
        }
        let finalizers = |patch: Value| {
            patched(json!({"metadata": {"name": "a", "finalizers": ["x", "y", "z"]}}), &json!({"metadata": patch}))
                .expect("fits")["metadata"]["finalizers"]
                .clone()
        };
        assert_eq!(finalizers(json!({"finalizers": ["z", "x", "w"]})), json!(["y", "z", "x", "w"]));
        let patch = json!({"finalizers": ["w"], "$setElementOrder/finalizers": ["w", "z"]});
        assert_eq!(finalizers(patch), json!(["w", "x", "y", "z"]));
    }

    #[test]
    fn many_items_take_no_square_of_time() {
        let names = |from: usize| (from..from + 30_000).map(|n| json!({"name": format!("n{n}")})).collect::<Vec<_>>();
        let target = pod(&json!(names(0)));
        let patch = json!({"spec": {"containers": names(15_000)}});
        let new = patched(target, &patch).expect("fits");
        assert_eq!(new["spec"]["containers"].as_array().map(Vec::len), Some(45_000));
        let keys: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), json!("v"))).collect();
        let nulls: Map<String, Value> = keys.keys().map(|key| (key.clone(), Value::Null)).collect();
        let target = json!({"metadata": {"labels": keys}});
        let new = patched(target, &json!({"metadata": {"labels": nulls}})).expect("fits");
        assert_eq!(new["metadata"]["labels"], json!({}));
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
    fn maps_are_replaced_and_emptied_by_directives() {
        let labels = |patch: Value| {
            let target = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
            patched(target, &json!({"metadata": {"labels": patch}})).expect("fits")["metadata"]["labels"].clone()
        };
        assert_eq!(labels(json!({"$patch": "replace", "c": "3"})), json!({"c": "3"}));
        assert_eq!(labels(json!({"$patch": "delete"})), json!({}));
        assert_eq!(labels(json!({"$patch": "merge", "a": null})), json!({"b": "2"}));
        let strategy = json!({"$retainKeys": ["name", "emptyDir"], "name": "v", "emptyDir": {}, "hostPath": null});
        let target = json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}});
        let new = patched(target, &json!({"spec": {"volumes": [strategy]}})).expect("fits");
        assert_eq!(new["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    }

    #[test]
    fn bad_patches_say_what_is_wrong() {
        let containers = |items: Value| json!({"spec": {"containers": items}});
        let cases = [
            (
                containers(json!([{"image": "x"}])),
                422,
                r#"map: {"image":"x"} does not contain declared merge key: name"#,
            ),
            (containers(json!([{"$patch": "delete"}])), 422, "does not contain declared merge key: name"),
            (containers(json!([{"$patch": "explode", "name": "a"}])), 400, "unknown patch type: explode in map: "),
            (containers(json!([{"$patch": "merge", "name": "a"}])), 400, "merging lists cannot yet be specified"),
            (containers(json!(["a"])), 422, "expected a map"),
            (containers(json!([["a"]])), 422, "lists of lists are not supported"),
            (json!({"spec": {"$patch": "explode"}}), 400, "unknown patch type: explode in map: "),
            (json!({"spec": {"$patch": 7}}), 400, "unknown patch type: 7 in map: "),
            (json!({"spec": {"$retainKeys": "a"}}), 400, "invalid patch format of retainKeys"),
            (json!({"spec": {"$retainKeys": ["a"], "b": 1}}), 400, "invalid patch format of retainKeys"),
            (
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}),
                400,
                "invalid patch format of primitive list",
            ),
            (json!({"spec": {"$setElementOrder/containers": {}}}), 400, "invalid patch format of setElementOrder list"),
            (
                json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}],
                    "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}}),
                422,
                "The order in patch list:",
            ),
            (json!([]), 400, "must be an object"),
        ];
        for (patch, code, message) in cases {
            let error = patched(pod(&json!([{"name": "a"}])), &patch).expect_err("is wrong");
            assert!(error.code == code && error.message.contains(message), "{patch}: {} {error}", error.code);
        }
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

//! FieldsV1: the JSON of a set, in upstream's canonical order.
//!
//! `{"f:spec":{"f:replicas":{}}}`: a key is a step, an empty object is a member; `.` marks a member that also has
//! something below it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{Element, FieldSet};

/// The JSON of a set.
pub(super) fn encode(set: &FieldSet) -> Value {
    Value::Object(object(set, false))
}

fn object(set: &FieldSet, member: bool) -> Map<String, Value> {
    let mut map = Map::with_capacity(set.members().len() + set.children().len() + usize::from(member));
    if member {
        map.insert(".".to_owned(), Value::Object(Map::new()));
    }
    let mut members = set.members().iter().peekable();
    for (element, child) in set.children() {
        while let Some(before) = members.next_if(|member| *member < element) {
            map.insert(before.encode(), Value::Object(Map::new()));
        }
        let is_member = members.next_if(|member| *member == element).is_some();
        map.insert(element.encode(), Value::Object(object(child, is_member)));
    }
    for member in members {
        map.insert(member.encode(), Value::Object(Map::new()));
    }
    map
}

/// Reads the JSON of a set. Steps of kinds that we do not know are passed over.
pub(super) fn decode(value: &Value) -> Result<FieldSet, String> {
    let Value::Object(map) = value else { return Err("fieldsV1 must be an object".to_owned()) };
    let mut set = FieldSet::default();
    for (key, below) in map {
        if key == "." {
            // Of the set itself: the one above has seen it.
            continue;
        }
        let Some(element) = Element::decode(key)? else { continue };
        let Value::Object(fields) = below else { return Err(format!("fieldsV1: {key:?} must be an object")) };
        if fields.is_empty() || fields.contains_key(".") {
            set.push(element.clone());
        }
        set.push_child(element, decode(below)?);
    }
    set.settle();
    Ok(set)
}

/// Takes the paths of a set out of FieldsV1 that [`encode`] wrote, without decoding it. Whether anything is left.
pub(super) fn subtract(fields: &mut Map<String, Value>, set: &FieldSet) -> bool {
    // What is to be taken at each key; taken at one go, since a removal moves all that follow.
    let mut gone: HashMap<String, (bool, Option<&FieldSet>)> = HashMap::new();
    for member in set.members() {
        gone.insert(member.encode(), (true, None));
    }
    for (element, below) in set.children() {
        gone.entry(element.encode()).or_default().1 = Some(below);
    }
    fields.retain(|key, value| {
        let (Some(&(member, below)), Value::Object(child)) = (gone.get(key), value) else { return true };
        // An empty object is a member without anything below.
        let mut is_member = child.is_empty() || child.shift_remove(".").is_some();
        is_member &= !member;
        if let Some(below) = below {
            subtract(child, below);
        }
        if is_member && !child.is_empty() {
            child.shift_insert(0, ".".to_owned(), Value::Object(Map::new()));
        }
        is_member || !child.is_empty()
    });
    !fields.is_empty()
}

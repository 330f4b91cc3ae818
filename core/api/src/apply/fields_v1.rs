//! FieldsV1: the JSON of a set, in upstream's canonical order.
//!
//! `{"f:spec":{"f:replicas":{}}}`: a key is a step, an empty object is a member; `.` marks a member that also has
//! something below it.

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
    for (element, below) in set.children() {
        let key = element.encode();
        let Some(Value::Object(child)) = fields.get_mut(&key) else { continue };
        // An empty object is a member without anything below.
        if child.is_empty() {
            continue;
        }
        if !subtract(child, below) {
            fields.shift_remove(&key);
        } else if child.len() == 1 && child.contains_key(".") {
            child.clear();
        }
    }
    for element in set.members() {
        let key = element.encode();
        let Some(Value::Object(child)) = fields.get_mut(&key) else { continue };
        child.shift_remove(".");
        if child.is_empty() {
            fields.shift_remove(&key);
        }
    }
    !fields.is_empty()
}

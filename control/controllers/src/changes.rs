//! Patches that change one part of an object and leave nothing of what it was.

use serde_json::{Map, Value};

/// A merge patch that makes `after` of `before`: what `after` lacks is removed.
pub(crate) fn replacing(before: &Value, after: Value) -> Value {
    let (Value::Object(before), Value::Object(mut after)) = (before, after.clone()) else { return after };
    let empty = Value::Object(Map::new());
    for (field, old) in before {
        let new = match after.remove(field) {
            None => Value::Null,
            Some(new) => replacing(if old.is_object() { old } else { &empty }, new),
        };
        after.insert(field.clone(), new);
    }
    Value::Object(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_becomes_null() {
        let before = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": {"f": 1}});
        let after = json!({"b": {"c": [1, 2]}, "e": 3, "g": {}});
        let patch = json!({"a": null, "b": {"c": [1, 2], "d": null}, "e": 3, "g": {}});
        assert_eq!(replacing(&before, after), patch);
    }
}

//! JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

mod strategic;

use serde_json::{Map, Value};

pub use strategic::strategic_merge_patch;

/// Why a patch cannot be applied. `code` is the HTTP code Kubernetes answers (400 or 422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatchError {
    /// HTTP code.
    pub code: u16,
    /// What is wrong.
    pub message: String,
}

impl PatchError {
    /// The patch itself is malformed.
    fn malformed(message: impl Into<String>) -> Self {
        Self { code: 400, message: message.into() }
    }

    /// The patch does not fit the object.
    fn unfit(message: impl Into<String>) -> Self {
        Self { code: 422, message: message.into() }
    }
}

/// Most operations of a JSON patch, as upstream.
const MOST_OPERATIONS: usize = 10_000;

/// Most bytes that the copies of a JSON patch may add together, as upstream.
const MOST_COPIED: usize = 3 << 20;

/// Applies a JSON patch; all or nothing.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MOST_OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {count}");
        return Err(PatchError { code: 413, message });
    }
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::malformed(format!("error decoding patch: {error}")))?;
    // One at a time: copies of copies double with each operation, and must stop before the memory is full.
    let (mut new, mut copied) = (target.clone(), 0);
    for operation in &operations.0 {
        if let json_patch::PatchOperation::Copy(copy) = operation {
            copied += new.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
            if copied > MOST_COPIED {
                let message = format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MOST_COPIED}"
                );
                return Err(PatchError::unfit(message));
            }
        }
        json_patch::patch(&mut new, std::slice::from_ref(operation))
            .map_err(|error| PatchError::unfit(error.to_string()))?;
    }
    *target = new;
    Ok(())
}

/// Applies a merge patch.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.shift_remove(key);
        } else {
            merge_patch(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_follows_the_examples_of_rfc_7386() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge_patch(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn copies_of_copies_stop_before_the_memory_is_full() {
        let mut target = json!({"a": {"text": "x".repeat(1000)}});
        let operations: Vec<Value> =
            (0..100).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/c{n}")})).collect();
        let error = json_patch(&mut target, &json!(operations)).expect_err("too large");
        assert!(error.code == 422 && error.message.contains("accumulated size"), "{error}");
    }

    #[test]
    fn a_json_patch_is_applied_whole_or_not_at_all() {
        let mut target = json!({"a": 1});
        let patch = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": 9}]);
        assert_eq!(json_patch(&mut target, &patch).expect_err("the test fails").code, 422);
        assert_eq!(target, json!({"a": 1}));
        assert_eq!(json_patch(&mut target, &json!({"op": "add"})).expect_err("no list").code, 400);
        json_patch(&mut target, &json!([{"op": "add", "path": "/b", "value": [1]}])).expect("fits");
        assert_eq!(target, json!({"a": 1, "b": [1]}));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i8>().prop_map(|n| json!(n)), "[a-c]".prop_map(|text| json!(text))];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_merge_patch_applied_twice_changes_nothing_more(mut target in value(), patch in value()) {
            merge_patch(&mut target, &patch);
            let once = target.clone();
            merge_patch(&mut target, &patch);
            prop_assert_eq!(target, once);
        }
    }
}

//! JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

mod strategic;

use std::collections::HashSet;

use json_patch::{PatchErrorKind, PatchOperation};
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

/// Most values that the operations of a JSON patch may move out of their way: insertions at the front of long lists cost
/// the whole list each.
const MOST_WORK: usize = 20_000_000;

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
    let mut work = 0;
    for operation in &operations.0 {
        work += effort(&new, operation);
        if work > MOST_WORK {
            let message = format!("the JSON patch moves more than {MOST_WORK} values");
            return Err(PatchError { code: 413, message });
        }
        if let PatchOperation::Copy(copy) = operation {
            copied += new.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
            if copied > MOST_COPIED {
                let message = format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MOST_COPIED}"
                );
                return Err(PatchError::unfit(message));
            }
        }
        // What fails leaves the object as it was before.
        json_patch::patch(&mut new, std::slice::from_ref(operation))
            .map_err(|error| PatchError::unfit(describe(&new, operation, &error.kind)))?;
    }
    *target = new;
    Ok(())
}

/// How many neighbours an operation may have to move.
fn effort(target: &Value, operation: &PatchOperation) -> usize {
    let siblings = |path: &str| {
        let parent = path.rsplit_once('/').and_then(|(parent, _)| target.pointer(parent));
        parent.map_or(0, |parent| parent.as_array().map_or_else(|| parent.as_object().map_or(0, Map::len), Vec::len))
    };
    let from = match operation {
        PatchOperation::Move(moved) => siblings(moved.from.as_str()),
        _ => 0,
    };
    from + siblings(operation.path().as_str())
}

/// Why an operation does not apply to this object, in the words of the library that upstream has for it.
fn describe(target: &Value, operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path().as_str();
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = target.pointer(parent).filter(|parent| parent.is_object() || parent.is_array());
    let key = key.replace("~1", "/").replace("~0", "~");
    let in_list = parent.is_some_and(Value::is_array);
    let at = |verb: &str, missing: &str| {
        let why = match key.parse::<i64>() {
            Ok(index) if in_list => format!("Unable to access invalid index: {index}: invalid index referenced"),
            Err(error) if in_list => format!("value was not a proper array index: {key:?}: {error}"),
            _ => format!("{missing} nonexistent key: {key}: missing value"),
        };
        format!("error in {verb} for path: '{path}': {why}")
    };
    let lost =
        |verb: &str, what: &str| format!("{verb} operation does not apply: doc is missing {what}: missing value");
    match operation {
        PatchOperation::Test(_) if matches!(kind, PatchErrorKind::TestFailed) || parent.is_some() => {
            format!("testing value {path} failed: test failed")
        }
        PatchOperation::Test(_) => format!("test operation does not apply: is missing path: {path}: missing value"),
        PatchOperation::Add(_) if parent.is_none() => lost("add", &format!("path: {path:?}")),
        PatchOperation::Add(_) => at("add", "Unable to add"),
        PatchOperation::Remove(_) if parent.is_none() => lost("remove", &format!("path: {path}")),
        PatchOperation::Remove(_) => at("remove", "Unable to remove"),
        PatchOperation::Replace(_) if parent.is_none() => lost("replace", &format!("path: {path}")),
        PatchOperation::Replace(_) => lost("replace", &format!("key: {path}")),
        PatchOperation::Move(moved) if target.pointer(moved.from.as_str()).is_none() => {
            lost("move", &format!("from path: {}", moved.from))
        }
        PatchOperation::Copy(copied) if target.pointer(copied.from.as_str()).is_none() => {
            lost("copy", &format!("from path: {}", copied.from))
        }
        PatchOperation::Move(_) if parent.is_none() => lost("move", &format!("destination path: {path}")),
        PatchOperation::Copy(_) if parent.is_none() => lost("copy", &format!("destination path: {path}")),
        PatchOperation::Move(_) => format!("error in move for path: '{path}': {kind}"),
        PatchOperation::Copy(_) => format!("error in copy for path: '{path}': {kind}"),
    }
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
    // Removed at one go: one by one, each removal would move all that follow.
    let mut removed: HashSet<&str> = HashSet::new();
    for (key, change) in changes {
        if change.is_null() {
            removed.insert(key);
        } else {
            merge_patch(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
    if !removed.is_empty() {
        map.retain(|key, _| !removed.contains(key.as_str()));
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

    #[test]
    fn operations_that_do_not_apply_say_why() {
        for (operation, message) in [
            (json!({"op": "test", "path": "/a", "value": 2}), "testing value /a failed: test failed"),
            (
                json!({"op": "remove", "path": "/b"}),
                "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
            ),
            (
                json!({"op": "remove", "path": "/b/c"}),
                "remove operation does not apply: doc is missing path: /b/c: missing value",
            ),
            (
                json!({"op": "remove", "path": "/l/3"}),
                "error in remove for path: '/l/3': Unable to access invalid index: 3: invalid index referenced",
            ),
            (
                json!({"op": "replace", "path": "/b/c", "value": 1}),
                "replace operation does not apply: doc is missing path: /b/c: missing value",
            ),
            (
                json!({"op": "replace", "path": "/b", "value": 1}),
                "replace operation does not apply: doc is missing key: /b: missing value",
            ),
            (
                json!({"op": "add", "path": "/b/c", "value": 1}),
                "add operation does not apply: doc is missing path: \"/b/c\": missing value",
            ),
            (
                json!({"op": "add", "path": "/l/7", "value": 1}),
                "error in add for path: '/l/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!({"op": "copy", "from": "/b", "path": "/c"}),
                "copy operation does not apply: doc is missing from path: /b: missing value",
            ),
            (json!({"op": "move", "from": "/l", "path": "/l/0"}), "error in move for path: '/l/0'"),
        ] {
            let error = json_patch(&mut json!({"a": 1, "l": [1]}), &json!([operation])).expect_err("does not apply");
            assert!(error.code == 422 && error.message.contains(message), "{operation}: {error}");
        }
    }

    #[test]
    fn patches_that_move_too_much_are_refused() {
        let mut target = json!({"l": vec![0; 100_000]});
        let operations = vec![json!({"op": "add", "path": "/l/0", "value": 1}); 5_000];
        assert_eq!(json_patch(&mut target, &json!(operations)).expect_err("too much").code, 413);
        let many = vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001];
        let error = json_patch(&mut json!({"a": 1}), &json!(many)).expect_err("too many");
        assert_eq!(error.code, 413, "{error}");
        let keys: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), json!(1))).collect();
        let nulls: Map<String, Value> = keys.keys().map(|key| (key.clone(), Value::Null)).collect();
        let mut target = Value::Object(keys);
        merge_patch(&mut target, &Value::Object(nulls));
        assert_eq!(target, json!({}));
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

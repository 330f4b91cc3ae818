//! The layout of stored objects, by which their parts are found without parsing them.
//!
//! `storage::encode` writes what an object is, then its metadata with the version first, then the rest. An object that
//! is laid out otherwise (one that was converted) has no such parts, and is parsed.

use std::ops::Range;

/// Where `"metadata"` begins, after apiVersion and kind.
pub(crate) fn body(object: &[u8]) -> Option<usize> {
    let at = text(object, 0, b"{\"apiVersion\":\"")?;
    let at = text(object, at, b",\"kind\":\"")? + 1;
    object.get(at..)?.starts_with(b"\"metadata\":{").then_some(at)
}

/// The metadata, as JSON.
pub(crate) fn metadata(object: &[u8]) -> Option<Range<usize>> {
    let start = body(object)? + b"\"metadata\":".len();
    Some(start..object_end(object, start)?)
}

/// The version, of which metadata has nothing before it.
pub(crate) fn resource_version(object: &[u8]) -> Option<&str> {
    const HEAD: &[u8] = b"{\"resourceVersion\":\"";
    let start = body(object)? + b"\"metadata\":".len();
    let rest = object.get(start..)?.strip_prefix(HEAD)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&rest[..digits]).ok()
}

/// The place after a string that `before` leads to.
fn text(object: &[u8], at: usize, before: &[u8]) -> Option<usize> {
    let start = at + before.len();
    object.get(at..)?.starts_with(before).then_some(())?;
    let length = object.get(start..)?.iter().position(|&byte| byte == b'"')?;
    (!object[start..start + length].contains(&b'\\')).then_some(start + length + 1)
}

/// The place after the object that begins at `start`.
fn object_end(json: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match json.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => {
                at += 1;
                loop {
                    at += json.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
                    if json[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::storage;

    #[test]
    fn parts_are_found_in_stored_objects() {
        let tricky = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"metadata": {}},
            "metadata": {"name": "a", "annotations": {"x": "}\"]\\", "\"}": "{"}, "finalizers": ["]"], "resourceVersion": "7"}});
        let (bytes, at) = storage::encode(&tricky).expect("encodes");
        let at = usize::try_from(at).expect("small");
        let stored = [&bytes[..at], b"12", &bytes[at..]].concat();
        let found: Value = serde_json::from_slice(&stored[metadata(&stored).expect("metadata")]).expect("JSON");
        let mut expected = tricky["metadata"].clone();
        expected["resourceVersion"] = "12".into();
        assert_eq!(found, expected);
        assert_eq!(resource_version(&stored), Some("12"));
        assert!(stored[body(&stored).expect("a body")..].starts_with(b"\"metadata\":{\"resourceVersion\""));
    }

    #[test]
    fn other_layouts_have_no_parts() {
        for other in [
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#,
            "{}",
            "",
            r#"{"apiVersion":"v1","kind":"P\"","metadata":{}}"#,
        ] {
            assert_eq!(metadata(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in prop::collection::vec(prop::sample::select(b"{}[]\"\\a,:".to_vec()), 0..60)) {
            let object = [b"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{".as_slice(), &tail].concat();
            let _ = metadata(&object);
        }
    }
}

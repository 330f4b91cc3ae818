//! The golden objects of Kubernetes both ways, where they are at hand; hostile bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

static PROTOBUF: LazyLock<Protobuf> = LazyLock::new(|| Protobuf::build(&Schema::build()));

/// Upstream's example objects: by `group.version.kind` JSON and protobuf. None where the reference data is not at hand.
static GOLDEN: LazyLock<BTreeMap<String, (Value, Vec<u8>)>> = LazyLock::new(|| golden().unwrap_or_default());

fn golden() -> Option<BTreeMap<String, (Value, Vec<u8>)>> {
    const FILE: &str = "shared/data/kubernetes-1.36-golden-objects.tar.xz";
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let archive = here.ancestors().map(|at| at.join(FILE)).find(|path| path.is_file())?;
    let place = tempfile::tempdir().ok()?;
    let unpacked = Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(place.path()).status().ok()?;
    if !unpacked.success() {
        return None;
    }
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(place.path().join("HEAD")).ok()?.flatten() {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "pb") {
            let json = std::fs::read(path.with_extension("json")).expect("JSON of the same object");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let json = serde_json::from_slice(&json).expect("JSON");
            found.insert(name, (json, std::fs::read(&path).expect("protobuf")));
        }
    }
    Some(found)
}

/// apiVersion and kind of a golden object.
fn names(object: &Value) -> (&str, &str) {
    (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default())
}

#[test]
fn golden_objects_go_both_ways() {
    if GOLDEN.is_empty() {
        eprintln!("skipped: the golden objects are not at hand");
        return;
    }
    let (mut done, mut skipped) = (0, Vec::new());
    for (name, (json, bytes)) in GOLDEN.iter() {
        // An event of a watch has neither version nor kind.
        let (api_version, kind) = if name == "core.v1.WatchEvent" { ("v1", "WatchEvent") } else { names(json) };
        if PROTOBUF.find(api_version, kind).is_none() {
            skipped.push(format!("{api_version} {kind}"));
            continue;
        }
        let default = Some((api_version, kind));
        let mut decoded = PROTOBUF.decode(bytes, default).unwrap_or_else(|error| panic!("{name}: {error}")).value;
        let (given_version, given_kind) = names(json);
        if given_version.is_empty() {
            let map = decoded.as_object_mut().expect("an object");
            map.retain(|key, _| !["kind", "apiVersion"].contains(&key.as_str()));
        }
        assert_eq!(&decoded, json, "{name} from protobuf");
        let message = PROTOBUF.find(api_version, kind).expect("found before");
        let text = json.to_string();
        let encoded = envelope::encode(&PROTOBUF, message, given_version, given_kind, text.as_bytes());
        let encoded = encoded.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(&encoded == bytes, "{name} to protobuf:\n{encoded:x?}\n{bytes:x?}");
        // The order of keys does not matter.
        let turned = turned(json).to_string();
        let encoded = envelope::encode(&PROTOBUF, message, given_version, given_kind, turned.as_bytes());
        if !name.ends_with("WatchEvent") && !text.contains("fieldsV1") && !text.contains("apiVersion\":\"example.com") {
            assert!(&encoded.expect("encodes") == bytes, "{name} with keys turned around");
        }
        done += 1;
    }
    // Versions that v1.36 does not serve by default, and kinds that only webhooks see.
    let served = |name: &String| name.split_once(' ').is_some_and(|(version, _)| version.ends_with("v1"));
    skipped.retain(served);
    expect![[r#"
        [
            "admission.k8s.io/v1 AdmissionReview",
        ]
    "#]]
    .assert_debug_eq(&skipped);
    assert_eq!((done, GOLDEN.len()), (90, 185), "the others are of alpha and beta versions");
}

/// The value with the keys of all objects the other way round.
fn turned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().rev().map(|(key, value)| (key.clone(), turned(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(turned).collect()),
        other => other.clone(),
    }
}

fn round(api_version: &str, kind: &str, object: &Value) -> Value {
    let bytes = PROTOBUF.encode(api_version, kind, object.to_string().as_bytes()).expect("encodes");
    PROTOBUF.decode(&bytes, None).expect("decodes").value
}

#[test]
fn empty_fields_appear_as_go_writes_them() {
    let sparse = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"b": "1", "a": "2"}},
        "template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": -1}]}]}}}});
    let full = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"a": "2", "b": "1"}},
        "template": {"metadata": {}, "spec": {"containers": [
            {"name": "a", "ports": [{"containerPort": -1}], "resources": {}}]}},
        "strategy": {}}, "status": {}});
    assert_eq!(round("apps/v1", "Deployment", &sparse), full);
    let empty = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"containers": null}, "status": {}});
    assert_eq!(round("v1", "Pod", &json!({})), empty);
}

#[test]
fn schemas_of_custom_resources_go_both_ways() {
    let definition = json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "gizmos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "default": {"a": [1, null]}, "maximum": 1.5,
                    "additionalProperties": false, "additionalItems": {"type": "string"},
                    "items": [{"type": "string"}, {"not": {"items": {"type": "integer"}}}],
                    "dependencies": {"a": ["b"], "b": {"type": "null"}},
                    "enum": ["x", 1, {"y": 2}], "x-kubernetes-preserve-unknown-fields": false}}}]},
        "status": {"conditions": null, "acceptedNames": {"plural": "gizmos", "kind": "Gizmo"},
            "storedVersions": ["v1"]}});
    assert_eq!(round("apiextensions.k8s.io/v1", "CustomResourceDefinition", &definition), definition);
}

#[test]
fn lists_are_what_their_kind_encodes_to() {
    let items: Vec<String> = (0..200).map(|n| json!({"metadata": {"name": format!("a{n}")}}).to_string()).collect();
    let list = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{}]}}"#, items.join(","));
    for (api_version, kind) in [("v1", "PodList"), ("meta.k8s.io/v1beta1", "PartialObjectMetadataList")] {
        let metadata = br#"{"resourceVersion":"7"}"#;
        let items = items.iter().map(String::as_bytes);
        let pieces = PROTOBUF.encode_list(api_version, kind, metadata, items).expect("encodes").concat();
        assert!(pieces == PROTOBUF.encode(api_version, kind, list.as_bytes()).expect("encodes"), "{kind}");
    }
}

#[test]
fn a_frame_of_a_watch_has_its_length_before_it() {
    let object = vec![1; 300];
    let frame = Protobuf::watch_frame("ADDED", &object);
    let (length, event) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().expect("four")) as usize, event.len());
    assert_eq!(&event[..7], b"\x0a\x05ADDED");
    assert_eq!(&event[7..13], &[0x12, 0xaf, 0x02, 0x0a, 0xac, 0x02]);
}

#[test]
fn bad_bytes_say_what_is_wrong() {
    let pod = |raw: &[u8]| {
        let mut body = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod".to_vec();
        wire::field(&mut body, 2, raw);
        PROTOBUF.decode(&body, None).expect_err("bad").to_string()
    };
    let errors = [
        PROTOBUF.decode(b"{}", None).expect_err("bad").to_string(),
        PROTOBUF.decode(b"k8s\0", None).expect_err("bad").to_string(),
        pod(b"\x0a"),
        pod(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        pod(b"\x08\x01"),
        pod(b"\x0a\x02\x0a\x01"),
        pod(b"\x0a\x03\x0a\x01\xff"),
        pod(b"\x04"),
        pod(b"\x7f"),
        // A pod's resources with a quantity that is none.
        pod(b"\x12\x13\x12\x11\x42\x0f\x0a\x0d\x0a\x03cpu\x12\x06\x0a\x04much"),
    ];
    expect![[r#"
        provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]
        no kind "" is registered for version "" in protobuf
        unexpected EOF (in Pod.metadata)
        proto: integer overflow (in Pod.metadata)
        proto: wrong wireType = 0 (in Pod.metadata)
        unexpected EOF (in ObjectMeta.name)
        proto: a string must be valid UTF-8 (in ObjectMeta.name)
        proto: illegal tag 0 (wire type 4)
        proto: illegal wireType 7
        quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' (in ResourceRequirements.limits)"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn an_entry_without_bytes_holds_none() {
    let mut data = Vec::new();
    wire::field(&mut data, 1, b"key");
    let (mut object, mut body) = (Vec::new(), b"k8s\0".to_vec());
    wire::field(&mut object, 3, &data);
    wire::field(&mut body, 2, &object);
    let decoded = PROTOBUF.decode(&body, Some(("v1", "ConfigMap"))).expect("a ConfigMap");
    assert_eq!(decoded.value["binaryData"], json!({"key": ""}));
}

#[test]
fn depth_and_size_are_bounded() {
    // A schema in a schema in a schema …: field 28 is `not`.
    let mut schema = Vec::new();
    for _ in 0..10_000 {
        let mut outer = Vec::new();
        wire::field(&mut outer, 28, &schema);
        schema = outer;
        if schema.len() > 1 << 20 {
            break;
        }
    }
    let mut body = b"k8s\0".to_vec();
    for tag in [1, 4, 7, 2] {
        let mut outer = Vec::new();
        wire::field(&mut outer, tag, &schema);
        schema = outer;
    }
    wire::field(&mut body, 2, &schema);
    let default = Some(("apiextensions.k8s.io/v1", "CustomResourceDefinition"));
    let error = PROTOBUF.decode(&body, default).expect_err("too deep").to_string();
    assert!(error.contains("exceeded the maximum depth"), "{error}");

    // Two bytes a container.
    let mut spec = Vec::new();
    wire::field(&mut spec, 2, &b"\x12\0".repeat(1 << 20));
    let mut body = b"k8s\0".to_vec();
    wire::field(&mut body, 2, &spec);
    let error = PROTOBUF.decode(&body, Some(("v1", "Pod"))).expect_err("too much").to_string();
    assert!(error.contains("more than 500000 values"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..400), kind in 0_usize..4) {
        let kind = [("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "List"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")][kind];
        let mut body = MAGIC.to_vec();
        wire::field(&mut body, 2, &raw);
        let _ = PROTOBUF.decode(&body, Some(kind));
        let _ = PROTOBUF.decode(&raw, Some(kind));
    }

    #[test]
    fn mutated_objects_do_not_panic(pick: prop::sample::Index, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let objects: Vec<&Vec<u8>> = GOLDEN.values().map(|(_, bytes)| bytes).collect();
        if !objects.is_empty() {
            let mut bytes = objects[pick.index(objects.len())].clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(decoded) = PROTOBUF.decode(&bytes, None) {
                // What was read can be written, unless it holds what JSON cannot.
                let text = decoded.value.to_string();
                PROTOBUF.encode(&decoded.api_version, &decoded.kind, text.as_bytes()).expect("encodes");
            }
        }
    }
}

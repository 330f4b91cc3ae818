//! Objects of Kubernetes v1.36 with every field set: none of it may get lost, or be defaulted although it is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::KINDS;

const ARCHIVE: &str = "shared/data/kubernetes-1.36-golden-objects.tar.xz";

/// Where the reference data is: in `shared` beside the repository, or further up where this is a worktree.
fn archive() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|folder| folder.join(ARCHIVE)).find(|file| file.is_file())
}

/// The golden object of a kind, if there is one.
fn object(archive: &Path, name: &str) -> Option<Value> {
    let output = Command::new("tar").arg("-xJOf").arg(archive).arg(format!("HEAD/{name}.json")).output();
    let output = output.expect("tar runs");
    serde_json::from_slice(&output.stdout).ok()
}

/// Without what means the same as nothing: null, and what is nothing inside.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(tidy);
            map.retain(|_, value| !value.is_null());
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Paths at which two objects differ.
fn differences(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differences(&format!("{path}.{key}"), &left[key], &right[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, found);
            }
        }
        _ if left != right => found.push(format!("{path}: {left} became {right}")),
        _ => {}
    }
}

#[test]
fn what_is_there_stays_as_it_is() {
    let Some(archive) = archive() else {
        println!("skipped: the reference data is not at hand");
        return;
    };
    let mut lines = Vec::new();
    let mut seen = 0;
    for kind in KINDS.iter().filter(|kind| !kind.is_virtual() && !kind.is_view()) {
        let names = kind.names();
        let group = match names.group {
            "" => "core",
            group => group,
        };
        let Some(mut golden) = object(&archive, &format!("{group}.{}.{}", names.version, names.kind)) else { continue };
        seen += 1;
        tidy(&mut golden);
        let mut made = kind.defaulted(&golden).expect("it can be read");
        tidy(&mut made);
        differences(names.kind, &golden, &made, &mut lines);
    }
    assert!(seen > 50, "only {seen} kinds have a golden object");
    expect_test::expect![[r#"
        Namespace.metadata.labels.kubernetes.io/metadata.name: null became "nameValue"
        Pod.spec.initContainers[0].resources.requests.limitsKey: null became "0"
        Pod.spec.containers[0].resources.requests.limitsKey: null became "0"
        Pod.spec.resources.requests.limitsKey: null became "0"
        Secret.data.stringDataKey: null became "c3RyaW5nRGF0YVZhbHVl"
        Secret.stringData: {"stringDataKey":"stringDataValue"} became null
        StatefulSet.spec.volumeClaimTemplates[0].apiVersion: null became "v1"
        StatefulSet.spec.volumeClaimTemplates[0].kind: null became "PersistentVolumeClaim""#]]
    .assert_eq(&lines.join("\n"));
}

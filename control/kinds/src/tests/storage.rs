//! Volumes, claims, classes, limits, quotas and devices.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{create, kind, process};
use crate::Operation;

/// What is wrong with a new object, a line each.
fn mistakes(kind: &str, object: Value, expected: &Expect) {
    expected.assert_eq(&causes(process(kind, object, Operation::Create)));
}

/// What is wrong with a change of an object.
fn refused(kind: &str, object: Value, change: impl Fn(&mut Value), expected: &Expect) {
    let old = create(kind, object);
    let mut new = old.clone();
    change(&mut new);
    expected.assert_eq(&causes(process(kind, new, Operation::Update { old: &old })));
}

fn causes(result: Result<Value, corten_api::status::Status>) -> String {
    let Err(status) = result else { return "fine".to_owned() };
    let causes = status.details.map(|details| details["causes"].clone()).unwrap_or_default();
    let line = |cause: &Value| {
        let text = |field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("field"), text("message"))
    };
    causes.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

fn row(kind_name: &str, object: &Value) -> String {
    let now = "2026-01-01T01:00:00Z".parse().expect("a time");
    let cells = kind(kind_name).cells(object.to_string().as_bytes(), now).expect("cells");
    cells
        .iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
        .collect::<Vec<_>>()
        .join(" | ")
}

fn volume() -> Value {
    json!({"metadata": {"name": "v", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "hostPath": {"path": "/data"},
        "claimRef": {"namespace": "default", "name": "c"}, "storageClassName": "fast",
    }})
}

fn claim() -> Value {
    json!({"metadata": {"name": "c", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }})
}

#[test]
fn a_volume_gets_what_it_leaves_out() {
    let volume = create("PersistentVolume", volume());
    let spec = &volume["spec"];
    assert_eq!(
        [
            &spec["persistentVolumeReclaimPolicy"],
            &spec["volumeMode"],
            &spec["hostPath"]["type"],
            &volume["status"]["phase"]
        ],
        [&json!("Retain"), &json!("Filesystem"), &json!(""), &json!("Pending")]
    );
    assert!(volume["status"]["lastPhaseTransitionTime"].is_string());
    expect!["v | 1Gi | RWO,ROX | Retain | Pending | default/c | fast | <unset> |  | 60m | Filesystem"]
        .assert_eq(&row("PersistentVolume", &volume));
}

#[test]
fn volumes_are_judged() {
    mistakes(
        "PersistentVolume",
        json!({"metadata": {"name": "v"}, "spec": {}}),
        &expect![[r#"
        spec.accessModes: Required value
        spec.capacity: Required value
        spec: Required value: must specify a volume type"#]],
    );
    mistakes(
        "PersistentVolume",
        json!({"metadata": {"name": "v"}, "spec": {
            "capacity": {"storage": "0", "cpu": "1"}, "accessModes": ["Any", "ReadWriteOncePod"],
            "persistentVolumeReclaimPolicy": "Keep", "volumeMode": "Tape", "storageClassName": "Fast",
            "volumeAttributesClassName": "gold", "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a b", "operator": "In"}, {"key": "a", "operator": "Like"}]},
            ]}},
            "nfs": {"server": "", "path": "data"}, "hostPath": {"path": "/"},
        }}),
        &expect![[r#"
            spec.accessModes: Unsupported value: "Any": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
            spec.capacity: Unsupported value: {"cpu":"1","storage":"0"}: supported values: "storage"
            spec.capacity[storage]: Invalid value: "0": must be greater than zero
            spec.persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Recycle", "Retain"
            spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
            spec.nfs: Forbidden: may not specify more than 1 volume type
            spec.storageClassName: Invalid value: "Fast": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
            spec.csi: Required value: has to be specified when using volumeAttributesClassName"#]],
    );
    for (source, expected) in [
        (
            json!({"hostPath": {"path": "/a/../b", "type": "Tape"}}),
            expect![[r#"
            spec.hostPath.path: Invalid value: "/a/../b": must not contain '..'
            spec.hostPath.type: Unsupported value: "Tape": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#]],
        ),
        (
            json!({"local": {"path": "/disk"}}),
            expect!["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            json!({"csi": {"driver": "A_b", "volumeHandle": "", "nodePublishSecretRef": {"name": "s"}}}),
            expect![[r#"
            spec.csi.driver: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.csi.volumeHandle: Required value
            spec.csi.nodePublishSecretRef.namespace: Required value"#]],
        ),
        (
            json!({"iscsi": {"targetPortal": "p", "iqn": "x", "lun": 300, "chapAuthSession": true}}),
            expect![[r#"
            spec.iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa
            spec.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive
            spec.iscsi.secretRef: Required value"#]],
        ),
        (
            json!({"fc": {"targetWWNs": ["a"]}}),
            expect!["spec.fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
        (
            json!({"rbd": {"monitors": [], "image": ""}}),
            expect![[r#"
            spec.rbd.monitors: Required value
            spec.rbd.image: Required value"#]],
        ),
    ] {
        let mut object = volume();
        object["spec"].as_object_mut().expect("a map").remove("hostPath");
        object["spec"].as_object_mut().expect("a map").extend(source.as_object().cloned().unwrap_or_default());
        mistakes("PersistentVolume", object, &expected);
    }
}

#[test]
fn a_volume_stays_where_its_bytes_are() {
    let path = |object: &mut Value| object["spec"]["hostPath"]["path"] = "/other".into();
    refused(
        "PersistentVolume",
        volume(),
        path,
        &expect!["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
    );
    refused(
        "PersistentVolume",
        volume(),
        |object| object["spec"]["volumeMode"] = "Block".into(),
        &expect![[r#"volumeMode: Invalid value: "Block": field is immutable"#]],
    );
    let policy = |object: &mut Value| object["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    refused("PersistentVolume", volume(), policy, &expect!["fine"]);
}

#[test]
fn a_claim_gets_what_it_leaves_out() {
    let mut given = claim();
    given["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "other"});
    let mut claim = create("PersistentVolumeClaim", given);
    assert_eq!(claim["spec"]["dataSourceRef"], claim["spec"]["dataSource"]);
    assert_eq!([&claim["spec"]["volumeMode"], &claim["status"]["phase"]], [&json!("Filesystem"), &json!("Pending")]);
    expect!["c | Pending |  |  |  |  | <unset> | 60m | Filesystem"].assert_eq(&row("PersistentVolumeClaim", &claim));
    claim["spec"]["volumeName"] = "v".into();
    claim["status"] = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}});
    expect!["c | Bound | v | 2Gi | RWO |  | <unset> | 60m | Filesystem"]
        .assert_eq(&row("PersistentVolumeClaim", &claim));
}

#[test]
fn claims_are_judged() {
    mistakes(
        "PersistentVolumeClaim",
        json!({"metadata": {"name": "c"}, "spec": {}}),
        &expect![[r#"
        spec.accessModes: Required value: at least 1 access mode is required
        spec.resources[storage]: Required value"#]],
    );
    mistakes(
        "PersistentVolumeClaim",
        json!({"metadata": {"name": "c"}, "spec": {
            "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"], "resources": {"requests": {"storage": "-1"}},
            "storageClassName": "Fast", "volumeMode": "Tape", "dataSource": {"kind": "Volume", "name": ""},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "x", "namespace": "N"},
        }}),
        &expect![[r#"
            spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
            spec.resources[storage]: Invalid value: "-1": must be greater than or equal to 0
            spec.resources[storage]: Invalid value: "-1": must be greater than zero
            spec.storageClassName: Invalid value: "Fast": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
            spec.dataSource.name: Required value
            spec.dataSource: Invalid value: "Volume": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            spec.dataSourceRef.namespace: Invalid value: "N": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec: Invalid value: "spec.dataSource": may not be specified when dataSourceRef.namespace is specified"#]],
    );
}

#[test]
fn a_claim_changes_in_size_alone_and_only_when_bound() {
    let grow = |object: &mut Value| object["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    refused(
        "PersistentVolumeClaim",
        claim(),
        grow,
        &expect![
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        ],
    );
    let modes = |object: &mut Value| object["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    refused(
        "PersistentVolumeClaim",
        claim(),
        modes,
        &expect![
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        ],
    );
    let mut bound = create("PersistentVolumeClaim", claim());
    bound["spec"]["volumeName"] = "v".into();
    bound["spec"]["volumeAttributesClassName"] = "silver".into();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let change = |size: &str, class: Value| {
        let mut new = bound.clone();
        new["spec"]["resources"]["requests"]["storage"] = size.into();
        new["spec"]["volumeAttributesClassName"] = class;
        causes(process("PersistentVolumeClaim", new, Operation::Update { old: &bound }))
    };
    expect!["fine"].assert_eq(&change("3Gi", json!("gold")));
    expect!["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        .assert_eq(&change("500Mi", json!("gold")));
    expect!["spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"]
        .assert_eq(&change("1Gi", json!(null)));
}

#[test]
fn limits_are_filled_in_and_judged() {
    let range = json!({"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "1Mi"}, "default": {"memory": "1Gi"}},
    ]}});
    let range = create("LimitRange", range);
    expect![[r#"{"default":{"cpu":"2","memory":"1Gi"},"defaultRequest":{"cpu":"2","memory":"1Gi"},"max":{"cpu":"2"},"min":{"cpu":"100m","memory":"1Mi"},"type":"Container"}"#]].assert_eq(&range["spec"]["limits"][0].to_string());
    mistakes(
        "LimitRange",
        json!({"metadata": {"name": "l"}, "spec": {"limits": [
            {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "3"},
             "defaultRequest": {"cpu": "4"}, "maxLimitRequestRatio": {"cpu": "500m"}},
            {"type": "Pod", "default": {"cpu": "1"}, "max": {"storage": "1"}},
            {"type": "Pod", "max": {"memory": "4Gi"}, "min": {"memory": "1Gi"}, "maxLimitRequestRatio": {"memory": "5"}},
            {"type": "PersistentVolumeClaim"}, {"type": "Node"},
        ]}}),
        &expect![[r#"
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            spec.limits[0].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than max value 1
            spec.limits[0].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than default limit value 3
            spec.limits[0].default[cpu]: Invalid value: "1": default value 3 is greater than max value 1
            spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1
            spec.limits[1].max[storage]: Invalid value: "storage": must be a standard resource for containers
            spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'
            spec.limits[2].type: Duplicate value: "Pod"
            spec.limits[2].maxLimitRequestRatio[memory]: Invalid value: "5": ratio 5 is greater than max/min = 4.000000
            spec.limits[3].limits: Required value: either minimum or maximum storage value is required, but neither was provided
            spec.limits[4].type: Invalid value: "Node": must be a standard limit type or fully qualified"#]],
    );
}

#[test]
fn quotas_are_shown_and_judged() {
    let quota = |spec: Value| json!({"metadata": {"name": "q", "namespace": "default"}, "spec": spec});
    let mut shown = create("ResourceQuota", quota(json!({"hard": {"pods": "2"}})));
    shown["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    shown["status"] = json!({"hard": {"pods": "2", "limits.cpu": "4", "requests.cpu": "2"}, "used": {"pods": "1", "limits.cpu": "500m"}});
    expect!["q | pods: 1/2, requests.cpu: 0/2 | limits.cpu: 500m/4 | 60m"].assert_eq(&row("ResourceQuota", &shown));
    mistakes(
        "ResourceQuota",
        quota(json!({
            "hard": {"pods": "1.5", "secrets": "-1", "apples": "1", "requests.example.com/gpu": "1"},
            "scopes": ["BestEffort", "NotBestEffort", "Small"],
            "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In"}, {"scopeName": "Terminating", "operator": "In", "values": ["a"]},
                {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}, {"scopeName": "X", "operator": "Y"},
            ]},
        })),
        &expect![[r#"
            spec.hard[apples]: Invalid value: "apples": must be a standard resource for quota
            spec.hard[pods]: Invalid value: "1500m": must be an integer
            spec.hard[secrets]: Invalid value: "-1": must be greater than or equal to 0
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Small"]: unsupported scope applied to resource
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Small"]: unsupported scope applied to resource
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Small"]: unsupported scope
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Small"]: conflicting scopes
            spec.scopeSelector.matchExpressions: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"PriorityClass","values":["a"]},{"operator":"Y","scopeName":"X"}]}: unsupported scope applied to resource
            spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector
            spec.scopeSelector.matchExpressions: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"PriorityClass","values":["a"]},{"operator":"Y","scopeName":"X"}]}: unsupported scope applied to resource
            spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
            spec.scopeSelector.matchExpressions: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"PriorityClass","values":["a"]},{"operator":"Y","scopeName":"X"}]}: unsupported scope applied to resource
            spec.scopeSelector.matchExpressions.values: Invalid value: ["a"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector
            spec.scopeSelector.matchExpressions.scopeName: Invalid value: "X": unsupported scope
            spec.scopeSelector.matchExpressions.operator: Invalid value: "Y": not a valid selector operator"#]],
    );
    let scopes = |object: &mut Value| object["spec"]["scopes"] = json!(["BestEffort"]);
    refused(
        "ResourceQuota",
        quota(json!({"hard": {"pods": "2"}})),
        scopes,
        &expect![[r#"spec.scopes: Invalid value: ["BestEffort"]: field is immutable"#]],
    );
}

#[test]
fn priorities_are_judged() {
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    let made = create("PriorityClass", class("high", 1000));
    assert_eq!(made["preemptionPolicy"], "PreemptLowerPriority");
    mistakes(
        "PriorityClass",
        class("high", 1_000_000_001),
        &expect!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    mistakes(
        "PriorityClass",
        class("system-mine", 1),
        &expect![
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class"
        ],
    );
    mistakes(
        "PriorityClass",
        class("system-node-critical", 1),
        &expect![
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000"
        ],
    );
    mistakes("PriorityClass", class("system-node-critical", 2_000_001_000), &expect!["fine"]);
    let change = |object: &mut Value| {
        object["value"] = 5.into();
        object["preemptionPolicy"] = "Never".into();
    };
    refused(
        "PriorityClass",
        class("high", 1),
        change,
        &expect![[r#"
        value: Forbidden: may not be changed in an update.
        preemptionPolicy: Invalid value: "Never": field is immutable"#]],
    );
}

#[test]
fn classes_of_storage_are_judged() {
    let class = json!({"metadata": {"name": "fast", "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "example.com/disk"});
    let made = create("StorageClass", class.clone());
    expect!["fast (default) | example.com/disk | Delete | Immediate | false | 60m"]
        .assert_eq(&row("StorageClass", &made));
    mistakes(
        "StorageClass",
        json!({"metadata": {"name": "s"}, "provisioner": "", "parameters": {"": "x"}, "reclaimPolicy": "Recycle",
            "volumeBindingMode": "Later", "allowedTopologies": [{"matchLabelExpressions": [{"key": "", "values": []}]}]}),
        &expect![[r#"
            provisioner: Required value
            parameters: Invalid value: "": field can not be empty.
            reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
            volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"
            allowedTopologies[0].matchLabelExpressions[0].values: Required value
            allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: "": name part must be non-empty
            allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]],
    );
    let change = |object: &mut Value| {
        object["provisioner"] = "example.com/other".into();
        object["parameters"] = json!({"a": "b"});
        object["reclaimPolicy"] = "Retain".into();
        object["volumeBindingMode"] = "WaitForFirstConsumer".into();
        object["allowVolumeExpansion"] = true.into();
    };
    refused(
        "StorageClass",
        class,
        change,
        &expect![[r#"
        parameters: Forbidden: updates to parameters are forbidden.
        provisioner: Forbidden: updates to provisioner are forbidden.
        reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.
        volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable"#]],
    );
    mistakes(
        "VolumeAttributesClass",
        json!({"metadata": {"name": "v"}, "driverName": ""}),
        &expect![[r#"
        driverName: Required value
        parameters: Required value: must contain at least one key/value pair"#]],
    );
}

#[test]
fn drivers_and_what_they_report_are_judged() {
    let driver = create("CSIDriver", json!({"metadata": {"name": "d.example.com"}, "spec": {}}));
    expect![[r#"{"attachRequired":true,"fsGroupPolicy":"ReadWriteOnceWithFSType","podInfoOnMount":false,"requiresRepublish":false,"seLinuxMount":false,"storageCapacity":false,"volumeLifecycleModes":["Persistent"]}"#]].assert_eq(&driver["spec"].to_string());
    mistakes(
        "CSIDriver",
        json!({"metadata": {"name": "d"}, "spec": {"fsGroupPolicy": "Some", "volumeLifecycleModes": ["Short"],
            "tokenRequests": [{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]}}),
        &expect![[r#"
            spec.fsGroupPolicy: Unsupported value: "Some": supported values: "File", "None", "ReadWriteOnceWithFSType"
            spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
            spec.tokenRequests[1].audience: Duplicate value: "a"
            spec.volumeLifecycleModes: Unsupported value: "Short": supported values: "Ephemeral", "Persistent""#]],
    );
    mistakes(
        "CSINode",
        json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "d", "nodeID": "", "allocatable": {"count": -1}, "topologyKeys": ["a", "a"]}, {"name": "d", "nodeID": "n"},
        ]}}),
        &expect![[r#"
            spec.drivers[0].nodeID: Required value
            spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0
            spec.drivers[0].topologyKeys[1]: Duplicate value: "a"
            spec.drivers[1].name: Duplicate value: "d""#]],
    );
    mistakes(
        "CSIStorageCapacity",
        json!({"metadata": {"name": "c"}, "storageClassName": "", "capacity": "-1"}),
        &expect![[r#"
            storageClassName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            capacity: Invalid value: "-1": must be greater than or equal to 0"#]],
    );
    let attachment = json!({"metadata": {"name": "a"}, "spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    refused(
        "VolumeAttachment",
        attachment,
        |object| object["spec"]["nodeName"] = "m".into(),
        &expect![[
            r#"spec: Invalid value: {"attacher":"d","nodeName":"m","source":{"persistentVolumeName":"v"}}: field is immutable"#
        ]],
    );
    mistakes(
        "VolumeAttachment",
        json!({"metadata": {"name": "a"}, "spec": {"attacher": "", "nodeName": "n", "source": {}}}),
        &expect![[r#"
            spec.attacher: Required value
            spec.attacher: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"#]],
    );
    mistakes(
        "RuntimeClass",
        json!({"metadata": {"name": "r"}, "handler": "A", "overhead": {"podFixed": {"cpu": "-1"}},
            "scheduling": {"tolerations": [{"operator": "Equal"}, {"key": "a"}, {"key": "a"}]}}),
        &expect![[r#"
            handler: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            overhead.podFixed[cpu]: Invalid value: "-1": must be greater than or equal to 0
            scheduling.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            scheduling.tolerations[2]: Duplicate value: {"key":"a"}"#]],
    );
}

#[test]
fn claims_to_devices_are_judged() {
    let claim = json!({"metadata": {"name": "c", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"devices": {
        "requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "tolerations": [{"key": "a"}]}}],
    }}});
    let made = create("ResourceClaim", claim.clone());
    expect![[r#"{"allocationMode":"ExactCount","count":1,"deviceClassName":"gpu.example.com","tolerations":[{"key":"a","operator":"Equal"}]}"#]].assert_eq(&made["spec"]["devices"]["requests"][0]["exactly"].to_string());
    expect!["c | pending | 60m"].assert_eq(&row("ResourceClaim", &made));
    mistakes(
        "ResourceClaim",
        json!({"metadata": {"name": "c"}, "spec": {"devices": {
            "requests": [
                {"name": "A"}, {"name": "a", "exactly": {"deviceClassName": "", "allocationMode": "All", "count": 2, "selectors": [{}]}},
                {"name": "a", "firstAvailable": [{"name": "x", "deviceClassName": "c", "allocationMode": "Some"}]},
            ],
            "constraints": [{"requests": ["b", "a/x", "a/x"], "matchAttribute": "model"}, {}],
            "config": [{"requests": ["a/b/c"]}, {"opaque": {"driver": "d", "parameters": 5}}],
        }}}),
        &expect![[r#"
            spec.devices.requests[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            spec.devices.requests[1].exactly.deviceClassName: Required value
            spec.devices.requests[1].exactly.selectors[0].cel: Required value
            spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'
            spec.devices.requests[2].firstAvailable[0].allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"
            spec.devices.requests[2].name: Duplicate value: "a"
            spec.devices.constraints[0].requests[0]: Invalid value: "b": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[2]: Duplicate value: "a/x"
            spec.devices.constraints[0].matchAttribute: Invalid value: "model": must include a domain
            spec.devices.constraints[1]: Required value: exactly one of `matchAttribute` or `distinctAttribute` must be specified
            spec.devices.config[0].requests[0]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.config[0].opaque: Required value
            spec.devices.config[1].opaque.parameters: Invalid value: "<value omitted>": parameters must be a valid JSON object"#]],
    );
    let change = |object: &mut Value| object["spec"]["devices"]["requests"][0]["name"] = "other".into();
    refused(
        "ResourceClaim",
        claim,
        change,
        &expect![[
            r#"spec: Invalid value: {"devices":{"requests":[{"exactly":{"allocationMode":"ExactCount","count":1,"deviceClassName":"gpu.example.com","tolerations":[{"key":"a","operator":"Equal"}]},"name":"other"}]}}: field is immutable"#
        ]],
    );
    let status = |status: Value| {
        let mut new = made.clone();
        new["status"] = status;
        causes(process("ResourceClaim", new, Operation::UpdateStatus { old: &made }))
    };
    let result = json!({"request": "gpu", "driver": "d.example.com", "pool": "p", "device": "g0"});
    let user = json!({"resource": "pods", "name": "p", "uid": "1"});
    expect!["fine"]
        .assert_eq(&status(json!({"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]})));
    expect![[r#"
        status.reservedFor[1].uid: Duplicate value: "1"
        status.reservedFor: Forbidden: may not be specified when `allocated` is not set"#]]
    .assert_eq(&status(json!({"reservedFor": [user, user]})));
    expect![[r#"
        status.devices[0]: Invalid value: "d/p/e": must be an allocated device in the claim
        status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
        status.allocation.devices.results[0].request: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
        status.allocation.devices.results[0].driver: Required value
        status.allocation.devices.results[0].driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        status.allocation.devices.results[0].pool: Required value
        status.allocation.devices.results[0].device: Invalid value: "G": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        status.allocation.devices.results[0].bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with bindingConditions"#]].assert_eq(&status(json!({"allocation": {"devices": {"results": [
        {"request": "x", "driver": "", "pool": "", "device": "G", "bindingConditions": ["a"], "bindingFailureConditions": ["a"]},
    ]}}, "devices": [{"driver": "d", "pool": "p", "device": "e", "networkData": {"ips": ["10.0.0.1"]}}]})));
}

#[test]
fn slices_and_classes_of_devices_are_judged() {
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.example.com", "nodeName": "n",
    "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [
        {"name": "g0", "attributes": {"model": {"string": "x"}}, "taints": [{"key": "a", "effect": "NoSchedule"}]},
    ]}});
    let made = create("ResourceSlice", slice.clone());
    assert!(made["spec"]["devices"][0]["taints"][0]["timeAdded"].is_string());
    mistakes(
        "ResourceSlice",
        json!({"metadata": {"name": "s"}, "spec": {"driver": "", "allNodes": true, "nodeName": "n",
        "pool": {"name": "", "generation": -1, "resourceSliceCount": 0}, "devices": [
            {"name": "G", "nodeName": "n", "attributes": {"a-b": {}, "x": {"int": 1, "bool": true}, "v": {"version": "1"}},
             "taints": [{"key": "", "effect": "Now"}]}, {"name": "G"},
        ]}}),
        &expect![[r#"
            spec.driver: Required value
            spec.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.pool.name: Required value
            spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
            spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
            spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
            spec.devices[0].name: Invalid value: "G": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices[0].attributes[a-b]: Invalid value: "a-b": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
            spec.devices[0].attributes[a-b]: Required value: exactly one value must be specified
            spec.devices[0].attributes[v].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0
            spec.devices[0].attributes[x]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
            spec.devices[0].taints[0].key: Invalid value: "": name part must be non-empty
            spec.devices[0].taints[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.devices[0].taints[0].effect: Unsupported value: "Now": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices[0].nodeName: Forbidden: `nodeName` field in the device may only be set if `spec.perDeviceNodeSelection` is true in the slice
            spec.devices[1].name: Invalid value: "G": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices[1].name: Duplicate value: "G""#]],
    );
    let change = |object: &mut Value| {
        object["spec"]["driver"] = "e".into();
        object["spec"]["pool"]["name"] = "q".into();
        object["spec"]["nodeName"] = "m".into();
    };
    refused(
        "ResourceSlice",
        slice,
        change,
        &expect![[r#"
        spec.pool.name: Invalid value: "q": field is immutable
        spec.driver: Invalid value: "e": field is immutable
        spec.nodeName: Invalid value: "m": field is immutable"#]],
    );
    mistakes(
        "DeviceClass",
        json!({"metadata": {"name": "d"}, "spec": {"selectors": [{"cel": {"expression": ""}}], "config": [{}], "extendedResourceName": "cpu"}}),
        &expect![[r#"
            spec.selectors[0].cel.expression: Required value
            spec.config[0].opaque: Required value
            spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name"#]],
    );
}

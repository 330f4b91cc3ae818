//! What the kinds do to objects.

mod golden;
mod networking;
mod pods;
mod status;
mod storage;
mod workloads;

use std::net::Ipv4Addr;

use corten_api::status::Status;
use serde_json::{Value, json};

use crate::{AnyKind, Claims, Deletion, KINDS, Operation, Warnings, WriteContext};

struct Free;

impl Claims for Free {
    fn is_free(&self, claim: &str) -> bool {
        claim != "clusterip/10.43.0.11"
    }

    fn random(&self, _bound: usize) -> usize {
        0
    }

    fn service_range(&self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::new(10, 43, 0, 0), 16)
    }
}

fn kind(name: &str) -> &'static dyn AnyKind {
    *KINDS.iter().find(|kind| kind.names().kind == name).expect("a kind")
}

fn process(name: &str, new: Value, operation: Operation<'_>) -> Result<Value, Status> {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    kind(name).process(new, operation, &WriteContext { now, claims: &Free, user: None, warnings: &Warnings::default() })
}

fn create(name: &str, new: Value) -> Value {
    process(name, new, Operation::Create).expect("is fine")
}

fn message(result: Result<Value, Status>) -> String {
    result.expect_err("is not fine").message
}

fn pod() -> Value {
    json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

fn deployment() -> Value {
    let labels = json!({"app": "web"});
    json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    }})
}

#[test]
fn every_kind_is_declared_whole() {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    for kind in KINDS {
        let names = kind.stored();
        let empty = json!({"apiVersion": names.api_version(), "kind": names.kind, "metadata": {"name": "a"},
            "involvedObject": {}, "addressType": "IPv4", "endpoints": []});
        let cells = kind.cells(empty.to_string().as_bytes(), now).expect("cells of an empty object");
        assert_eq!(cells.len(), kind.columns().len(), "{names}");
        assert_eq!(kind.fields(&empty).len(), kind.field_names().len(), "{names}");
    }
}

#[test]
fn what_a_deletion_is_answered_with_is_declared() {
    let shown = KINDS.iter().filter(|kind| kind.shows_deleted()).map(|kind| kind.names().plural);
    let orphaning = KINDS.iter().filter(|kind| kind.orphans_dependents()).map(|kind| kind.names().plural);
    let mut shown: Vec<&str> = shown.collect();
    shown.sort_unstable();
    expect_test::expect!["csidrivers csinodes deviceclasses persistentvolumeclaims persistentvolumes pods podtemplates resourceclaims resourceclaimtemplates resourcequotas resourceslices serviceaccounts services storageclasses volumeattachments volumeattributesclasses"].assert_eq(&shown.join(" "));
    expect_test::expect!["replicationcontrollers jobs"].assert_eq(&orphaning.collect::<Vec<_>>().join(" "));
    assert!(kind("Job").orphan_warning().is_some_and(|text| text.starts_with("child pods are preserved by default")));
}

#[test]
fn a_pod_gets_the_defaults_that_clients_expect() {
    expect_test::expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "generation": 1,
            "name": "a",
            "namespace": "default"
          },
          "spec": {
            "containers": [
              {
                "image": "web:1",
                "imagePullPolicy": "IfNotPresent",
                "name": "c",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30
          },
          "status": {
            "phase": "Pending",
            "qosClass": "BestEffort"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&create("Pod", pod())).expect("JSON"));
}

#[test]
fn processing_again_changes_nothing() {
    let objects = [
        ("Pod", pod()),
        ("Deployment", deployment()),
        ("ReplicaSet", deployment()),
        ("Namespace", json!({"metadata": {"name": "a"}})),
        ("Secret", json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}})),
        ("Service", json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})),
        ("ConfigMap", json!({"metadata": {"name": "a"}, "data": {"k": "v"}})),
    ];
    for (name, object) in objects {
        let once = create(name, object);
        let twice = process(name, once.clone(), Operation::Update { old: &once }).expect("is fine");
        assert_eq!(twice, once, "{name}");
    }
}

#[test]
fn mistakes_are_told_with_their_field() {
    let mut lines = Vec::new();
    let mut check = |name: &str, object: Value| lines.push(message(process(name, object, Operation::Create)));
    check("Pod", json!({"metadata": {"name": "A_b"}, "spec": {"containers": []}}));
    check(
        "Pod",
        json!({"metadata": {"name": "a"}, "spec": {"restartPolicy": "Sometimes", "containers": [
            {"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}], "ports": [{"containerPort": 70000}]},
            {"name": "c"},
        ]}}),
    );
    let mut wrong = deployment();
    wrong["spec"]["template"]["metadata"]["labels"]["app"] = "other".into();
    wrong["spec"]["replicas"] = (-1).into();
    check("Deployment", wrong);
    check("Service", json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 0, "protocol": "ICMP"}]}}));
    check("ConfigMap", json!({"metadata": {"name": "a"}, "data": {"a/b": "x"}}));
    check("Secret", json!({"metadata": {"name": "a"}, "type": "kubernetes.io/tls"}));
    expect_test::expect![[r#"
        Pod "A_b" is invalid: [metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.containers: Required value]
        Pod "a" is invalid: [spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.containers[0].volumeMounts[0].name: Not found: "v", spec.containers[1].image: Required value, spec.containers[1].name: Duplicate value: "c", spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"]
        Deployment.apps "web" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`]
        Service "1a" is invalid: [metadata.name: Invalid value: "1a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP", spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]
        ConfigMap "a" is invalid: data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        Secret "a" is invalid: [data[tls.crt]: Required value, data[tls.key]: Required value]"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn paths_of_a_pod_stay_in_its_volumes() {
    let mounts = json!([
        {"name": "v", "mountPath": "/a", "subPath": "../.."},
        {"name": "v", "mountPath": "/b", "subPath": "/etc"},
        {"name": "v", "mountPath": "/c", "subPathExpr": "a/../$(NAME)"},
        {"name": "v", "mountPath": "/d", "subPath": "a..b/c"},
    ]);
    let item = |path: &str| json!({"key": "k", "path": path});
    let volumes = json!([
        {"name": "v", "configMap": {"name": "m", "items": [item("../../x"), item("/x"), item("..data"), item("")]}},
        {"name": "s", "secret": {"secretName": "s", "items": [item("a/../b"), item("a/b")]}},
        {"name": "d", "downwardAPI": {"items": [{"path": "../x", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "p", "projected": {"sources": [
            {"serviceAccountToken": {"path": "../token"}}, {"configMap": {"name": "m", "items": [item("/x")]}},
        ]}},
    ]);
    let pod = json!({"metadata": {"name": "a"}, "spec": {
        "volumes": volumes, "containers": [{"name": "c", "image": "x", "volumeMounts": mounts}],
    }});
    let status = process("Pod", pod, Operation::Create).expect_err("is not fine");
    let causes = status.details.expect("details")["causes"].as_array().cloned().unwrap_or_default();
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    let lines: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", text(cause, "field"), text(cause, "message"))).collect();
    expect_test::expect![[r#"
        spec.volumes[0].configMap.items[0].path: Invalid value: "../../x": must not contain '..'
        spec.volumes[0].configMap.items[1].path: Invalid value: "/x": must be a relative path
        spec.volumes[0].configMap.items[2].path: Invalid value: "..data": must not start with '..'
        spec.volumes[0].configMap.items[3].path: Required value
        spec.volumes[1].secret.items[0].path: Invalid value: "a/../b": must not contain '..'
        spec.volumes[2].downwardAPI.items[0].path: Invalid value: "../x": must not contain '..'
        spec.volumes[3].projected.sources[0].serviceAccountToken.path: Invalid value: "../token": must not contain '..'
        spec.volumes[3].projected.sources[1].configMap.items[0].path: Invalid value: "/x": must be a relative path
        spec.containers[0].volumeMounts[0].subPath: Invalid value: "../..": must not contain '..'
        spec.containers[0].volumeMounts[1].subPath: Invalid value: "/etc": must be a relative path
        spec.containers[0].volumeMounts[2].subPathExpr: Invalid value: "a/../$(NAME)": must not contain '..'"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn addresses_of_services_come_from_their_range() {
    let service = |ip: &str| json!({"metadata": {"name": "a"}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    assert_eq!(
        message(process("Service", service("1.2.3.4"), Operation::Create)),
        "Service \"a\" is invalid: spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.43.0.0/16"
    );
    for (ip, fine) in
        [("10.43.0.0", false), ("10.43.255.255", false), ("10.44.0.1", false), ("10.43.0.1", true), ("None", true)]
    {
        assert_eq!(process("Service", service(ip), Operation::Create).is_ok(), fine, "{ip}");
    }
}

#[test]
fn a_service_gets_an_address_and_ports_that_nobody_has() {
    let service =
        create("Service", json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.12");
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 30000);
    assert_eq!(kind("Service").claims(&service), ["clusterip/10.43.0.12", "nodeport/TCP/30000"]);
    let mut changed = service.clone();
    changed["spec"]["type"] = "ClusterIP".into();
    changed["spec"].as_object_mut().expect("a map").remove("clusterIP");
    changed["spec"].as_object_mut().expect("a map").remove("clusterIPs");
    let changed = process("Service", changed, Operation::Update { old: &service }).expect("is fine");
    assert_eq!(kind("Service").claims(&changed), ["clusterip/10.43.0.12"]);
    let mut moved = service.clone();
    moved["spec"]["clusterIP"] = "10.43.0.99".into();
    assert!(
        message(process("Service", moved, Operation::Update { old: &service })).contains("may not change once set")
    );
}

#[test]
fn the_generation_counts_changes_of_the_spec_alone() {
    let old = create("Deployment", deployment());
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let labelled = process("Deployment", labelled, Operation::Update { old: &old }).expect("is fine");
    assert_eq!(labelled["metadata"]["generation"], 1);
    let mut scaled = old.clone();
    scaled["spec"]["replicas"] = 5.into();
    scaled["status"] = json!({"replicas": 9});
    let scaled = process("Deployment", scaled, Operation::Update { old: &old }).expect("is fine");
    assert_eq!((&scaled["metadata"]["generation"], scaled.get("status")), (&json!(2), old.get("status")));
    let mut status = old.clone();
    status["status"] = json!({"replicas": 3});
    status["spec"]["replicas"] = 7.into();
    let status = process("Deployment", status, Operation::UpdateStatus { old: &old }).expect("is fine");
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(3)));
}

#[test]
fn what_must_not_change_does_not() {
    let old = create("Pod", pod());
    let change = |path: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(path).expect("a field") = value;
        process("Pod", new, Operation::Update { old: &old })
    };
    assert!(change("/spec/containers/0/image", json!("web:2")).is_ok());
    assert!(message(change("/spec/dnsPolicy", json!("None"))).contains("pod updates may not change fields other than"));
    let old = create("Deployment", deployment());
    let mut new = old.clone();
    new["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    new["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    assert!(message(process("Deployment", new, Operation::Update { old: &old })).contains("field is immutable"));
    let old = create("ConfigMap", json!({"metadata": {"name": "a"}, "immutable": true, "data": {"a": "b"}}));
    let mut new = old.clone();
    new["data"]["a"] = "c".into();
    assert!(message(process("ConfigMap", new, Operation::Update { old: &old })).contains("immutable"));
}

#[test]
fn pods_are_given_time_to_end_only_where_they_run() {
    let kind = kind("Pod");
    let mut pod = create("Pod", pod());
    assert_eq!(kind.deletion(&pod, None), Deletion::Immediate);
    pod["spec"]["nodeName"] = "n".into();
    assert_eq!(kind.deletion(&pod, None), Deletion::Graceful { seconds: 30 });
    assert_eq!(kind.deletion(&pod, Some(5)), Deletion::Graceful { seconds: 5 });
    assert_eq!(kind.deletion(&pod, Some(0)), Deletion::Immediate);
    pod["status"]["phase"] = "Succeeded".into();
    assert_eq!(kind.deletion(&pod, None), Deletion::Immediate);
}

#[test]
fn the_status_column_says_what_is_going_on() {
    let now = "2026-01-01T00:10:00Z".parse().expect("a time");
    let show = |status: Value, deleted: bool| {
        let mut pod = create("Pod", pod());
        pod["status"] = status;
        if deleted {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let cells = kind("Pod").cells(pod.to_string().as_bytes(), now).expect("cells");
        cells[1..4].iter().map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" | ")
    };
    let container = |state: Value, ready: bool, restarts: i32| {
        json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": ready, "restartCount": restarts,
            "image": "", "imageID": "", "state": state,
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:30Z"}}}]})
    };
    let lines = [
        show(json!({"phase": "Pending"}), false),
        show(container(json!({"running": {}}), true, 0), false),
        show(container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false, 3), false),
        show(container(json!({"terminated": {"exitCode": 2}}), false, 0), false),
        show(container(json!({"running": {}}), true, 0), true),
    ];
    expect_test::expect![[r#"
        0/1 | Pending | 0
        1/1 | Running | 0
        0/1 | CrashLoopBackOff | 3 (30s ago)
        0/1 | ExitCode:2 | 0
        1/1 | Terminating | 0"#]]
    .assert_eq(&lines.join("\n"));
}

//! What the cluster adds to objects and demands of them.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use expect_test::{Expect, expect};
use http::Method;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

/// A cluster with the account that pods run as.
async fn cluster() -> Api {
    let api = Api::new().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
        "automountServiceAccountToken": false});
    made(&api, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    api
}

async fn made(api: &Api, path: &str, object: &Value) -> Value {
    let (code, answer) = api.post(path, object).await;
    assert_eq!(code, 201, "{answer}");
    answer
}

async fn refused(api: &Api, path: &str, object: &Value, expected: &Expect) {
    let (code, answer) = api.post(path, object).await;
    expected.assert_eq(&format!("{code} {}", answer["message"].as_str().unwrap_or_default()));
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn sized(name: &str, resources: Value) -> Value {
    pod(name, json!({"containers": [{"name": "c", "image": "web:1", "resources": resources}]}))
}

fn quota(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec})
}

fn limits(item: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [item]}})
}

fn claim(name: &str, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
    }})
}

async fn used(api: &Api, name: &str) -> String {
    let (_, quota) = api.get(&format!("{QUOTAS}/{name}")).await;
    quota["status"]["used"].to_string()
}

#[tokio::test]
async fn a_name_of_a_priority_class_becomes_a_number() {
    let api = cluster().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let (_, list) = api.get(classes).await;
    let names: Vec<&str> =
        list["items"].as_array().into_iter().flatten().filter_map(|class| class["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["system-cluster-critical", "system-node-critical"]);
    let plain = made(&api, PODS, &pod("plain", json!({}))).await;
    assert_eq!((&plain["spec"]["priority"], plain["spec"].get("priorityClassName")), (&json!(0), None));
    let class = |name: &str, value: i64, default: bool| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "globalDefault": default, "preemptionPolicy": "Never"})
    };
    made(&api, classes, &class("low", 5, true)).await;
    refused(&api, classes, &class("other", 6, true), &expect![[r#"403 priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass low is already marked as default. Only one default can exist"#]]).await;
    let given = made(&api, PODS, &pod("given", json!({}))).await;
    let spec = &given["spec"];
    assert_eq!(
        [&spec["priorityClassName"], &spec["priority"], &spec["preemptionPolicy"]],
        [&json!("low"), &json!(5), &json!("Never")]
    );
    let critical = made(&api, PODS, &pod("critical", json!({"priorityClassName": "system-node-critical"}))).await;
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    refused(
        &api,
        PODS,
        &pod("a", json!({"priorityClassName": "none"})),
        &expect![[r#"403 pods "a" is forbidden: no PriorityClass with name none was found"#]],
    )
    .await;
    refused(&api, PODS, &pod("a", json!({"priority": 7})), &expect![[r#"403 pods "a" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name"#]]).await;
}

#[tokio::test]
async fn a_way_of_running_has_its_cost_and_its_place() {
    let api = cluster().await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"}, "handler": "vm",
        "overhead": {"podFixed": {"memory": "100Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    made(&api, "/apis/node.k8s.io/v1/runtimeclasses", &class).await;
    let given = made(&api, PODS, &pod("a", json!({"runtimeClassName": "vm"}))).await;
    let spec = &given["spec"];
    assert_eq!([&spec["overhead"], &spec["nodeSelector"]], [&json!({"memory": "100Mi"}), &json!({"vm": "yes"})]);
    assert!(spec["tolerations"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == "vm")));
    for (spec, expected) in [
        (
            json!({"runtimeClassName": "none"}),
            expect![[r#"403 pods "b" is forbidden: pod rejected: RuntimeClass "none" not found"#]],
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            expect![[
                r#"403 pods "b" is forbidden: conflict: runtimeClass.Scheduling.NodeSelector[vm] = yes; pod.Spec.NodeSelector[vm] = no"#
            ]],
        ),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            expect![[
                r#"403 pods "b" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"#
            ]],
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            expect![[
                r#"403 pods "b" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"#
            ]],
        ),
    ] {
        refused(&api, PODS, &pod("b", spec), &expected).await;
    }
}

#[tokio::test]
async fn limits_give_and_bound() {
    let api = cluster().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let item = json!({"type": "Container", "default": {"cpu": "1", "memory": "64Mi"}, "defaultRequest": {"cpu": "500m"},
        "min": {"cpu": "100m"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}});
    made(&api, ranges, &limits(&item)).await;
    let given = made(&api, PODS, &pod("a", json!({}))).await;
    expect![[r#"{"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"500m","memory":"64Mi"}}"#]]
        .assert_eq(&given["spec"]["containers"][0]["resources"].to_string());
    expect!["LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"]
        .assert_eq(given["metadata"]["annotations"]["kubernetes.io/limit-ranger"].as_str().unwrap_or_default());
    let own = made(&api, PODS, &sized("own", json!({"limits": {"cpu": "2"}}))).await;
    assert_eq!(own["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2", "what is limited is requested first");
    for (resources, expected) in [
        (
            json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "3"}}),
            expect![[
                r#"403 pods "b" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per Container is 2, but limit is 3, cpu max limit to request ratio per Container is 4, but provided ratio is 60.000000]"#
            ]],
        ),
        (
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}),
            expect![[
                r#"403 pods "b" is forbidden: cpu max limit to request ratio per Container is 4, but provided ratio is 10.000000"#
            ]],
        ),
    ] {
        refused(&api, PODS, &sized("b", resources), &expected).await;
    }
    api.delete(&format!("{ranges}/l")).await;
    made(
        &api,
        ranges,
        &limits(&json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})),
    )
    .await;
    refused(&api, CLAIMS, &claim("c", "500Mi"), &expect![[r#"403 persistentvolumeclaims "c" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"#]]).await;
    refused(&api, CLAIMS, &claim("c", "3Gi"), &expect![[r#"403 persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"#]]).await;
    api.delete(&format!("{ranges}/l")).await;
    made(&api, ranges, &limits(&json!({"type": "Pod", "max": {"memory": "1Gi"}}))).await;
    refused(
        &api,
        PODS,
        &pod("b", json!({})),
        &expect![[r#"403 pods "b" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified"#]],
    )
    .await;
    let two = json!([
        {"name": "a", "image": "x", "resources": {"limits": {"memory": "600Mi"}}},
        {"name": "b", "image": "x", "resources": {"limits": {"memory": "600Mi"}}},
    ]);
    refused(
        &api,
        PODS,
        &pod("b", json!({"containers": two})),
        &expect![[r#"403 pods "b" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 1200Mi"#]],
    )
    .await;
}

#[tokio::test]
async fn what_a_namespace_holds_is_counted_and_bounded() {
    let api = cluster().await;
    made(&api, PODS, &sized("old", json!({"requests": {"cpu": "1"}}))).await;
    let hard = json!({"pods": "3", "requests.cpu": "2", "count/configmaps": "1", "services.nodeports": "1"});
    let made_quota = made(&api, QUOTAS, &quota("q", json!({"hard": hard}))).await;
    expect![[r#"{"count/configmaps":"0","pods":"1","requests.cpu":"1","services.nodeports":"0"}"#]]
        .assert_eq(&made_quota["status"]["used"].to_string());
    refused(
        &api,
        PODS,
        &pod("a", json!({})),
        &expect![[r#"403 pods "a" is forbidden: failed quota: q: must specify requests.cpu for: c"#]],
    )
    .await;
    refused(&api, PODS, &sized("a", json!({"requests": {"cpu": "1500m"}})), &expect![[r#"403 pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=1, limited: requests.cpu=2"#]]).await;
    made(&api, PODS, &sized("a", json!({"requests": {"cpu": "1"}}))).await;
    expect![[r#"{"count/configmaps":"0","pods":"2","requests.cpu":"2","services.nodeports":"0"}"#]]
        .assert_eq(&used(&api, "q").await);
    // Ended pods use nothing but their name.
    let status = json!({"status": {"phase": "Succeeded"}}).to_string();
    let path = format!("{PODS}/a/status");
    let (code, answer) = api.send(Method::PATCH, &path, "application/merge-patch+json", status).await;
    assert_eq!(code, 200, "{answer}");
    expect![[r#"{"count/configmaps":"0","pods":"1","requests.cpu":"1","services.nodeports":"0"}"#]]
        .assert_eq(&used(&api, "q").await);
    api.delete(&format!("{PODS}/old")).await;
    expect![[r#"{"count/configmaps":"0","pods":"0","requests.cpu":"0","services.nodeports":"0"}"#]]
        .assert_eq(&used(&api, "q").await);
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    made(&api, "/api/v1/namespaces/default/configmaps", &map("a")).await;
    refused(&api, "/api/v1/namespaces/default/configmaps", &map("b"), &expect![[r#"403 configmaps "b" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"#]]).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "type": "NodePort", "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}});
    refused(&api, "/api/v1/namespaces/default/services", &service, &expect![[r#"403 services "s" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"#]]).await;
    let dry = format!("{PODS}?dryRun=All");
    made(&api, &dry, &sized("dry", json!({"requests": {"cpu": "1"}}))).await;
    expect![[r#"{"count/configmaps":"1","pods":"0","requests.cpu":"0","services.nodeports":"0"}"#]]
        .assert_eq(&used(&api, "q").await);
    let more = json!({"spec": {"hard": {"count/configmaps": "5"}}}).to_string();
    let (code, changed) = api.send(Method::PATCH, &format!("{QUOTAS}/q"), "application/merge-patch+json", more).await;
    assert_eq!((code, &changed["status"]["hard"]["count/configmaps"]), (200, &json!("5")));
    made(&api, "/api/v1/namespaces/default/configmaps", &map("b")).await;
}

#[tokio::test]
async fn quotas_with_scopes_take_what_is_in_them() {
    let api = cluster().await;
    let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]});
    made(&api, QUOTAS, &quota("critical", json!({"hard": {"pods": "1"}, "scopeSelector": selector}))).await;
    made(&api, QUOTAS, &quota("effort", json!({"hard": {"pods": "2"}, "scopes": ["BestEffort"]}))).await;
    let critical = |name: &str| pod(name, json!({"priorityClassName": "system-node-critical"}));
    made(&api, PODS, &critical("a")).await;
    refused(
        &api,
        PODS,
        &critical("b"),
        &expect![[
            r#"403 pods "b" is forbidden: exceeded quota: critical, requested: pods=1, used: pods=1, limited: pods=1"#
        ]],
    )
    .await;
    made(&api, PODS, &pod("c", json!({}))).await;
    refused(
        &api,
        PODS,
        &pod("d", json!({})),
        &expect![[
            r#"403 pods "d" is forbidden: exceeded quota: effort, requested: pods=1, used: pods=2, limited: pods=2"#
        ]],
    )
    .await;
    made(&api, PODS, &sized("e", json!({"requests": {"cpu": "1"}}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_never_exceed_a_quota() {
    let api = std::sync::Arc::new(cluster().await);
    made(&api, QUOTAS, &quota("q", json!({"hard": {"count/configmaps": "20"}}))).await;
    let tasks: Vec<_> = (0..40)
        .map(|index| {
            let api = std::sync::Arc::clone(&api);
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{index}")}});
            tokio::spawn(async move { api.post("/api/v1/namespaces/default/configmaps", &map).await.0 })
        })
        .collect();
    let mut codes = Vec::new();
    for task in tasks {
        codes.push(task.await.expect("a task"));
    }
    let count = |wanted: u16| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!((count(201), count(403)), (20, 20), "{codes:?}");
    assert_eq!(used(&api, "q").await, r#"{"count/configmaps":"20"}"#);
}

#[tokio::test]
async fn claims_get_a_class_and_grow_if_it_lets_them() {
    let api = cluster().await;
    let class = |name: &str, grows: bool| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/d", "allowVolumeExpansion": grows,
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": grows.to_string()}}})
    };
    for (name, grows) in [("fixed", false), ("growing", true)] {
        made(&api, "/apis/storage.k8s.io/v1/storageclasses", &class(name, grows)).await;
    }
    let given = made(&api, CLAIMS, &claim("a", "1Gi")).await;
    assert_eq!(given["spec"]["storageClassName"], "growing");
    assert_eq!(given["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut fixed = claim("b", "1Gi");
    fixed["spec"]["storageClassName"] = "fixed".into();
    made(&api, CLAIMS, &fixed).await;
    let hard = json!({"requests.storage": "5Gi", "growing.storageclass.storage.k8s.io/requests.storage": "2Gi"});
    made(&api, QUOTAS, &quota("q", json!({"hard": hard}))).await;
    let patch = async |name: &str, part: &str, body: Value| {
        let path = format!("{CLAIMS}/{name}{part}");
        let (code, answer) = api.send(Method::PATCH, &path, "application/merge-patch+json", body.to_string()).await;
        format!("{code} {}", answer["message"].as_str().unwrap_or_default())
    };
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    for name in ["a", "b"] {
        patch(name, "", json!({"spec": {"volumeName": "v"}})).await;
        patch(name, "/status", json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})).await;
    }
    expect![[r#"403 persistentvolumeclaims "b" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#]].assert_eq(&patch("b", "", size("2Gi")).await);
    expect![[r#"403 persistentvolumeclaims "a" is forbidden: exceeded quota: q, requested: growing.storageclass.storage.k8s.io/requests.storage=2Gi, used: growing.storageclass.storage.k8s.io/requests.storage=1Gi, limited: growing.storageclass.storage.k8s.io/requests.storage=2Gi"#]].assert_eq(&patch("a", "", size("3Gi")).await);
    expect!["200 "].assert_eq(&patch("a", "", size("2Gi")).await);
    expect![[r#"{"growing.storageclass.storage.k8s.io/requests.storage":"2Gi","requests.storage":"3Gi"}"#]]
        .assert_eq(&used(&api, "q").await);
}

#[tokio::test]
async fn pods_do_no_more_than_their_namespace_lets_them() {
    let api = cluster().await;
    let label = async |labels: Value| {
        let patch = json!({"metadata": {"labels": labels}}).to_string();
        let request = http::Request::patch("/api/v1/namespaces/default")
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(http_body_util::Full::new(patch.into()))
            .expect("a request");
        let answer = api.raw(corten_apiserver::Identity::admin(), request).await;
        let warnings = answer.headers().get_all(http::header::WARNING).iter();
        let warnings = warnings.filter_map(|warning| warning.to_str().ok().map(str::to_owned)).collect::<Vec<_>>();
        format!("{} {}", answer.status().as_u16(), warnings.join("\n"))
    };
    made(&api, PODS, &pod("plain", json!({"hostNetwork": true}))).await;
    made(&api, PODS, &pod("other", json!({"hostNetwork": true}))).await;
    expect!["422 "].assert_eq(&label(json!({"pod-security.kubernetes.io/enforce": "strict"})).await);
    expect![[r#"
        200 299 - "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\""
        299 - "other (and 1 other pod): host namespaces""#]]
    .assert_eq(&label(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await);
    made(&api, PODS, &pod("fine", json!({}))).await;
    let containers = json!([{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}], "securityContext": {
        "privileged": true, "capabilities": {"add": ["NET_ADMIN", "CHOWN"]},
        "seLinuxOptions": {"type": "spc_t", "user": "u"}, "seccompProfile": {"type": "Unconfined"},
        "appArmorProfile": {"type": "Unconfined"},
    }, "livenessProbe": {"tcpSocket": {"host": "example.com", "port": 80}}}]);
    let bad = json!({"hostPID": true, "containers": containers, "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}});
    refused(&api, PODS, &pod("a", bad), &expect![[r#"403 pods "a" is forbidden: violates PodSecurity "baseline:latest": forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined"), non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add), host namespaces (hostPID=true), hostPath volumes (volume "v"), hostPort (container "c" uses hostPort 80), probe or lifecycle host (container "c" uses probe or lifecycle host "example.com"), privileged (container "c" must not set securityContext.privileged=true), seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set), seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined"), forbidden sysctls (kernel.msgmax)"#]]).await;
    expect![[r#"
        200 299 - "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\""
        299 - "fine: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
        299 - "other (and 1 other pod): allowPrivilegeEscalation != false, unrestricted capabilities, host namespaces, runAsNonRoot != true, seccompProfile""#]].assert_eq(&label(json!({"pod-security.kubernetes.io/enforce": "restricted"})).await);
    refused(&api, PODS, &pod("a", json!({})), &expect![[r#"403 pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#]]).await;
    let root = json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}, "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]});
    refused(&api, PODS, &pod("a", root), &expect![[r#"403 pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), restricted volume types (volume "v" uses restricted volume type "nfs"), runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#]]).await;
    let hardened = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "x", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        }}],
    });
    made(&api, PODS, &pod("hardened", hardened)).await;
    let warn = json!({"pod-security.kubernetes.io/enforce": null, "pod-security.kubernetes.io/warn": "baseline",
        "pod-security.kubernetes.io/warn-version": "v1.30"});
    assert_eq!(label(warn).await, "200 ");
    let spec = json!({"hostIPC": true, "containers": [{"name": "c", "image": "x"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}});
    let request = http::Request::post("/apis/apps/v1/namespaces/default/deployments")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(http_body_util::Full::new(deployment.to_string().into()))
        .expect("a request");
    let answer = api.raw(corten_apiserver::Identity::admin(), request).await;
    let warning = answer.headers().get(http::header::WARNING).and_then(|warning| warning.to_str().ok());
    let expected = r#"299 - "would violate PodSecurity \"baseline:v1.30\": host namespaces (hostIPC=true)""#;
    assert_eq!((answer.status().as_u16(), warning), (201, Some(expected)));
}

async fn patched(api: &Api, path: &str, patch: Value) -> String {
    let (code, answer) =
        api.send(Method::PATCH, path, "application/strategic-merge-patch+json", patch.to_string()).await;
    format!("{code} {}", answer["message"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn containers_for_debugging_do_no_more_than_their_namespace_lets_them() {
    let api = cluster().await;
    made(&api, PODS, &pod("p", json!({}))).await;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    expect!["200 "].assert_eq(&patched(&api, "/api/v1/namespaces/default", labels).await);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debug = |name: &str, privileged: bool| {
        let container = json!({"name": name, "image": "x", "securityContext": {"privileged": privileged}});
        json!({"metadata": {"labels": {"sneaked": "in"}}, "spec": {"ephemeralContainers": [container]}})
    };
    expect![[r#"403 pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "bad" must not set securityContext.privileged=true)"#]]
        .assert_eq(&patched(&api, &path, debug("bad", true)).await);
    expect!["200 "].assert_eq(&patched(&api, &path, debug("good", false)).await);
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["name"], "good", "{pod}");
    assert_eq!(pod["metadata"].get("labels"), None, "only the containers change: {pod}");
    // The node of this pod is not there, but its containers are known.
    for (container, known) in [("good", true), ("bad", false)] {
        let (_, answer) = api.get(&format!("{PODS}/p/log?container={container}")).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(!message.contains("is not valid for pod"), known, "{message}");
    }
}

#[tokio::test]
async fn a_pod_is_resized_within_its_limits() {
    let api = cluster().await;
    made(&api, PODS, &sized("p", json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}))).await;
    let item = json!({"type": "Container", "max": {"cpu": "2"}});
    made(&api, "/api/v1/namespaces/default/limitranges", &limits(&item)).await;
    let size = |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        json!({"metadata": {"labels": {"sneaked": "in"}}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    };
    let path = format!("{PODS}/p/resize");
    expect![[r#"403 pods "p" is forbidden: maximum cpu usage per Container is 2, but limit is 3"#]]
        .assert_eq(&patched(&api, &path, size("3")).await);
    expect!["200 "].assert_eq(&patched(&api, &path, size("2")).await);
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2", "{pod}");
    assert_eq!(pod["metadata"].get("labels"), None, "only the resources change: {pod}");
}

#[tokio::test]
async fn who_writes_a_status_does_not_let_go_of_the_object() {
    let api = cluster().await;
    let mut held = pod("p", json!({}));
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    held["metadata"]["ownerReferences"] = json!([owner]);
    made(&api, PODS, &held).await;
    api.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
    let merge = async |metadata: Value| {
        let body = json!({"metadata": metadata, "status": {"phase": "Failed"}}).to_string();
        api.send(Method::PATCH, &format!("{PODS}/p/status"), "application/merge-patch+json", body).await
    };
    let other = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]);
    let (code, pod) = merge(json!({"finalizers": [], "ownerReferences": other, "labels": {"a": "b"}})).await;
    assert_eq!((code, &pod["status"]["phase"]), (200, &json!("Failed")), "{pod}");
    assert_eq!(pod["metadata"]["finalizers"], json!(["example.com/wait"]));
    assert_eq!(pod["metadata"]["ownerReferences"], json!([owner]));
    assert_eq!(api.get(&format!("{PODS}/p")).await.0, 200, "it is still held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_counts_what_is_made_while_it_comes() {
    let api = std::sync::Arc::new(Api::new().await);
    let (maps, quotas) = ("/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/resourcequotas");
    for round in 0..10 {
        let makers = (0..8).map(|maker| {
            let api = std::sync::Arc::clone(&api);
            tokio::spawn(async move {
                for number in 0..5 {
                    let map = json!({"metadata": {"name": format!("m-{round}-{maker}-{number}")}});
                    assert_eq!(api.post(maps, &map).await.0, 201);
                    let path = format!("{maps}/m-{round}-{maker}-{number}");
                    if number % 2 == 0 {
                        assert_eq!(api.delete(&path).await.0, 200);
                    }
                }
            })
        });
        let makers: Vec<_> = makers.collect();
        tokio::task::yield_now().await;
        let name = format!("q-{round}");
        let quota = json!({"metadata": {"name": name}, "spec": {"hard": {"configmaps": "1000"}}});
        assert_eq!(api.post(quotas, &quota).await.0, 201);
        for maker in makers {
            maker.await.expect("made");
        }
        let there = api.get(maps).await.1["items"].as_array().map_or(0, Vec::len);
        let used = api.get(&format!("{quotas}/{name}")).await.1["status"]["used"]["configmaps"].clone();
        assert_eq!(used, there.to_string(), "round {round}");
        api.delete(&format!("{quotas}/{name}")).await;
    }
}

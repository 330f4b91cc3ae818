//! What a node may do: what its own pods need, over HTTP in process.

#[expect(dead_code, reason = "not every suite needs everything")]
mod common;

use common::Api;
use corten_apiserver::Identity;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";

/// Sends a request as a node: code and message.
async fn send(api: &Api, node: &str, method: Method, path: &str, body: &Value) -> String {
    let kind = if method == Method::PATCH { MERGE } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.body(Full::new(body.into())).expect("a request");
    let answer = api.raw(Identity::node(node), request).await;
    let code = answer.status().as_u16();
    if code == 200 && path.contains("watch=true") {
        return "200 watched".to_owned();
    }
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = answer["message"].as_str().unwrap_or_default();
    // Why is at the end; what comes before is the same for all.
    let why = message.split_once("is forbidden: ").map_or(message, |(_, why)| why);
    let why = why.rsplit_once(": ").map_or(why, |(_, why)| if why.is_empty() { "" } else { why });
    format!("{code} {why}")
}

async fn get(api: &Api, node: &str, path: &str) -> String {
    send(api, node, Method::GET, path, &Value::Null).await
}

async fn made(api: &Api, path: &str, object: &Value) -> Value {
    let (code, answer) = api.post(path, object).await;
    assert_eq!(code, 201, "{path}: {answer}");
    answer
}

/// A pod `p` on node `n` with what it uses, and things that it does not use.
async fn furnished() -> Api {
    let api = Api::new().await;
    let namespace = "/api/v1/namespaces/default";
    made(&api, &format!("{namespace}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    for name in ["used", "other", "of-volume"] {
        made(&api, &format!("{namespace}/secrets"), &json!({"metadata": {"name": name}})).await;
        made(&api, &format!("{namespace}/configmaps"), &json!({"metadata": {"name": name}})).await;
    }
    for (claim, volume) in [("used", "v"), ("other", "w")] {
        let claim = json!({"metadata": {"name": claim}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": volume, "storageClassName": "",
        }});
        made(&api, &format!("{namespace}/persistentvolumeclaims"), &claim).await;
        let volume = json!({"metadata": {"name": volume}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": "default", "name": claim["metadata"]["name"]},
            "csi": {"driver": "d.example", "volumeHandle": "x",
                "nodePublishSecretRef": {"name": "of-volume", "namespace": "default"}},
        }});
        if volume["metadata"]["name"] == "v" {
            made(&api, "/api/v1/persistentvolumes", &volume).await;
        } else {
            let mut volume = volume;
            volume["spec"]["csi"]["nodePublishSecretRef"]["name"] = "other".into();
            made(&api, "/api/v1/persistentvolumes", &volume).await;
        }
    }
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"nodeName": "n", "volumes": [
        {"name": "a", "secret": {"secretName": "used"}},
        {"name": "b", "configMap": {"name": "used"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "used"}},
    ], "containers": [{"name": "c", "image": "x"}]}});
    made(&api, PODS, &pod).await;
    for node in ["n", "m"] {
        made(&api, "/api/v1/nodes", &json!({"metadata": {"name": node}})).await;
    }
    api
}

#[tokio::test]
async fn a_node_reads_what_its_pods_use() {
    let api = furnished().await;
    let namespace = "/api/v1/namespaces/default";
    let paths = [
        format!("{namespace}/secrets/used"),
        format!("{namespace}/secrets?fieldSelector=metadata.name%3Dused"),
        format!("{namespace}/secrets?watch=true&fieldSelector=metadata.name%3Dused"),
        format!("{namespace}/secrets/of-volume"),
        format!("{namespace}/configmaps/used"),
        format!("{namespace}/configmaps/kube-root-ca.crt"),
        format!("{namespace}/persistentvolumeclaims/used"),
        "/api/v1/persistentvolumes/v".to_owned(),
        format!("{namespace}/persistentvolumeclaims?watch=true&fieldSelector=metadata.name%3Dused"),
        format!("{namespace}/secrets/other"),
        format!("{namespace}/secrets"),
        "/api/v1/secrets?fieldSelector=metadata.name%3Dused".to_owned(),
        format!("{namespace}/configmaps/other"),
        format!("{namespace}/configmaps?watch=true"),
        format!("{namespace}/persistentvolumeclaims/other"),
        format!("{namespace}/persistentvolumeclaims"),
        "/api/v1/persistentvolumes/w".to_owned(),
        "/api/v1/persistentvolumes/none".to_owned(),
    ];
    let mut lines = Vec::new();
    for path in &paths {
        lines.push(format!("{path} {}", get(&api, "n", path).await));
        assert!(get(&api, "m", path).await.starts_with("403 "), "{path}");
    }
    expect_test::expect![[r#"
        /api/v1/namespaces/default/secrets/used 200 
        /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dused 200 
        /api/v1/namespaces/default/secrets?watch=true&fieldSelector=metadata.name%3Dused 200 watched
        /api/v1/namespaces/default/secrets/of-volume 200 
        /api/v1/namespaces/default/configmaps/used 200 
        /api/v1/namespaces/default/configmaps/kube-root-ca.crt 404 configmaps "kube-root-ca.crt" not found
        /api/v1/namespaces/default/persistentvolumeclaims/used 200 
        /api/v1/persistentvolumes/v 200 
        /api/v1/namespaces/default/persistentvolumeclaims?watch=true&fieldSelector=metadata.name%3Dused 200 watched
        /api/v1/namespaces/default/secrets/other 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/secrets 403 No Object name found
        /api/v1/secrets?fieldSelector=metadata.name%3Dused 403 can only read namespaced object of this type
        /api/v1/namespaces/default/configmaps/other 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/configmaps?watch=true 403 No Object name found
        /api/v1/namespaces/default/persistentvolumeclaims/other 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/persistentvolumeclaims 403 can only get individual resources of this type
        /api/v1/persistentvolumes/w 403 no relationship found between node 'n' and this object
        /api/v1/persistentvolumes/none 403 no relationship found between node 'n' and this object"#]]
    .assert_eq(&lines.join("\n"));
    api.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
    assert!(get(&api, "n", &paths[0]).await.starts_with("403 "), "the pod that used it is gone");
}

#[tokio::test]
async fn a_claim_that_names_the_volume_of_another_gives_nothing() {
    let api = furnished().await;
    made(&api, "/api/v1/namespaces", &json!({"metadata": {"name": "else"}})).await;
    made(&api, "/api/v1/namespaces/else/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let mut lines = Vec::new();
    // The volume `w` is bound to `other` in `default`.
    for (namespace, claim) in [("default", "thief"), ("else", "other"), ("default", "other")] {
        let of = format!("/api/v1/namespaces/{namespace}");
        if (namespace, claim) != ("default", "other") {
            let claim = json!({"metadata": {"name": claim}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": "w", "storageClassName": "",
            }});
            made(&api, &format!("{of}/persistentvolumeclaims"), &claim).await;
        }
        let pod = json!({"metadata": {"name": claim}, "spec": {"nodeName": "n",
            "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": claim}}],
            "containers": [{"name": "c", "image": "x"}]}});
        made(&api, &format!("{of}/pods"), &pod).await;
        for path in [
            format!("{of}/persistentvolumeclaims/{claim}"),
            "/api/v1/persistentvolumes/w".to_owned(),
            "/api/v1/namespaces/default/secrets/other".to_owned(),
        ] {
            lines.push(format!("{path} {}", get(&api, "n", &path).await));
        }
    }
    expect_test::expect![[r#"
        /api/v1/namespaces/default/persistentvolumeclaims/thief 200 
        /api/v1/persistentvolumes/w 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/secrets/other 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/else/persistentvolumeclaims/other 200 
        /api/v1/persistentvolumes/w 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/secrets/other 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/persistentvolumeclaims/other 200 
        /api/v1/persistentvolumes/w 200 
        /api/v1/namespaces/default/secrets/other 200 "#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_node_lets_go_of_the_volumes_that_it_keeps() {
    const PROTECTION: &str = "kubernetes.io/pv-protection";
    let api = furnished().await;
    let volumes = "/api/v1/persistentvolumes";
    let volume = json!({"metadata": {"name": "kept", "labels": {"corten.dev/node": "n"},
        "finalizers": ["corten.dev/local-path", "example.com/hold"]}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}});
    made(&api, volumes, &volume).await;
    let path = format!("{volumes}/kept");
    let finalizers = |list: &[&str]| json!({"metadata": {"finalizers": list}});
    let mut lines = Vec::new();
    for path in [
        format!("{volumes}?labelSelector=corten.dev/node%3Dn"),
        format!("{volumes}?watch=true&labelSelector=corten.dev/node%3Dn"),
        path.clone(),
        volumes.to_owned(),
        format!("{volumes}?labelSelector=corten.dev/node%3Dm"),
        format!("{volumes}?labelSelector=corten.dev/node"),
    ] {
        lines.push(format!("{path} {}", get(&api, "n", &path).await));
    }
    for (who, body) in [
        ("m", finalizers(&["example.com/hold", PROTECTION])),
        ("n", finalizers(&["corten.dev/local-path", PROTECTION])),
        ("n", finalizers(&[])),
        ("n", json!({"metadata": {"finalizers": ["example.com/hold", PROTECTION], "labels": {"a": "b"}}})),
        ("n", finalizers(&["example.com/hold", PROTECTION])),
    ] {
        lines.push(format!("{who}: {body} {}", send(&api, who, Method::PATCH, &path, &body).await));
    }
    expect_test::expect![[r#"
        /api/v1/persistentvolumes?labelSelector=corten.dev/node%3Dn 200 
        /api/v1/persistentvolumes?watch=true&labelSelector=corten.dev/node%3Dn 200 watched
        /api/v1/persistentvolumes/kept 200 
        /api/v1/persistentvolumes 403 can only get individual resources of this type
        /api/v1/persistentvolumes?labelSelector=corten.dev/node%3Dm 403 can only get individual resources of this type
        /api/v1/persistentvolumes?labelSelector=corten.dev/node 403 can only get individual resources of this type
        m: {"metadata":{"finalizers":["example.com/hold","kubernetes.io/pv-protection"]}} 403 no relationship found between node 'm' and this object
        n: {"metadata":{"finalizers":["corten.dev/local-path","kubernetes.io/pv-protection"]}} 403 node "n" may only let go of the volume's finalizer "corten.dev/local-path"
        n: {"metadata":{"finalizers":[]}} 403 node "n" may only let go of the volume's finalizer "corten.dev/local-path"
        n: {"metadata":{"finalizers":["example.com/hold","kubernetes.io/pv-protection"],"labels":{"a":"b"}}} 403 node "n" may only let go of the volume's finalizer "corten.dev/local-path"
        n: {"metadata":{"finalizers":["example.com/hold","kubernetes.io/pv-protection"]}} 200 "#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_node_sees_itself_and_its_own_pods() {
    let api = furnished().await;
    let mut lines = Vec::new();
    for path in [
        "/api/v1/nodes/n",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn",
        "/api/v1/nodes?watch=true&fieldSelector=metadata.name%3Dn",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
        "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn",
        "/api/v1/namespaces/default/pods/p",
        "/api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Dp",
        "/api/v1/services",
        "/apis/node.k8s.io/v1/runtimeclasses",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
        "/api/v1/nodes",
        "/api/v1/nodes/m",
        "/api/v1/pods",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dm",
        "/api/v1/pods?fieldSelector=spec.nodeName!%3Dm",
        "/api/v1/namespaces/default/pods/q",
        "/api/v1/namespaces/default/pods/q?watch=true&fieldSelector=spec.nodeName%3Dn",
        "/api/v1/namespaces/default/pods/p/log",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/n",
        "/apis/apps/v1/deployments",
    ] {
        lines.push(format!("{path} {}", get(&api, "n", path).await));
    }
    expect_test::expect![[r#"
        /api/v1/nodes/n 200 
        /api/v1/nodes?fieldSelector=metadata.name%3Dn 200 
        /api/v1/nodes?watch=true&fieldSelector=metadata.name%3Dn 200 watched
        /api/v1/pods?fieldSelector=spec.nodeName%3Dn 200 
        /api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn 200 watched
        /api/v1/namespaces/default/pods/p 200 
        /api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Dp 200 
        /api/v1/services 200 
        /apis/node.k8s.io/v1/runtimeclasses 200 
        /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n 404 leases.coordination.k8s.io "n" not found
        /api/v1/nodes 403 node 'n' cannot read all nodes, only its own Node object
        /api/v1/nodes/m 403 node 'n' cannot read 'm', only its own Node object
        /api/v1/pods 403 can only list/watch pods with spec.nodeName field selector
        /api/v1/pods?fieldSelector=spec.nodeName%3Dm 403 can only list/watch pods with spec.nodeName field selector
        /api/v1/pods?fieldSelector=spec.nodeName!%3Dm 403 can only list/watch pods with spec.nodeName field selector
        /api/v1/namespaces/default/pods/q 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/pods/q?watch=true&fieldSelector=spec.nodeName%3Dn 403 no relationship found between node 'n' and this object
        /api/v1/namespaces/default/pods/p/log 403 User "system:node:n" cannot get resource "pods/log" in API group "" in the namespace "default"
        /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m 403 can only access node lease with the same name as the requesting node
        /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases 403 can only get, create, update, patch, or delete a node lease
        /apis/coordination.k8s.io/v1/namespaces/default/leases/n 403 can only access leases in the "kube-node-lease" system namespace
        /apis/apps/v1/deployments 403 User "system:node:n" cannot list resource "deployments" in API group "apps" at the cluster scope"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_node_writes_its_own_objects() {
    let api = furnished().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let status = json!({"status": {"phase": "Running"}});
    let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
    let claim = "/api/v1/namespaces/default/persistentvolumeclaims/used";
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let slice = |node: &str| {
        json!({"metadata": {"name": "s"}, "spec": {"driver": "d.example", "nodeName": node,
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}})
    };
    let mut lines = Vec::new();
    for (who, method, path, body) in [
        ("n", &post, leases, lease("n")),
        ("n", &post, leases, lease("x")),
        ("n", &patch, &format!("{leases}/n"), lease("n")),
        ("m", &patch, &format!("{leases}/n"), lease("n")),
        ("o", &post, "/api/v1/nodes", json!({"metadata": {"name": "o", "labels": {"example.com/a": "b"}}})),
        ("q", &post, "/api/v1/nodes", json!({"metadata": {"name": "o2"}})),
        (
            "q",
            &post,
            "/api/v1/nodes",
            json!({"metadata": {"name": "q", "labels": {"node-restriction.kubernetes.io/a": "b", "kubernetes.io/os": "x"}}}),
        ),
        ("n", &patch, "/api/v1/nodes/n", labels(json!({"kubernetes.io/hostname": "n", "own": "x"}))),
        ("n", &patch, "/api/v1/nodes/n", labels(json!({"node-role.kubernetes.io/control-plane": ""}))),
        ("n", &patch, "/api/v1/nodes/n", json!({"spec": {"taints": null}})),
        ("n", &patch, "/api/v1/nodes/m", labels(json!({"own": "x"}))),
        ("n", &patch, "/api/v1/nodes/n/status", json!({"status": {"capacity": {"cpu": "1"}}})),
        ("m", &patch, "/api/v1/nodes/n/status", json!({"status": {"capacity": {"cpu": "1"}}})),
        ("n", &delete, "/api/v1/nodes/n", Value::Null),
        ("n", &patch, &format!("{PODS}/p/status"), status.clone()),
        ("m", &patch, &format!("{PODS}/p/status"), status.clone()),
        ("n", &patch, &format!("{PODS}/p/status"), labels(json!({"app": "b"}))),
        ("n", &patch, &format!("{PODS}/none/status"), status),
        ("n", &patch, claim, labels(json!({"a": "b"}))),
        ("n", &patch, &format!("{claim}/status"), json!({"status": {"capacity": {"storage": "2Gi"}}})),
        ("n", &patch, &format!("{claim}/status"), json!({"status": {"phase": "Lost"}})),
        ("m", &patch, &format!("{claim}/status"), json!({"status": {"capacity": {"storage": "2Gi"}}})),
        ("n", &post, slices, slice("m")),
        ("n", &post, slices, slice("n")),
        ("m", &delete, &format!("{slices}/s"), Value::Null),
        ("n", &delete, &format!("{slices}/s"), Value::Null),
        ("m", &post, &format!("{PODS}/p/eviction"), json!({"metadata": {"name": "p"}})),
        ("m", &delete, &format!("{PODS}/p"), json!({"gracePeriodSeconds": 0})),
        ("n", &post, &format!("{PODS}/p/eviction"), json!({"metadata": {"name": "p"}})),
        ("n", &delete, &format!("{PODS}/p"), json!({"gracePeriodSeconds": 0})),
    ] {
        lines.push(format!("{who}: {method} {path} {body} {}", send(&api, who, method.clone(), path, &body).await));
    }
    expect_test::expect![[r#"
        n: POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases {"metadata":{"name":"n"},"spec":{"holderIdentity":"n"}} 201 
        n: POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases {"metadata":{"name":"x"},"spec":{"holderIdentity":"x"}} 403 can only access node lease with the same name as the requesting node
        n: PATCH /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n {"metadata":{"name":"n"},"spec":{"holderIdentity":"n"}} 200 
        m: PATCH /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n {"metadata":{"name":"n"},"spec":{"holderIdentity":"n"}} 403 can only access node lease with the same name as the requesting node
        o: POST /api/v1/nodes {"metadata":{"name":"o","labels":{"example.com/a":"b"}}} 201 
        q: POST /api/v1/nodes {"metadata":{"name":"o2"}} 403 node "q" is not allowed to modify node "o2"
        q: POST /api/v1/nodes {"metadata":{"name":"q","labels":{"node-restriction.kubernetes.io/a":"b","kubernetes.io/os":"x"}}} 403 node-restriction.kubernetes.io/a
        n: PATCH /api/v1/nodes/n {"metadata":{"labels":{"kubernetes.io/hostname":"n","own":"x"}}} 200 
        n: PATCH /api/v1/nodes/n {"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}} 403 node-role.kubernetes.io/control-plane
        n: PATCH /api/v1/nodes/n {"spec":{"taints":null}} 403 node "n" is not allowed to modify taints
        n: PATCH /api/v1/nodes/m {"metadata":{"labels":{"own":"x"}}} 403 node "n" is not allowed to modify node "m"
        n: PATCH /api/v1/nodes/n/status {"status":{"capacity":{"cpu":"1"}}} 200 
        m: PATCH /api/v1/nodes/n/status {"status":{"capacity":{"cpu":"1"}}} 403 node "m" is not allowed to modify node "n"
        n: DELETE /api/v1/nodes/n null 403 User "system:node:n" cannot delete resource "nodes" in API group "" at the cluster scope
        n: PATCH /api/v1/namespaces/default/pods/p/status {"status":{"phase":"Running"}} 200 
        m: PATCH /api/v1/namespaces/default/pods/p/status {"status":{"phase":"Running"}} 403 node "m" can only update pod status for pods with spec.nodeName set to itself
        n: PATCH /api/v1/namespaces/default/pods/p/status {"metadata":{"labels":{"app":"b"}}} 403 node "n" cannot update labels through pod status
        n: PATCH /api/v1/namespaces/default/pods/none/status {"status":{"phase":"Running"}} 404 pods "none" not found
        n: PATCH /api/v1/namespaces/default/persistentvolumeclaims/used {"metadata":{"labels":{"a":"b"}}} 403 can only get individual resources of this type
        n: PATCH /api/v1/namespaces/default/persistentvolumeclaims/used/status {"status":{"capacity":{"storage":"2Gi"}}} 200 
        n: PATCH /api/v1/namespaces/default/persistentvolumeclaims/used/status {"status":{"phase":"Lost"}} 403 node "n" is not allowed to update fields other than status.capacity and status.conditions
        m: PATCH /api/v1/namespaces/default/persistentvolumeclaims/used/status {"status":{"capacity":{"storage":"2Gi"}}} 403 no relationship found between node 'm' and this object
        n: POST /apis/resource.k8s.io/v1/resourceslices {"metadata":{"name":"s"},"spec":{"driver":"d.example","nodeName":"m","pool":{"name":"p","generation":1,"resourceSliceCount":1}}} 403 can only create ResourceSlice with the same NodeName as the requesting node
        n: POST /apis/resource.k8s.io/v1/resourceslices {"metadata":{"name":"s"},"spec":{"driver":"d.example","nodeName":"n","pool":{"name":"p","generation":1,"resourceSliceCount":1}}} 201 
        m: DELETE /apis/resource.k8s.io/v1/resourceslices/s null 403 no relationship found between node 'm' and this object
        n: DELETE /apis/resource.k8s.io/v1/resourceslices/s null 200 
        m: POST /api/v1/namespaces/default/pods/p/eviction {"metadata":{"name":"p"}} 403 node m can only evict pods with spec.nodeName set to itself
        m: DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0} 403 node "m" can only delete pods with spec.nodeName set to itself
        n: POST /api/v1/namespaces/default/pods/p/eviction {"metadata":{"name":"p"}} 201 
        n: DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0} 200 "#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_node_makes_pods_known_that_have_no_rights() {
    let api = furnished().await;
    let (_, node) = api.get("/api/v1/nodes/n").await;
    let uid = node["metadata"]["uid"].as_str().expect("a uid");
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true});
    let pod = json!({"metadata": {"name": "static-n", "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner]}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    let with = |path: &str, value: Value| {
        let mut pod = pod.clone();
        *pod.pointer_mut(path).expect("a place") = value;
        pod
    };
    let mounting = |volume: Value| {
        let mut pod = pod.clone();
        pod["spec"]["volumes"] = json!([volume]);
        pod
    };
    let mut accounted = pod.clone();
    accounted["spec"]["serviceAccountName"] = "default".into();
    let mut lines = Vec::new();
    for pod in [
        with("/metadata/annotations", json!({})),
        with("/spec/nodeName", json!("m")),
        with("/metadata/ownerReferences", json!([])),
        with("/metadata/ownerReferences/0/name", json!("m")),
        with("/metadata/ownerReferences/0/controller", json!(false)),
        with("/metadata/ownerReferences/0/uid", json!("other")),
        accounted,
        mounting(json!({"name": "v", "secret": {"secretName": "other"}})),
        mounting(json!({"name": "v", "configMap": {"name": "other"}})),
        mounting(json!({"name": "v", "persistentVolumeClaim": {"claimName": "other"}})),
        pod.clone(),
    ] {
        let line = send(&api, "n", Method::POST, PODS, &pod).await;
        lines.push(line.replace(uid, "UID"));
    }
    expect_test::expect![[r#"
        403 pod does not have "kubernetes.io/config.mirror" annotation, node "n" can only create mirror pods
        403 node "n" can only create pods with spec.nodeName set to itself
        403 node "n" can only create pods with an owner reference set to itself
        403 node "n" can only create pods with an owner reference set to itself
        403 node "n" can only create pods with a controller owner reference set to itself
        403 expected other got UID
        403 a mirror pod may not reference service accounts
        403 a mirror pod may not reference secrets
        403 node "n" can not create pods that reference configmaps
        403 node "n" can not create pods that reference persistentvolumeclaims
        201 "#]]
    .assert_eq(&lines.join("\n"));
    let (_, stored) = api.get(&format!("{PODS}/static-n")).await;
    assert_eq!(
        (&stored["spec"]["serviceAccountName"], &stored["spec"]["volumes"]),
        (&Value::Null, &Value::Null),
        "as it is"
    );
    // Somebody else may give such a pod what it wants, and its node gets nothing by it.
    let admins = mounting(json!({"name": "v", "configMap": {"name": "other"}}));
    api.delete(&format!("{PODS}/static-n?gracePeriodSeconds=0")).await;
    made(&api, PODS, &admins).await;
    let other = get(&api, "n", "/api/v1/namespaces/default/configmaps/other").await;
    assert_eq!(other, "403 no relationship found between node 'n' and this object");
}

#[tokio::test]
async fn who_says_he_is_a_node_must_say_which() {
    let api = furnished().await;
    let ask = async |user: Identity| {
        let request = Request::get("/api/v1/services").body(Full::default()).expect("a request");
        let answer = api.raw(user, request).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        format!("{code} {}", answer["message"].as_str().unwrap_or_default())
    };
    let lines = [
        ask(Identity::node("n")).await,
        ask(Identity::node("")).await,
        ask(Identity::new("system:node:n", &[])).await,
        ask(Identity::new("ann", &["system:nodes"])).await,
    ];
    expect_test::expect![[r#"
        200 
        403 services is forbidden: User "system:node:" cannot list resource "services" in API group "" at the cluster scope: unknown node for user "system:node:"
        403 services is forbidden: User "system:node:n" cannot list resource "services" in API group "" at the cluster scope
        403 services is forbidden: User "ann" cannot list resource "services" in API group "" at the cluster scope"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn nodes_of_an_older_cluster_lose_what_they_had() {
    let api = Api::new().await;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:node";
    let nodes = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"});
    let ann = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"});
    let patch = json!({"subjects": [nodes, ann]}).to_string();
    assert_eq!(api.send(Method::PATCH, path, MERGE, patch).await.0, 200);
    let again = Api::with(Some((api.store.clone(), std::sync::Arc::clone(&api.pki))), common::NoNodes).await;
    assert_eq!(again.get(path).await.1["subjects"], json!([ann]));
    let revision = again.store.snapshot().revision();
    let third = Api::with(Some((api.store.clone(), std::sync::Arc::clone(&api.pki))), common::NoNodes).await;
    assert_eq!(third.store.snapshot().revision(), revision, "once");
}

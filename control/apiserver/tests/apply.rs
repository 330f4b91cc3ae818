//! Server-side apply and managedFields as clients see them.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use corten_apiserver::Identity;
use expect_test::{Expect, expect};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    }})
}

/// Managers, their operations and what they own, a line each; in alphabetical order, since writes may or may not fall
/// into the same second.
fn owners(object: &Value) -> String {
    let show = |entry: &Value| {
        assert!(entry["time"].is_string() && entry["fieldsType"] == "FieldsV1", "{entry}");
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let subresource = match text("subresource") {
            "" => String::new(),
            subresource => format!("/{subresource}"),
        };
        format!("{} {}{subresource} {}: {}", text("manager"), text("operation"), text("apiVersion"), entry["fieldsV1"])
    };
    let mut lines: Vec<String> =
        object["metadata"]["managedFields"].as_array().into_iter().flatten().map(show).collect();
    lines.sort();
    lines.join("\n")
}

fn check(object: &Value, expected: Expect) {
    expected.assert_eq(&owners(object));
}

async fn apply(api: &Api, path: &str, query: &str, config: &Value) -> (u16, Value) {
    api.send(Method::PATCH, &format!("{path}?{query}"), APPLY, config.to_string()).await
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn applying_creates_changes_and_does_nothing_twice() {
    let api = Api::new().await;
    let path = format!("{MAPS}/m");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  k: v\n  l: w\n";
    let (code, created) = api.send(Method::PATCH, &format!("{path}?fieldManager=a"), APPLY, yaml).await;
    assert_eq!(code, 201, "{created}");
    check(&created, expect![[r#"a Apply v1: {"f:data":{"f:k":{},"f:l":{}}}"#]]);
    let (code, same) = api.send(Method::PATCH, &format!("{path}?fieldManager=a"), APPLY, yaml).await;
    assert_eq!((code, &same), (200, &created), "no change, no write");
    let (code, changed) = apply(&api, &path, "fieldManager=a", &map(json!({"k": "v"}))).await;
    assert_eq!((code, &changed["data"]), (200, &json!({"k": "v"})));
    assert_ne!(version(&changed), version(&created));
    let (code, tried) = apply(&api, &path, "fieldManager=a&dryRun=All", &map(json!({"k": "x"}))).await;
    assert_eq!((code, &tried["data"]), (200, &json!({"k": "x"})));
    assert_eq!(api.get(&path).await.1, changed, "a dry run leaves nothing");
    let (code, tried) = apply(&api, &format!("{MAPS}/n"), "fieldManager=a&dryRun=All", &{
        let mut other = map(json!({}));
        other["metadata"]["name"] = "n".into();
        other
    })
    .await;
    assert_eq!(code, 201, "{tried}");
    assert_eq!(api.get(&format!("{MAPS}/n")).await.0, 404);
}

#[tokio::test]
async fn conflicts_name_the_owner_and_the_field() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    assert_eq!(apply(&api, &path, "fieldManager=a", &deployment(1)).await.0, 201);
    let (code, status) = apply(&api, &path, "fieldManager=b", &deployment(2)).await;
    assert_eq!(code, 409);
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
        "message": r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#,
        "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": r#"conflict with "a""#, "field": ".spec.replicas"},
        ]},
    });
    assert_eq!(status, expected);
    let (code, forced) = apply(&api, &path, "fieldManager=b&force=true", &deployment(2)).await;
    assert_eq!((code, &forced["spec"]["replicas"]), (200, &json!(2)));
    assert_eq!(forced["metadata"]["generation"], 2);
    let sets = owners(&forced);
    assert!(sets.starts_with("a Apply apps/v1:") && sets.lines().count() == 2, "{sets}");
    assert!(!sets.lines().next().unwrap_or_default().contains("f:replicas"), "{sets}");
    // A patch of somebody else takes the field, and the next apply meets it.
    let patch = json!({"spec": {"replicas": 3}}).to_string();
    api.send(Method::PATCH, &format!("{path}?fieldManager=kubectl-edit"), MERGE, patch).await;
    let (code, status) = apply(&api, &path, "fieldManager=b", &deployment(2)).await;
    let message = r#"Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas"#;
    assert_eq!((code, &status["message"]), (409, &json!(message)));
}

#[tokio::test]
async fn ordinary_writes_are_recorded_with_their_defaults_and_nothing_of_the_servers() {
    let api = Api::new().await;
    let (_, created) = api.post(&format!("{DEPLOYMENTS}?fieldManager=kubectl-create"), &deployment(1)).await;
    let sets = owners(&created);
    for owned in ["f:progressDeadlineSeconds", "f:revisionHistoryLimit", "f:imagePullPolicy", "f:dnsPolicy"] {
        assert!(sets.contains(owned), "{owned} is a default: {sets}");
    }
    for nobodys in ["f:uid", "f:creationTimestamp", "f:generation", "f:status", "f:name\":{}},\"f:spec"] {
        assert!(!sets.contains(nobodys), "{nobodys}: {sets}");
    }
    let path = format!("{DEPLOYMENTS}/web/status");
    let status = json!({"status": {"replicas": 1, "observedGeneration": 1}}).to_string();
    let (_, changed) = api.send(Method::PATCH, &format!("{path}?fieldManager=controller"), MERGE, status.clone()).await;
    let sets = owners(&changed);
    let own = r#"controller Update/status apps/v1: {"f:status":{"f:observedGeneration":{},"f:replicas":{}}}"#;
    assert!(sets.lines().any(|line| line == own), "{sets}");
    let (_, again) = api.send(Method::PATCH, &format!("{path}?fieldManager=controller"), MERGE, status).await;
    assert_eq!(again, changed, "no change, no write");
    // A service's address is the server's.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let (_, created) = api.post("/api/v1/namespaces/default/services?fieldManager=c", &service).await;
    assert!(created["spec"]["clusterIP"].is_string());
    let sets = owners(&created);
    assert!(!sets.contains("clusterIP") && sets.contains(r#"k:{\"port\":80,\"protocol\":\"TCP\"}"#), "{sets}");
}

#[tokio::test]
async fn the_user_agent_names_who_says_no_name() {
    let api = Api::new().await;
    api.post(MAPS, &map(json!({"a": "b"}))).await;
    let patch = |agent: Option<&'static str>, user: Identity, value: &'static str| {
        let request = Request::patch(format!("{MAPS}/m")).header(header::CONTENT_TYPE, MERGE);
        let request = agent.into_iter().fold(request, |request, agent| request.header(header::USER_AGENT, agent));
        let body = json!({"data": {value: "x"}}).to_string();
        let request = request.body(Full::new(body.into())).expect("a request");
        let api = &api;
        async move {
            let bytes = api.raw(user, request).await.into_body().collect().await.expect("a body").to_bytes();
            let object: Value = serde_json::from_slice(&bytes).expect("JSON");
            let sets = owners(&object);
            let line = sets.lines().find(|line| line.contains(&format!("f:{value}"))).unwrap_or_default().to_owned();
            line.split(' ').next().unwrap_or_default().to_owned()
        }
    };
    assert_eq!(patch(Some("kubectl/v1.36 (linux)"), Identity::admin(), "b").await, "kubectl");
    assert_eq!(patch(None, Identity::admin(), "c").await, "unknown");
    assert_eq!(patch(None, Identity::controller_manager(), "d").await, "kube-controller-manager");
}

#[tokio::test]
async fn scaling_moves_the_replicas_to_the_scaler() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    apply(&api, &path, "fieldManager=a", &deployment(1)).await;
    let scale = json!({"spec": {"replicas": 3}}).to_string();
    let (code, scaled) = api.send(Method::PATCH, &format!("{path}/scale?fieldManager=kubectl"), MERGE, scale).await;
    assert_eq!((code, &scaled["kind"], &scaled["spec"]["replicas"]), (200, &json!("Scale"), &json!(3)));
    let (_, object) = api.get(&path).await;
    let own = r#"kubectl Update/scale apps/v1: {"f:spec":{"f:replicas":{}}}"#;
    assert!(owners(&object).lines().any(|line| line == own), "{}", owners(&object));
    let (code, status) = apply(&api, &path, "fieldManager=a", &deployment(1)).await;
    let message = r#"Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas"#;
    assert_eq!((code, &status["message"]), (409, &json!(message)));
    // Apply to the scale itself.
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    let (code, status) = apply(&api, &format!("{path}/scale"), "fieldManager=hpa", &scale(5)).await;
    assert_eq!(code, 409, "{status}");
    let (code, scaled) = apply(&api, &format!("{path}/scale"), "fieldManager=hpa&force=true", &scale(5)).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(5)));
    let (_, object) = api.get(&path).await;
    assert!(
        owners(&object).contains(r#"hpa Apply/scale apps/v1: {"f:spec":{"f:replicas":{}}}"#),
        "{}",
        owners(&object)
    );
    assert!(!owners(&object).contains("kubectl Update/scale"));
}

#[tokio::test]
async fn the_status_is_applied_through_its_subresource() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    apply(&api, &path, "fieldManager=a", &deployment(1)).await;
    let mut config = deployment(9);
    config["status"] = json!({"conditions": [{"type": "Fine", "status": "True"}]});
    let (code, object) = apply(&api, &format!("{path}/status"), "fieldManager=c", &config).await;
    assert_eq!(code, 200, "{object}");
    assert_eq!((&object["spec"]["replicas"], &object["status"]["conditions"][0]["type"]), (&json!(1), &json!("Fine")));
    let own = r#"c Apply/status apps/v1: {"f:status":{"f:conditions":{"k:{\"type\":\"Fine\"}":{".":{},"f:status":{},"f:type":{}}}}}"#;
    assert!(owners(&object).lines().any(|line| line == own), "{}", owners(&object));
    // The object's own apply owns no status.
    let (_, object) = apply(&api, &path, "fieldManager=a", &config).await;
    assert!(!owners(&object).lines().any(|line| line.starts_with("a ") && line.contains("f:status\":{\"f:cond")));
}

#[tokio::test]
async fn applies_that_make_no_sense_are_refused() {
    let api = Api::new().await;
    let path = format!("{MAPS}/m");
    let (_, live) = api.post(MAPS, &map(json!({"a": "b"}))).await;
    let with = |field: &str, value: Value| {
        let mut config = map(json!({"a": "b"}));
        config["metadata"][field] = value;
        config
    };
    let long = "x".repeat(129);
    for (query, config, code, message) in [
        (
            "",
            map(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (&*format!("fieldManager={long}"), map(json!({})), 422, "may not be more than 128 bytes"),
        ("fieldManager=a%0Ab", map(json!({})), 422, "invalid character U+000A (at position 1)"),
        ("fieldManager=a", with("managedFields", json!([])), 400, "metadata.managedFields must be nil"),
        (
            "fieldManager=a",
            with("name", json!("other")),
            400,
            "the name of the object (other) does not match the name on the URL (m)",
        ),
        ("fieldManager=a&force=true", with("resourceVersion", json!("1")), 409, "the object has been modified"),
        ("fieldManager=a&force=true", with("uid", json!("1")), 409, "Precondition failed: UID in precondition: 1"),
        ("fieldManager=a", json!({"kind": "ConfigMap"}), 400, "Object 'apiVersion' is missing"),
        (
            "fieldManager=a",
            json!({"apiVersion": "v2", "kind": "ConfigMap"}),
            400,
            "Specified patch version: v2, expected: v1",
        ),
        ("fieldManager=a", json!({"apiVersion": "v1", "kind": "Secret"}), 400, "Kind=Secret"),
        ("fieldManager=a", json!([1]), 400, "is no object"),
        (
            "fieldManager=a",
            with("labels", json!(7)),
            400,
            "failed to create typed patch object (default/m; v1, Kind=ConfigMap): .metadata.labels: expected map, got number",
        ),
        ("fieldManager=a", with("colour", json!("red")), 400, ".metadata.colour: field not declared in schema"),
        (
            "fieldManager=a",
            with("finalizers", json!(["x/a", "x/a"])),
            400,
            r#".metadata.finalizers: duplicate entries for key [="x/a"]"#,
        ),
    ] {
        let (found, status) = apply(&api, &path, query, &config).await;
        assert_eq!(found, code, "{query} {config}: {status}");
        assert!(status["message"].as_str().is_some_and(|text| text.contains(message)), "{query} {config}: {status}");
    }
    let (code, _) = apply(
        &api,
        &path,
        "fieldManager=a&force=true",
        &with("resourceVersion", live["metadata"]["resourceVersion"].clone()),
    )
    .await;
    assert_eq!(code, 200, "the version is right");
    let (code, status) = api.send(Method::PATCH, &format!("{path}?force=true"), MERGE, "{}").await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("force")), "{status}");
    let (code, status) = api.send(Method::PATCH, &format!("{path}?fieldManager=a"), APPLY, "a: [").await;
    assert_eq!(code, 400, "{status}");
    let unnamed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "m-"}});
    let (code, status) = apply(&api, &format!("{MAPS}/new"), "fieldManager=a", &unnamed).await;
    assert_eq!(code, 400, "{status}");
    let (code, _) =
        api.send(Method::PATCH, &format!("{path}?fieldManager=a"), "application/apply-patch+cbor", "x").await;
    assert_eq!(code, 415);
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b, a: b}\n";
    let (code, status) =
        api.send(Method::PATCH, &format!("{path}?fieldManager=a&fieldValidation=Strict"), APPLY, twice).await;
    assert_eq!(code, 400, "{status}");
    assert!(status["message"].as_str().is_some_and(|text| text.contains(r#"duplicate field "data.a""#)), "{status}");
}

#[tokio::test]
async fn clients_may_reset_or_edit_managers_but_not_break_them() {
    let api = Api::new().await;
    let path = format!("{MAPS}/m");
    let (_, created) = api.post(&format!("{MAPS}?fieldManager=a"), &map(json!({"k": "v"}))).await;
    check(&created, expect![[r#"a Update v1: {"f:data":{".":{},"f:k":{}}}"#]]);
    let managers = |value: Value| json!({"metadata": {"managedFields": value}}).to_string();
    let broken = managers(json!([{"manager": "x", "operation": "Sing"}]));
    let (code, object) = api.send(Method::PATCH, &format!("{path}?fieldManager=b"), MERGE, broken).await;
    assert_eq!((code, &object), (200, &created), "what is broken is not taken");
    // An object without managers keeps those it has.
    let (_, object) = api
        .send(Method::PUT, &format!("{path}?fieldManager=b"), "application/json", map(json!({"k": "w"})).to_string())
        .await;
    check(
        &object,
        expect![[r#"
        a Update v1: {"f:data":{}}
        b Update v1: {"f:data":{"f:k":{}}}"#]],
    );
    let edited =
        json!([{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "renamed"}]).to_string();
    let (_, object) = api.send(Method::PATCH, &path, "application/json-patch+json", edited).await;
    check(
        &object,
        expect![[r#"
        b Update v1: {"f:data":{"f:k":{}}}
        renamed Update v1: {"f:data":{}}"#]],
    );
    for reset in [json!([{}]), json!([])] {
        let (_, object) = api.send(Method::PATCH, &path, MERGE, managers(reset)).await;
        assert!(object["metadata"].get("managedFields").is_none(), "{object}");
        // Nobody is recorded until somebody applies.
        let (_, object) = api.send(Method::PATCH, &path, MERGE, r#"{"data":{"l":"x"}}"#).await;
        assert!(object["metadata"].get("managedFields").is_none(), "{object}");
        let (_, object) = apply(&api, &path, "fieldManager=a", &map(json!({"z": "1"}))).await;
        assert!(owners(&object).contains(r#"before-first-apply Update v1: {"f:data":{".":{},"f:k":{}"#), "{object}");
    }
}

#[tokio::test]
async fn kubectl_moves_from_client_side_apply_to_server_side() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = deployment(1);
    object["metadata"]["annotations"] = json!({LAST: format!("{}\n", deployment(1))});
    api.post(&format!("{DEPLOYMENTS}?fieldManager=kubectl-client-side-apply"), &object).await;
    let (code, applied) = apply(&api, &path, "fieldManager=kubectl&force=false", &deployment(2)).await;
    assert_eq!((code, &applied["spec"]["replicas"]), (200, &json!(2)), "{applied}");
    let last = applied["metadata"]["annotations"][LAST].as_str().expect("the annotation stays");
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["spec"]["replicas"], 2);
    // kubectl then drops the old manager by a JSON patch, and applies the annotation under a name of its own.
    let managers = applied["metadata"]["managedFields"].as_array().expect("managers");
    let left: Vec<&Value> = managers.iter().filter(|entry| entry["manager"] == "kubectl").collect();
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": left},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&applied)},
    ]);
    let (code, migrated) = api
        .send(Method::PATCH, &format!("{path}?fieldManager=kubectl"), "application/json-patch+json", patch.to_string())
        .await;
    assert_eq!(code, 200, "{migrated}");
    assert_eq!(owners(&migrated).lines().count(), 1, "{}", owners(&migrated));
    let (code, stale) = api
        .send(Method::PATCH, &format!("{path}?fieldManager=kubectl"), "application/json-patch+json", patch.to_string())
        .await;
    assert_eq!(code, 409, "{stale}");
    let annotation = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations": {LAST: "{}"}}});
    let (code, kept) = apply(&api, &path, "fieldManager=kubectl-last-applied&force=true", &annotation).await;
    assert_eq!(code, 200, "{kept}");
    assert!(owners(&kept).contains("kubectl-last-applied Apply"), "{}", owners(&kept));
    // What is left out goes, now that kubectl owns it.
    let mut less = deployment(2);
    less["spec"].as_object_mut().expect("a map").shift_remove("replicas");
    let (code, object) = apply(&api, &path, "fieldManager=kubectl", &less).await;
    assert_eq!((code, &object["spec"]["replicas"]), (200, &json!(1)), "the default is back: {object}");
}

#[tokio::test]
async fn managers_meet_across_the_versions_of_a_kind() {
    let api = Api::new().await;
    let (core, grouped) = ("/api/v1/namespaces/default/events/e", "/apis/events.k8s.io/v1/namespaces/default/events/e");
    let config = |note: &str| {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": note,
            "reason": "R", "type": "Normal", "action": "A", "reportingController": "c", "reportingInstance": "i",
            "eventTime": "2026-01-01T00:00:00.000001Z", "regarding": {"kind": "Pod", "namespace": "default", "name": "b"}})
    };
    let (code, object) = apply(&api, grouped, "fieldManager=a", &config("first")).await;
    assert_eq!((code, &object["note"]), (201, &json!("first")), "{object}");
    assert!(owners(&object).starts_with("a Apply events.k8s.io/v1:") && owners(&object).contains("f:note"), "{object}");
    let message = |text: &str| json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": text});
    let (code, status) = apply(&api, core, "fieldManager=b", &message("second")).await;
    let expected = r#"Apply failed with 1 conflict: conflict with "a": .note"#;
    assert_eq!((code, &status["message"]), (409, &json!(expected)), "in the words of the one who owns it");
    let (code, object) = apply(&api, core, "fieldManager=b&force=true", &message("second")).await;
    assert_eq!((code, &object["message"]), (200, &json!("second")), "{object}");
    let sets = owners(&object);
    assert!(!sets.lines().next().unwrap_or_default().contains("f:note"), "{sets}");
    assert_eq!(sets.lines().nth(1), Some(r#"b Apply v1: {"f:message":{}}"#));
    let (code, status) = apply(&api, grouped, "fieldManager=a", &config("third")).await;
    let expected = r#"Apply failed with 1 conflict: conflict with "b": .message"#;
    assert_eq!((code, &status["message"]), (409, &json!(expected)));
    // An update in one version takes from those who own in the other.
    let patch = json!({"note": "fourth"}).to_string();
    let (code, object) = api.send(Method::PATCH, &format!("{grouped}?fieldManager=u"), MERGE, patch).await;
    assert_eq!(code, 200, "{object}");
    let sets = owners(&object);
    assert!(!sets.contains("f:message") && sets.contains(r#"u Update events.k8s.io/v1: {"f:note":{}}"#), "{sets}");
}

#[tokio::test]
async fn many_applies_at_once_lose_nothing() {
    let api = std::sync::Arc::new(Api::new().await);
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let api = std::sync::Arc::clone(&api);
            tokio::spawn(async move {
                let config = map(json!({format!("k{number}"): "v"}));
                apply(&api, &format!("{MAPS}/m"), &format!("fieldManager=m{number}"), &config).await
            })
        })
        .collect();
    for task in tasks {
        let (code, object) = task.await.expect("runs");
        assert!(code == 200 || code == 201, "{object}");
    }
    let (_, object) = api.get(&format!("{MAPS}/m")).await;
    assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(16));
    assert_eq!(owners(&object).lines().count(), 16);
}

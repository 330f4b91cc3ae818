//! Kinds that are served in other ways than the plain one: views of a hub, kinds that are not stored, PUT that creates.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use http::Method;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const CORE: &str = "/api/v1/namespaces/default/events";
const GROUPED: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn event(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "reason": "Started", "message": "text",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "a"}, "count": 3, "type": "Normal"})
}

#[tokio::test]
async fn one_event_has_two_shapes() {
    let api = Api::new().await;
    let (code, created) = api.post(CORE, &event("a")).await;
    assert_eq!(code, 201, "{created}");
    let (code, seen) = api.get(&format!("{GROUPED}/a")).await;
    assert_eq!((code, &seen["apiVersion"]), (200, &json!("events.k8s.io/v1")), "{seen}");
    assert_eq!((&seen["note"], &seen["regarding"]["name"]), (&json!("text"), &json!("a")));
    assert_eq!((&seen["deprecatedCount"], &seen["involvedObject"]), (&json!(3), &Value::Null));
    assert_eq!(seen["metadata"], created["metadata"], "it is the same object");

    let grouped = json!({"metadata": {"name": "b"}, "regarding": {"kind": "Pod", "namespace": "default", "name": "b"},
        "note": "other", "reason": "R", "type": "Warning", "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "example.com/c", "reportingInstance": "i", "action": "Try"});
    let (code, answer) = api.post(GROUPED, &grouped).await;
    assert_eq!((code, &answer["kind"], &answer["note"]), (201, &json!("Event"), &json!("other")), "{answer}");
    assert_eq!(api.get(&format!("{CORE}/b")).await.1["message"], "other");

    let patch = r#"{"note":"patched"}"#;
    let path = format!("{GROUPED}/b");
    let (code, answer) = api.send(Method::PATCH, &path, "application/merge-patch+json", patch).await;
    assert_eq!((code, &answer["note"]), (200, &json!("patched")), "{answer}");
    assert_eq!(api.get(&format!("{CORE}/b")).await.1["message"], "patched");

    let (_, list) = api.get(&format!("{GROUPED}?fieldSelector=regarding.name%3Db")).await;
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("events.k8s.io/v1"), &json!("EventList")));
    let notes: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|item| &item["note"]).collect();
    assert_eq!(notes, ["patched"]);
    assert_eq!(api.get(&format!("{CORE}?fieldSelector=regarding.name%3Db")).await.0, 400, "the hub has other names");
    assert_eq!(api.watched(&format!("{GROUPED}?watch=1"), 2).await, ["ADDED a", "ADDED b"]);
    let (code, _) = api.delete(&path).await;
    assert_eq!((code, api.get(&format!("{CORE}/b")).await.0), (200, 404));
}

#[tokio::test]
async fn what_is_outdated_is_said() {
    let api = Api::new().await;
    let endpoints = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    let job = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"";
    for (method, path, expected) in [
        (Method::GET, "/api/v1/componentstatuses", Some("299 - \"v1 ComponentStatus is deprecated in v1.19+\"")),
        (Method::GET, "/api/v1/namespaces/default/endpoints", Some(endpoints)),
        (Method::GET, "/api/v1/endpoints", Some(endpoints)),
        (Method::GET, "/api/v1/namespaces", None),
        (Method::DELETE, "/apis/batch/v1/namespaces/default/jobs", Some(job)),
        (Method::DELETE, "/apis/batch/v1/namespaces/default/jobs?propagationPolicy=Background", None),
    ] {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(http_body_util::Full::default()).expect("a request");
        let answer = api.raw(corten_apiserver::Identity::admin(), request).await;
        let warning = answer.headers().get(http::header::WARNING).and_then(|warning| warning.to_str().ok());
        assert_eq!((answer.status().as_u16(), warning), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_stored_is_answered() {
    let api = Api::new().await;
    let (code, list) = api.get("/api/v1/componentstatuses").await;
    assert_eq!((code, &list["kind"]), (200, &json!("ComponentStatusList")), "{list}");
    assert_eq!(list["items"][0]["metadata"]["name"], "etcd-0");
    api.server.add_component("scheduler", || Err("it sleeps".to_owned()));
    let (_, one) = api.get("/api/v1/componentstatuses/scheduler").await;
    assert_eq!(
        (&one["conditions"][0]["status"], &one["conditions"][0]["error"]),
        (&json!("False"), &json!("it sleeps"))
    );
    assert_eq!(api.get("/api/v1/componentstatuses/other").await.0, 404);
    assert_eq!(api.delete("/api/v1/componentstatuses/scheduler").await.0, 405);

    let account = json!({"metadata": {"name": "default"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
    assert_eq!(api.post("/api/v1/namespaces/default/pods", &pod).await.0, 201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(api.post("/api/v1/namespaces/default/bindings", &binding).await.0, 201);
    assert_eq!(api.get("/api/v1/namespaces/default/pods/p").await.1["spec"]["nodeName"], "n");
    assert_eq!(api.get("/api/v1/namespaces/default/bindings").await.0, 405);
}

#[tokio::test]
async fn a_put_creates_where_upstream_allows_it() {
    let api = Api::new().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let (code, made) = api.send(Method::PUT, path, JSON, lease.to_string()).await;
    assert_eq!((code, &made["spec"]["holderIdentity"]), (201, &json!("me")), "{made}");
    assert_eq!(api.send(Method::PUT, path, JSON, made.to_string()).await.0, 200);
    let other = path.replace("leases/l", "leases/m");
    let mut known = lease.clone();
    known["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    known["metadata"]["name"] = "gone".into();
    let gone = "/apis/coordination.k8s.io/v1/namespaces/default/leases/gone";
    assert_eq!(api.send(Method::PUT, gone, JSON, known.to_string()).await.0, 409, "that one is not there any more");
    assert_eq!(api.send(Method::PUT, &other, JSON, lease.to_string()).await.0, 400, "another name");
    let map = json!({"metadata": {"name": "m"}});
    assert_eq!(api.send(Method::PUT, "/api/v1/namespaces/default/configmaps/m", JSON, map.to_string()).await.0, 404);
}

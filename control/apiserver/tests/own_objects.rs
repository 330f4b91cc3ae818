//! Objects that the API server makes at its start, and subresources that kinds have rules for.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use http::Method;
use serde_json::{Value, json};

const JSON: &str = "application/json";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[tokio::test]
async fn what_the_api_server_is_stands_in_objects() {
    let api = Api::new().await;
    let (_, services) = api.get("/apis/apiregistration.k8s.io/v1/apiservices").await;
    let found = names(&services);
    for name in ["v1.", "v1.apps", "v1.networking.k8s.io", "v1.flowcontrol.apiserver.k8s.io"] {
        assert!(found.contains(&name), "{name} in {found:?}");
    }
    assert_eq!(services["items"][0]["status"]["conditions"][0]["status"], "True");
    let (_, schemas) = api.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas").await;
    let (_, levels) = api.get("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations").await;
    assert_eq!((names(&schemas).len(), names(&levels).len()), (13, 8));
    let levels = names(&levels);
    for schema in schemas["items"].as_array().expect("items") {
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().expect("a name");
        assert!(levels.contains(&level), "{level}");
    }
    let (code, range) = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await;
    assert_eq!((code, &range["status"]["conditions"][0]["type"]), (200, &json!("Ready")), "{range}");
}

#[tokio::test]
async fn parts_of_a_pod_have_paths_of_their_own() {
    let api = Api::new().await;
    let account = json!({"metadata": {"name": "default"}});
    let (code, answer) = api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    assert!(code == 201 || code == 409, "{answer}");
    let resources = json!({"requests": {"cpu": "1"}});
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
    let (code, answer) = api.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{answer}");
    let path = "/api/v1/namespaces/default/pods/a";
    let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}]}}"#;
    let kind = "application/strategic-merge-patch+json";
    let (code, answer) = api.send(Method::PATCH, path, kind, patch).await;
    assert_eq!(code, 422, "{answer}");
    let (code, answer) = api.send(Method::PATCH, &format!("{path}/resize"), kind, patch).await;
    assert_eq!(
        (code, &answer["spec"]["containers"][0]["resources"]["requests"]["cpu"]),
        (200, &json!("2")),
        "{answer}"
    );
    let patch = r#"{"spec":{"ephemeralContainers":[{"name":"debug","image":"sh"}]}}"#;
    let (code, answer) = api.send(Method::PATCH, &format!("{path}/ephemeralcontainers"), kind, patch).await;
    assert_eq!((code, &answer["spec"]["ephemeralContainers"][0]["name"]), (200, &json!("debug")), "{answer}");
}

#[tokio::test]
async fn a_request_for_a_certificate_is_approved_at_its_path() {
    let api = Api::new().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let pem = include_bytes!("../../kinds/src/tests/request.pem");
    let request = json!(encoded(pem));
    let csr = json!({"metadata": {"name": "a"}, "spec": {"request": request, "signerName": "example.com/s", "usages": ["client auth"]}});
    let (code, made) = api.post(path, &csr).await;
    assert_eq!((code, &made["spec"]["username"]), (201, &json!("kubernetes-admin")), "{made}");
    let mut approved = made.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]});
    let (code, answer) = api.send(Method::PUT, &format!("{path}/a/status"), JSON, approved.to_string()).await;
    assert_eq!(code, 422, "{answer}");
    let (code, answer) = api.send(Method::PUT, &format!("{path}/a/approval"), JSON, approved.to_string()).await;
    assert_eq!((code, &answer["status"]["conditions"][0]["type"]), (200, &json!("Approved")), "{answer}");
}

/// Bytes as JSON has them.
fn encoded(bytes: &[u8]) -> Value {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

//! Evictions and the budgets that they honour.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use http::Method;
use serde_json::{Value, json};

const NAMESPACE: &str = "/api/v1/namespaces/default";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A server with a pod `p` that is ready (or not), on a node.
async fn with_pod(ready: &str) -> Api {
    let api = Api::new().await;
    api.post(&format!("{NAMESPACE}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "web:1"}]}});
    assert_eq!(api.post(&format!("{NAMESPACE}/pods"), &pod).await.0, 201);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    patch(&api, &format!("{NAMESPACE}/pods/p/status"), status).await;
    api
}

async fn patch(api: &Api, path: &str, patch: Value) {
    let (code, answer) = api.send(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await;
    assert_eq!(code, 200, "{answer}");
}

/// A budget that its controller has looked at.
async fn budget(api: &Api, name: &str, allowed: i64, more: Value) {
    let mut spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    spec.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
    let (code, answer) = api.post(BUDGETS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(code, 201, "{answer}");
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1}});
    patch(api, &format!("{BUDGETS}/{name}/status"), status).await;
}

async fn evict(api: &Api, more: Value) -> (u16, Value) {
    let mut eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    eviction.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
    api.post(&format!("{NAMESPACE}/pods/p/eviction"), &eviction).await
}

#[tokio::test]
async fn a_pod_without_a_budget_goes() {
    let api = with_pod("True").await;
    let (code, answer) = evict(&api, json!({"metadata": {"name": "other"}})).await;
    assert_eq!((code, &answer["message"]), (400, &json!("name in URL does not match name in Eviction object")));
    let (code, answer) = evict(&api, json!({"apiVersion": "policy/v1beta1"})).await;
    assert_eq!((code, &answer["status"]), (201, &json!("Success")), "{answer}");
    let (_, pod) = api.get(&format!("{NAMESPACE}/pods/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let told = pod["status"]["conditions"].as_array().into_iter().flatten();
    assert!(told.into_iter().any(|c| c["type"] == "DisruptionTarget" && c["reason"] == "EvictionByEvictionAPI"));
}

#[tokio::test]
async fn a_budget_gives_what_it_has_and_no_more() {
    let api = with_pod("True").await;
    budget(&api, "b", 1, json!({})).await;
    let (code, _) = evict(&api, json!({"deleteOptions": {"dryRun": ["All"]}})).await;
    let path = format!("{BUDGETS}/b");
    assert_eq!((code, &api.get(&path).await.1["status"]["disruptionsAllowed"]), (201, &json!(1)), "nothing happened");
    assert_eq!(evict(&api, json!({})).await.0, 201);
    let status = api.get(&path).await.1["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["p"].is_string());
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    assert_eq!(evict(&api, json!({})).await.0, 201, "a pod that is ending goes on ending");

    let api = with_pod("True").await;
    budget(&api, "b", 0, json!({})).await;
    let (code, answer) = evict(&api, json!({})).await;
    assert_eq!((code, &answer["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(answer["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = json!({"reason": "DisruptionBudget",
        "message": "The disruption budget b needs 1 healthy pods and has 1 currently"});
    assert_eq!(answer["details"]["causes"][0], cause);
    patch(&api, &path, json!({"spec": {"minAvailable": 2}})).await;
    let (code, answer) = evict(&api, json!({})).await;
    assert_eq!((code, &answer["details"]["retryAfterSeconds"]), (429, &json!(10)), "{answer}");
    assert!(api.get(&format!("{NAMESPACE}/pods/p")).await.1["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn pods_that_are_not_ready_go_by_the_policy() {
    let api = with_pod("False").await;
    budget(&api, "b", 0, json!({})).await;
    assert_eq!(evict(&api, json!({})).await.0, 201, "the others are healthy enough");
    for (policy, code) in [("IfHealthyBudget", 429), ("AlwaysAllow", 201)] {
        let api = with_pod("False").await;
        budget(&api, "b", 0, json!({"unhealthyPodEvictionPolicy": policy})).await;
        patch(&api, &format!("{BUDGETS}/b/status"), json!({"status": {"currentHealthy": 0}})).await;
        assert_eq!(evict(&api, json!({})).await.0, code, "{policy}");
    }
    let api = with_pod("False").await;
    budget(&api, "b", 0, json!({})).await;
    patch(&api, &format!("{BUDGETS}/b/status"), json!({"status": {"currentHealthy": 0}})).await;
    patch(&api, &format!("{NAMESPACE}/pods/p/status"), json!({"status": {"phase": "Pending"}})).await;
    assert_eq!(evict(&api, json!({})).await.0, 201, "what never ran is no loss");
}

#[tokio::test]
async fn two_budgets_are_one_too_many() {
    let api = with_pod("True").await;
    budget(&api, "a", 1, json!({})).await;
    budget(&api, "b", 1, json!({})).await;
    let (code, answer) = evict(&api, json!({})).await;
    let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!((code, &answer["message"], answer.get("reason")), (500, &json!(why), None));
}

#[tokio::test]
async fn an_evictions_options_are_those_of_a_deletion() {
    let api = with_pod("True").await;
    let (code, answer) = evict(&api, json!({"deleteOptions": {"propagationPolicy": "Sideways"}})).await;
    assert_eq!((code, &answer["details"]["causes"][0]["field"]), (422, &json!("propagationPolicy")), "{answer}");
    let (code, answer) = evict(&api, json!({"deleteOptions": {"gracePeriodSeconds": -1}})).await;
    assert_eq!(code, 201, "{answer}");
    let (code, pod) = api.get(&format!("{NAMESPACE}/pods/p")).await;
    let grace = &pod["metadata"]["deletionGracePeriodSeconds"];
    assert_eq!((code, grace), (200, &json!(1)), "less than none is a second, not force: {pod}");
}

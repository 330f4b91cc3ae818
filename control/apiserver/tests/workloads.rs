//! Kinds that run pods, as clients see them.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use http::Method;
use serde_json::{Value, json};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn autoscaler(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    object["spec"].as_object_mut().expect("a map").extend(spec.as_object().cloned().unwrap_or_default());
    object
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let api = Api::new().await;
    let (code, answer) = api.post(V1, &autoscaler("a", json!({"targetCPUUtilizationPercentage": 60}))).await;
    assert_eq!((code, &answer["apiVersion"]), (201, &json!("autoscaling/v1")), "{answer}");
    let (_, seen) = api.get(&format!("{V2}/a")).await;
    assert_eq!(seen["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60, "{seen}");

    let metric = json!({"type": "Pods", "pods": {"metric": {"name": "load"},
        "target": {"type": "AverageValue", "averageValue": "5"}}});
    let (code, answer) = api.post(V2, &autoscaler("b", json!({"metrics": [metric]}))).await;
    assert_eq!(code, 201, "{answer}");
    let path = format!("{V1}/b");
    let (_, mut old) = api.get(&path).await;
    let text = old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap_or_default();
    assert!(text.contains("\"targetAverageValue\":\"5\""), "{old}");
    old["spec"]["maxReplicas"] = 9.into();
    let (code, answer) = api.send(Method::PUT, &path, "application/json", old.to_string()).await;
    assert_eq!(code, 200, "{answer}");
    let (_, new) = api.get(&format!("{V2}/b")).await;
    assert_eq!((&new["spec"]["maxReplicas"], &new["spec"]["metrics"]), (&json!(9), &json!([metric])));
    assert_eq!(new["metadata"].get("annotations"), None, "version 2 needs none");

    let (_, group) = api.get("/apis/autoscaling").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
}

#[tokio::test]
async fn a_job_is_created_with_its_labels() {
    let api = Api::new().await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "web:1"}]});
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": pod}}});
    let (code, made) = api.post(JOBS, &job).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["labels"]["batch.kubernetes.io/controller-uid"], made["metadata"]["uid"]);
    assert_eq!(made["metadata"]["labels"]["job-name"], "j");
    let (code, list) = api.get(&format!("{JOBS}?fieldSelector=status.successful%3D0")).await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
    let patch = json!({"spec": {"template": {"spec": {"nodeName": "n"}}}}).to_string();
    let (code, answer) = api.send(Method::PATCH, &format!("{JOBS}/j"), "application/merge-patch+json", patch).await;
    assert_eq!((code, &answer["details"]["causes"][0]["field"]), (422, &json!("spec.template")), "{answer}");
}

#[tokio::test]
async fn a_set_is_scaled_by_its_subresource() {
    let api = Api::new().await;
    let labels = json!({"app": "web"});
    let pod = json!({"containers": [{"name": "c", "image": "web:1"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": labels}, "template": template}});
    let controller = json!({"metadata": {"name": "s"}, "spec": {"template": template}});
    for (path, object) in [
        ("/apis/apps/v1/namespaces/default/statefulsets", set),
        ("/api/v1/namespaces/default/replicationcontrollers", controller),
    ] {
        let (code, answer) = api.post(path, &object).await;
        assert_eq!(code, 201, "{answer}");
        let scale = format!("{path}/s/scale");
        let patch = r#"{"spec":{"replicas":4}}"#;
        let (code, answer) = api.send(Method::PATCH, &scale, "application/merge-patch+json", patch).await;
        assert_eq!((code, &answer["status"]["selector"]), (200, &json!("app=web")), "{answer}");
        let (_, object) = api.get(&format!("{path}/s")).await;
        assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(4), &json!(2)));
    }
}

#[tokio::test]
async fn a_scale_is_that_of_the_object_at_its_path() {
    let api = Api::new().await;
    let labels = json!({"app": "web"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
    let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": labels}, "template": template}});
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let (code, set) = api.post(sets, &set).await;
    assert_eq!(code, 201, "{set}");
    let path = format!("{sets}/s/scale");
    for (metadata, code) in [
        (json!({"name": "other"}), 400),
        (json!({}), 400),
        (json!({"name": "s", "namespace": "other"}), 400),
        (json!({"name": "s", "uid": "x"}), 409),
        (json!({"name": "s", "namespace": "default", "uid": set["metadata"]["uid"]}), 200),
    ] {
        let scale = json!({"metadata": metadata, "spec": {"replicas": 3}}).to_string();
        let (got, answer) = api.send(Method::PUT, &path, "application/json", scale).await;
        assert_eq!(got, code, "{metadata}: {answer}");
    }
    let patch = json!({"metadata": {"uid": "x"}, "spec": {"replicas": 4}}).to_string();
    let (code, answer) = api.send(Method::PATCH, &path, "application/merge-patch+json", patch).await;
    assert_eq!(code, 409, "{answer}");
}

//! The API as clients see it, in process and over TLS.

mod common;

use std::time::Duration;

use common::Api;
use corten_apiserver::Identity;
use corten_base::Clock;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    }})
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let api = Api::new().await;
    let (code, created) = api.post(MAPS, &map("a")).await;
    assert_eq!(code, 201, "{created}");
    assert!(created["metadata"]["uid"].is_string() && created["metadata"]["creationTimestamp"].is_string());
    let path = format!("{MAPS}/a");
    assert_eq!(api.get(&path).await, (200, created.clone()));
    let mut changed = created.clone();
    changed["data"]["k"] = "w".into();
    let (code, updated) = api.send(Method::PUT, &path, "application/json", changed.to_string()).await;
    assert_eq!((code, &updated["data"]["k"]), (200, &json!("w")));
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
    assert!(version(&updated) > version(&created));
    let (code, conflict) = api.send(Method::PUT, &path, "application/json", changed.to_string()).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")), "the version is old");
    let (_, same) = api.send(Method::PUT, &path, "application/json", updated.to_string()).await;
    assert_eq!(version(&same), version(&updated), "no change, no write");
    let (code, gone) = api.delete(&path).await;
    assert_eq!((code, &gone["status"], &gone["details"]["name"]), (200, &json!("Success"), &json!("a")));
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test]
async fn lists_come_in_pieces_and_by_selector() {
    let api = Api::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.post(MAPS, &map(name)).await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (_, first) = api.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a".into(), "b".into()], &json!(3)));
    api.post(MAPS, &map("aa")).await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let (_, rest) = api.get(&format!("{MAPS}?continue={token}")).await;
    assert_eq!(names(&rest), ["c", "d", "e"], "the list is of one moment");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(names(&api.get(&format!("{MAPS}?labelSelector=app%20in%20(a,c)")).await.1), ["a", "c"]);
    assert_eq!(names(&api.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dd")).await.1), ["d"]);
    let (_, table) = api.send(Method::GET, MAPS, "", "").await;
    assert_eq!(table["kind"], "ConfigMapList");
    let request = Request::get(MAPS).header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
    let answer = api.raw(Identity::admin(), request.body(Full::default()).expect("a request")).await;
    let table: Value =
        serde_json::from_slice(&answer.into_body().collect().await.expect("a body").to_bytes()).expect("JSON");
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][1]), (&json!("Table"), &json!(1)));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
}

#[tokio::test]
async fn a_watch_tells_what_happens_and_410_what_is_forgotten() {
    let api = Api::new().await;
    let (_, list) = api.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    api.post(MAPS, &map("a")).await;
    api.post(MAPS, &map("b")).await;
    api.send(
        Method::PATCH,
        &format!("{MAPS}/a"),
        "application/merge-patch+json",
        r#"{"metadata":{"labels":{"app":"z"}}}"#,
    )
    .await;
    api.delete(&format!("{MAPS}/b")).await;
    let events = api.watched(&format!("{MAPS}?watch=1&resourceVersion={version}"), 4).await;
    assert_eq!(events, ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"]);
    let events = api.watched(&format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=app%3Da"), 2).await;
    assert_eq!(events, ["ADDED a", "DELETED a"], "what leaves the selection is deleted from it");
    let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    assert_eq!(api.watched(&format!("{MAPS}?{query}"), 2).await, ["ADDED a", "BOOKMARK "]);
    api.store.compact(api.store.snapshot().revision()).await.expect("compacts");
    let (code, event) = api.get(&format!("{MAPS}?watch=1&resourceVersion={version}")).await;
    assert_eq!((code, &event["type"], &event["object"]["code"]), (200, &json!("ERROR"), &json!(410)), "{event}");
}

#[tokio::test]
async fn patches_of_all_kinds_change_what_they_say() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let (code, created) = api.post(deployments, &deployment()).await;
    assert_eq!(code, 201, "{created}");
    let path = format!("{deployments}/web");
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"1"}]}]}}}}"#;
    let (_, new) = api.send(Method::PATCH, &path, "application/strategic-merge-patch+json", strategic).await;
    let container = &new["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["env"][0]["value"]), (&json!("web:1"), &json!("1")));
    assert_eq!(new["metadata"]["generation"], 2);
    let patch = r#"[{"op":"replace","path":"/spec/replicas","value":4}]"#;
    let (_, new) = api.send(Method::PATCH, &path, "application/json-patch+json", patch).await;
    assert_eq!(new["spec"]["replicas"], 4);
    let scale = format!("{path}/scale");
    let (_, new) = api.send(Method::PATCH, &scale, "application/merge-patch+json", r#"{"spec":{"replicas":2}}"#).await;
    assert_eq!((&new["kind"], &new["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(api.get(&path).await.1["spec"]["replicas"], 2);
    let (_, dry) = api
        .send(
            Method::PATCH,
            &format!("{path}?dryRun=All"),
            "application/merge-patch+json",
            r#"{"spec":{"replicas":9}}"#,
        )
        .await;
    assert_eq!(dry["spec"]["replicas"], 9);
    assert_eq!(api.get(&path).await.1["spec"]["replicas"], 2, "a dry run changes nothing");
    let (_, status) = api
        .send(
            Method::PATCH,
            &format!("{path}/status"),
            "application/merge-patch+json",
            r#"{"status":{"replicas":2},"spec":{"replicas":7}}"#,
        )
        .await;
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn pods_get_an_account_and_end_with_grace() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let (code, refused) = api.post(pods, &pod("a")).await;
    assert_eq!(code, 403, "{refused}");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let (code, created) = api.post(pods, &pod("a")).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(
        created["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(api.post(&format!("{pods}/a/binding"), &binding).await.0, 201);
    assert_eq!(api.post(&format!("{pods}/a/binding"), &binding).await.0, 409, "it has a node");
    let (_, bound) = api.get(&format!("{pods}/a")).await;
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["status"]["conditions"][0]["type"]),
        (&json!("n"), &json!("PodScheduled"))
    );
    let (code, marked) = api.delete(&format!("{pods}/a")).await;
    assert_eq!((code, &marked["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(30)));
    assert_eq!(api.get(&format!("{pods}/a")).await.0, 200);
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": "x"}});
    assert_eq!(api.send(Method::DELETE, &format!("{pods}/a"), "application/json", options.to_string()).await.0, 409);
    assert_eq!(api.delete(&format!("{pods}/a?gracePeriodSeconds=0")).await.0, 200);
    assert_eq!(api.get(&format!("{pods}/a")).await.0, 404);
}

#[tokio::test]
async fn pods_name_classes_that_are_there() {
    let api = Api::new().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let ask = async |field: &str, value: Value| {
        let mut pod = pod("x");
        pod["spec"][field] = value;
        api.post("/api/v1/namespaces/default/pods?dryRun=All", &pod).await
    };
    for (field, value, says) in [
        ("runtimeClassName", json!("gvisor"), "pod rejected: RuntimeClass \"gvisor\" not found"),
        ("priorityClassName", json!("nope"), "no PriorityClass with name nope was found"),
        (
            "priority",
            json!(5),
            "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
        (
            "preemptionPolicy",
            json!("Never"),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ] {
        let (code, status) = ask(field, value).await;
        assert_eq!((code, &status["message"]), (403, &json!(format!("pods \"x\" is forbidden: {says}"))));
    }
    for (class, priority) in
        [("", 0), ("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
    {
        let (code, pod) = ask("priorityClassName", json!(class)).await;
        assert_eq!((code, &pod["spec"]["priority"]), (201, &json!(priority)), "{pod}");
    }
}

#[tokio::test]
async fn finalizers_hold_and_namespaces_close() {
    let api = Api::new().await;
    let mut held = map("a");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    api.post(MAPS, &held).await;
    let path = format!("{MAPS}/a");
    assert!(api.delete(&path).await.1["metadata"]["deletionTimestamp"].is_string());
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    assert_eq!(api.send(Method::PATCH, &path, "application/merge-patch+json", patch).await.0, 200);
    assert_eq!(api.get(&path).await.0, 404, "nothing holds it any more");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
    api.post("/api/v1/namespaces", &namespace).await;
    let (_, ending) = api.delete("/api/v1/namespaces/x").await;
    assert_eq!(ending["status"]["phase"], "Terminating");
    let (code, refused) = api.post("/api/v1/namespaces/x/configmaps", &map("a")).await;
    assert_eq!(
        (code, refused["message"].as_str().unwrap_or_default().contains("because it is being terminated")),
        (403, true)
    );
    let mut emptied = ending;
    emptied["spec"]["finalizers"] = json!([]);
    assert_eq!(
        api.send(Method::PUT, "/api/v1/namespaces/x/finalize", "application/json", emptied.to_string()).await.0,
        200
    );
    assert_eq!(api.get("/api/v1/namespaces/x").await.0, 404);
}

#[tokio::test]
async fn services_never_share_an_address() {
    let api = Api::new().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: Option<&str>| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    let (_, first) = api.post(services, &service("a", None)).await;
    let ip = first["spec"]["clusterIP"].as_str().expect("an address");
    let (code, taken) = api.post(services, &service("b", Some(ip))).await;
    assert_eq!(
        (code, taken["message"].as_str().unwrap_or_default().contains("already allocated")),
        (422, true),
        "{taken}"
    );
    api.delete(&format!("{services}/a")).await;
    assert_eq!(api.post(services, &service("b", Some(ip))).await.0, 201, "it is free again");
}

#[tokio::test]
async fn users_may_do_what_they_may() {
    let api = Api::new().await;
    let ask = async |user: Identity, path: &str| {
        let answer = api.raw(user, Request::get(path).body(Full::default()).expect("a request")).await;
        answer.status().as_u16()
    };
    let account = || Identity::service_account("default", "a");
    assert_eq!(ask(Identity::anonymous(), "/readyz").await, 200);
    assert_eq!(ask(Identity::anonymous(), "/api").await, 403);
    assert_eq!(ask(account(), "/api").await, 200);
    assert_eq!(ask(account(), "/api/v1/pods").await, 403);
    assert_eq!(ask(Identity::controller_manager(), "/api/v1/pods").await, 200);
    let answer = api.raw(account(), Request::get("/api/v1/pods").body(Full::default()).expect("a request")).await;
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    let status: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(
        status["message"],
        "pods is forbidden: User \"system:serviceaccount:default:a\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn discovery_names_everything_that_is_served() {
    let api = Api::new().await;
    let (_, list) = api.get("/api/v1").await;
    let names: Vec<&str> =
        list["resources"].as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.contains(&"pods/exec") && names.contains(&"serviceaccounts/token"), "{names:?}");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = Request::get("/apis").header(header::ACCEPT, accept);
    let answer = api.raw(Identity::admin(), request.body(Full::default()).expect("a request")).await;
    let etag = answer.headers().get(header::ETAG).cloned().expect("a hash");

    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    let document: Value = serde_json::from_slice(&bytes).expect("JSON");
    let resources = document["items"].as_array().expect("groups").iter();
    let resources = resources.flat_map(|group| group["versions"][0]["resources"].as_array().expect("resources"));
    assert!(resources.map(|resource| &resource["resource"]).any(|name| name == "deployments"), "{document}");

    // A client's cache lays the headers of a 304 over those that it keeps: a type there would change the document's.
    let again = Request::get("/apis").header(header::ACCEPT, accept).header(header::IF_NONE_MATCH, etag.clone());
    let answer = api.raw(Identity::admin(), again.body(Full::default()).expect("a request")).await;
    assert_eq!(answer.status(), http::StatusCode::NOT_MODIFIED);
    assert_eq!(answer.headers().get(header::ETAG), Some(&etag));
    assert!(!answer.headers().contains_key(header::CONTENT_TYPE));

    let (_, index) = api.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a path");
    assert!(api.get(url).await.1["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    assert_eq!(api.get("/version").await.1["minor"], "36");
}

#[tokio::test]
async fn both_names_of_the_protobuf_schema_get_a_type_that_clients_can_read() {
    let api = Api::new().await;
    for version in ["@v1.0", ".v1.0"] {
        let accept = format!("application/com.github.proto-openapi.spec.v2{version}+protobuf");
        let request = Request::get("/openapi/v2").header(header::ACCEPT, accept);
        let answer = api.raw(Identity::admin(), request.body(Full::default()).expect("a request")).await;
        let kind = answer.headers().get(header::CONTENT_TYPE).cloned().expect("a type");
        assert_eq!(kind, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    }
}

#[tokio::test]
async fn reads_do_not_ask_for_the_namespace() {
    let api = Api::new().await;
    let (code, status) = api.get("/api/v1/namespaces/nowhere/pods/l").await;
    assert_eq!((code, &status["message"]), (404, &json!("pods \"l\" not found")));
    let (code, list) = api.get("/api/v1/namespaces/nowhere/pods").await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
    let (code, status) = api.delete("/api/v1/namespaces/nowhere/pods/l").await;
    assert_eq!((code, &status["message"]), (404, &json!("pods \"l\" not found")));
    let (code, status) = api.get("/api/v1/namespaces/nowhere/pods/l/log").await;
    assert_eq!((code, &status["message"]), (404, &json!("pods \"l\" not found")));
    let (code, status) = api.post("/api/v1/namespaces/nowhere/pods", &pod("l")).await;
    assert_eq!((code, &status["message"]), (404, &json!("namespaces \"nowhere\" not found")));
}

#[tokio::test]
async fn certificates_and_tokens_are_judged_over_tls() {
    let api = Api::new().await;
    let tls = api.listening().await;
    let ask = async |credentials: Option<corten_apiserver::Credentials>, token: Option<&str>| {
        tls.ask(credentials.as_ref(), token).await
    };
    let now = Clock::system().now();
    let old = now - Duration::from_secs(3 * 365 * 86_400);
    let issue = |groups: &[&str], at| api.pki.issue_client("somebody", groups, at).expect("issued");
    assert_eq!(ask(Some(api.pki.admin()), None).await, "200");
    assert_eq!(ask(Some(issue(&[], now)), None).await, "403");
    assert_eq!(ask(Some(issue(&["system:masters"], old)), None).await, "401", "expired");
    assert_eq!(ask(None, None).await, "403", "anonymous");
    assert_eq!(ask(None, Some("nonsense")).await, "401");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let asked =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    let (code, answer) = api.post(&format!("{path}/token"), &asked).await;
    assert_eq!(code, 201, "{answer}");
    let token = answer["status"]["token"].as_str().expect("a token");
    assert_eq!(ask(None, Some(token)).await, "403", "known, but may not");
    api.delete(path).await;
    assert_eq!(ask(None, Some(token)).await, "401", "the account is gone");
}

#[tokio::test]
async fn some_kinds_are_replaced_only_by_who_knows_what_is_there() {
    let api = Api::new().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (code, mut lease) =
        api.post(leases, &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).await;
    assert_eq!(code, 201, "{lease}");
    let put = async |lease: &Value| {
        api.send(Method::PUT, &format!("{leases}/l"), "application/json", lease.to_string()).await
    };
    lease["spec"]["holderIdentity"] = "b".into();
    let known = lease.clone();
    lease["metadata"]["resourceVersion"].take();
    let (code, status) = put(&lease).await;
    let message = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
    assert_eq!((code, &status["message"]), (422, &json!(message)));
    assert_eq!(put(&known).await.0, 200);
    assert_eq!(put(&known).await.0, 409, "it has changed since");
    let patch = json!({"spec": {"holderIdentity": "c"}}).to_string();
    let patched = api.send(Method::PATCH, &format!("{leases}/l"), "application/merge-patch+json", patch).await;
    assert_eq!(patched.0, 200, "a patch says what it changes");
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "b"}});
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(api.post(maps, &map).await.0, 201);
    let put = api.send(Method::PUT, &format!("{maps}/m"), "application/json", map.to_string()).await;
    assert_eq!(put.0, 200, "most kinds do not mind");
}

//! Whatever a client sends, it gets the code, reason and words that Kubernetes gives; never a 500, never a panic.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::Api;
use corten_apiserver::Identity;
use http::{Method, Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    }})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "web:1"}]}})
}

/// The object with one place changed.
fn with(mut object: Value, pointer: &str, value: Value) -> String {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a place")[field] = value;
    object.to_string()
}

async fn furnished() -> Api {
    let api = Api::new().await;
    let account = json!({"metadata": {"name": "default"}});
    assert_eq!(api.post("/api/v1/namespaces/default/serviceaccounts", &account).await.0, 201);
    for (path, object) in [(MAPS, map("a")), (PODS, pod()), (DEPLOYMENTS, deployment())] {
        let (code, answer) = api.post(path, &object).await;
        assert_eq!(code, 201, "{answer}");
    }
    api
}

/// One request a row: what it shows, method, path, type, body, and the beginning of `CODE REASON | MESSAGE`.
type Row = (&'static str, Method, String, &'static str, String, &'static str);

fn rows() -> Vec<Row> {
    let post = |what, path: &str, kind, body: String, says| (what, Method::POST, path.to_owned(), kind, body, says);
    let get = |what, path: String, says| (what, Method::GET, path, JSON, String::new(), says);
    let patch = |what, kind, body: &str, says| (what, Method::PATCH, MAP.to_owned(), kind, body.to_owned(), says);
    let put = |what, body: String, says| (what, Method::PUT, MAP.to_owned(), JSON, body, says);
    let delete = |what, path: String, body: &str, says| (what, Method::DELETE, path, JSON, body.to_owned(), says);
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let unrecognized = "400 BadRequest | the object provided is unrecognized (must be of type ConfigMap): ";
    vec![
        // Bodies that are no objects.
        post("malformed JSON", MAPS, JSON, "{\"a\": ".to_owned(), unrecognized),
        post("malformed YAML", MAPS, YAML, "a: [1".to_owned(), unrecognized),
        post("nothing", MAPS, JSON, String::new(), unrecognized),
        post("a list", MAPS, JSON, "[]".to_owned(), unrecognized),
        post("a number", MAPS, JSON, "7".to_owned(), unrecognized),
        post("null", MAPS, YAML, "null".to_owned(), unrecognized),
        post("deep nesting", MAPS, JSON, "[".repeat(1 << 20), unrecognized),
        post("deep YAML", MAPS, YAML, "[".repeat(1 << 16), unrecognized),
        post("two documents", MAPS, YAML, format!("{}\n---\n{}", map("x"), map("y")), unrecognized),
        post("a NUL in JSON", MAPS, JSON, "{\"kind\": \"Config\0Map\"}".to_owned(), unrecognized),
        post(
            "a huge body",
            MAPS,
            JSON,
            " ".repeat((3 << 20) + 1),
            "413 RequestEntityTooLarge | Request entity too large: limit is 3145728",
        ),
        // Types.
        post(
            "JSON that is said to be protobuf",
            MAPS,
            "application/vnd.kubernetes.protobuf",
            "{}".to_owned(),
            "400 BadRequest | the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf message",
        ),
        post(
            "a form",
            MAPS,
            "application/x-www-form-urlencoded",
            "a=b".to_owned(),
            "415 UnsupportedMediaType | the body of the request was in an unknown format",
        ),
        // The schema.
        post(
            "wrong kind",
            MAPS,
            JSON,
            deployment().to_string(),
            "400 BadRequest | Deployment in version \"v1\" cannot be handled as a ConfigMap: ",
        ),
        post(
            "wrong version",
            MAPS,
            JSON,
            with(map("x"), "/apiVersion", "v2".into()),
            "400 BadRequest | ConfigMap in version \"v2\" cannot be handled as a ConfigMap: ",
        ),
        post(
            "a string for a number",
            DEPLOYMENTS,
            JSON,
            with(deployment(), "/spec/replicas", "three".into()),
            "400 BadRequest | Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        post(
            "a huge number",
            DEPLOYMENTS,
            JSON,
            with(deployment(), "/spec/replicas", json!(1e300)),
            "400 BadRequest | Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal number",
        ),
        post(
            "more than a number holds",
            DEPLOYMENTS,
            JSON,
            "{\"spec\":{\"replicas\":1e999}}".to_owned(),
            "400 BadRequest | the object provided is unrecognized (must be of type Deployment): ",
        ),
        post(
            "an unknown field",
            &strict,
            JSON,
            with(deployment(), "/spec/foo", json!(1)),
            "400 BadRequest | Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\"",
        ),
        post(
            "a duplicate field",
            &strict,
            JSON,
            "{\"metadata\":{\"name\":\"a\",\"name\":\"b\"}}".to_owned(),
            "400 BadRequest | Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \"metadata.name\"",
        ),
        post(
            "an unknown validation",
            &format!("{MAPS}?fieldValidation=Maybe"),
            JSON,
            map("x").to_string(),
            "400 BadRequest | ",
        ),
        post(
            "metadata that is a string",
            MAPS,
            JSON,
            with(map("x"), "/metadata", "x".into()),
            "400 BadRequest | ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        post(
            "a quantity that is none",
            PODS,
            JSON,
            with(pod(), "/spec/overhead", json!({"cpu": "much"})),
            "400 BadRequest | ",
        ),
        // Names.
        post(
            "a name that is no name",
            MAPS,
            JSON,
            map("A_b").to_string(),
            "422 Invalid | ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of",
        ),
        post("a name with a NUL", MAPS, JSON, map("a\0b").to_string(), "422 Invalid | ConfigMap "),
        post(
            "no name",
            MAPS,
            JSON,
            "{}".to_owned(),
            "422 Invalid | ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        post("a long name", MAPS, JSON, map(&"a".repeat(254)).to_string(), "422 Invalid | ConfigMap "),
        post(
            "a service's name",
            SERVICES,
            JSON,
            json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 80}]}}).to_string(),
            "422 Invalid | Service \"1a\" is invalid: metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of",
        ),
        post(
            "another namespace",
            MAPS,
            JSON,
            with(map("x"), "/metadata/namespace", "other".into()),
            "400 BadRequest | the namespace of the provided object does not match the namespace sent on the request",
        ),
        post(
            "a version in a new object",
            MAPS,
            JSON,
            with(map("x"), "/metadata/resourceVersion", "1".into()),
            "400 BadRequest | resourceVersion should not be set on objects to be created",
        ),
        post("a duplicate", MAPS, JSON, map("a").to_string(), "409 AlreadyExists | configmaps \"a\" already exists"),
        post(
            "no such namespace",
            "/api/v1/namespaces/nowhere/configmaps",
            JSON,
            map("a").to_string(),
            "404 NotFound | namespaces \"nowhere\" not found",
        ),
        post(
            "no image",
            PODS,
            JSON,
            with(pod(), "/spec/containers", json!([{"name": "c"}])),
            "422 Invalid | Pod \"p\" is invalid: spec.containers[0].image: Required value",
        ),
        post(
            "no such account",
            PODS,
            JSON,
            with(pod(), "/spec/serviceAccountName", "nobody".into()),
            "403 Forbidden | pods \"p\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found",
        ),
        // Paths and methods.
        get(
            "no such kind",
            "/api/v1/gizmos".to_owned(),
            "404 NotFound | the server could not find the requested resource",
        ),
        get(
            "no such group",
            "/apis/example.com/v1/things".to_owned(),
            "404 NotFound | the server could not find the requested resource",
        ),
        get(
            "no such object",
            format!("{DEPLOYMENTS}/nothing"),
            "404 NotFound | deployments.apps \"nothing\" not found",
        ),
        get("a path that is no text", format!("{MAPS}/%00%ff%fe"), "404 NotFound | configmaps "),
        get(
            "no such subresource",
            format!("{MAP}/status"),
            "404 NotFound | the server could not find the requested resource",
        ),
        (
            "PUT of a collection",
            Method::PUT,
            MAPS.to_owned(),
            JSON,
            map("a").to_string(),
            "405 MethodNotAllowed | the server does not allow this method on the requested resource",
        ),
        ("POST of an object", Method::POST, MAP.to_owned(), JSON, map("a").to_string(), "405 MethodNotAllowed | "),
        ("a method nobody knows", Method::TRACE, MAP.to_owned(), JSON, String::new(), "405 MethodNotAllowed | "),
        ("HEAD of a collection", Method::HEAD, MAPS.to_owned(), JSON, String::new(), "405 MethodNotAllowed | "),
        delete("all namespaces", "/api/v1/namespaces".to_owned(), "", "405 MethodNotAllowed | "),
        delete(
            "a namespace that must stay",
            "/api/v1/namespaces/kube-system".to_owned(),
            "",
            "403 Forbidden | namespaces \"kube-system\" is forbidden: this namespace may not be deleted",
        ),
        // Lists and watches.
        get(
            "a label selector",
            format!("{PODS}?labelSelector=a%20b"),
            "400 BadRequest | unable to parse requirement: found 'b', expected: ",
        ),
        get(
            "a field selector",
            format!("{PODS}?fieldSelector=spec.x%3D1"),
            "400 BadRequest | field label not supported: spec.x",
        ),
        get("a limit", format!("{PODS}?limit=many"), "400 BadRequest | "),
        get("a token of nobody", format!("{PODS}?continue=abc"), "400 BadRequest | continue key is not valid"),
        get("a version that is none", format!("{PODS}?resourceVersion=x"), "400 BadRequest | "),
        get("a watch from no version", format!("{PODS}?watch=1&resourceVersion=x"), "400 BadRequest | "),
        get(
            "a match without version",
            format!("{PODS}?resourceVersionMatch=Exact"),
            "422 Invalid | ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        get(
            "an unknown match",
            format!("{PODS}?resourceVersion=1&resourceVersionMatch=Near"),
            "422 Invalid | ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Near\"",
        ),
        get(
            "initial events of a list",
            format!("{PODS}?sendInitialEvents=true"),
            "422 Invalid | ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        get(
            "initial events of any version",
            format!("{PODS}?watch=1&sendInitialEvents=true"),
            "422 Invalid | ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: ",
        ),
        get(
            "a token and a version",
            format!("{PODS}?continue=abc&resourceVersion=7"),
            "400 BadRequest | specifying resource version is not allowed when using continue",
        ),
        // Updates.
        put(
            "another name",
            map("b").to_string(),
            "400 BadRequest | the name of the object (b) does not match the name on the URL (a)",
        ),
        put(
            "no name to update",
            "{}".to_owned(),
            "400 BadRequest | the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        put(
            "another namespace's",
            with(map("a"), "/metadata/namespace", "x".into()),
            "400 BadRequest | the namespace of the object (x) does not match the namespace on the request (default)",
        ),
        put(
            "an old version",
            with(map("a"), "/metadata/resourceVersion", "1".into()),
            "409 Conflict | Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        put(
            "another UID",
            with(map("a"), "/metadata/uid", "x".into()),
            "409 Conflict | Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: x, UID in object meta: ",
        ),
        (
            "another selector",
            Method::PUT,
            format!("{DEPLOYMENTS}/web"),
            JSON,
            with(
                with(deployment(), "/spec/selector", json!({"matchLabels": {"a": "b"}})).parse().expect("JSON"),
                "/spec/template/metadata/labels/a",
                "b".into(),
            ),
            "422 Invalid | Deployment.apps \"web\" is invalid: spec.selector: Invalid value: ",
        ),
        (
            "another command of a pod",
            Method::PATCH,
            format!("{PODS}/p"),
            STRATEGIC,
            "{\"spec\":{\"containers\":[{\"name\":\"c\",\"command\":[\"x\"]}]}}".to_owned(),
            "422 Invalid | Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
        ),
        // Patches.
        patch("a patch of an unknown type", JSON, "{}", "415 UnsupportedMediaType | "),
        patch("a patch that is no JSON", MERGE, "{", "400 BadRequest | error decoding patch: "),
        patch("a merge patch that is a number", MERGE, "7", "400 BadRequest | "),
        patch("operations that are none", OPERATIONS, "[{\"op\":\"fly\"}]", "400 BadRequest | "),
        patch(
            "a test that fails",
            OPERATIONS,
            "[{\"op\":\"test\",\"path\":\"/data/k\",\"value\":1}]",
            "422 Invalid | the server rejected our request due to an error in our request",
        ),
        patch(
            "the whole object replaced",
            OPERATIONS,
            "[{\"op\":\"replace\",\"path\":\"\",\"value\":5}]",
            "400 BadRequest | ",
        ),
        patch("the kind changed", MERGE, "{\"kind\":\"Pod\"}", "400 BadRequest | "),
        patch("a directive nobody knows", STRATEGIC, "{\"data\":{\"$patch\":\"explode\"}}", "400 BadRequest | "),
        patch("a version that is old", MERGE, "{\"metadata\":{\"resourceVersion\":\"1\"}}", "409 Conflict | "),
        // Deletions.
        delete(
            "options that are none",
            MAP.to_owned(),
            "{\"gracePeriodSeconds\":\"x\"}",
            "400 BadRequest | DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: json: cannot unmarshal string",
        ),
        delete(
            "a pod for options",
            MAP.to_owned(),
            "{\"kind\":\"Pod\"}",
            "400 BadRequest | Pod in version \"v1\" cannot be handled as a DeleteOptions",
        ),
        delete(
            "an unknown policy",
            MAP.to_owned(),
            "{\"propagationPolicy\":\"Maybe\"}",
            "422 Invalid | DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Maybe\"",
        ),
        delete("a precondition", MAP.to_owned(), "{\"preconditions\":{\"uid\":\"x\"}}", "409 Conflict | "),
        delete("a dry run in the body that is none", MAP.to_owned(), "{\"dryRun\":[\"Some\"]}", "422 Invalid | "),
        delete(
            "two ways to treat dependents",
            MAP.to_owned(),
            "{\"orphanDependents\":true,\"propagationPolicy\":\"Orphan\"}",
            "422 Invalid | ",
        ),
        delete(
            "two graces",
            format!("{MAP}?gracePeriodSeconds=1"),
            "{\"gracePeriodSeconds\":2}",
            "400 BadRequest | gracePeriodSeconds in the body differs",
        ),
        get("a very long path", format!("{MAPS}/{}", "a".repeat(60_000)), "404 NotFound | configmaps "),
        get("a check that is none", "/livez/ping/../../x".to_owned(), "404 NotFound | "),
        get("a list of all that are not stored", "/api/v1/bindings".to_owned(), "405 MethodNotAllowed | "),
        delete("a dry run that is none", format!("{MAP}?dryRun=Some"), "", "400 BadRequest | "),
        delete("a grace without end", format!("{PODS}/p?gracePeriodSeconds=9223372036854775807"), "", "200 "),
    ]
}

#[tokio::test]
async fn bad_input_gets_the_answer_that_kubernetes_gives() {
    let api = furnished().await;
    let mut wrong = Vec::new();
    for (what, method, path, kind, body, says) in rows() {
        let (code, status) = api.send(method, &path, kind, body).await;
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let line = format!("{code} {} | {}", text("reason"), text("message"));
        if !line.starts_with(says) {
            let line: String = line.chars().take(300).collect();
            wrong.push(format!("{what}:\n  wanted {says}\n  got    {line}"));
        }
        if code >= 400 && (status["kind"] != "Status" || status["code"] != code || status["status"] != "Failure") {
            wrong.push(format!("{what}: this is no Status: {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_the_body_leaves_out_the_path_says() {
    let api = Api::new().await;
    let (code, made) = api.post(MAPS, &json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, &made["kind"], &made["apiVersion"]), (201, &json!("ConfigMap"), &json!("v1")), "{made}");
}

#[tokio::test]
async fn unknown_fields_are_warned_of_unless_they_are_to_be_ignored() {
    let api = Api::new().await;
    for (validation, warned) in [("", true), ("?fieldValidation=Warn", true), ("?fieldValidation=Ignore", false)] {
        let body = with(map(&format!("a{}", validation.len())), "/foo", json!(1));
        let request = Request::post(format!("{MAPS}{validation}")).header(header::CONTENT_TYPE, JSON);
        let answer = api.raw(Identity::admin(), request.body(Full::new(body.into())).expect("a request")).await;
        assert_eq!(answer.status(), 201);
        let warning = answer.headers().get(header::WARNING).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(warning.as_deref(), warned.then_some("299 - \"unknown field \\\"foo\\\"\""));
    }
}

#[tokio::test]
async fn duplicate_fields_are_warned_of_unless_they_are_to_be_refused() {
    let api = Api::new().await;
    let json = r#"{"metadata": {"name": "a"}, "data": {"k": "v", "k": "w"}}"#;
    let yaml = "metadata: {name: b}\ndata:\n  k: v\n  k: w\n";
    for (kind, body) in [(JSON, json), (YAML, yaml)] {
        let send = async |validation: &str| {
            let request = Request::post(format!("{MAPS}{validation}")).header(header::CONTENT_TYPE, kind);
            api.raw(Identity::admin(), request.body(Full::new(body.into())).expect("a request")).await
        };
        assert_eq!(send("?fieldValidation=Strict").await.status(), 400, "{kind}");
        let answer = send("").await;
        assert_eq!(answer.status(), 201, "{kind}");
        let warning = answer.headers().get(header::WARNING).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(warning.as_deref(), Some("299 - \"duplicate field \\\"data.k\\\"\""), "{kind}");
        let made: Value =
            serde_json::from_slice(&answer.into_body().collect().await.expect("a body").to_bytes()).expect("JSON");
        assert_eq!(made["data"]["k"], "w", "the last one counts");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_read_to_its_end_before_the_answer() {
    let api = Api::new().await;
    let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 1 << 20])));
    for (pieces, read) in [(5, 5), (1000, 65)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let body = futures::stream::iter((0..pieces).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            piece()
        }));
        let request = Request::post(MAPS).header(header::CONTENT_TYPE, JSON).body(StreamBody::new(body));
        let answer =
            api.server.service(Identity::admin()).oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), taken.load(Ordering::Relaxed)), (413, read));
    }
}

#[tokio::test]
async fn nobody_gets_a_form_that_is_not_made() {
    let api = furnished().await;
    for (accept, code) in
        [("text/html", 406), ("application/json;as=Poem;v=v1;g=meta.k8s.io", 406), ("text/html,*/*;q=0.1", 200)]
    {
        let request = Request::get(MAP).header(header::ACCEPT, accept).body(Full::default()).expect("a request");
        let answer = api.raw(Identity::admin(), request).await;
        assert_eq!(answer.status().as_u16(), code, "{accept}");
    }
}

#[tokio::test]
async fn a_forgotten_version_is_expired_for_lists_watches_and_tokens() {
    let api = furnished().await;
    api.post(MAPS, &map("b")).await;
    let (_, page) = api.get(&format!("{MAPS}?limit=1")).await;
    let token = page["metadata"]["continue"].as_str().expect("a token").to_owned();
    api.post(MAPS, &map("c")).await;
    api.store.compact(api.store.snapshot().revision()).await.expect("compacts");
    let (_, event) = api.get(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!(event["object"]["reason"], "Expired", "a watch says so in its first event: {event}");
    for query in ["resourceVersion=1&resourceVersionMatch=Exact".to_owned(), format!("continue={token}")] {
        let (code, status) = api.get(&format!("{MAPS}?{query}")).await;
        assert_eq!((code, &status["reason"]), (410, &json!("Expired")), "{query}: {status}");
    }
}

#[tokio::test]
async fn only_no_and_zero_are_no() {
    let api = furnished().await;
    for watch in ["watch", "watch=", "watch=true", "watch=yes"] {
        assert_eq!(api.watched(&format!("{MAPS}?{watch}"), 1).await, ["ADDED a"], "{watch}");
    }
    for watch in ["watch=0", "watch=false", "watch=False"] {
        assert_eq!(api.get(&format!("{MAPS}?{watch}")).await.1["kind"], "ConfigMapList", "{watch}");
    }
}

#[tokio::test]
async fn credentials_of_another_cluster_are_no_credentials() {
    let (api, other) = (Api::new().await, Api::new().await);
    let tls = api.listening().await;
    let foreign = other.pki.admin();
    assert_eq!(tls.ask(Some(&foreign), None).await, "401", "a certificate of another CA");
    let account = json!({"metadata": {"name": "default"}});
    other.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let (_, answer) =
        other.post("/api/v1/namespaces/default/serviceaccounts/default/token", &json!({"spec": {}})).await;
    let token = answer["status"]["token"].as_str().expect("a token");
    assert_eq!(tls.ask(None, Some(token)).await, "401", "a token of another cluster");
    assert_eq!(tls.ask(None, Some("")).await, "403", "no token is anybody's");
    for token in ["a.b.c", "é"] {
        assert_eq!(tls.ask(None, Some(token)).await, "401", "{token:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_never_comes_is_a_timeout_that_clients_know() {
    let api = furnished().await;
    let (code, status) = api.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!((code, &status["reason"]), (504, &json!("Timeout")));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "client-go lists anew by this");
}

#[tokio::test]
async fn copies_of_copies_do_not_fill_the_memory() {
    let api = furnished().await;
    let value = json!({"op": "add", "path": "/data/x", "value": {"a": "x".repeat(1000)}});
    let copies = (0..60).map(|n| json!({"op": "copy", "from": "/data/x", "path": format!("/data/x/{n}")}));
    let patch = Value::from(std::iter::once(value).chain(copies).collect::<Vec<_>>());
    assert_eq!(api.send(Method::PATCH, MAP, OPERATIONS, patch.to_string()).await.0, 422);
}

#[tokio::test]
async fn a_pod_with_endless_grace_can_be_deleted() {
    let api = furnished().await;
    let body = with(
        with(pod(), "/metadata/name", "q".into()).parse().expect("JSON"),
        "/spec/terminationGracePeriodSeconds",
        i64::MAX.into(),
    );
    assert_eq!(api.send(Method::POST, PODS, JSON, body).await.0, 201);
    let (code, marked) = api.delete(&format!("{PODS}/q")).await;
    assert_eq!((code, marked["metadata"]["deletionTimestamp"].is_string()), (200, true), "{marked}");
    assert_eq!(api.delete(&format!("{PODS}/q?gracePeriodSeconds=5")).await.0, 200, "and made shorter");
    let watch = Request::get(format!("{PODS}?watch=1&timeoutSeconds={}", i64::MAX)).body(Full::default());
    assert_eq!(api.raw(Identity::admin(), watch.expect("a request")).await.status(), 200, "a watch without end");
}

/// Values that make trouble, wherever they are put.
fn trouble() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!([null])),
        Just(json!({})),
        Just(json!({"": null})),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("1e999999999")),
        Just(json!("100%")),
        Just(json!("-1%")),
    ]
}

/// Every place in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            places(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// Objects with much in them.
fn specimens() -> Vec<(&'static str, &'static str, Value)> {
    let template = json!({"metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}}, "spec": {
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "nodeName": "n", "activeDeadlineSeconds": 5,
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
        "volumes": [{"name": "v", "configMap": {"name": "a", "items": [{"key": "k", "path": "p"}]}}],
        "containers": [{"name": "c", "image": "web:1", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"name": "http", "containerPort": 80}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
            "readinessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1}}]}});
    let meta = json!({"name": "x", "labels": {"a": "b"}, "finalizers": ["example.com/x"], "generateName": "x-",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u", "controller": true}]});
    let mut pod = template.clone();
    pod["metadata"] = meta.clone();
    vec![
        (PODS, "pods", pod),
        (
            DEPLOYMENTS,
            "deployments",
            json!({"metadata": meta, "spec": {"replicas": 3, "minReadySeconds": 1, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}, "template": template}}),
        ),
        (
            SERVICES,
            "services",
            json!({"metadata": meta, "spec": {"type": "NodePort", "selector": {"a": "b"}, "clusterIP": "10.43.0.99", "sessionAffinity": "ClientIP", "ports": [{"name": "a", "port": 80, "targetPort": "http", "nodePort": 30001}]}}),
        ),
        (
            MAPS,
            "configmaps",
            json!({"metadata": meta, "data": {"k": "v"}, "binaryData": {"b": "AAAA"}, "immutable": true}),
        ),
        (
            "/api/v1/namespaces/default/events",
            "events",
            json!({"metadata": meta, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "firstTimestamp": "2026-01-01T00:00:00Z", "count": 1, "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events",
            "events",
            json!({"metadata": meta, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "n", "deprecatedCount": 1, "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            "leases",
            json!({"metadata": meta, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            "endpointslices",
            json!({"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "a", "port": 80}]}),
        ),
        (
            "/api/v1/nodes",
            "nodes",
            json!({"metadata": meta, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}], "podCIDR": "10.42.0.0/24"}, "status": {"capacity": {"cpu": "1"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        ),
        (
            "/api/v1/namespaces/default/secrets",
            "secrets",
            json!({"metadata": meta, "type": "Opaque", "data": {"a": "AAAA"}, "stringData": {"b": "c"}}),
        ),
    ]
}

const QUERIES: &[&str] = &[
    "",
    "dryRun=All",
    "fieldValidation=Strict",
    "fieldManager=x",
    "limit=-1",
    "limit=9223372036854775807",
    "watch=false",
    "labelSelector=a%3D%3D%ff",
    "fieldSelector=metadata.name%3Dx%5C",
    "continue=e30",
    "continue=eyJydiI6MSwic3RhcnQiOiIvIn0",
    "continue=eyJydiI6MCwic3RhcnQiOiJcdTAwMDAiLCJsZWZ0IjoxODQ0Njc0NDA3MzcwOTU1MTYxNX0",
    "resourceVersion=1&limit=1",
    "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
    "orphanDependents=maybe&dryRun=All",
    "propagationPolicy=Foreground",
    "gracePeriodSeconds=-9223372036854775808",
    "gracePeriodSeconds=9223372036854775807",
    "resourceVersion=0&resourceVersionMatch=NotOlderThan",
    "timeoutSeconds=9223372036854775807",
    "&&==&%",
    "pretty=true",
];
const KINDS: &[&str] = &[JSON, YAML, MERGE, STRATEGIC, OPERATIONS, "", "application/json; charset=utf-8", "\u{7f}x"];
const TAILS: &[&str] = &[
    "",
    "/x",
    "/a",
    "/p",
    "/x/status",
    "/x/scale",
    "/x/binding",
    "/x/eviction",
    "/x/log",
    "/x/exec",
    "/x/resize",
    "/x/ephemeralcontainers",
    "/x/proxy",
    "/x:y:z/proxy/%2e%2e/%00",
    "/x/token",
    "//",
    "/%2e%2e/x",
    "/x?includeObject=None",
];
const METHODS: &[Method] = &[Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::GET];
const ACCEPTS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
];

/// One request, as choices.
#[derive(Clone, Debug)]
struct Shot {
    specimen: prop::sample::Index,
    changes: Vec<(prop::sample::Index, Option<Value>)>,
    method: prop::sample::Index,
    tail: prop::sample::Index,
    query: prop::sample::Index,
    kind: prop::sample::Index,
    accept: prop::sample::Index,
    /// Bytes of the body that are overwritten.
    noise: Vec<(prop::sample::Index, u8)>,
    plain: bool,
}

fn shot() -> impl Strategy<Value = Shot> {
    let index = any::<prop::sample::Index>;
    let changes = prop::collection::vec((index(), prop::option::of(trouble())), 0..3);
    let noise = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec((index(), any::<u8>()), 1..4)];
    (index(), changes, index(), index(), index(), index(), index(), noise, any::<bool>()).prop_map(
        |(specimen, changes, method, tail, query, kind, accept, noise, plain)| Shot {
            specimen,
            changes,
            method,
            tail,
            query,
            kind,
            accept,
            noise,
            plain,
        },
    )
}

fn request(shot: &Shot) -> Request<Full<bytes::Bytes>> {
    let specimens = specimens();
    let (path, _, object) = &specimens[shot.specimen.index(specimens.len())];
    let mut object = object.clone();
    for (place, change) in &shot.changes {
        let mut found = Vec::new();
        places(&object, "", &mut found);
        let at = &found[place.index(found.len())];
        if let Some(place) = object.pointer_mut(at) {
            *place = change.clone().unwrap_or_else(|| json!({"deeper": [place.take()]}));
        }
    }
    let mut body = object.to_string().into_bytes();
    for (at, byte) in &shot.noise {
        let at = at.index(body.len());
        body[at] = *byte;
    }
    let method = METHODS[shot.method.index(METHODS.len())].clone();
    // Half of the shots are plain, so that many come through to the rules of the kinds.
    let (tail, kind) = match (shot.plain, &method) {
        (true, &Method::POST) => ("", JSON),
        (true, &Method::PATCH) => ("/x", [MERGE, STRATEGIC][shot.kind.index(2)]),
        (true, _) => ("/x", JSON),
        (false, _) => (TAILS[shot.tail.index(TAILS.len())], KINDS[shot.kind.index(KINDS.len())]),
    };
    let query = QUERIES[shot.query.index(QUERIES.len())];
    let join = if tail.contains('?') { '&' } else { '?' };
    let mut request = Request::builder().method(method).uri(format!("{path}{tail}{join}{query}"));
    if let Ok(kind) = http::HeaderValue::from_bytes(kind.as_bytes()) {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    request = request.header(header::ACCEPT, ACCEPTS[shot.accept.index(ACCEPTS.len())]);
    request.body(Full::new(body.into())).expect("a request")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// A panic would be answered as a 500.
    #[test]
    fn no_request_is_answered_as_the_servers_fault(shots in prop::collection::vec(shot(), 60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let api = furnished().await;
            for shot in &shots {
                let request = request(shot);
                let what = format!("{} {}", request.method(), request.uri());
                let answer = api.raw(Identity::admin(), request).await;
                let code = answer.status().as_u16();
                let body = answer.into_body();
                // Watches go on; the others can be read.
                let bytes = tokio::time::timeout(std::time::Duration::from_secs(1), body.collect()).await;
                let text = bytes.ok().and_then(Result::ok).map(|all| String::from_utf8_lossy(&all.to_bytes()).into_owned());
                // Behind a proxy somebody else may not answer.
                let fine = code < 500 || (code == 503 && what.contains("/proxy"));
                prop_assert!(fine, "{what}: {code} {}", text.unwrap_or_default());
            }
            // Whatever came through can be read back.
            for (path, ..) in specimens() {
                for accept in ACCEPTS {
                    let request = Request::get(path).header(header::ACCEPT, *accept).body(Full::default()).expect("a request");
                    let code = api.raw(Identity::admin(), request).await.status().as_u16();
                    prop_assert_eq!(code, 200, "{} as {}", path, accept);
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_for_those_who_may_send_it_and_not_for_ever() {
    let api = Api::new().await;
    for (user, code, most) in [(Identity::anonymous(), 403, 2), (Identity::admin(), 504, 61)] {
        let start = tokio::time::Instant::now();
        let body = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::post(MAPS).header(header::CONTENT_TYPE, JSON).body(StreamBody::new(body));
        let answer = api.server.service(user).oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), code);
        assert!(start.elapsed().as_secs() < most, "{code} after {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn little_is_read_of_a_body_that_nobody_wants() {
    let api = Api::new().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let body = futures::stream::iter((0..1000).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 1 << 16])))
    }));
    let request = Request::post(MAPS).header(header::CONTENT_TYPE, JSON).body(StreamBody::new(body));
    let service = api.server.service(Identity::anonymous());
    let answer = service.oneshot(request.expect("a request")).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), taken.load(Ordering::Relaxed)), (403, 5));
}

#[tokio::test]
async fn many_small_patches_do_not_make_a_giant() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/events/e";
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}});
    assert_eq!(api.post("/api/v1/namespaces/default/events", &event).await.0, 201);
    let mut codes = Vec::new();
    for part in 0..4 {
        let patch = json!({"metadata": {"labels": null}, "message": "x".repeat((1 + part) * 500_000)}).to_string();
        codes.push(api.send(Method::PATCH, path, "application/merge-patch+json", patch).await.0);
    }
    assert_eq!(codes, [200, 200, 200, 413]);
    let patch = json!({"message": "x".repeat(2_000_000)}).to_string();
    let (code, answer) =
        api.send(Method::PATCH, &format!("{path}?dryRun=All"), "application/merge-patch+json", patch).await;
    assert_eq!((code, &answer["reason"]), (413, &json!("RequestEntityTooLarge")), "{answer}");
    assert_eq!(api.get(path).await.1["message"].as_str().map(str::len), Some(1_500_000), "as it was");
    assert_eq!(api.delete(path).await.0, 200);
}

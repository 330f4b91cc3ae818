//! What is no object: discovery, documents, health, metrics.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use corten_apiserver::Identity;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

async fn text(api: &Api, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Full::default()).expect("a request");
    let answer = api.raw(Identity::admin(), request).await;
    let code = answer.status().as_u16();
    (code, String::from_utf8_lossy(&answer.into_body().collect().await.expect("a body").to_bytes()).into_owned())
}

#[tokio::test]
async fn resources_are_listed_by_name_with_what_is_stored() {
    let api = Api::new().await;
    let (_, core) = api.get("/api/v1").await;
    let resources = core["resources"].as_array().expect("a list");
    let names: Vec<&str> = resources.iter().filter_map(|resource| resource["name"].as_str()).collect();
    assert!(names.is_sorted(), "{names:?}");
    let find = |list: &Value, name: &str| {
        let all = list["resources"].as_array().into_iter().flatten();
        all.into_iter().find(|resource| resource["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(find(&core, "configmaps")["storageVersionHash"], "qFsyl6wFWjQ=", "upstream's own");
    let (_, grouped) = api.get("/apis/events.k8s.io/v1").await;
    assert_eq!(
        find(&grouped, "events")["storageVersionHash"],
        find(&core, "events")["storageVersionHash"],
        "two views of one kind"
    );
    assert_eq!(find(&core, "bindings")["verbs"], json!(["create"]));
    assert_eq!(find(&core, "bindings")["storageVersionHash"], Value::Null, "nothing is stored");
    let (_, groups) = api.get("/apis").await;
    let groups: Vec<&str> =
        groups["groups"].as_array().expect("a list").iter().filter_map(|group| group["name"].as_str()).collect();
    let place = |group: &str| groups.iter().position(|own| *own == group);
    assert!(place("apps") < place("events.k8s.io") && place("events.k8s.io") < place("discovery.k8s.io"), "{groups:?}");
    assert_eq!(api.get("/apis/apps").await.1["preferredVersion"]["groupVersion"], "apps/v1");
    let (_, paths) = api.get("/").await;
    for path in ["/apis/apps", "/apis/apps/v1", "/livez/ping", "/metrics", "/openapi/v3/apis/apps/v1"] {
        assert!(paths["paths"].as_array().expect("a list").iter().any(|own| own == path), "{path}");
    }
}

#[tokio::test]
async fn aggregated_discovery_is_offered_for_groups_only() {
    let api = Api::new().await;
    for version in ["v2", "v2beta1"] {
        let accept = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        for (path, aggregated) in [("/api", true), ("/apis", true), ("/apis/apps/v1", false)] {
            let request = Request::get(path).header(header::ACCEPT, &accept).body(Full::default()).expect("a request");
            let answer = api.raw(Identity::admin(), request).await;
            let kind = answer.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
            assert_eq!(kind.contains("APIGroupDiscoveryList"), aggregated, "{path}");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body["kind"] == "APIGroupDiscoveryList", aggregated, "{path}");
        }
    }
}

#[tokio::test]
async fn documents_have_addresses_that_never_change() {
    let api = Api::new().await;
    let (_, index) = api.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("an address").to_owned();
    let ask = async |url: &str| {
        let request = Request::get(url).header(header::ACCEPT_ENCODING, "gzip").body(Full::default());
        api.raw(Identity::admin(), request.expect("a request")).await
    };
    let answer = ask(&url).await;
    assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
    assert!(answer.headers()[header::CACHE_CONTROL].to_str().expect("text").contains("immutable"));
    let answer = ask("/openapi/v3/apis/apps/v1?hash=OLD").await;
    let location = answer.headers()[header::LOCATION].to_str().expect("text");
    assert_eq!((answer.status().as_u16(), location), (301, url.as_str()));
    for name in ["api", "apis", "apis/apps", "version"] {
        assert!(index["paths"][name].is_object(), "{name}");
    }
    let (_, v2) = api.get("/openapi/v2").await;
    let exec = &v2["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"];
    assert_eq!(exec["operationId"], "connectCoreV1PostNamespacedPodExec");
    assert!(v2["paths"]["/api/v1/watch/namespaces/{namespace}/pods/{name}"]["get"].is_object());
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let api = Api::new().await;
    assert_eq!(text(&api, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(text(&api, "/livez/ping").await, (200, "ok".to_owned()));
    assert_eq!(text(&api, "/livez/shutdown").await.0, 404, "not a check of this endpoint");
    let (code, verbose) = text(&api, "/readyz?verbose&exclude=etcd&exclude=nothing").await;
    assert_eq!(code, 200);
    for line in ["[+]ping ok", "[+]etcd excluded: ok", "no matches for \"nothing\"", "readyz check passed"] {
        assert!(verbose.contains(line), "{line:?} in {verbose}");
    }
    api.server.stop();
    let (code, refused) = text(&api, "/readyz").await;
    assert_eq!(code, 500);
    assert!(refused.contains("[-]shutdown failed: reason withheld\n") && refused.ends_with("readyz check failed\n"));
    assert_eq!(text(&api, "/livez").await.0, 200, "it lives until it is gone");
    let (_, indicators) = text(&api, "/metrics/slis").await;
    assert!(indicators.contains("kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0"), "{indicators}");
}

#[tokio::test]
async fn requests_are_counted_by_what_they_are() {
    let api = Api::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    api.post(maps, &json!({"metadata": {"name": "a"}})).await;
    api.get(&format!("{maps}/a")).await;
    api.get(&format!("{maps}/b")).await;
    let request = Request::get(format!("{maps}?watch=1")).body(Full::default()).expect("a request");
    let mut open = api.raw(Identity::admin(), request).await.into_body();
    open.frame().await.expect("an event").expect("bytes");
    let (_, numbers) = text(&api, "/metrics").await;
    let line = |start: &str, labels: &[&str]| {
        let found =
            numbers.lines().find(|line| line.starts_with(start) && labels.iter().all(|label| line.contains(label)));
        found.and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
    };
    let of = "resource=\"configmaps\"";
    let total = "apiserver_request_total{";
    assert_eq!(line(total, &[of, "verb=\"POST\"", "code=\"201\"", "scope=\"namespace\""]), "1");
    assert_eq!(line(total, &[of, "verb=\"GET\"", "code=\"200\"", "scope=\"resource\""]), "1");
    assert_eq!(line(total, &[of, "verb=\"GET\"", "code=\"404\""]), "1");
    assert_eq!(line("apiserver_longrunning_requests{", &[of, "verb=\"WATCH\""]), "1");
    assert_eq!(line("apiserver_watch_events_total{", &[of]), "1");
    assert_eq!(line("apiserver_storage_objects{", &[of]), "1");
    assert_eq!(line("apiserver_request_duration_seconds_count{", &[of, "verb=\"GET\""]), "2");
    assert_ne!(line("process_resident_memory_bytes", &[]), "none");
    drop(open);
    assert!(text(&api, "/metrics").await.1.contains("verb=\"WATCH\",version=\"v1\"} 0"), "it is over");
}

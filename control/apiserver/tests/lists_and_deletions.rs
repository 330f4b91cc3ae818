//! Options of list, watch, create and delete.

#[expect(dead_code, reason = "not every suite needs a listening server")]
mod common;

use common::Api;
use http::Method;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

async fn furnished(names: &[&str]) -> Api {
    let api = Api::new().await;
    for name in names {
        assert_eq!(api.post(MAPS, &json!({"metadata": {"name": name, "labels": {"own": name}}})).await.0, 201);
    }
    api
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a version")
}

#[tokio::test]
async fn a_version_means_what_its_match_says() {
    let api = furnished(&["a", "b"]).await;
    let (_, then) = api.get(MAPS).await;
    let then = version(&then).to_owned();
    api.post(MAPS, &json!({"metadata": {"name": "c"}})).await;
    for (query, expected) in [
        (String::new(), 3),
        ("resourceVersion=0".to_owned(), 3),
        (format!("resourceVersion={then}"), 3),
        (format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"), 3),
        (format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan&limit=9"), 3),
        (format!("resourceVersion={then}&resourceVersionMatch=Exact"), 2),
        (format!("resourceVersion={then}&resourceVersionMatch=Exact&limit=9"), 2),
        (format!("resourceVersion={then}&limit=9"), 2),
        ("fieldSelector=metadata.name%3Db".to_owned(), 1),
        ("fieldSelector=metadata.name%3Db,metadata.name%3Da".to_owned(), 0),
        ("fieldSelector=metadata.namespace%3Dother".to_owned(), 0),
    ] {
        let (code, list) = api.get(&format!("{MAPS}?{query}")).await;
        assert_eq!((code, names(&list).len()), (200, expected), "{query}: {list}");
    }
    let (_, all) = api.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault,metadata.name%3Dc").await;
    assert_eq!(names(&all), ["c"]);
}

#[tokio::test]
async fn a_list_whose_revision_is_forgotten_goes_on_in_the_newest() {
    let api = furnished(&["a", "b", "c", "d", "e"]).await;
    let (_, first) = api.get(&format!("{MAPS}?limit=2")).await;
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    let (_, second) = api.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((names(&second), &second["metadata"]["remainingItemCount"]), (vec!["c", "d"], &json!(1)));
    api.post(MAPS, &json!({"metadata": {"name": "cc"}})).await;
    api.store.compact(api.store.snapshot().revision()).await.expect("compacts");
    let (code, refused) = api.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, &refused["reason"]), (410, &json!("Expired")), "{refused}");
    let token = refused["metadata"]["continue"].as_str().expect("a new token");
    let (_, rest) = api.get(&format!("{MAPS}?continue={token}")).await;
    assert_eq!(names(&rest), ["c", "cc", "d", "e"]);
    for token in ["x", "e30", "eyJydiI6MTAwMDAwLCJzdGFydCI6ImEifQ"] {
        assert_eq!(api.get(&format!("{MAPS}?continue={token}")).await.0, 400, "{token}");
    }
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told() {
    let api = furnished(&["a", "b"]).await;
    assert_eq!(api.watched(&format!("{MAPS}?watch=1&resourceVersion=0"), 2).await, ["ADDED a", "ADDED b"]);
    assert_eq!(api.watched("/api/v1/watch/namespaces/default/configmaps/b", 1).await, ["ADDED b"]);
    let query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    assert_eq!(api.get(&format!("{MAPS}?{query}")).await.1, json!(""), "nothing happens after now");
    let path = "/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Ddefault";
    assert_eq!(api.watched(path, 1).await, ["ADDED default"]);
}

#[tokio::test]
async fn a_collection_is_deleted_as_its_list_shows_it() {
    let api = furnished(&["a", "b", "c"]).await;
    let (code, gone) = api.delete(&format!("{MAPS}?labelSelector=own%20in%20(a,b)&limit=1")).await;
    assert_eq!((code, &gone["kind"], names(&gone)), (200, &json!("ConfigMapList"), vec!["a"]));
    assert_eq!(names(&api.get(MAPS).await.1), ["b", "c"]);
    assert_eq!(names(&api.delete(&format!("{MAPS}?dryRun=All")).await.1), ["b", "c"]);
    assert_eq!(names(&api.delete(MAPS).await.1), ["b", "c"]);
    assert_eq!(names(&api.get(MAPS).await.1), [""; 0]);
    assert_eq!(api.delete("/api/v1/configmaps").await.0, 405, "of all namespaces");
}

#[tokio::test]
async fn finalizers_say_what_becomes_of_dependents() {
    let api = furnished(&["a", "b", "c", "d", "e"]).await;
    for (name, options, code, finalizers) in [
        ("a", json!({"propagationPolicy": "Foreground"}), 200, json!(["foregroundDeletion"])),
        ("b", json!({"propagationPolicy": "Orphan"}), 200, json!(["orphan"])),
        ("c", json!({"orphanDependents": true}), 200, json!(["orphan"])),
        ("d", json!({"propagationPolicy": "Background"}), 200, Value::Null),
        ("e", json!({"orphanDependents": false}), 200, Value::Null),
        ("a", json!({"propagationPolicy": "Sometimes"}), 422, Value::Null),
        ("a", json!({"propagationPolicy": "Orphan", "orphanDependents": true}), 422, Value::Null),
        ("a", json!({"dryRun": ["Some"]}), 422, Value::Null),
        ("a", json!({"preconditions": {"resourceVersion": "1"}}), 409, Value::Null),
    ] {
        let answer = api.send(Method::DELETE, &format!("{MAPS}/{name}"), JSON, options.to_string()).await;
        assert_eq!(
            (answer.0, &answer.1["metadata"]["finalizers"]),
            (code, &finalizers),
            "{name} {options}: {answer:?}"
        );
    }
    let body = json!({"gracePeriodSeconds": 5}).to_string();
    let path = format!("{MAPS}/a?gracePeriodSeconds=6");
    assert_eq!(api.send(Method::DELETE, &path, JSON, body).await.0, 400, "which of the two?");
}

#[tokio::test]
async fn names_are_drawn_and_places_must_agree() {
    let api = Api::new().await;
    let (code, drawn) = api.post(MAPS, &json!({"metadata": {"generateName": format!("{}-", "x".repeat(80))}})).await;
    assert_eq!((code, drawn["metadata"]["name"].as_str().map(str::len)), (201, Some(63)));
    let other = json!({"metadata": {"name": "a", "namespace": "other"}});
    let (code, refused) = api.post(MAPS, &other).await;
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!((code, refused["message"].as_str()), (400, Some(why)));
    assert_eq!(api.post("/api/v1/configmaps", &json!({"metadata": {"name": "a"}})).await.0, 405, "no namespace");
}

#[tokio::test]
async fn a_dry_run_of_a_deletion_shows_the_mark() {
    let api = Api::new().await;
    let map = json!({"metadata": {"name": "held", "finalizers": ["example.com/wait"]}});
    let (code, made) = api.post("/api/v1/namespaces/default/configmaps", &map).await;
    assert_eq!(code, 201, "{made}");
    let path = "/api/v1/namespaces/default/configmaps/held";
    let (code, shown) = api.delete(&format!("{path}?dryRun=All")).await;
    assert_eq!(code, 200, "{shown}");
    let show = if shown["kind"] == "Status" { &Value::Null } else { &shown["metadata"] };
    assert!(show["deletionTimestamp"].is_string(), "{shown}");
    assert_eq!(show["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(api.get(path).await.1["metadata"].get("deletionTimestamp"), None, "nothing happened");
}

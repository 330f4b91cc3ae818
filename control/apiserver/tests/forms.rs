//! The forms of bodies: protobuf, YAML, pretty JSON, lists and errors in each.

#[expect(dead_code, reason = "other tests of this crate use the rest")]
mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Api;
use corten_api::protobuf::{MEDIA_TYPE as PROTOBUF, Protobuf};
use corten_api::schema::Schema;
use corten_apiserver::Identity;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Client {
    api: Api,
    protobuf: Protobuf,
}

impl Client {
    async fn new() -> Self {
        Self { api: Api::new().await, protobuf: Protobuf::build(&Schema::build()) }
    }

    /// Code, content type and body of an answer.
    async fn ask(&self, method: Method, path: &str, accept: &str, body: Vec<u8>) -> (u16, String, Bytes) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, PROTOBUF).header(ACCEPT, accept);
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = self.api.raw(Identity::admin(), request).await;
        let kind = answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
        let code = answer.status().as_u16();
        (code, kind, answer.into_body().collect().await.expect("a body").to_bytes())
    }

    /// An answer in protobuf, as JSON.
    async fn speak(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, Value) {
        let (code, kind, bytes) = self.ask(method, path, PROTOBUF, body).await;
        assert_eq!(kind, PROTOBUF, "{path}: {}", String::from_utf8_lossy(&bytes));
        (code, self.protobuf.decode(&bytes, None).unwrap_or_else(|error| panic!("{path}: {error}")).value)
    }

    fn map(&self, name: &str) -> Vec<u8> {
        let map =
            json!({"metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": "v"}, "binaryData": {"b": "AAE="}});
        self.protobuf.encode("v1", "ConfigMap", map.to_string().as_bytes()).expect("encodes")
    }
}

#[tokio::test]
async fn objects_are_written_and_read_in_protobuf() {
    let client = Client::new().await;
    let (code, created) = client.speak(Method::POST, MAPS, client.map("one")).await;
    assert_eq!((code, &created["binaryData"]["b"]), (201, &json!("AAE=")));
    let one = format!("{MAPS}/one");
    let (_, read) = client.speak(Method::GET, &one, vec![]).await;
    let (_, plain) = client.api.get(&one).await;
    assert_eq!(read, plain);

    let mut changed = plain;
    changed["data"]["k"] = "w".into();
    let body = client.protobuf.encode("v1", "ConfigMap", changed.to_string().as_bytes()).expect("encodes");
    let (code, updated) = client.speak(Method::PUT, &one, body).await;
    assert_eq!((code, &updated["data"]["k"]), (200, &json!("w")));

    let (code, list) = client.speak(Method::GET, MAPS, vec![]).await;
    assert_eq!((code, list["kind"].as_str(), list["apiVersion"].as_str()), (200, Some("ConfigMapList"), Some("v1")));
    let names: Vec<&str> =
        list["items"].as_array().expect("items").iter().filter_map(|i| i["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"one"), "{names:?}");
    assert_eq!(list["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);

    let options = client.protobuf.encode("v1", "DeleteOptions", br#"{"preconditions":{"uid":"no"}}"#).expect("encodes");
    let (code, refused) = client.speak(Method::DELETE, &one, options).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
    let options = client.protobuf.encode("v1", "DeleteOptions", br#"{"gracePeriodSeconds":0}"#).expect("encodes");
    let (code, gone) = client.speak(Method::DELETE, &one, options).await;
    assert_eq!((code, gone["status"].as_str()), (200, Some("Success")));
}

#[tokio::test]
async fn errors_and_other_objects_have_a_protobuf_form() {
    let client = Client::new().await;
    let (code, status) = client.speak(Method::GET, &format!("{MAPS}/none"), vec![]).await;
    assert_eq!(
        (code, status["kind"].as_str(), status["details"]["name"].as_str()),
        (404, Some("Status"), Some("none"))
    );
    let (code, group) = client.speak(Method::GET, "/apis/apps", vec![]).await;
    assert_eq!((code, group["name"].as_str()), (200, Some("apps")));
    let (code, resources) = client.speak(Method::GET, "/apis/apps/v1", vec![]).await;
    assert_eq!((code, resources["resources"][0]["verbs"].is_array()), (200, true));
    let account = client.protobuf.encode("v1", "ServiceAccount", br#"{"metadata":{"name":"a"}}"#).expect("encodes");
    client.speak(Method::POST, "/api/v1/namespaces/default/serviceaccounts", account).await;
    let asked = client.protobuf.encode("authentication.k8s.io/v1", "TokenRequest", br#"{"spec":{"audiences":["x"]}}"#);
    let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
    let (code, token) = client.speak(Method::POST, path, asked.expect("encodes")).await;
    assert_eq!((code, token["status"]["token"].is_string()), (201, true), "{token}");
}

#[tokio::test]
async fn tables_are_json_and_metadata_is_either() {
    let client = Client::new().await;
    client.speak(Method::POST, MAPS, client.map("one")).await;
    let tables = format!("{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io");
    let (_, kind, bytes) = client.ask(Method::GET, MAPS, &tables, vec![]).await;
    assert!(kind.starts_with("application/json"), "{kind}");
    let table: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(table["kind"], "Table");
    for version in ["v1", "v1beta1"] {
        let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;v={version};g=meta.k8s.io");
        let (_, kind, bytes) = client.ask(Method::GET, MAPS, &accept, vec![]).await;
        assert_eq!(kind, PROTOBUF);
        let list = client.protobuf.decode(&bytes, None).expect("decodes").value;
        assert_eq!(list["apiVersion"], format!("meta.k8s.io/{version}"));
        let one = list["items"].as_array().expect("items").iter().find(|item| item["metadata"]["name"] == "one");
        assert_eq!(one.expect("is there")["metadata"]["labels"], json!({"a": "b"}));
    }
}

#[tokio::test]
async fn unknown_types_are_refused_in_upstreams_words() {
    let client = Client::new().await;
    let (code, _, bytes) = client.ask(Method::GET, MAPS, "image/png", vec![]).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(code == 406 && text.contains("only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"), "{text}");
    let (code, refused) = client.api.send(Method::POST, MAPS, "image/png", "x").await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        code == 415
            && message.ends_with(
                "accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            ),
        "{message}"
    );
    for body in [&b"k8s\0\x0a\xff"[..], b"k8s\0\x12\x02\x0a\x05", b"k8s"] {
        let (code, refused) = client.speak(Method::POST, MAPS, body.to_vec()).await;
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused}");
    }
}

#[tokio::test]
async fn people_get_lines_and_yaml() {
    let client = Client::new().await;
    client.speak(Method::POST, MAPS, client.map("one")).await;
    let path = format!("{MAPS}/one?pretty=true");
    let (_, _, bytes) = client.ask(Method::GET, &path, "application/json", vec![]).await;
    assert!(bytes.starts_with(b"{\n  \"apiVersion\": \"v1\",\n"), "{}", String::from_utf8_lossy(&bytes));
    let (_, kind, bytes) = client.ask(Method::GET, MAPS, "application/yaml", vec![]).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(kind == "application/yaml" && text.contains("kind: ConfigMapList"), "{text}");
}

/// Reads a watch until so many events have come; all of them as JSON.
async fn watched(client: &Client, path: &str, accept: &str, count: usize) -> Vec<Value> {
    let request = Request::get(path).header(ACCEPT, accept).body(Full::default()).expect("a request");
    let answer = client.api.raw(Identity::admin(), request).await;
    let binary = answer.headers()[CONTENT_TYPE].to_str().expect("text").starts_with(PROTOBUF);
    assert_eq!(binary, accept.contains(PROTOBUF));
    let (mut pieces, mut bytes, mut events) = (Box::pin(answer.into_body().into_data_stream()), Vec::new(), Vec::new());
    while events.len() < count {
        let piece = tokio::time::timeout(Duration::from_secs(5), pieces.next()).await.expect("in time");
        bytes.extend_from_slice(&piece.expect("a piece").expect("bytes"));
        loop {
            let end = if binary {
                bytes.get(..4).map(|length| 4 + u32::from_be_bytes(length.try_into().expect("four")) as usize)
            } else {
                bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
            };
            let Some(end) = end.filter(|&end| end <= bytes.len()) else { break };
            let frame: Vec<u8> = bytes.drain(..end).collect();
            events.push(if binary {
                event(client, &frame[4..])
            } else {
                serde_json::from_slice(&frame).expect("JSON")
            });
        }
    }
    events
}

/// An event in protobuf, which has no envelope of its own.
fn event(client: &Client, frame: &[u8]) -> Value {
    let mut body = b"k8s\0\x0a\x10\x0a\x02v1\x12\x0aWatchEvent".to_vec();
    body.push(0x12);
    let mut length = frame.len();
    while length >= 0x80 {
        body.push(u8::try_from(length & 0x7f).expect("small") | 0x80);
        length >>= 7;
    }
    body.push(u8::try_from(length).expect("small"));
    body.extend_from_slice(frame);
    client.protobuf.decode(&body, None).expect("decodes").value
}

#[tokio::test]
async fn watches_say_the_same_in_every_form() {
    let client = Client::new().await;
    client.speak(Method::POST, MAPS, client.map("one")).await;
    client.speak(Method::POST, MAPS, client.map("two")).await;
    client.speak(Method::DELETE, &format!("{MAPS}/one"), vec![]).await;
    let path = format!("{MAPS}?watch=1&resourceVersion=2&labelSelector=a%3Db");
    let plain = watched(&client, &path, "application/json", 3).await;
    let told: Vec<String> =
        plain.iter().map(|e| format!("{} {}", e["type"], e["object"]["metadata"]["name"])).collect();
    assert_eq!(told, [r#""ADDED" "one""#, r#""ADDED" "two""#, r#""DELETED" "one""#]);
    // Twice: made, and found made.
    for _ in 0..2 {
        let binary = watched(&client, &path, PROTOBUF, 3).await;
        for (left, right) in plain.iter().zip(&binary) {
            assert_eq!((&left["type"], &left["object"]), (&right["type"], &right["object"]));
        }
        let partial = format!("{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
        let partial = watched(&client, &path, &partial, 3).await;
        assert_eq!(partial[2]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(partial[2]["object"]["metadata"], plain[2]["object"]["metadata"]);
        let table = watched(&client, &path, "application/json;as=Table;v=v1;g=meta.k8s.io", 3).await;
        assert!(
            table[0]["object"]["columnDefinitions"].is_array() && table[1]["object"]["columnDefinitions"].is_null()
        );
        assert_eq!(table[2]["object"]["rows"][0]["cells"][0], "one");
        assert_eq!(
            table[2]["object"]["metadata"]["resourceVersion"],
            plain[2]["object"]["metadata"]["resourceVersion"]
        );
    }
    let (code, _, bytes) = client.ask(Method::GET, &path, "application/yaml", vec![]).await;
    assert_eq!((code, String::from_utf8_lossy(&bytes).contains("application/json;stream=watch")), (406, true));
}

#[tokio::test]
async fn a_large_state_comes_in_pieces_before_what_changes() {
    let client = Client::new().await;
    let filling = "x".repeat(1000);
    for n in 0..300 {
        let map = json!({"metadata": {"name": format!("m{n:03}"), "namespace": "default"}, "data": {"k": filling}});
        assert_eq!(client.api.post(MAPS, &map).await.0, 201);
    }
    for accept in ["application/json", PROTOBUF] {
        let path =
            format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
        // The maps, the authority's certificate if it is there, and the bookmark.
        let events = watched(&client, &path, accept, 301).await;
        let names: Vec<&str> = events.iter().filter_map(|e| e["object"]["metadata"]["name"].as_str()).collect();
        let ours = names.iter().filter(|name| name.starts_with('m')).count();
        assert_eq!(ours, 300);
        assert!(names.is_sorted());
        let last = events.last().expect("some");
        assert!(
            last["type"] == "ADDED" || last["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
        );
    }
    let (_, list) = client.api.get(MAPS).await;
    let item = list["items"].as_array().and_then(|items| items.last()).expect("items");
    assert_eq!((item["kind"].is_null(), item["metadata"]["name"].as_str()), (true, Some("m299")));
}

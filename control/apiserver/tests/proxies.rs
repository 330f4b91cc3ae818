//! `/proxy` of pods, services and nodes, against a server that tells what it was asked.

#[expect(dead_code, reason = "not every suite needs everything")]
mod common;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::Api;
use corten_api::api::core::v1::Node;
use corten_apiserver::{Identity, NodeDialer, NodeStream};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Everything is the same server, which answers with what it was asked and by which address it was reached.
struct Echo;

#[async_trait]
impl NodeDialer for Echo {
    async fn dial(&self, node: &Node) -> io::Result<Box<dyn NodeStream>> {
        Ok(serving(format!("kubelet of {}", node.metadata.name.as_deref().unwrap_or_default())))
    }

    async fn dial_address(&self, address: SocketAddr) -> io::Result<Box<dyn NodeStream>> {
        match address.port() {
            9 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            101 => Ok(surprising()),
            _ => Ok(serving(address.to_string())),
        }
    }
}

/// The length of a page that is short as long as it is compressed.
const BOMB: usize = 16 << 20;

/// A server that changes the protocol although nobody asked.
fn surprising() -> Box<dyn NodeStream> {
    let (client, mut server) = tokio::io::duplex(1 << 10);
    tokio::spawn(async move {
        let mut head = [0; 512];
        let _ = server.read(&mut head).await;
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: mine\r\n\r\n";
        let _ = server.write_all(answer).await;
        let _ = server.read(&mut head).await;
    });
    Box::new(client)
}

fn serving(reached: String) -> Box<dyn NodeStream> {
    let (client, server) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request| echo(reached.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let _ = connection.with_upgrades().await;
    });
    Box::new(client)
}

async fn echo(
    reached: String,
    mut request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.expect("four bytes");
            bytes.reverse();
            stream.write_all(&bytes).await.expect("sent");
        });
        let answer =
            Response::builder().status(101).header(header::UPGRADE, "echo").header(header::CONNECTION, "upgrade");
        return Ok(answer.body(Full::default()).expect("an answer"));
    }
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/moved" {
        let answer = Response::builder().status(302).header(header::LOCATION, "/there");
        return Ok(answer.body(Full::default()).expect("an answer"));
    }
    if parts.uri.path() == "/page" {
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/html; charset=utf-8");
        let answer = answer.header("access-control-allow-origin", "*");
        return Ok(answer.body(Full::new("<a href=\"/rewriteme\">test</a>".into())).expect("an answer"));
    }
    if parts.uri.path() == "/bomb" {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![b' '; BOMB]).and_then(|()| encoder.write_all(b"<a href=/x>")).expect("compressed");
        let page = encoder.finish().expect("compressed");
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/html");
        let answer = answer.header(header::CONTENT_ENCODING, "gzip");
        return Ok(answer.body(Full::new(page.into())).expect("an answer"));
    }
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into()))
        .collect();
    let body = body.collect().await.expect("a body").to_bytes();
    let told = json!({
        "reached": reached, "method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let answer =
        Response::builder().header("x-own", "yes").header(header::CONNECTION, "x-secret").header("x-secret", "1");
    Ok(answer.body(Full::new(told.to_string().into())).expect("an answer"))
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn furnished() -> Api {
    let api = Api::with(None, Echo).await;
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "web:1", "ports": [{"containerPort": 8080}]},
    ]}});
    assert_eq!(api.post(PODS, &pod).await.0, 201);
    status(&api, &format!("{PODS}/p"), &json!({"podIP": "10.42.0.5", "podIPs": [{"ip": "10.42.0.5"}]})).await;
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80, "targetPort": 8080}]}});
    assert_eq!(api.post(SERVICES, &service).await.0, 201);
    let target = json!({"kind": "Pod", "name": "p", "namespace": "default"});
    let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
    "ports": [{"name": "web", "port": 8080}], "endpoints": [
        {"addresses": ["10.42.0.5"], "conditions": {"ready": true}, "targetRef": target},
        {"addresses": ["10.42.0.6"], "conditions": {"ready": false}, "targetRef": target},
    ]});
    let (code, answer) = api.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await;
    assert_eq!(code, 201, "{answer}");
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let addresses = json!([{"type": "InternalIP", "address": "192.168.7.7"}]);
    status(&api, "/api/v1/nodes/n", &json!({"addresses": addresses})).await;
    api
}

async fn status(api: &Api, path: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    let (code, answer) =
        api.send(Method::PATCH, &format!("{path}/status"), "application/merge-patch+json", patch).await;
    assert_eq!(code, 200, "{answer}");
}

#[tokio::test]
async fn names_lead_to_servers() {
    let api = furnished().await;
    for (path, reached, uri) in [
        (format!("{PODS}/p/proxy/"), "10.42.0.5:8080", "/"),
        (format!("{PODS}/p:81/proxy/a/b%2Fc?x=1&x=2"), "10.42.0.5:81", "/a/b%2Fc?x=1&x=2"),
        (format!("{PODS}/http:p:82/proxy/"), "10.42.0.5:82", "/"),
        (format!("{SERVICES}/s:80/proxy/x"), "10.42.0.5:8080", "/x"),
        (format!("{SERVICES}/s:web/proxy/x/proxy/y"), "10.42.0.5:8080", "/x/proxy/y"),
        ("/api/v1/nodes/n/proxy/configz".to_owned(), "kubelet of n", "/configz"),
        ("/api/v1/nodes/n:10250/proxy/configz".to_owned(), "kubelet of n", "/configz"),
        ("/api/v1/nodes/n:9100/proxy/metrics".to_owned(), "192.168.7.7:9100", "/metrics"),
    ] {
        let (code, told) = api.get(&path).await;
        assert_eq!((code, &told["reached"], &told["uri"]), (200, &json!(reached), &json!(uri)), "{path}: {told}");
    }
    for (path, code) in [
        (format!("{PODS}/q/proxy/"), 404),
        (format!("{PODS}/p:x/proxy/"), 400),
        (format!("{PODS}/ftp:p:1/proxy/"), 400),
        (format!("{PODS}/p:9/proxy/"), 503),
        (format!("{SERVICES}/s/proxy/"), 503),
        (format!("{SERVICES}/s:81/proxy/"), 503),
    ] {
        let (found, status) = api.get(&path).await;
        assert_eq!(found, code, "{path}: {status}");
    }
    status(&api, &format!("{PODS}/p"), &json!({"podIP": "169.254.169.254"})).await;
    let (code, refused) = api.get(&format!("{PODS}/p:80/proxy/latest/meta-data")).await;
    assert_eq!((code, &refused["message"]), (400, &json!("address not allowed")));
}

#[tokio::test]
async fn everything_but_secrets_is_handed_on() {
    let api = furnished().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method: Method = method.parse().expect("a method");
        let request = Request::builder().method(&method).uri(format!("{PODS}/p/proxy/x"));
        let request = request.header("x-mine", "1").header("authorization", "Bearer secret").header("host", "cluster");
        let request = request.header("connection", "x-hop").header("x-hop", "1");
        let answer = api.raw(Identity::admin(), request.body(Full::new("text".into())).expect("a request")).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["x-own"].as_bytes()), (200, &b"yes"[..]), "{method}");
        assert!(!answer.headers().contains_key("x-secret"), "about one connection");
        let told = answer.into_body().collect().await.expect("a body").to_bytes();
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!((&told["method"], &told["body"]), (&json!(method.as_str()), &json!("text")));
        let headers = &told["headers"];
        assert_eq!((&headers["x-mine"], &headers["x-forwarded-host"]), (&json!("1"), &json!("cluster")));
        assert_eq!(headers["x-forwarded-uri"], format!("{PODS}/p/proxy/x"));
        for gone in ["authorization", "connection", "x-hop"] {
            assert_eq!(headers[gone], Value::Null, "{gone}");
        }
    }
}

#[tokio::test]
async fn redirects_stay_below_the_proxy() {
    let api = furnished().await;
    let ask = async |path: &str| {
        let request = Request::get(path).body(Full::default()).expect("a request");
        let answer = api.raw(Identity::admin(), request).await;
        let location = |headers: &HeaderMap| headers[header::LOCATION].to_str().expect("text").to_owned();
        (answer.status().as_u16(), location(answer.headers()))
    };
    assert_eq!(ask(&format!("{PODS}/p/proxy?x=1")).await, (301, format!("{PODS}/p/proxy/?x=1")));
    assert_eq!(ask(&format!("{PODS}/p/proxy/moved")).await, (302, format!("{PODS}/p/proxy/there")));
    let (code, told) = api.post(&format!("{PODS}/p/proxy"), &json!({})).await;
    assert_eq!((code, &told["uri"]), (200, &json!("/")), "only what can be asked again is sent elsewhere");
}

#[tokio::test]
async fn links_of_pages_stay_below_the_proxy() {
    let api = furnished().await;
    let request = Request::get(format!("{PODS}/p/proxy/page")).body(Full::default()).expect("a request");
    let answer = api.raw(Identity::admin(), request).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let page = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(String::from_utf8_lossy(&page), format!("<a href=\"{PODS}/p/proxy/rewriteme\">test</a>"));
}

#[tokio::test]
async fn a_compressed_page_comes_in_pieces_that_can_be_kept() {
    let api = furnished().await;
    let request = Request::get(format!("{PODS}/p/proxy/bomb")).body(Full::default()).expect("a request");
    let answer = api.raw(Identity::admin(), request).await;
    assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    let mut body = answer.into_body();
    let (mut length, mut last) = (0, Bytes::new());
    while let Some(frame) = body.frame().await {
        last = frame.expect("a frame").into_data().expect("data");
        assert!(last.len() <= 5 << 20, "{} at once", last.len());
        length += last.len();
    }
    let link = format!("<a href={PODS}/p/proxy/x>");
    assert_eq!(length, BOMB + link.len());
    assert!(last.ends_with(link.as_bytes()));
}

#[tokio::test]
async fn a_protocol_that_nobody_asked_for_is_refused() {
    let api = furnished().await;
    let (code, status) = api.get(&format!("{PODS}/p:101/proxy/x")).await;
    assert_eq!(code, 502, "{status}");
}

#[tokio::test]
async fn backends_are_told_where_a_request_comes_from() {
    let api = furnished().await;
    let listening = api.listening().await;
    let admin = api.pki.admin();
    let mut stream = listening.connect(Some(&admin)).await;
    let head = format!(
        "GET {PODS}/p/proxy/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.contains(r#""x-forwarded-for":"203.0.113.9, 127.0.0.1""#), "{text}");
}

#[tokio::test]
async fn upgraded_connections_are_joined() {
    let api = furnished().await;
    let listening = api.listening().await;
    let admin = api.pki.admin();
    let mut stream = listening.connect(Some(&admin)).await;
    let head = format!("GET {PODS}/p/proxy/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut byte))
            .await
            .expect("in time")
            .expect("a head");
        text.push(byte[0]);
    }
    assert!(text.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&text));
    stream.write_all(b"abcd").await.expect("sent");
    let mut bytes = [0; 4];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut bytes)).await.expect("in time").expect("bytes");
    assert_eq!(&bytes, b"dcba");
}

#[tokio::test]
async fn a_path_whose_end_is_unclear_leads_nowhere() {
    let api = furnished().await;
    for path in [
        "/api/v1/namespaces/default%2Fpods%2Fp/proxy/a/b",
        "/api/v1/namespaces/default/pods/p%2fproxy/a",
        "/api/v1/namespaces/default/pods/p/proxy%2Fa",
        "/api/v1/watch/namespaces/default/pods/p/proxy/a",
    ] {
        assert_eq!(api.get(path).await.0, 404, "{path}");
    }
    assert_eq!(api.get(&format!("{PODS}/p/proxy/a%2Fb")).await.1["uri"], "/a%2Fb", "below, it is as it is");
    let (code, answer) =
        api.post("/api/v1/watch/namespaces/default/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, 405, "only watched there: {answer}");
    assert_eq!(api.delete("/api/v1/watch/namespaces/default/pods/p").await.0, 405);
}

//! An API of services and endpoint slices, just enough for list and watch.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// The objects, and who is told of changes. Clones share them.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

struct State {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    /// All changes so far: a watch begins where its list ended.
    log: Vec<(u64, String, Value)>,
    changes: broadcast::Sender<(String, Value)>,
}

impl State {
    fn publish(&mut self, kind: String, event: Value) {
        self.log.push((self.version, kind.clone(), event.clone()));
        let _ = self.changes.send((kind, event));
    }
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        let changes = broadcast::Sender::new(10_000);
        Self(Arc::new(Mutex::new(State { version: 1, objects: BTreeMap::new(), log: Vec::new(), changes })))
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(&request)) }
        });
        kube::Client::new(service, "default")
    }

    /// Creates or changes an object.
    pub(crate) fn apply(&self, mut object: Value) {
        let mut state = self.0.lock().expect("state");
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let (kind, key) = (text(&object["kind"]), key_of(&object));
        let verb = match state.objects.insert((kind.clone(), key), object.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        state.publish(kind, json!({ "type": verb, "object": object }));
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        let mut state = self.0.lock().expect("state");
        state.version += 1;
        let (kind, key) = (text(&object["kind"]), key_of(object));
        if let Some(mut object) = state.objects.remove(&(kind.clone(), key)) {
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.publish(kind, json!({ "type": "DELETED", "object": object }));
        }
    }

    fn answer(&self, request: &Request<Body>) -> Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
        let state = self.0.lock().expect("state");
        let kind = if request.uri().path().ends_with("/services") { "Service" } else { "EndpointSlice" };
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let body = if watch {
            let query = request.uri().query().unwrap_or_default();
            let version = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")?.parse().ok());
            let missed = state.log.iter().filter(|(at, _, _)| Some(*at) > version);
            let missed = missed.map(|(_, kind, event)| (kind.clone(), event.clone())).collect();
            let changes = changes_of(missed, state.changes.subscribe(), kind);
            http_body_util::BodyExt::boxed(StreamBody::new(changes))
        } else {
            let of_kind = state.objects.iter().filter(|((found, _), _)| found == kind);
            let items: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
            let version = if kind == "Service" { "v1" } else { "discovery.k8s.io/v1" };
            let list = json!({ "kind": format!("{kind}List"), "apiVersion": version,
                "metadata": { "resourceVersion": state.version.to_string() }, "items": items });
            http_body_util::BodyExt::boxed(http_body_util::Full::new(Bytes::from(list.to_string())))
        };
        Response::builder().header("content-type", "application/json").body(body).expect("a response")
    }
}

/// The changes of one kind as lines of JSON.
fn changes_of(
    missed: Vec<(String, Value)>,
    changes: broadcast::Receiver<(String, Value)>,
    kind: &'static str,
) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, Infallible>> + Send + Sync {
    let next = |mut changes: broadcast::Receiver<(String, Value)>| async move {
        changes.recv().await.ok().map(|change| (change, changes))
    };
    let all = futures::stream::iter(missed).chain(futures::stream::unfold(changes, next));
    let lines = all.filter_map(move |(found, event)| async move {
        (found == kind).then(|| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))))
    });
    SyncStream(Mutex::new(Box::pin(lines)))
}

/// A stream that several threads may hold, which response bodies have to be.
struct SyncStream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures::Stream> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().expect("the stream").as_mut().poll_next(context)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn key_of(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// A service of namespace `demo`; `spec` overrides what is usual.
pub(crate) fn service(name: &str, address: &str, port: u16, spec: Value) -> Value {
    let mut all = json!({ "clusterIP": address, "ports": [{ "port": port, "protocol": "TCP" }] });
    if let (Value::Object(all), Value::Object(spec)) = (&mut all, spec) {
        all.extend(spec);
    }
    json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": name, "namespace": "demo" }, "spec": all })
}

/// The slice of a service: TCP endpoints on node `node`, ready unless said otherwise.
pub(crate) fn slice(service: &str, protocol: &str, port: u16, endpoints: &[(&str, bool)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, ready)| json!({ "addresses": [address], "conditions": { "ready": ready }, "nodeName": "node" }))
        .collect();
    json!({ "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": { "name": format!("{service}-1"), "namespace": "demo", "labels": { "kubernetes.io/service-name": service } },
        "ports": [{ "name": "", "port": port, "protocol": protocol }], "endpoints": endpoints })
}

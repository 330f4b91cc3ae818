//! What the tests of this crate share: pods from JSON, a node, an API server in a few lines.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use corten_api::api::core::v1::Pod;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::facts::{Allocatable, NodeFacts};

/// A pod from JSON.
pub(crate) fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

/// A node with two CPUs, 4 GiB of memory and 10 GiB of disk.
pub(crate) fn node() -> NodeFacts {
    NodeFacts {
        hostname: "n1".to_owned(),
        ips: vec!["192.0.2.1".parse().expect("an address")],
        allocatable: Allocatable { cpu_millis: 2000, memory_bytes: 4 << 30, ephemeral_bytes: 10 << 30 },
        memory_capacity: 4 << 30,
        cluster_dns: vec!["10.43.0.10".parse().expect("an address")],
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: "/dev/null".into(),
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers get, list, watch, and requests for tokens, for objects that a test puts in by hand.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// By `resource/namespace/name`.
    objects: BTreeMap<String, Value>,
    /// By resource.
    watchers: HashMap<String, broadcast::Sender<(String, Value)>>,
    tokens: u64,
    token_seconds: Option<i64>,
    posted: Vec<Value>,
}

impl FakeApi {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, resource: &str, namespace: &str, name: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["uid"] = format!("uid-{name}").into();
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let old = state.objects.insert(format!("{resource}/{namespace}/{name}"), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        state.tell(resource, kind, object);
    }

    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        if let Some(object) = state.objects.remove(&format!("{resource}/{namespace}/{name}")) {
            state.tell(resource, "DELETED", object);
        }
    }

    /// How many watches of a resource are open.
    pub(crate) fn watches(&self, resource: &str) -> usize {
        self.state().watchers.get(resource).map_or(0, broadcast::Sender::receiver_count)
    }

    /// Waits until no watch of a resource is open.
    pub(crate) async fn no_watches(&self, resource: &str) {
        while self.watches(resource) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Life of the tokens that are given out from now on, whatever is asked.
    pub(crate) fn token_seconds(&self, seconds: i64) {
        self.state().token_seconds = Some(seconds);
    }

    /// Tokens given out so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.state().tokens
    }

    /// Bodies that were posted so far, without requests for tokens.
    pub(crate) fn posted(&self) -> Vec<Value> {
        self.state().posted.clone()
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                Ok::<_, Infallible>(api.answer(&parts, &body))
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8]) -> Response<Body> {
        let path: Vec<&str> = parts.uri.path().trim_start_matches("/api/v1/").split('/').collect();
        let query = parts.uri.query().unwrap_or_default();
        let mut state = self.state();
        if parts.method == http::Method::POST {
            let posted: Value = serde_json::from_slice(body).unwrap_or_default();
            return state.post(&path, posted);
        }
        match path[..] {
            ["namespaces", namespace, resource, name] => {
                match state.objects.get(&format!("{resource}/{namespace}/{name}")) {
                    Some(object) => answer(StatusCode::OK, object),
                    None => missing(resource, name),
                }
            }
            ["namespaces", namespace, resource] if query.contains("watch=true") => {
                let name = query.split("metadata.name%3D").nth(1).and_then(|rest| rest.split('&').next());
                state.watch(resource, Some(namespace), name)
            }
            [resource] if query.contains("watch=true") => state.watch(resource, None, None),
            [resource] => {
                let prefix = format!("{resource}/");
                let all = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
                let items: Vec<&Value> = all.map(|(_, object)| object).collect();
                let metadata = json!({"resourceVersion": state.version.to_string()});
                answer(
                    StatusCode::OK,
                    &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
                )
            }
            [resource, name] => match state.objects.get(&format!("{resource}//{name}")) {
                Some(object) => answer(StatusCode::OK, object),
                None => missing(resource, name),
            },
            _ => missing("paths", parts.uri.path()),
        }
    }
}

impl State {
    fn tell(&mut self, resource: &str, kind: &str, object: Value) {
        if let Some(watchers) = self.watchers.get(resource) {
            let _ = watchers.send((kind.to_owned(), object));
        }
    }

    fn post(&mut self, path: &[&str], mut posted: Value) -> Response<Body> {
        let ["namespaces", namespace, "serviceaccounts", name, "token"] = path else {
            self.posted.push(posted.clone());
            return answer(StatusCode::CREATED, &posted);
        };
        if !self.objects.contains_key(&format!("serviceaccounts/{namespace}/{name}")) {
            return missing("serviceaccounts", name);
        }
        self.tokens += 1;
        let seconds = self.token_seconds.or(posted["spec"]["expirationSeconds"].as_i64()).unwrap_or(3600);
        let expires = corten_base::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        posted["status"] = json!({"token": format!("token-{}", self.tokens), "expirationTimestamp": expires});
        answer(StatusCode::CREATED, &posted)
    }

    fn watch(&mut self, resource: &str, namespace: Option<&str>, name: Option<&str>) -> Response<Body> {
        let sender = self.watchers.entry(resource.to_owned()).or_insert_with(|| broadcast::Sender::new(64));
        let receiver = sender.subscribe();
        let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
        let wanted = move |object: &Value| {
            namespace.as_ref().is_none_or(|own| object["metadata"]["namespace"] == **own)
                && name.as_ref().is_none_or(|own| object["metadata"]["name"] == **own)
        };
        let prefix = format!("{resource}/");
        let now = self.objects.iter().filter(|(key, object)| key.starts_with(&prefix) && wanted(object));
        let now: Vec<(String, Value)> = now.map(|(_, object)| ("ADDED".to_owned(), object.clone())).collect();
        let later = futures::stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await.ok()?;
            Some((event, receiver))
        });
        let events = futures::stream::iter(now).chain(later.filter(move |(_, object)| {
            let wanted = wanted(object);
            async move { wanted }
        }));
        let frames = events.map(|(kind, object)| {
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn missing(resource: &str, name: &str) -> Response<Body> {
    let message = format!("{resource} {name:?} not found");
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "NotFound", "code": 404});
    answer(StatusCode::NOT_FOUND, &status)
}

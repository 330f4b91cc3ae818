//! Empties namespaces that are being deleted, then lets them go.

use std::collections::HashSet;
use std::time::Duration;

use corten_api::api::core::v1::{Namespace, Pod};
use corten_client::{Client, Informer, Key, Next};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::context::{Context, Error};

/// How often a namespace is looked at whose content has finalizers of its own.
const AGAIN: Duration = Duration::from_secs(2);
const FINALIZER: &str = "kubernetes";

pub(crate) async fn run(cx: Context) {
    let (namespaces, pods) = (cx.informers.of::<Namespace>(), cx.informers.of::<Pod>());
    let queue = cx.queue.clone();
    namespaces.on_change(move |_, new| {
        if let Some(own) = new.filter(|own| own.metadata.deletion_timestamp.is_some()) {
            queue.add(Key::new("", own.name_any()));
        }
    });
    // What takes longest to go are pods.
    let (queue, known) = (cx.queue.clone(), namespaces.clone());
    pods.on_change(move |old, new| {
        if let (Some(pod), None) = (old, new) {
            let namespace = pod.namespace().unwrap_or_default();
            if known.get("", &namespace).is_some_and(|own| own.metadata.deletion_timestamp.is_some()) {
                queue.add(Key::new("", namespace));
            }
        }
    });
    namespaces.synced().await;
    cx.work(2, move |cx, key| sync(cx, namespaces.clone(), key)).await;
}

async fn sync(cx: Context, namespaces: Informer<Namespace>, key: Key) -> Result<Next, Error> {
    let Some(namespace) = namespaces.by_key(&key) else { return Ok(Next::Wait) };
    let held = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|own| own == FINALIZER);
    if namespace.metadata.deletion_timestamp.is_none() || !held {
        return Ok(Next::Wait);
    }
    let mut left = 0;
    for path in namespaced_paths(&cx.client, &key.name).await? {
        request(&cx.client, http::Method::DELETE, &path, Vec::new()).await?;
        let rest = request(&cx.client, http::Method::GET, &format!("{path}?limit=1"), Vec::new()).await?;
        left += rest["items"].as_array().map_or(0, Vec::len);
    }
    if left > 0 {
        return Ok(Next::After(AGAIN));
    }
    let kept = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).filter(|own| *own != FINALIZER);
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": key.name, "resourceVersion": namespace.metadata.resource_version},
        "spec": {"finalizers": kept.collect::<Vec<_>>()},
    });
    let path = format!("/api/v1/namespaces/{}/finalize", key.name);
    request(&cx.client, http::Method::PUT, &path, body.to_string().into_bytes()).await?;
    Ok(Next::Wait)
}

/// Paths of everything that may be in a namespace, as discovery tells.
async fn namespaced_paths(client: &Client, namespace: &str) -> Result<Vec<String>, Error> {
    let mut roots = vec!["/api/v1".to_owned()];
    let groups = request(client, http::Method::GET, "/apis", Vec::new()).await?;
    for version in
        groups["groups"].as_array().into_iter().flatten().filter_map(|g| g["preferredVersion"]["groupVersion"].as_str())
    {
        roots.push(format!("/apis/{version}"));
    }
    let (mut paths, mut seen) = (Vec::new(), HashSet::new());
    for root in roots {
        let list = request(client, http::Method::GET, &root, Vec::new()).await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let deletable = resource["verbs"].as_array().into_iter().flatten().any(|verb| verb == "deletecollection");
            // Other views of the same objects need no second deletion; the hash of what is stored tells.
            let stored = resource["storageVersionHash"].as_str().unwrap_or_default().to_owned();
            let is_new = stored.is_empty() || seen.insert(stored);
            if resource["namespaced"] == true && deletable && is_new {
                paths.push(format!("{root}/namespaces/{namespace}/{}", resource["name"].as_str().unwrap_or_default()));
            }
        }
    }
    // Pods take time to end, so they begin first; events tell of it, so they go last.
    paths.sort_by_key(|path| match path.rsplit('/').next() {
        Some("pods") => 0,
        Some("events") => 2,
        _ => 1,
    });
    Ok(paths)
}

async fn request(client: &Client, method: http::Method, path: &str, body: Vec<u8>) -> Result<Value, Error> {
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    let request = request.map_err(kube::Error::HttpError)?;
    Ok(client.request::<Value>(request).await?)
}

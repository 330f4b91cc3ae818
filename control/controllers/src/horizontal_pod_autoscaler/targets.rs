//! What is scaled: any kind that has a `scale`, found by discovery.

use corten_base::chain;
use http::Request;
use kube::Client;
use serde_json::{Value, json};

/// The scale of a target.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    path: String,
    version: Value,
    pub(super) wanted: i32,
    pub(super) there: i32,
    /// As text; empty if it says none.
    pub(super) selector: String,
}

impl Scale {
    /// Asks for it.
    pub(super) async fn of(
        client: &Client,
        namespace: &str,
        version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Self, String> {
        let resource = resource_of(client, version, kind).await?;
        let path = format!("{}/namespaces/{namespace}/{resource}/{name}/scale", root(version));
        let scale = get(client, &path).await.map_err(|error| chain(&error))?;
        let number = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(0);
        Ok(Self {
            path,
            version: scale["metadata"]["resourceVersion"].clone(),
            wanted: number(&scale["spec"]["replicas"]),
            there: number(&scale["status"]["replicas"]),
            selector: scale["status"]["selector"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Sets the number of replicas, unless somebody else did meanwhile.
    pub(super) async fn set(&self, client: &Client, replicas: i32) -> Result<(), String> {
        let patch = json!({"metadata": {"resourceVersion": self.version}, "spec": {"replicas": replicas}});
        let request = Request::patch(&self.path)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        client.request::<Value>(request).await.map(drop).map_err(|error| chain(&error))
    }
}

fn root(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

/// The plural under which a kind is served.
pub(super) async fn resource_of(client: &Client, version: &str, kind: &str) -> Result<String, String> {
    let list = get(client, &root(version)).await.map_err(|error| chain(&error))?;
    let own = |resource: &&Value| {
        resource["kind"] == kind && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
    };
    let found = list["resources"].as_array().into_iter().flatten().find(own);
    let name = found.and_then(|resource| resource["name"].as_str()).map(str::to_owned);
    name.ok_or_else(|| format!("no matches for kind {kind:?} in version {version:?}"))
}

/// What is at a path.
pub(super) async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// Text as a value in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => all.push(char::from(byte)),
            _ => all += &format!("%{byte:02X}"),
        }
    }
    all
}

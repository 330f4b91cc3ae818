//! What the steps ask of the cluster in a sandbox: objects through kubectl, processes of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};
use serde_json::Value;

/// The namespace of the story.
pub const NAMESPACE: &str = "demo";
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A manifest of `tests/e2e/manifests`.
#[must_use]
pub fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(name)
}

/// `kubectl apply -f` of a manifest.
pub fn apply(sandbox: &Sandbox, name: &str) -> Result<String> {
    sandbox.kubectl(["apply", "-f"]).args([manifest(name)]).run()
}

/// `kubectl -n demo …`.
pub fn kubectl(sandbox: &Sandbox, words: &[&str]) -> Result<String> {
    sandbox.kubectl(["-n", NAMESPACE]).args(words).run()
}

/// `kubectl -n demo get … -o json`.
pub fn get(sandbox: &Sandbox, words: &[&str]) -> Result<Value> {
    let text = sandbox.kubectl(["-n", NAMESPACE, "get", "-o", "json"]).args(words).run()?;
    serde_json::from_str(&text).context("kubectl printed no JSON")
}

/// `kubectl -n demo exec client -- /testbox …`.
pub fn from_client(sandbox: &Sandbox, words: &[&str]) -> Result<String> {
    kubectl(sandbox, &[&["exec", "client", "--", "/testbox"], words].concat())
}

/// A pod of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebPod {
    /// Name.
    pub name: String,
    /// Address.
    pub ip: String,
    /// Whether its container is ready.
    pub ready: bool,
    /// How often its container was restarted.
    pub restarts: u64,
    /// Id of its container.
    pub container: String,
}

/// The deployment's pods that are not on their way out, by name.
pub fn web_pods(sandbox: &Sandbox) -> Result<Vec<WebPod>> {
    let list = get(sandbox, &["pods", "-l", "app=web"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut pods: Vec<WebPod> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let id = text(&container["containerID"]);
            WebPod {
                name: text(&pod["metadata"]["name"]),
                ip: text(&pod["status"]["podIP"]),
                ready: container["ready"].as_bool().unwrap_or(false),
                restarts: container["restartCount"].as_u64().unwrap_or(0),
                container: id.split_once("://").map_or(String::new(), |(_, id)| id.to_owned()),
            }
        })
        .collect();
    pods.sort();
    Ok(pods)
}

/// Waits until the deployment has so many ready pods and no other.
pub fn ready_pods(sandbox: &Sandbox, count: usize) -> Result<Vec<WebPod>> {
    eventually("the pods are ready", PATIENCE, || {
        let pods = web_pods(sandbox)?;
        ensure!(pods.len() == count && pods.iter().all(|pod| pod.ready), "{pods:?}");
        Ok(pods)
    })
}

/// Addresses of the service's ready endpoints.
pub fn endpoints(sandbox: &Sandbox) -> Result<Vec<String>> {
    let list = get(sandbox, &["endpointslices", "-l", "kubernetes.io/service-name=web"])?;
    let slices = list["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let mut ready: Vec<String> = endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
        .collect();
    ready.sort();
    Ok(ready)
}

/// The machine's processes in the cgroup of a container, the first one first.
pub fn processes(container: &str) -> Result<Vec<i32>> {
    ensure!(!container.is_empty(), "the pod's status names no container");
    let mut found: Vec<i32> = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(container) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

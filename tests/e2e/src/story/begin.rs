//! An empty machine becomes a cluster with an application.

use anyhow::{Result, ensure};
use corten_testkit::Sandbox;

use crate::cluster::{self, kubectl, ready_pods};

pub(super) fn start(sandbox: &Sandbox) -> Result<String> {
    sandbox.start()?;
    let nodes = sandbox.kubectl(["get", "nodes", "--no-headers"]).run()?;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    ensure!(words.get(..2) == Some(&["node-1", "Ready"]), "{nodes}");
    Ok(nodes.trim().to_owned())
}

pub(super) fn import(sandbox: &Sandbox) -> Result<String> {
    let one = sandbox.import("v1")?;
    let two = sandbox.import("v2")?;
    ensure!(one.starts_with("localhost/testbox:v1 sha256:") && two.starts_with("localhost/testbox:v2 sha256:"));
    Ok(format!("{one}{two}").trim().to_owned())
}

pub(super) fn apply(sandbox: &Sandbox) -> Result<String> {
    let said = cluster::apply(sandbox, "web.yaml")?;
    ensure!(said.lines().count() == 6 && said.lines().all(|line| line.ends_with(" created")), "{said}");
    Ok(said.trim().to_owned())
}

pub(super) fn rollout(sandbox: &Sandbox) -> Result<String> {
    let said = kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=30s"])?;
    ensure!(said.contains("deployment \"web\" successfully rolled out"), "{said}");
    kubectl(sandbox, &["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"])?;
    let pods = ready_pods(sandbox, 3)?;
    ensure!(pods.iter().all(|pod| pod.restarts == 0), "{pods:?}");
    Ok(said.trim().lines().last().unwrap_or_default().to_owned())
}

pub(super) fn apply_again(sandbox: &Sandbox) -> Result<String> {
    let said = cluster::apply(sandbox, "web.yaml")?;
    // Write-only `stringData` is never read back, so kubectl cannot know: the same with upstream.
    let changed: Vec<&str> = said.lines().filter(|line| !line.ends_with(" unchanged")).collect();
    ensure!(changed == ["secret/web configured"], "{said}");
    let resources = sandbox.kubectl(["api-resources", "-o", "name"]).run()?;
    let again = sandbox.kubectl(["api-resources", "-o", "name"]).run()?;
    ensure!(resources == again && again.contains("deployments.apps"), "discovery from the cache differs: {again}");
    Ok(format!("and {} kinds are served", again.lines().count()))
}

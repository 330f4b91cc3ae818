//! A new version, and back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};

use crate::cluster::{PATIENCE, from_client, kubectl, ready_pods};

fn serves(sandbox: &Sandbox, version: &str) -> Result<()> {
    let said = from_client(sandbox, &["get", "http://web/version", "12"])?;
    ensure!(said.lines().all(|line| line == version), "{said}");
    Ok(())
}

pub(super) fn roll(sandbox: &Sandbox) -> Result<String> {
    ready_pods(sandbox, 3)?;
    serves(sandbox, "v1")?;
    let file = sandbox.folder().join("load");
    let load = ["-n", "demo", "exec", "client", "--", "/testbox", "load", "http://web/", "15", "2"];
    let load = sandbox.kubectl_in_background(load, &file)?;
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    kubectl(sandbox, &["set", "image", "deployment/web", "web=localhost/testbox:v2"])?;
    kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=30s"])?;
    let took = start.elapsed().as_secs_f64();
    let code = load.wait()?;
    let said = std::fs::read_to_string(&file).context("the load said nothing")?;
    ensure!(code == 0 && said.contains(" ok, 0 failed"), "requests failed during the update:\n{said}");
    ready_pods(sandbox, 3)?;
    serves(sandbox, "v2")?;
    Ok(format!("rolled out in {took:.1} s while a client counted: {}", said.trim()))
}

pub(super) fn undo(sandbox: &Sandbox) -> Result<String> {
    let history = kubectl(sandbox, &["rollout", "history", "deployment/web"])?;
    let revisions = history.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count();
    ensure!(revisions == 2, "{history}");
    let first = kubectl(sandbox, &["rollout", "history", "deployment/web", "--revision=1"])?;
    ensure!(first.contains("localhost/testbox:v1"), "{first}");
    kubectl(sandbox, &["rollout", "undo", "deployment/web"])?;
    kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=30s"])?;
    eventually("the old version answers", PATIENCE, || serves(sandbox, "v1"))?;
    ready_pods(sandbox, 3)?;
    Ok(history.trim().to_owned())
}

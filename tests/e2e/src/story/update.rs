//! A new version, and back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};

use crate::cluster::{PATIENCE, from_client, kubectl, ready_pods};

/// So long the load lasts: longer than any rollout should.
const LOAD_SECONDS: &str = "20";
/// With fewer requests nothing is shown.
const LEAST: u32 = 100;

/// How many requests were served; nothing if one failed.
fn all_served(said: &str) -> Option<u32> {
    said.lines().last()?.strip_suffix(" ok, 0 failed")?.parse().ok()
}

fn serves(sandbox: &Sandbox, version: &str) -> Result<()> {
    let said = from_client(sandbox, &["get", "http://web/version", "12"])?;
    ensure!(said.lines().all(|line| line == version), "{said}");
    Ok(())
}

pub(super) fn roll(sandbox: &Sandbox) -> Result<String> {
    ready_pods(sandbox, 3)?;
    serves(sandbox, "v1")?;
    let file = sandbox.folder().join("load");
    let load = ["-n", "demo", "exec", "client", "--", "/testbox", "load", "http://web/", LOAD_SECONDS, "2"];
    let load = sandbox.kubectl_in_background(load, &file)?;
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    kubectl(sandbox, &["set", "image", "deployment/web", "web=localhost/testbox:v2"])?;
    kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=30s"])?;
    let took = start.elapsed().as_secs_f64();
    ensure!(load.runs()?, "the load ended before the rollout, which took {took:.1} s");
    let code = load.wait(PATIENCE)?;
    let said = std::fs::read_to_string(&file).context("the load said nothing")?;
    let served = all_served(&said).with_context(|| format!("requests failed during the update:\n{said}"))?;
    ensure!(code == 0 && served >= LEAST, "{served} requests are no load:\n{said}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_believed_only_if_it_counted_and_nothing_failed() {
        assert_eq!(all_served("120 ok, 0 failed\n"), Some(120));
        for other in ["", "failed: refused\n119 ok, 1 failed\n", "0 failed", " ok, 0 failed", "10 ok, 10 failed\n"] {
            assert_eq!(all_served(other), None, "{other}");
        }
    }
}

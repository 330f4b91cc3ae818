//! Bad input and bad luck.

use anyhow::{Result, ensure};
use corten_testkit::{Sandbox, eventually};

use crate::cluster::{self, PATIENCE, kubectl};

pub(super) fn manifest(sandbox: &Sandbox) -> Result<String> {
    let refused = |name: &str| sandbox.kubectl(["apply", "-f"]).args([cluster::manifest(name)]).fail();
    let unknown = refused("unknown-field.yaml")?;
    ensure!(unknown.contains("unknown field \"spec.replicaz\""), "{unknown}");
    let wrong = refused("wrong-values.yaml")?;
    for wanted in [
        "The Deployment \"mistake\" is invalid:",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.template.spec.containers[0].name: Invalid value: \"Not_A_Label\"",
        "`selector` does not match template `labels`",
    ] {
        ensure!(wrong.contains(wanted), "{wanted} is missing in\n{wrong}");
    }
    let created = sandbox.kubectl(["-n", "demo", "get", "deployment", "mistake"]).fail()?;
    ensure!(created.contains("deployments.apps \"mistake\" not found"), "{created}");
    Ok(format!("{}\n{}", unknown.trim(), wrong.trim()))
}

/// Waits until the pod's row has shown each of these in its columns READY and STATUS, then `describe` must contain all of those.
fn shows(sandbox: &Sandbox, pod: &str, states: &[&str], described: &[&str]) -> Result<String> {
    for state in states {
        eventually(state, PATIENCE * 2, || {
            let said = kubectl(sandbox, &["get", "pod", pod, "--no-headers"])?;
            let columns: Vec<&str> = said.split_whitespace().skip(1).take(2).collect();
            ensure!(columns.join(" ") == *state, "{said}");
            Ok(())
        })?;
    }
    let text = eventually("describe shows it", PATIENCE, || {
        let text = kubectl(sandbox, &["describe", "pod", pod])?;
        for wanted in described {
            ensure!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        Ok(text)
    })?;
    kubectl(sandbox, &["delete", "pod", pod])?;
    let last = described.last().copied().unwrap_or_default();
    Ok(text.lines().find(|line| line.contains(last)).unwrap_or_default().trim().to_owned())
}

pub(super) fn image(sandbox: &Sandbox) -> Result<String> {
    cluster::apply(sandbox, "no-image.yaml")?;
    let events =
        ["Failed to pull image \"localhost/does-not-exist:v1\"", "Error: ErrImagePull", "Back-off pulling image"];
    shows(sandbox, "no-image", &["0/1 ErrImagePull", "0/1 ImagePullBackOff"], &events)
}

pub(super) fn probe(sandbox: &Sandbox) -> Result<String> {
    cluster::apply(sandbox, "never-ready.yaml")?;
    let event = "Readiness probe failed: HTTP probe failed with statuscode: 404";
    shows(sandbox, "never-ready", &["0/1 Running"], &["Unhealthy", event])
}

pub(super) fn crash(sandbox: &Sandbox) -> Result<String> {
    cluster::apply(sandbox, "crashing.yaml")?;
    let described = ["Exit Code:    3", "Back-off restarting failed container"];
    shows(sandbox, "crashing", &["0/1 CrashLoopBackOff"], &described)
}

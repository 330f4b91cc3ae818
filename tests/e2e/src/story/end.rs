//! Nothing is left.

use anyhow::{Result, ensure};
use corten_testkit::Sandbox;

use crate::cluster::ready_pods;

const NONE: [&str; 0] = [];

pub(super) fn down(sandbox: &Sandbox) -> Result<String> {
    sandbox.corten("down", NONE).run()?;
    let status = sandbox.corten("status", NONE).output()?;
    ensure!(status.code == 3 && status.stdout.contains("No cluster runs here"), "{}", status.all());
    let left: Vec<String> = sandbox.leftovers().into_iter().filter(|what| !what.starts_with("file ")).collect();
    ensure!(left.is_empty(), "{left:#?}");
    sandbox.start()?;
    let pods = ready_pods(sandbox, 3)?;
    ensure!(pods.iter().all(|pod| pod.ready));
    Ok("and corten up brings the same pods back".to_owned())
}

pub(super) fn reset(sandbox: &Sandbox) -> Result<String> {
    sandbox.corten("reset", ["--yes"]).run()?;
    let left = sandbox.leftovers();
    ensure!(left.is_empty(), "{left:#?}");
    ensure!(!sandbox.kubeconfig().exists(), "the kubeconfig is still there");
    Ok("no process, mount, cgroup, link, rule or file".to_owned())
}

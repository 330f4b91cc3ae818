//! Kubernetes' own Python client against a real cluster: the suites of `python/`, all in one cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::Sandbox;

/// Tests that the suites have at least, so that a suite that is not found does not pass.
const TESTS: usize = 80;

#[test]
fn the_python_client() {
    let Some(python) = Sandbox::client("CORTEN_PYTHON") else { return };
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = suites(&sandbox, &python) {
        panic!("{error:?}");
    }
}

fn suites(sandbox: &Sandbox, python: &Path) -> Result<()> {
    sandbox.import("v1")?;
    sandbox.start()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let output = sandbox
        .inside([python, Path::new("-B"), Path::new("-W"), Path::new("ignore"), Path::new("-m")])
        .args(["unittest", "discover", "-v", "-s"])
        .args([folder])
        .env("KUBECONFIG", sandbox.kubeconfig())
        .env("HOME", sandbox.folder())
        .env("NO_PROXY", "*")
        .timeout(Duration::from_secs(120))
        .output()?;
    ensure!(output.code == 0, "{}", output.all());
    let count =
        output.stderr.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<usize>().ok());
    let count = count.context("unittest did not say how many tests ran")?;
    eprintln!("python: {}", output.stderr.lines().rev().take(3).collect::<Vec<_>>().join(" "));
    ensure!(count >= TESTS, "{count} tests ran, fewer than {TESTS}:\n{}", output.all());
    Ok(())
}

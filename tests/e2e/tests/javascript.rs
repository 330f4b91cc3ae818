//! Kubernetes' own JavaScript client against a real cluster: the suites of `js/`, all in one cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::Sandbox;

/// Tests that the suites have at least, so that a suite that is not found does not pass.
const TESTS: usize = 16;

#[test]
fn the_javascript_client() {
    let Some(modules) = Sandbox::client("CORTEN_NODE") else { return };
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = suites(&sandbox, &modules) {
        panic!("{error:?}");
    }
}

fn suites(sandbox: &Sandbox, modules: &Path) -> Result<()> {
    sandbox.import("v1")?;
    sandbox.start()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    let output = sandbox
        .inside(["node", "--test", "--test-reporter=tap"])
        .args(files)
        .env("CORTEN_NODE", modules)
        .env("KUBECONFIG", sandbox.kubeconfig())
        .env("HOME", sandbox.folder())
        .env("TMPDIR", sandbox.folder())
        .env("NO_PROXY", "*")
        .timeout(Duration::from_secs(120))
        .output()?;
    ensure!(output.code == 0, "{}", output.all());
    let passed = output.stdout.lines().rev().find_map(|line| line.strip_prefix("# pass ")?.parse::<usize>().ok());
    let passed = passed.context("node did not say how many tests passed")?;
    ensure!(passed >= TESTS, "{passed} tests passed, fewer than {TESTS}:\n{}", output.all());
    Ok(())
}

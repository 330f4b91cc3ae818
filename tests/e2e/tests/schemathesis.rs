//! Whatever schemathesis makes of our own OpenAPI document, the API server answers it without a 5xx.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_testkit::Sandbox;

/// How long requests are made. The same on every machine: a slow one makes fewer.
const SECONDS: u64 = 60;
/// Where it begins. The same always, so that a change is judged and not luck; other seeds are for a person to try.
const SEED: u64 = 36;
/// Requests that a slow machine makes at least.
const REQUESTS: u64 = 100;

#[test]
fn no_request_is_answered_with_a_5xx() {
    let Some(python) = Sandbox::client("CORTEN_PYTHON") else { return };
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = fuzz(&sandbox, &python) {
        panic!("{error:?}");
    }
}

fn fuzz(sandbox: &Sandbox, python: &Path) -> Result<()> {
    sandbox.start()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis/fuzz.py");
    let said = sandbox
        .inside([python, Path::new("-B"), script.as_path()])
        .args([SECONDS.to_string(), SEED.to_string()])
        .env("KUBECONFIG", sandbox.kubeconfig())
        .env("HOME", sandbox.folder())
        .env("NO_PROXY", "*")
        .timeout(Duration::from_secs(SECONDS + 60))
        .run()?;
    eprintln!("{}", said.trim_end());
    let requests = said.split(", ").find_map(|part| part.split_once(" requests")?.0.parse::<u64>().ok());
    ensure!(requests.context("it does not say how many requests it made")? >= REQUESTS, "too few requests: {said}");
    let log = sandbox.log();
    ensure!(!log.contains("panicked"), "the server panicked:\n{log}");
    Ok(())
}

//! kubectl 1.20 of Debian 12: it speaks SPDY where today's kubectl speaks WebSocket, and asks for older APIs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{PATIENCE, kubectl, manifest};
use corten_testkit::{Sandbox, eventually};

#[test]
fn the_kubectl_of_a_stable_distribution_works() {
    let Some(sandbox) = Sandbox::with_old_kubectl() else { return };
    if let Err(error) = daily_work(&sandbox) {
        panic!("{error:?}");
    }
}

fn daily_work(sandbox: &Sandbox) -> Result<()> {
    sandbox.start()?;
    let said = sandbox.kubectl(["version"]).run()?;
    ensure!(said.contains("GitVersion:\"v1.20") || said.contains("Minor:\"20\""), "not kubectl 1.20: {said}");
    sandbox.import("v1")?;
    let said = sandbox.kubectl(["apply", "-f"]).args([manifest("web.yaml")]).run()?;
    ensure!(said.lines().all(|line| line.ends_with(" created")), "{said}");
    kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=30s"])?;
    kubectl(sandbox, &["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"])?;
    let said = kubectl(sandbox, &["get", "all"])?;
    for wanted in ["pod/client", "service/web", "deployment.apps/web", "replicaset.apps/web-"] {
        ensure!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    let said = kubectl(sandbox, &["logs", "deployment/web"])?;
    ensure!(said.contains("testbox v1 on web-"), "{said}");
    exec(sandbox)?;
    port_forward(sandbox)
}

fn exec(sandbox: &Sandbox) -> Result<()> {
    let program = sandbox.kubectl(["-n", "demo", "exec", "-it", "client", "--", "/testbox", "shell"]).in_terminal();
    let output = program.input("tty\nhostname\nexit 7\n").output()?;
    ensure!(output.stdout.contains("a terminal") && output.stdout.contains("client"), "{}", output.all());
    ensure!(output.code == 7, "exit code {}, not 7: {}", output.code, output.all());
    let piped = sandbox.kubectl(["-n", "demo", "exec", "-i", "client", "--", "/testbox", "cat-stdin"]);
    let text = "x".repeat(200_000);
    ensure!(piped.input(text.clone()).run()? == text, "200 kB through cat do not come back");
    let missing = sandbox.kubectl(["-n", "demo", "exec", "client", "--", "/nothing"]).timeout(Duration::from_secs(20));
    missing.fail().map(drop)
}

fn port_forward(sandbox: &Sandbox) -> Result<()> {
    let file = sandbox.folder().join("port-forward");
    let _forward = sandbox.kubectl_in_background(["-n", "demo", "port-forward", "service/web", "18080:80"], &file)?;
    let answer = eventually("the forwarded port answers", PATIENCE, || {
        sandbox.testbox(["get", "http://127.0.0.1:18080/through", "5"]).run()
    })
    .with_context(|| fs::read_to_string(&file).unwrap_or_default())?;
    ensure!(answer.lines().count() == 5 && answer.contains("GET /through"), "{answer}");
    Ok(())
}

//! Where pods go on a cluster with real containers, and what is said of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_testkit::{Sandbox, eventually};
use serde_json::{Value, json};

/// As long as anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_important_pod_takes_the_room_of_others_and_its_place_is_explained() {
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = preempt(&sandbox) {
        panic!("{error:?}\n{}", sandbox.log());
    }
}

/// A pod that takes most of the machine's CPU.
fn pod(name: &str, cpu: u64, class: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
    "priorityClassName": class, "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "main", "image": "localhost/testbox:v1", "resources": {"requests": {"cpu": format!("{cpu}m")}},
    }]}})
}

fn apply(sandbox: &Sandbox, object: &Value) -> Result<()> {
    sandbox.kubectl(["apply", "-f", "-"]).input(object.to_string()).run().map(drop)
}

fn preempt(sandbox: &Sandbox) -> Result<()> {
    sandbox.import("v1")?;
    sandbox.start()?;
    let node: Value = serde_json::from_str(&sandbox.kubectl(["get", "nodes", "-o", "json"]).run()?)?;
    let cpus: u64 = node["items"][0]["status"]["allocatable"]["cpu"].as_str().unwrap_or_default().parse()?;
    let most = cpus * 1000 - 200;
    for (name, value) in [("low", 1), ("high", 1000)] {
        apply(
            sandbox,
            &json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}),
        )?;
    }
    apply(sandbox, &pod("lesser", most, "low"))?;
    sandbox.kubectl(["wait", "--for=condition=Ready", "pod/lesser", "--timeout=30s"]).run()?;
    apply(sandbox, &pod("waiting", most, "low"))?;
    eventually("the second is explained", PATIENCE, || {
        let said = sandbox.corten("explain-scheduling", ["waiting"]).output()?.all();
        ensure!(said.contains("default/waiting fits nowhere: 0/1 nodes are available: 1 Insufficient cpu."), "{said}");
        ensure!(said.contains("NodeResourcesFit: Insufficient cpu"), "{said}");
        Ok(())
    })?;
    apply(sandbox, &pod("greater", most, "high"))?;
    sandbox.kubectl(["wait", "--for=condition=Ready", "pod/greater", "--timeout=30s"]).run()?;
    let pods = sandbox.kubectl(["get", "pods", "-o", "name"]).run()?;
    ensure!(!pods.contains("pod/lesser"), "{pods}");
    let events = sandbox.kubectl(["get", "events", "--field-selector=reason=Preempted"]).run()?;
    ensure!(events.contains("Preempted by pod"), "{events}");
    let json = sandbox.corten("explain-scheduling", ["greater", "-o", "json"]).run()?;
    let decision: Value = serde_json::from_str(&json)?;
    ensure!(decision["node"] == node["items"][0]["metadata"]["name"], "{decision}");
    let said = sandbox.corten("explain-scheduling", ["nobody"]).output()?;
    ensure!(said.code == 1 && said.all().contains("Nothing is known of pod default/nobody"), "{}", said.all());
    Ok(())
}

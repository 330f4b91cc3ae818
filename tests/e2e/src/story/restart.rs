//! The cluster's own process dies.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corten_testkit::{Sandbox, eventually};
use serde_json::json;

use crate::cluster::{PATIENCE, from_client, get, kubectl, processes, ready_pods};

pub(super) fn kill_corten(sandbox: &Sandbox) -> Result<String> {
    let before = ready_pods(sandbox, 3)?;
    let pids =
        |pods: &[crate::cluster::WebPod]| pods.iter().map(|pod| processes(&pod.container)).collect::<Result<Vec<_>>>();
    let processes_before = pids(&before)?;
    ensure!(processes_before.iter().all(|all| !all.is_empty()), "{processes_before:?}");
    for number in 0..20 {
        let name = format!("acknowledged-{number}");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        sandbox.kubectl(["-n", "demo", "create", "-f", "-"]).input(object.to_string()).run()?;
    }
    sandbox.kill()?;
    // Meanwhile the application goes on, without anybody to look after it.
    let pod = &before[0];
    sandbox.testbox(["get", &format!("http://{}:8080/", pod.ip)]).run()?;
    ensure!(pids(&before)? == processes_before, "containers died with corten");

    let start = Instant::now();
    sandbox.start()?;
    let took = start.elapsed().as_millis();
    std::thread::sleep(Duration::from_secs(2));
    let after = ready_pods(sandbox, 3)?;
    ensure!(after == before, "pods changed:\n{before:?}\n{after:?}");
    ensure!(pids(&after)? == processes_before, "containers were restarted");
    for number in 0..20 {
        get(sandbox, &["configmap", &format!("acknowledged-{number}")])?;
    }
    // The cluster goes on: something new, something old, and an exec into an adopted container.
    kubectl(sandbox, &["scale", "deployment/web", "--replicas=4"])?;
    ready_pods(sandbox, 4)?;
    kubectl(sandbox, &["scale", "deployment/web", "--replicas=3"])?;
    ready_pods(sandbox, 3)?;
    eventually("the service answers from an adopted pod", PATIENCE, || from_client(sandbox, &["get", "http://web/"]))?;
    Ok(format!(
        "ready again after {took} ms: the same container processes {processes_before:?}, no restart, all 20 acknowledged objects"
    ))
}

//! Things break and are mended.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cluster::{PATIENCE, endpoints, kubectl, processes, ready_pods, web_pods};

pub(super) fn kill_container(sandbox: &Sandbox) -> Result<String> {
    let pod = ready_pods(sandbox, 3)?.remove(0);
    let pid = processes(&pod.container)?.into_iter().find_map(Pid::from_raw).context("the container has no process")?;
    let start = Instant::now();
    kill_process(pid, Signal::KILL).context("cannot kill it")?;
    eventually("it is restarted", PATIENCE, || {
        let now = web_pods(sandbox)?.into_iter().find(|own| own.name == pod.name).context("the pod is gone")?;
        ensure!(now.restarts == pod.restarts + 1 && now.ready && now.container != pod.container, "{now:?}");
        Ok(())
    })?;
    let took = start.elapsed().as_millis();
    let last = kubectl(sandbox, &["get", "pod", &pod.name, "-o", "jsonpath={.status.containerStatuses[0].lastState}"])?;
    ensure!(last.contains("\"exitCode\":137"), "{last}");
    Ok(format!("{} is ready again after {took} ms; its last state: {last}", pod.name))
}

pub(super) fn delete_pod(sandbox: &Sandbox) -> Result<String> {
    let pod = ready_pods(sandbox, 3)?.remove(0);
    kubectl(sandbox, &["delete", "pod", &pod.name])?;
    let now = ready_pods(sandbox, 3)?;
    ensure!(now.iter().all(|own| own.name != pod.name), "{now:?}");
    ensure!(processes(&pod.container)?.is_empty(), "its processes are still there");
    Ok(format!(
        "{} is gone; there are {}",
        pod.name,
        now.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(", ")
    ))
}

pub(super) fn delete_stubborn(sandbox: &Sandbox) -> Result<String> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stubborn"}, "spec": {
        "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "c", "image": "localhost/testbox:v1", "args": ["stubborn"]}],
    }});
    sandbox.kubectl(["-n", "demo", "apply", "-f", "-"]).input(pod.to_string()).run()?;
    kubectl(sandbox, &["wait", "--for=condition=Ready", "pod/stubborn", "--timeout=30s"])?;
    let start = Instant::now();
    kubectl(sandbox, &["delete", "pod", "stubborn"])?;
    let took = start.elapsed().as_secs_f64();
    ensure!((1.5..8.0).contains(&took), "it took {took:.1} s to end a pod with a grace of 2 s");
    Ok(format!("gone after {took:.1} s of a grace of 2 s"))
}

pub(super) fn fail_readiness(sandbox: &Sandbox) -> Result<String> {
    let pod = ready_pods(sandbox, 3)?.remove(0);
    let switch = |to: &str| {
        kubectl(sandbox, &["exec", &pod.name, "--", "/testbox", "get", &format!("http://127.0.0.1:8080/ready/{to}")])
    };
    eventually("all are endpoints", PATIENCE, || {
        let all = endpoints(sandbox)?;
        ensure!(all.len() == 3 && all.contains(&pod.ip), "{all:?}");
        Ok(())
    })?;
    switch("off")?;
    eventually("it leaves the endpoints", PATIENCE, || {
        let left = endpoints(sandbox)?;
        ensure!(left.len() == 2 && !left.contains(&pod.ip), "{left:?}");
        Ok(())
    })?;
    let said = kubectl(sandbox, &["describe", "pod", &pod.name])?;
    let why = "Readiness probe failed: HTTP probe failed with statuscode: 503";
    ensure!(said.contains(why), "{why:?} is missing in\n{said}");
    switch("on")?;
    eventually("it comes back", PATIENCE, || {
        let all = endpoints(sandbox)?;
        ensure!(all.len() == 3, "{all:?}");
        Ok(())
    })?;
    let restarts = web_pods(sandbox)?.iter().find(|own| own.name == pod.name).map(|own| own.restarts);
    ensure!(restarts == Some(pod.restarts), "it was restarted");
    Ok(why.to_owned())
}

//! Everything that people look at first.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use corten_testkit::{Sandbox, eventually};

use crate::cluster::{PATIENCE, from_client, get, kubectl, ready_pods};

pub(super) fn get_all(sandbox: &Sandbox) -> Result<String> {
    let said = kubectl(sandbox, &["get", "all", "-o", "wide"])?;
    for wanted in ["pod/client", "service/web", "deployment.apps/web", "replicaset.apps/web-", "localhost/testbox:v1"] {
        ensure!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    Ok(said.trim().to_owned())
}

pub(super) fn describe(sandbox: &Sandbox) -> Result<String> {
    let pod = &ready_pods(sandbox, 3)?[0];
    let said = kubectl(sandbox, &["describe", "pod", &pod.name])?;
    for wanted in
        ["Status:           Running", "Scheduled", "Pulled", "Created", "Started", "http-get http://:http/ready"]
    {
        ensure!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    let node = sandbox.kubectl(["describe", "node", "node-1"]).run()?;
    for wanted in ["KubeletReady", "Allocated resources", "PodCIDR:", "web-"] {
        ensure!(node.contains(wanted), "{wanted} is missing in\n{node}");
    }
    let service = kubectl(sandbox, &["describe", "service", "web"])?;
    ensure!(service.contains(&format!("{}:8080", pod.ip)), "the pod is missing in\n{service}");
    kubectl(sandbox, &["describe", "deployment", "web"])?;
    let events = said.lines().skip_while(|line| !line.starts_with("Events:"));
    Ok(events.collect::<Vec<_>>().join("\n"))
}

pub(super) fn configuration(sandbox: &Sandbox) -> Result<String> {
    let environment = from_client(sandbox, &["get", "http://web/env"])?;
    let pods = ready_pods(sandbox, 3)?;
    for wanted in
        ["GREETING=hello from a config map", "WEB_PASSWORD=not so secret", "KUBERNETES_SERVICE_HOST=10.43.0.1"]
    {
        ensure!(environment.contains(wanted), "{wanted} is missing in\n{environment}");
    }
    ensure!(pods.iter().any(|pod| environment.contains(&format!("POD_IP={}\n", pod.ip))), "{environment}");
    let page = from_client(sandbox, &["get", "http://web/file/pages/page.txt"])?;
    ensure!(page == "a page from a config volume\n", "{page}");
    Ok(page.trim().to_owned())
}

pub(super) fn service(sandbox: &Sandbox) -> Result<String> {
    let pods = ready_pods(sandbox, 3)?;
    let said = from_client(sandbox, &["get", "http://web.demo.svc.cluster.local/hostname", "90"])?;
    let mut answers: BTreeMap<&str, u32> = BTreeMap::new();
    said.lines().for_each(|name| *answers.entry(name).or_default() += 1);
    for pod in &pods {
        let count = answers.get(pod.name.as_str()).copied().unwrap_or(0);
        ensure!((10..=50).contains(&count), "{} answered {count} of 90: {answers:?}", pod.name);
    }
    ensure!(answers.len() == 3, "{answers:?}");
    let address = get(sandbox, &["service", "web"])?["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let resolved = from_client(sandbox, &["resolve", "web"])?;
    ensure!(resolved.contains(&address), "DNS says {resolved}, the service has {address}");
    // The node itself reaches it as well.
    sandbox.testbox(["get", &format!("http://{address}/")]).run()?;
    let counts: Vec<String> = answers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    Ok(format!("web.demo.svc.cluster.local is {address}; 90 requests went to {}", counts.join(", ")))
}

pub(super) fn logs(sandbox: &Sandbox) -> Result<String> {
    let pod = &ready_pods(sandbox, 3)?[0];
    let file = sandbox.folder().join("logs");
    let following = sandbox.kubectl_in_background(["-n", "demo", "logs", "-f", &pod.name], &file)?;
    let read = || fs::read_to_string(&file).context("no output");
    let line = eventually("the log's first line", PATIENCE, || {
        let text = read()?;
        ensure!(text.contains(&format!("testbox v1 on {} serves", pod.name)), "{text}");
        Ok(text)
    })?;
    // The stream goes on while the container does, and ends with it.
    kubectl(sandbox, &["delete", "pod", &pod.name])?;
    ensure!(following.wait(PATIENCE)? == 0, "kubectl logs -f failed: {}", read()?);
    let text = read()?;
    ensure!(text.contains("testbox got SIGTERM, stops in 1 s"), "{text}");
    ready_pods(sandbox, 3)?;
    Ok(line.trim().to_owned())
}

pub(super) fn exec(sandbox: &Sandbox) -> Result<String> {
    // `script` gives kubectl the terminal that a person has.
    let program = sandbox.kubectl(["-n", "demo", "exec", "-it", "client", "--", "/testbox", "shell"]).in_terminal();
    let output = program.input("tty\nhostname\nexit 7\n").output()?;
    ensure!(output.stdout.contains("a terminal") && output.stdout.contains("client"), "{}", output.all());
    ensure!(output.code == 7, "exit code {}, not 7: {}", output.code, output.all());
    let missing = sandbox.kubectl(["-n", "demo", "exec", "client", "--", "/nothing"]).fail()?;
    let piped = sandbox.kubectl(["-n", "demo", "exec", "-i", "client", "--", "/testbox", "cat-stdin"]);
    let text = "x".repeat(200_000);
    ensure!(piped.input(text.clone()).run()? == text, "200 kB through cat do not come back");
    let words = ["-n", "demo", "run", "cat", "-i", "--rm", "--restart=Never", "--image=localhost/testbox:v1"];
    let once = sandbox.kubectl(words).args(["--", "cat-stdin"]).input("to the end\n").run()?;
    ensure!(once.contains("to the end\n"), "kubectl run -i says {once:?}");
    Ok(format!("a terminal, its exit code 7, 200 kB through stdin and stdout; and: {}", missing.trim()))
}

pub(super) fn port_forward(sandbox: &Sandbox) -> Result<String> {
    let file = sandbox.folder().join("port-forward");
    let _forward = sandbox.kubectl_in_background(["-n", "demo", "port-forward", "service/web", "18080:80"], &file)?;
    let answer = eventually("the forwarded port answers", PATIENCE, || {
        sandbox.testbox(["get", "http://127.0.0.1:18080/through", "5"]).run()
    })
    .with_context(|| fs::read_to_string(&file).unwrap_or_default())?;
    ensure!(answer.lines().count() == 5 && answer.contains("GET /through"), "{answer}");
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

//! `corten status`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use corten_api::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

use super::{Output, Places};
use crate::settings::Settings;
use crate::{control, instance, remove};

/// How a process is told that something does not run, by custom of init scripts.
const NOT_RUNNING: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    places: Places,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubeconfig: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeStatus>,
    /// Pods by phase.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pods: BTreeMap<String, usize>,
    /// Pods that run although the cluster's process is gone.
    #[serde(skip_serializing_if = "is_zero")]
    orphaned_pods: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct NodeStatus {
    name: String,
    ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (data_dir, run_dir) = arguments.places.absolute()?;
    let mut status = Status::default();
    if let Some(running) = instance::find(&run_dir)? {
        status.running = true;
        status.pid = Some(running.pid);
        if let Some(settings) = Settings::load(&data_dir)? {
            status.api_server = Some(settings.url());
            status.kubeconfig = Some(settings.kubeconfig.display().to_string());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = async { tokio::time::timeout(PATIENCE, ask(control::client(&run_dir), &mut status)).await };
        let asked = runtime.block_on(ask);
        asked
            .context("it does not answer in time")
            .flatten()
            .with_context(|| format!("process {} runs, but its API cannot be asked", running.pid))?;
    } else {
        let settings = Settings::load(&data_dir)?.filter(|own| own.run_dir == run_dir);
        let settings = settings.unwrap_or_else(|| Settings::assumed(&data_dir, &run_dir));
        status.orphaned_pods = remove::orphans(&settings)?;
    }
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Text => print(&status),
    }
    Ok(if status.running { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

async fn ask(client: kube::Client, status: &mut Status) -> anyhow::Result<()> {
    let all = ListParams::default();
    let nodes = Api::<Node>::all(client.clone()).list(&all).await?;
    status.nodes = nodes.items.iter().map(node).collect();
    for pod in Api::<Pod>::all(client).list(&all).await?.items {
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_else(|| "Unknown".to_owned());
        *status.pods.entry(phase).or_default() += 1;
    }
    Ok(())
}

fn node(node: &Node) -> NodeStatus {
    let name = node.metadata.name.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    match conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => NodeStatus { name, ready: true, message: String::new() },
        Some(ready) => NodeStatus { name, ready: false, message: ready.message.clone().unwrap_or_default() },
        None => NodeStatus { name, ready: false, message: "it has not reported yet".to_owned() },
    }
}

fn print(status: &Status) {
    let Some(pid) = status.pid else {
        match status.orphaned_pods {
            0 => println!("No cluster runs here. `corten up` starts one."),
            pods => println!(
                "The cluster's process is gone, but {}. `corten up` goes on with them, `corten down` ends them.",
                remove::still_running(pods)
            ),
        }
        return;
    };
    println!("Running as process {pid}.");
    if let (Some(url), Some(kubeconfig)) = (&status.api_server, &status.kubeconfig) {
        println!("API server  {url}");
        println!("Kubeconfig  {kubeconfig}");
    }
    for node in &status.nodes {
        let state = if node.ready { "Ready".to_owned() } else { format!("not ready: {}", node.message) };
        println!("Node        {}: {state}", node.name);
    }
    let pods: Vec<String> = status.pods.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    println!("Pods        {}", if pods.is_empty() { "none".to_owned() } else { pods.join(", ") });
}

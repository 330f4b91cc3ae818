//! From nothing to pods that serve, and what it costs to keep them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use corten_testkit::{Background, Sandbox};
use futures::future::try_join_all;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::figures::{Figure, Figures, percentile};
use super::machine;
use super::watch::{Pods, node_ready};

const API: Figure = Figure::at_most(0, "exec to /readyz", "ms", 300.0);
const NODE: Figure = Figure::at_most(1, "exec to node Ready", "ms", 600.0);
const FIRST: Figure = Figure::at_most(2, "exec to first pod Ready", "ms", 1000.0);
const POD: Figure = Figure::at_most(3, "POST of a pod to Ready, median of 50", "ms", 100.0);
const SLOWEST: Figure = Figure::at_most(4, "POST of a pod to Ready, p99 of 50", "ms", 200.0);
const AT_ONCE: Figure = Figure::at_most(5, "50 pods at once to all Ready", "ms", 1500.0);
const MEMORY: Figure = Figure::at_most(6, "idle memory of corten (PSS)", "MiB", 50.0);
const SHIM: Figure = Figure::at_most(7, "memory of a shim (PSS)", "MiB", 1.5);
const CPU: Figure = Figure::at_most(8, "idle CPU of corten, of a core", "%", 0.5);

const COUNT: usize = 50;
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it so often, each time in a fresh sandbox; a Markdown table.
pub fn first_light(runs: usize) -> Result<String> {
    let mut figures = Figures::default();
    for run in 1..=runs {
        let sandbox = Sandbox::new().context("the benchmark cannot run here")?;
        sandbox.import("v1")?;
        let start = Instant::now();
        let process = sandbox.start_in_foreground()?;
        let measured = sandbox.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(measure(&sandbox, &process, start, &mut figures))
        });
        measured.with_context(|| std::fs::read_to_string(sandbox.folder().join("run.log")).unwrap_or_default())?;
        eprintln!("run {run} of {runs} is done");
    }
    Ok(figures.table())
}

fn milliseconds(since: Instant, until: Instant) -> f64 {
    until.duration_since(since).as_secs_f64() * 1000.0
}

async fn measure(sandbox: &Sandbox, process: &Background, start: Instant, figures: &mut Figures) -> Result<()> {
    let client = serving(sandbox).await?;
    figures.add(API, milliseconds(start, Instant::now()));
    let mut pods = Pods::new(&client).await?;
    let node = async {
        node_ready(&client).await?;
        Ok::<_, anyhow::Error>(Instant::now())
    };
    let first = async {
        pods.create("first").await?;
        pods.ready(&["first".to_owned()]).await?;
        Ok(Instant::now())
    };
    let (node, first) = tokio::try_join!(node, first)?;
    figures.add(NODE, milliseconds(start, node));
    figures.add(FIRST, milliseconds(start, first));

    let mut times = Vec::new();
    for number in 0..COUNT {
        let name = format!("one-{number}");
        let posted = Instant::now();
        pods.create(&name).await?;
        let ready = pods.ready(std::slice::from_ref(&name)).await?;
        times.push(milliseconds(posted, ready.get(&name).copied().context("nobody saw it become Ready")?));
    }
    figures.add(POD, percentile(&times, 50));
    figures.add(SLOWEST, percentile(&times, 99));
    pods.clear("first").await?;

    let names: Vec<String> = (0..COUNT).map(|number| format!("many-{number}")).collect();
    let posted = Instant::now();
    try_join_all(names.iter().map(|name| pods.create(name))).await?;
    pods.ready(&names).await?;
    figures.add(AT_ONCE, milliseconds(posted, Instant::now()));
    pods.clear("first").await?;

    drop((pods, client));
    tokio::time::sleep(SETTLE).await;
    let before = machine::cpu(process.pid())?;
    tokio::time::sleep(IDLE).await;
    let used = machine::cpu(process.pid())? - before;
    figures.add(CPU, used.as_secs_f64() / IDLE.as_secs_f64() * 100.0);
    figures.add(MEMORY, machine::pss(process.pid())?);
    for shim in machine::shims(&sandbox.folder().display().to_string()) {
        figures.add(SHIM, machine::pss(shim)?);
    }
    Ok(())
}

/// Waits until the API says that it is ready.
pub(super) async fn serving(sandbox: &Sandbox) -> Result<Client> {
    let attempt = async {
        loop {
            if let Ok(client) = connect(sandbox).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.context("the API does not become ready")
}

async fn connect(sandbox: &Sandbox) -> Result<Client> {
    let file = Kubeconfig::read_from(sandbox.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    let client = Client::try_from(config)?;
    let request = http_get("/readyz")?;
    client.request_text(request).await?;
    Ok(client)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

//! What the API server carries: writes, reads, lists, watches, and what objects cost in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use corten_testkit::{Background, Sandbox};
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::Barrier;

use super::figures::{Figure, Figures, percentile};
use super::first_light::serving;
use super::load::{Connection, Protocol, Target};
use super::machine;

const CREATE: Figure = Figure::at_least(0, "create of 1 KiB ConfigMaps, 64 clients", "/s", 8000.0);
const CREATE_SLOWEST: Figure = Figure::at_most(1, "the same, p99", "ms", 20.0);
const GET: Figure = Figure::at_least(2, "get of a ConfigMap, 64 clients", "/s", 20_000.0);
const GET_SLOWEST: Figure = Figure::at_most(3, "the same, p99", "ms", 49.0);
const LIST: Figure = Figure::at_most(4, "consistent list of 5,000 ConfigMaps", "ms", 12.0);
const TABLE: Figure = Figure::at_most(5, "the same as a Table", "ms", 25.0);
const WATCH: Figure = Figure::at_least(6, "100 watchers x 500 updates, events delivered", "/s", 250_000.0);
const WATCH_MANY: Figure = Figure::at_least(7, "1,000 watchers x 500 updates, events delivered", "/s", 250_000.0);
const PODS: Figure = Figure::at_most(8, "memory (PSS) with 100,000 pods of 3 KiB", "MiB", 700.0);

const CLIENTS: usize = 64;
/// ConfigMaps that are listed.
const LISTED: usize = 5000;
const CREATED: usize = 20_000;
const GOT: usize = 60_000;
const UPDATES: usize = 500;
const JSON: &str = "application/json";
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it so often, each time with a fresh cluster; a Markdown table.
pub fn api(runs: usize, pods: usize, protocol: Protocol) -> Result<String> {
    let mut figures = Figures::default();
    for run in 1..=runs {
        let sandbox = Sandbox::new().context("the benchmark cannot run here")?;
        let process = sandbox.start_in_foreground()?;
        let measured = sandbox.enter(|| {
            // Threads that the runtime starts are in the sandbox as this one is.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(measure(&sandbox, &process, pods, protocol, &mut figures))
        });
        measured.with_context(|| std::fs::read_to_string(sandbox.folder().join("run.log")).unwrap_or_default())?;
        eprintln!("run {run} of {runs} is done");
    }
    Ok(figures.table())
}

async fn measure(
    sandbox: &Sandbox,
    process: &Background,
    pods: usize,
    protocol: Protocol,
    figures: &mut Figures,
) -> Result<()> {
    drop(serving(sandbox).await?);
    let target = Target::of(sandbox, protocol).await?;
    let mut one = target.connect().await?;
    for name in ["list", "create", "watch", "pods"] {
        let namespace = json!({"metadata": {"name": name}}).to_string();
        one.size(Method::POST, "/api/v1/namespaces", JSON, namespace.into()).await?;
    }

    fill(&target, "/api/v1/namespaces/list/configmaps", LISTED, config_map).await?;
    for (figure, accept) in [(LIST, JSON), (TABLE, AS_TABLE)] {
        let path = "/api/v1/namespaces/list/configmaps";
        let mut times = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            one.size(Method::GET, path, accept, Bytes::new()).await?;
            times.push(milliseconds(start.elapsed()));
        }
        figures.add(figure, percentile(&times, 50));
    }

    let created = fill(&target, "/api/v1/namespaces/create/configmaps", CREATED, config_map).await?;
    figures.add(CREATE, created.rate());
    figures.add(CREATE_SLOWEST, percentile(&created.times, 99));
    let got = load(&target, GOT, |number| {
        (Method::GET, format!("/api/v1/namespaces/list/configmaps/object-{}", number % LISTED), Bytes::new())
    })
    .await?;
    figures.add(GET, got.rate());
    figures.add(GET_SLOWEST, percentile(&got.times, 99));

    for (figure, watchers) in [(WATCH, 100), (WATCH_MANY, 1000)] {
        figures.add(figure, watched(&target, watchers).await?);
    }

    if pods > 0 {
        fill(&target, "/api/v1/namespaces/pods/pods", pods, pod).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        figures.add(PODS, machine::pss(process.pid())? * (100_000.0 / pods as f64).max(1.0));
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What a load took.
struct Load {
    elapsed: Duration,
    /// Milliseconds of each request.
    times: Vec<f64>,
}

impl Load {
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// `count` requests by all clients, each on its own connection.
async fn load(
    target: &Target,
    count: usize,
    request: impl Fn(usize) -> (Method, String, Bytes) + Copy + Send + Sync + 'static,
) -> Result<Load> {
    let start = Arc::new(Barrier::new(CLIENTS + 1));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = target.connect().await?;
        let start = Arc::clone(&start);
        clients.push(tokio::spawn(async move {
            start.wait().await;
            let mut times = Vec::with_capacity(count / CLIENTS + 1);
            for number in (client..count).step_by(CLIENTS) {
                let (method, path, body) = request(number);
                let sent = Instant::now();
                connection.size(method, &path, JSON, body).await?;
                times.push(milliseconds(sent.elapsed()));
            }
            Ok::<_, anyhow::Error>(times)
        }));
    }
    start.wait().await;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(count);
    for result in try_join_all(clients).await? {
        times.extend(result?);
    }
    Ok(Load { elapsed: begun.elapsed(), times })
}

/// Creates so many objects.
async fn fill(target: &Target, path: &'static str, count: usize, object: fn(usize) -> String) -> Result<Load> {
    load(target, count, move |number| (Method::POST, path.to_owned(), object(number).into())).await
}

fn config_map(number: usize) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("object-{number}")}, "data": {"key": "x".repeat(1000)}}).to_string()
}

/// A pod that no node ever gets, of about 3 KiB once it is stored.
fn pod(number: usize) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("object-{number}"), "labels": {"app": format!("app-{}", number % 100)}},
        "spec": {"schedulingGates": [{"name": "bench.corten.dev/never"}], "containers": [{
            "name": "main", "image": "registry.local/team/service:1.2.3",
            "env": (0..20).map(|index| json!({"name": format!("SETTING_{index}"), "value": "a value of some length"})).collect::<Vec<_>>(),
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
        }]}})
    .to_string()
}

fn numbered(name: &str, number: usize) -> Bytes {
    let data = json!({"key": "x".repeat(1000), "number": number.to_string()});
    json!({"metadata": {"name": name}, "data": data}).to_string().into()
}

/// Events delivered per second while four clients update an object each as fast as they can, with so many watches on
/// all.
async fn watched(target: &Target, watchers: usize) -> Result<f64> {
    const OBJECTS: &str = "/api/v1/namespaces/watch/configmaps";
    const WATCHES: &str = "/api/v1/namespaces/watch/configmaps?watch=true&resourceVersion=0&timeoutSeconds=300";
    const UPDATERS: usize = 4;
    let seen = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..watchers {
        let mut connection = target.connect().await?;
        let mut body = connection.send(Method::GET, WATCHES, JSON, Bytes::new()).await?;
        let seen = Arc::clone(&seen);
        readers.push(tokio::spawn(async move {
            let _connection = connection;
            while let Some(Ok(frame)) = body.frame().await {
                let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                seen.fetch_add(lines as u64, Ordering::Relaxed);
            }
        }));
    }
    let mut updaters = Vec::new();
    for updater in 0..UPDATERS {
        let mut connection: Connection = target.connect().await?;
        let name = format!("watched-{watchers}-{updater}");
        connection.size(Method::POST, OBJECTS, JSON, numbered(&name, 0)).await?;
        updaters.push((connection, name));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = seen.load(Ordering::Relaxed);
    let expected = (watchers * UPDATES) as u64;
    let start = Instant::now();
    let updates = updaters.into_iter().map(|(mut connection, name)| async move {
        for number in 1..=UPDATES / UPDATERS {
            connection.size(Method::PUT, &format!("{OBJECTS}/{name}"), JSON, numbered(&name, number)).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    try_join_all(updates).await?;
    while seen.load(Ordering::Relaxed) - before < expected {
        ensure!(
            start.elapsed() < PATIENCE,
            "watchers saw {} of {expected} events",
            seen.load(Ordering::Relaxed) - before
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = start.elapsed();
    for reader in readers {
        reader.abort();
    }
    Ok(expected as f64 / elapsed.as_secs_f64())
}

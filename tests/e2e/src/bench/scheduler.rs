//! How many pods get a node per second, and how long each waits for it.
//!
//! API server and scheduler run in this process as they do in `corten`, with a log on disk; nodes are objects alone,
//! and there are no controllers. Pods are made before the scheduler starts, so that nothing else takes its time.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corten_api::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use corten_testkit::Cluster;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::figures::{Figure, Figures, percentile};

const PLAIN: Figure = Figure::at_least(0, "pods without constraints, placed", "/s", 3000.0);
const SPREAD: Figure = Figure::at_least(1, "pods with topology spread and anti-affinity, placed", "/s", 1000.0);
const MEDIAN: Figure = Figure::at_most(2, "created to placed at 500 pods/s, median", "ms", 10.0);
const SLOWEST: Figure = Figure::at_most(3, "created to placed at 500 pods/s, p99", "ms", 20.0);

const NAMESPACE: &str = "bench";
const CLIENTS: usize = 64;
const ZONES: usize = 10;
/// Pods of one application.
const REPLICAS: usize = 300;
/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The steady load: so many pods a second for so long.
const RATE: u32 = 500;
const STEADY: usize = 10_000;

/// Runs it so often, each time with a fresh control plane; a Markdown table.
pub fn scheduler(runs: usize, nodes: usize, pods: usize) -> Result<String> {
    let mut figures = Figures::default();
    for run in 1..=runs {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        figures.add(PLAIN, runtime.block_on(throughput(nodes, pods, plain))?);
        figures.add(SPREAD, runtime.block_on(throughput(nodes, pods, spread))?);
        let times = runtime.block_on(latency(nodes, STEADY.min(pods)))?;
        figures.add(MEDIAN, percentile(&times, 50));
        figures.add(SLOWEST, percentile(&times, 99));
        runtime.shutdown_timeout(Duration::from_secs(5));
        eprintln!("run {run} of {runs} is done");
    }
    Ok(figures.table())
}

/// A pod without constraints.
fn plain(number: usize) -> Value {
    json!({"metadata": {"name": format!("pod-{number}"), "labels": {"app": app(number)}}, "spec": {"containers": [{
        "name": "main", "image": "registry.local/web:1", "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}]}})
}

/// A pod that is spread over zones and wants no other of its application on its node.
fn spread(number: usize) -> Value {
    let mut pod = plain(number);
    let selector = json!({"matchLabels": {"app": app(number)}});
    pod["spec"]["topologySpreadConstraints"] = json!([{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
    pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}});
    pod
}

fn app(number: usize) -> String {
    format!("app-{}", number / REPLICAS)
}

/// A control plane with so many nodes.
async fn control_plane(folder: &tempfile::TempDir, nodes: usize) -> Result<Cluster> {
    let cluster = Cluster::bare(folder.path()).await?;
    let client = cluster.client();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &account).await?;
    let api: Api<Node> = Api::all(client);
    each(nodes, |number| {
        let api = api.clone();
        async move {
            let name = format!("node-{number}");
            let labels = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", number % ZONES)});
            create(&api, json!({"metadata": {"name": name, "labels": labels}})).await?;
            let has = json!({"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "100Gi"});
            let status = json!({"status": {"capacity": has, "allocatable": has,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]}});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
            // Nobody is there who would remove the taint of a node that is not ready yet.
            api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": null}}))).await?;
            Ok(())
        }
    })
    .await?;
    Ok(cluster)
}

/// Does something for each number, many at a time.
async fn each<F: Future<Output = Result<()>>>(count: usize, work: impl Fn(usize) -> F) -> Result<()> {
    stream::iter((0..count).map(work)).buffer_unordered(CLIENTS).try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

async fn fill(client: &Client, count: usize, pod: fn(usize) -> Value) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    each(count, |number| {
        let api = api.clone();
        async move { create(&api, pod(number)).await }
    })
    .await
}

/// When each pod was first seen with a node, and how many were.
#[derive(Clone)]
struct Placed {
    times: Arc<Mutex<HashMap<String, Instant>>>,
    count: watch::Receiver<usize>,
}

impl Placed {
    fn watch(informers: &corten_testkit::Informers) -> Self {
        let (sender, count) = watch::channel(0);
        let times: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let seen = Arc::clone(&times);
        informers.of::<Pod>().on_change(move |_, new| {
            let node = new.and_then(|pod| pod.spec.as_ref()?.node_name.as_ref());
            if let Some(name) = node.and(new).and_then(|pod| pod.metadata.name.clone()) {
                let mut times = seen.lock().unwrap_or_else(PoisonError::into_inner);
                times.entry(name).or_insert_with(Instant::now);
                let placed = times.len();
                drop(times);
                sender.send_replace(placed);
            }
        });
        Self { times, count }
    }

    async fn wait(&mut self, all: usize) -> Result<()> {
        let enough = tokio::time::timeout(PATIENCE, self.count.wait_for(|placed| *placed >= all)).await.is_ok();
        ensure!(enough, "{} of {all} pods were placed", *self.count.borrow());
        Ok(())
    }
}

/// Pods placed per second.
async fn throughput(nodes: usize, pods: usize, pod: fn(usize) -> Value) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let cluster = control_plane(&folder, nodes).await?;
    fill(&cluster.client(), pods, pod).await?;
    let informers = cluster.informers();
    informers.of::<Node>().synced().await;
    informers.of::<Pod>().synced().await;
    let mut placed = Placed::watch(&informers);
    let start = Instant::now();
    cluster.start_scheduler(informers);
    placed.wait(pods).await?;
    Ok(pods as f64 / start.elapsed().as_secs_f64())
}

/// Milliseconds from the answer to a pod's creation until its node is seen, at a steady rate.
async fn latency(nodes: usize, pods: usize) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let cluster = control_plane(&folder, nodes).await?;
    let informers = cluster.informers();
    let mut placed = Placed::watch(&informers);
    cluster.start_scheduler(informers);
    // The first pod waits for all caches.
    fill(&cluster.client(), 1, plain).await?;
    placed.wait(1).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut created = tokio::task::JoinSet::new();
    for number in 1..pods {
        tick.tick().await;
        let api = api.clone();
        created.spawn(async move {
            create(&api, plain(number)).await?;
            Ok::<_, anyhow::Error>((format!("pod-{number}"), Instant::now()))
        });
    }
    let mut since = HashMap::new();
    while let Some(result) = created.join_next().await {
        let (name, at) = result??;
        since.insert(name, at);
    }
    placed.wait(pods).await?;
    let times = placed.times.lock().unwrap_or_else(PoisonError::into_inner);
    // A pod may be seen on its node before the answer to its creation is.
    let wait = |(name, at): (&String, &Instant)| Some(times.get(name)?.saturating_duration_since(*at));
    Ok(since.iter().filter_map(wait).map(|time| time.as_secs_f64() * 1000.0).collect())
}

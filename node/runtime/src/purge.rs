//! Removing everything, with or without a running engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_shim::{Reply, Request};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::cgroup::Cgroups;
use crate::folders;
use crate::shim::{Connection, ask};
use crate::types::{EngineConfig, Error, Result};

/// Whoever takes the node down waits for the slowest pod: so it gets less time than one that is deleted.
const MOST_GRACE: Duration = Duration::from_secs(10);

/// Ends every shim and container and removes every cgroup and file of the runtime. Idempotent. Containers are asked to
/// end first, all at once, and killed when their pod's time is over.
pub async fn purge(config: &EngineConfig) -> Result<()> {
    let failed = |what: &'static str| Error::io("RuntimeError", what);
    let mut pods = JoinSet::new();
    for dir in pods_in(config) {
        pods.spawn(async move {
            // One whose shim does not answer has nobody left to ask; the cgroups are emptied below.
            let _ = end(&dir).await;
            let _ = ask(&dir, &Request::Stop).await;
        });
    }
    while pods.join_next().await.is_some() {}
    let cgroups = Cgroups::find(&config.cgroup_root).map_err(failed("cannot find the cgroups"))?;
    let removed = tokio::task::spawn_blocking(move || cgroups.remove_all()).await;
    removed
        .map_err(|error| Error::new("RuntimeError", error.to_string()))?
        .map_err(failed("cannot remove the cgroups"))?;
    for dir in [config.run_dir.join("pods"), config.run_dir.join("shim"), config.data_dir.join("containers")] {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new("RuntimeError", format!("cannot remove {}: {error}", dir.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn pods_in(config: &EngineConfig) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(config.run_dir.join("pods")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// How many pods have containers that run, with or without an engine.
pub async fn running_pods(config: &EngineConfig) -> usize {
    let mut count = 0;
    for dir in pods_in(config) {
        count += usize::from(running(&dir).await.is_ok_and(|containers| !containers.is_empty()));
    }
    count
}

/// The containers of a pod that run.
async fn running(dir: &Path) -> std::io::Result<BTreeSet<String>> {
    match ask(dir, &Request::List).await {
        Ok(Reply::Pod(pod)) => {
            let alive = pod.containers.into_iter().filter(|container| container.pid.is_some());
            Ok(alive.map(|container| container.id).collect())
        }
        Ok(_) => Err(std::io::Error::other("the shim gave an answer to another question")),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Asks the containers of a pod to end, and waits as long as they may take.
async fn end(dir: &Path) -> std::io::Result<()> {
    let until = Instant::now() + folders::spec_in(dir).map_or(Duration::ZERO, |spec| spec.grace).min(MOST_GRACE);
    // Watched before they are listed, so that no end in between is missed.
    let mut watch = Connection::open(dir).await?;
    watch.ask(&Request::Watch).await.map_err(std::io::Error::other)?;
    let mut left = running(dir).await?;
    for id in &left {
        let _ = ask(dir, &Request::Signal { id: id.clone(), signal: Signal::TERM.as_raw() }).await;
    }
    while !left.is_empty() {
        match timeout_at(until, watch.receive()).await {
            Ok(Ok(Reply::Exited { id, .. })) => drop(left.remove(&id)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

//! A machine with the real node agent on it, over fakes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use corten_agent::{Agent, Config, Versions};
use corten_base::{Clock, Random};
use corten_client::Client;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fakes::{FakeImages, FakeNetwork, FakeRuntime};
use crate::wire::Wire;

/// A machine. Its containers, images and links stay when its agent stops; its files stay when it reboots.
pub struct Machine {
    name: String,
    client: Client,
    clock: Clock,
    dir: TempDir,
    random: Random,
    /// Its containers.
    pub runtime: FakeRuntime,
    /// Its images.
    pub images: Arc<FakeImages>,
    /// Its pods' links.
    pub network: Arc<FakeNetwork>,
    /// Its way to the API server.
    pub wire: Wire,
    agent: Mutex<Option<(DropGuard, JoinHandle<()>)>>,
}

impl Machine {
    pub(crate) fn new(name: &str, client: Client, wire: Wire, clock: Clock) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            client,
            wire,
            dir: tempfile::tempdir().context("cannot make a folder for a machine")?,
            random: Random::seeded(2),
            runtime: FakeRuntime::new(clock.clone()),
            images: Arc::new(FakeImages::new(clock.clone())),
            network: Arc::default(),
            clock,
            agent: Mutex::default(),
        })
    }

    fn config(&self) -> Config {
        Config {
            node_name: self.name.clone(),
            data_dir: self.dir.path().join("data"),
            run_dir: self.dir.path().join("run"),
            client: self.client.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            runtime: Arc::new(self.runtime.clone()),
            images: Arc::clone(&self.images) as _,
            network: Arc::clone(&self.network) as _,
            node_ip: IpAddr::V4(Ipv4Addr::new(172, 30, 0, 1)),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: self.dir.path().join("resolv.conf"),
            versions: Versions::default(),
            pod_max: 110,
            port: 10250,
            labels: BTreeMap::new(),
        }
    }

    /// Starts an agent, as after an upgrade or a crash; returns when the node is Ready.
    pub async fn start_agent(&self) {
        let agent = self.start_agent_alone();
        agent.ready().await;
    }

    /// Starts an agent and does not wait for the API server.
    pub fn start_agent_alone(&self) -> Arc<Agent> {
        let agent = Agent::new(self.config());
        let (running, cancel) = (Arc::clone(&agent), CancellationToken::new());
        let own = cancel.clone();
        let task = tokio::spawn(async move { Box::pin(running.run(own)).await });
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some((cancel.drop_guard(), task));
        agent
    }

    /// The agent's process ends; containers go on.
    pub async fn stop_agent(&self) {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((cancel, task)) = agent {
            drop(cancel);
            let _ = task.await;
        }
    }

    /// Power is lost and comes back: no container and no link is left. Starts an agent.
    pub async fn reboot(&self) {
        self.stop_agent().await;
        self.runtime.reboot();
        self.network.reboot();
        self.start_agent().await;
    }

    /// What a container's attempt leaves in its termination log.
    pub fn say_last_words(&self, uid: &str, container: &str, attempt: u32, words: &str) -> Result<()> {
        let dir = self.dir.path().join("data").join("pods").join(uid).join("containers").join(container);
        std::fs::write(dir.join(format!("{attempt}.termination-log")), words).context("cannot leave last words")
    }

    /// Whether anything is left of a pod's volumes on this machine.
    #[must_use]
    pub fn has_files_of(&self, uid: &str) -> bool {
        self.dir.path().join("data").join("pods").join(uid).exists()
    }
}

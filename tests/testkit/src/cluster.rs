//! A whole control plane in this process.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use corten_api::api::core::v1::Node;
use corten_apiserver::{Config, Identity, NodeDialer, NodeStream, Pki, PkiOptions, Server, SigningOrder};
use corten_base::{Clock, Random, Timestamp};
use corten_client::{Client, Informers};
use corten_controllers::{CertificateOrder, Signer};
use corten_store::{Options, Store};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::hollow::Hollow;
use crate::machine::Machine;
use crate::wire::Wire;

/// How much of the test's time a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// When time begins.
const EPOCH: &str = "2026-01-01T00:00:00Z";

/// A cluster without machines. Use it under `#[tokio::test(start_paused = true)]`: then its clock stands still while
/// anything works, and jumps to the next timer when nothing does.
pub struct Cluster {
    server: Arc<Server>,
    clock: Clock,
    random: Random,
    cancel: CancellationToken,
    nodes: Mutex<BTreeMap<String, CancellationToken>>,
    _stop: DropGuard,
}

/// The certificate authority as the controllers use it.
fn signer(pki: Arc<Pki>) -> Signer {
    Signer::new(move |CertificateOrder { request, usages, lifetime, serial, now }| {
        pki.sign(&SigningOrder { request: &request, usages: &usages, lifetime, serial, now })
    })
}

struct NoKubelets;

#[async_trait]
impl NodeDialer for NoKubelets {
    async fn dial(&self, _node: &Node) -> io::Result<Box<dyn NodeStream>> {
        Err(io::Error::other("hollow nodes cannot be asked"))
    }
}

impl Cluster {
    /// A cluster with so many hollow nodes, `node-1` and on, all Ready.
    pub async fn in_process(nodes: u8) -> Result<Self> {
        let clock = Clock::virtual_from(EPOCH.parse::<Timestamp>()?);
        let (cluster, pki) = Self::serve(None, clock, Random::seeded(1)).await?;
        let config = corten_controllers::Config {
            clock: cluster.clock.clone(),
            random: cluster.random.clone(),
            root_ca_pem: pki.ca_pem().to_owned(),
            signer: signer(Arc::clone(&pki)),
            pod_range: (Ipv4Addr::new(10, 42, 0, 0), 16),
        };
        let controllers = cluster.client_of(Identity::controller_manager());
        let cancel = cluster.cancel.clone();
        let informers = cluster.informers();
        tokio::spawn(corten_controllers::run(controllers, informers.clone(), config, cancel));
        cluster.start_scheduler(informers);
        for number in 1..=nodes {
            cluster.add_node(number).await?;
        }
        Ok(cluster)
    }

    /// An API server alone, in real time, with its log in this folder: for benchmarks.
    pub async fn bare(folder: &Path) -> Result<Self> {
        Ok(Self::serve(Some(folder.to_owned()), Clock::system(), Random::system()).await?.0)
    }

    /// Caches of all objects, for those who share them.
    #[must_use]
    pub fn informers(&self) -> Informers {
        Informers::new(self.client_of(Identity::controller_manager()), self.cancel.clone())
    }

    /// Starts the scheduler.
    pub fn start_scheduler(&self, informers: Informers) {
        let config = corten_scheduler::Config::new(self.clock.clone(), self.random.clone());
        let decisions = config.decisions.clone();
        self.server.add_document("scheduling", move |path| decisions.answer(path));
        let client = self.client_of(Identity::scheduler());
        tokio::spawn(corten_scheduler::run(client, informers, config, self.cancel.clone()));
    }

    async fn serve(dir: Option<PathBuf>, clock: Clock, random: Random) -> Result<(Self, Arc<Pki>)> {
        let options =
            Options { dir, history: Duration::from_secs(3600), history_bytes: 16 << 20, clock: clock.clone() };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = PkiOptions {
            node_name: "control".to_owned(),
            addresses: vec![address],
            service_address: IpAddr::V4(Ipv4Addr::new(10, 43, 0, 1)),
            names: Vec::new(),
        };
        let pki = Arc::new(Pki::ephemeral(&names, clock.now())?);
        let server = Server::new(Config {
            store: Store::open(options).await?,
            clock: clock.clone(),
            random: random.clone(),
            service_range: (Ipv4Addr::new(10, 43, 0, 0), 16),
            dns_address: Some(Ipv4Addr::new(10, 43, 0, 10)),
            node_address: address,
            port: 6443,
            pki: Arc::clone(&pki),
            dialer: Arc::new(NoKubelets),
        })
        .await?;
        let cancel = CancellationToken::new();
        let stop = cancel.clone().drop_guard();
        Ok((Self { server, clock, random, cancel, nodes: Mutex::default(), _stop: stop }, pki))
    }

    /// Adds `node-<number>`.
    pub async fn add_node(&self, number: u8) -> Result<()> {
        let name = format!("node-{number}");
        let client = self.client_of(Identity::node(&name));
        let node = Hollow { name: name.clone(), number, client, clock: self.clock.clone() };
        node.register().await.with_context(|| format!("cannot register {name}"))?;
        let life = self.cancel.child_token();
        tokio::spawn(node.run(life.clone()));
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(name, life);
        Ok(())
    }

    /// Adds a machine with the real agent on it, over fakes. Its node is Ready when this returns.
    pub async fn add_machine(&self, name: &str) -> Result<Machine> {
        let wire = Wire::default();
        let client = wire.connect(self.server.service(Identity::node(name)));
        let machine = Machine::new(name, client, wire, self.clock.clone())?;
        machine.start_agent().await;
        Ok(machine)
    }

    /// The node falls silent for good.
    pub fn kill_node(&self, name: &str) {
        if let Some(life) = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            life.cancel();
        }
    }

    fn client_of(&self, user: Identity) -> Client {
        Client::new(self.server.service(user), "default")
    }

    /// The administrator's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(Identity::admin())
    }

    /// Time of day in the cluster.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), namespace)
    }

    /// Creates an object.
    pub async fn create<K>(&self, namespace: &str, object: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(object)?;
        Ok(self.api(namespace).create(&PostParams::default(), &object).await?)
    }

    /// Changes an object by a merge patch.
    pub async fn patch<K>(&self, namespace: &str, name: &str, patch: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        Ok(self.api(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// All objects of a kind in a namespace.
    pub async fn list<K>(&self, namespace: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        Ok(self.api(namespace).list(&ListParams::default()).await?.items)
    }

    /// Lets so much time pass.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Waits until `look` gives a value. After a minute of the cluster's time: an error with what it said last.
    pub async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let start = self.clock.now();
        loop {
            match look().await {
                Ok(value) => return Ok(value),
                Err(error) if self.clock.since(start) > PATIENCE => {
                    bail!("{what}: not within {PATIENCE:?}: {error:#}");
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

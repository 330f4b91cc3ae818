//! Starts the parts of a cluster and connects them.
//!
//! What does not depend on each other starts at once: the store and the keys; containers and network meanwhile. The API
//! serves as soon as the first two are there.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corten_agent::Agent;
use corten_apiserver::{Identity, Pki, PkiOptions, Server, SigningOrder};
use corten_base::{Clock, Random, Tasks, chain};
use corten_client::Informers;
use corten_controllers::{CertificateOrder, Signer};
use corten_image::ImageStore;
use corten_network::Network;
use corten_runtime::Engine;
use corten_store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::dialer::Dialer;
use crate::listeners::Listeners;
use crate::settings::{DNS_ADDRESS, DOMAIN, POD_RANGE, SERVICE_RANGE, Settings};
use crate::{control, kubeconfig, ports};

/// How long the past stays readable, and how many bytes of it are kept at most.
const HISTORY: Duration = Duration::from_secs(24 * 3600);
const HISTORY_BYTES: usize = 16 << 20;
const RENEWAL: Duration = Duration::from_secs(12 * 3600);
const GRACE: Duration = Duration::from_secs(1);
/// As upstream.
const MOST_PODS: u32 = 110;

/// A running cluster.
pub(crate) struct Cluster {
    store: Store,
    agent: Arc<Agent>,
    /// Ends when a part has died or the process is to stop.
    pub(crate) tasks: Tasks,
}

impl Cluster {
    /// Starts everything. The API serves when this returns; the node may take a little longer.
    pub(crate) async fn start(settings: Arc<Settings>, listeners: Listeners) -> anyhow::Result<Self> {
        let (clock, random, tasks) = (Clock::system(), Random::system(), Tasks::new());
        let engine = start(engine(Arc::clone(&settings)));
        let network = start(network(Arc::clone(&settings)));
        let (store, pki) = tokio::try_join!(store(&settings, &clock), pki(&settings, &clock))?;

        let dialer = Dialer::new(pki.kubelet_client_tls()?);
        let config = corten_apiserver::Config {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            service_range: SERVICE_RANGE,
            dns_address: Some(DNS_ADDRESS),
            node_address: IpAddr::V4(settings.node_ip),
            port: settings.api_port,
            pki: Arc::clone(&pki),
            dialer: Arc::new(dialer),
        };
        let server = Server::new(config).await.context("cannot start the API server")?;
        kubeconfig::write(&settings.kubeconfig, &pki.admin_kubeconfig(&settings.url()))?;
        let api = TcpListener::from_std(listeners.api).context("cannot use the API server's socket")?;
        tasks.spawn("api", Arc::clone(&server).serve(api, pki.apiserver_tls()?, tasks.cancelled()));
        let local = control::bind(&settings.run_dir)?;
        tasks.spawn("control", control::serve(local, server.service(Identity::admin()), tasks.cancelled()));
        tasks.spawn("renewal", renew(Arc::clone(&pki), Arc::clone(&settings), clock.clone(), tasks.clone()));

        let client = |user: Identity| kube::Client::new(server.service(user), "default");
        let config = corten_controllers::Config {
            clock: clock.clone(),
            random: random.clone(),
            root_ca_pem: pki.ca_pem().to_owned(),
            signer: signer(Arc::clone(&pki)),
            pod_range: POD_RANGE,
        };
        // One cache of each kind for all who read all of it.
        let informers = Informers::new(client(Identity::controller_manager()), tasks.cancelled());
        let controllers = client(Identity::controller_manager());
        let controllers = corten_controllers::run(controllers, informers.clone(), config, tasks.cancelled());
        tasks.spawn("controllers", controllers);
        // A part that dies takes the process with it, so that they are well until they are told to stop.
        for name in ["controller-manager", "scheduler"] {
            let stopping = tasks.cancelled();
            server.add_component(
                name,
                move || if stopping.is_cancelled() { Err("it has stopped".into()) } else { Ok(()) },
            );
        }
        let scheduler = client(Identity::scheduler());
        let (cache, stop) = (informers.clone(), tasks.cancelled());
        let config = corten_scheduler::Config::new(clock.clone(), random.clone());
        let decisions = config.decisions.clone();
        server.add_document("scheduling", move |path| decisions.answer(path));
        tasks.spawn("scheduler", corten_scheduler::run(scheduler, cache, config, stop));

        let (engine, images) = joined(engine).await.context("cannot start the container runtime")?;
        let network = joined(network).await.context("cannot set up the node's network")?;
        let agent = Agent::new(corten_agent::Config {
            node_name: settings.node_name.clone(),
            data_dir: settings.agent_dir(),
            run_dir: settings.agent_run_dir(),
            client: client(Identity::node(&settings.node_name)),
            clock: clock.clone(),
            random,
            runtime: Arc::new(ports::Runtime::new(engine, images.clone())),
            images: Arc::new(ports::Images(images)),
            network: Arc::new(ports::Network(Arc::clone(&network))),
            node_ip: IpAddr::V4(settings.node_ip),
            cluster_dns: vec![IpAddr::V4(DNS_ADDRESS)],
            cluster_domain: DOMAIN.to_owned(),
            resolv_conf: resolv_conf(),
            versions: corten_agent::Versions::default(),
            pod_max: MOST_PODS,
            port: settings.node_port,
            labels: BTreeMap::new(),
        });
        let cancel = tasks.cancelled();
        tasks.spawn("network", async move {
            if let Err(error) = network.run(&informers, cancel).await {
                tracing::error!(error = chain(&error), "the node's network failed");
            }
        });
        let node = TcpListener::from_std(listeners.node).context("cannot use the node's socket")?;
        let serving = corten_agent::serve::serve(node, pki.kubelet_tls()?, agent.lookup(), clock, tasks.cancelled());
        tasks.spawn("node-server", serving);
        let (own, cancel) = (Arc::clone(&agent), tasks.cancelled());
        tasks.spawn("agent", async move { Box::pin(own.run(cancel)).await });
        Ok(Self { store, agent, tasks })
    }

    /// Returns once the node is Ready.
    pub(crate) async fn ready(&self) {
        self.agent.ready().await;
    }

    /// Stops everything but the containers.
    pub(crate) async fn stop(self) {
        self.tasks.stop(GRACE).await;
        self.store.close().await;
    }
}

/// Lets a part start meanwhile.
fn start<T: Send + 'static>(
    part: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> JoinHandle<anyhow::Result<T>> {
    tokio::spawn(part)
}

async fn joined<T>(part: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    part.await.context("it panicked")?
}

async fn store(settings: &Settings, clock: &Clock) -> anyhow::Result<Store> {
    let options = corten_store::Options {
        dir: Some(settings.store_dir()),
        history: HISTORY,
        history_bytes: HISTORY_BYTES,
        clock: clock.clone(),
    };
    Store::open(options).await.context("cannot open the store")
}

async fn pki(settings: &Settings, clock: &Clock) -> anyhow::Result<Arc<Pki>> {
    let options = PkiOptions {
        node_name: settings.node_name.clone(),
        addresses: vec![IpAddr::V4(settings.node_ip)],
        service_address: IpAddr::V4((u32::from(SERVICE_RANGE.0) + 1).into()),
        names: Vec::new(),
    };
    let (folder, now) = (settings.pki_dir(), clock.now());
    let opened = tokio::task::spawn_blocking(move || Pki::open(&folder, &options, now)).await;
    Ok(Arc::new(opened.context("it panicked")?.context("cannot open the cluster's keys")?))
}

async fn engine(settings: Arc<Settings>) -> anyhow::Result<(Arc<Engine>, ImageStore)> {
    let images = ImageStore::open(settings.images_dir())?;
    let engine = Engine::open(settings.engine()).await?;
    engine.adopt().await?;
    Ok((engine, images))
}

async fn network(settings: Arc<Settings>) -> anyhow::Result<Arc<Network>> {
    let config = corten_network::Config {
        node_name: settings.node_name.clone(),
        node_ip: IpAddr::V4(settings.node_ip),
        cluster_range: POD_RANGE,
        service_range: SERVICE_RANGE,
        dns_address: DNS_ADDRESS,
        cluster_domain: DOMAIN.to_owned(),
        resolv_conf: resolv_conf(),
    };
    Ok(Network::open(config).await?)
}

fn resolv_conf() -> PathBuf {
    PathBuf::from("/etc/resolv.conf")
}

/// The certificate authority as the controllers use it.
fn signer(pki: Arc<Pki>) -> Signer {
    Signer::new(move |CertificateOrder { request, usages, lifetime, serial, now }| {
        pki.sign(&SigningOrder { request: &request, usages: &usages, lifetime, serial, now })
    })
}

/// Renews certificates long before they end; what is connected goes on.
async fn renew(pki: Arc<Pki>, settings: Arc<Settings>, clock: Clock, tasks: Tasks) {
    let cancel = tasks.cancelled();
    while cancel.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
        let renewed = pki.renew(clock.now()).map_err(anyhow::Error::from).and_then(|renewed| {
            if renewed {
                tracing::info!("certificates were renewed");
                kubeconfig::write(&settings.kubeconfig, &pki.admin_kubeconfig(&settings.url()))?;
            }
            Ok(())
        });
        if let Err(error) = renewed {
            tracing::error!(
                error = format!("{error:#}"),
                "cannot renew the cluster's certificates; trying again later"
            );
        }
    }
}

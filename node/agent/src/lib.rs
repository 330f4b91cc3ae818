//! The node agent: what a kubelet does.
//!
//! It registers its node, keeps the node's lease, watches the pods bound to it and runs one worker per pod. A worker
//! is a thin shell around a pure decision (`pods::plan`): spec and observed state in, actions out.
//!
//! Architecture invariant: the agent never touches the kernel's container, image or network facilities; it asks the
//! [`ports`] that `bin/corten` and the tests fill in. Nothing here imports the runtime, image or network crates.

mod config;
mod container;
mod env;
mod facts;
mod files;
mod lookup;
mod node;
mod pods;
pub mod ports;
mod probes;
mod resources;
pub mod serve;
mod sources;
#[cfg(test)]
mod testing;
mod volumes;

use std::sync::Arc;

use corten_api::api::core::v1::{Node, Pod};
use corten_client::{Informers, Recorder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Versions};
pub use lookup::{ContainerKind, ContainerView, Lookup, PodView};

use facts::{Allocatable, NodeFacts};
use node::Keeper;
use node::machine::Machine;
use pods::{Pods, Shared};
use sources::Sources;
use volumes::{Janitor, Volumes};

/// One node's agent.
pub struct Agent {
    config: Arc<Config>,
    lookup: Lookup,
    ready: watch::Sender<bool>,
}

impl Agent {
    /// An agent that does nothing until [`Agent::run`].
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let lookup = Lookup::new(Arc::clone(&config.runtime));
        Arc::new(Self { config: Arc::new(config), lookup, ready: watch::Sender::new(false) })
    }

    /// Runs the node until `cancel` fires. Containers keep running after that: a later agent on the same folders
    /// adopts them.
    pub async fn run(&self, cancel: CancellationToken) {
        let config = &self.config;
        let name = &config.node_name;
        let informers = Informers::new(config.client.clone(), cancel.clone());
        let recorder = Recorder::new(config.client.clone(), "kubelet", Some(name.clone()));
        let machine = Machine::look(&config.data_dir);
        let allocatable = Allocatable {
            cpu_millis: machine.cpus * 1000,
            memory_bytes: machine.memory,
            ephemeral_bytes: machine.storage,
        };
        let node = Arc::new(NodeFacts::new(config, allocatable, machine.memory));
        let (clock, random) = (config.clock.clone(), config.random.clone());
        let sources = Sources::new(&informers, name);
        let shared = Arc::new(Shared {
            volumes: Volumes::new(&config.data_dir, Arc::clone(&node), Arc::clone(&sources), clock, random),
            sources,
            node,
            config: Arc::clone(config),
            recorder: Arc::clone(&recorder),
            lookup: self.lookup(),
        });
        let nodes = informers.filtered::<Node>(&format!("metadata.name={name}"));
        let pods = informers.filtered::<Pod>(&format!("spec.nodeName={name}"));
        let keeper = Keeper::new(Arc::clone(config), machine, recorder, nodes);
        let janitor = Janitor::new(config.client.clone(), name, volumes::local_folder(&config.data_dir));
        tokio::select! {
            () = cancel.cancelled() => {}
            () = keeper.run(&self.ready) => {}
            () = Pods::run(shared, pods) => {}
            () = janitor.run() => {}
        }
    }

    /// Returns once the API server has accepted the node as Ready.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// The pods of this node as they are now, for the node's HTTPS server.
    #[must_use]
    pub fn lookup(&self) -> Lookup {
        self.lookup.clone()
    }
}

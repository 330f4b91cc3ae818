//! The node agent: what a kubelet does.
//!
//! It registers its node, keeps the node's lease, watches the pods bound to it and runs one worker per pod. A worker
//! is a thin shell around a pure state machine (`pods::machine`): spec and observed state in, actions out.
//!
//! Architecture invariant: the agent never touches the kernel's container, image or network facilities; it asks the
//! [`ports`] that `bin/corten` and the tests fill in. Nothing here imports the runtime, image or network crates.
#![expect(dead_code, reason = "the pod workers that use these modules are still to come")]

mod config;
mod container;
mod env;
mod facts;
mod files;
mod lookup;
pub mod ports;
mod probes;
mod resources;
pub mod serve;
mod sources;
#[cfg(test)]
mod testing;
mod volumes;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Versions};
pub use lookup::{ContainerKind, ContainerView, Lookup, PodView};

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
        let _ = &self.config;
        cancel.cancelled().await;
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

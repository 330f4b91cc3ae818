//! Pod networking by `corten-network`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use corten_agent::ports::{self, PortError};

/// The port.
pub(crate) struct Network(pub(crate) Arc<corten_network::Network>);

fn failed(error: corten_network::Error) -> PortError {
    PortError { reason: "NetworkError", message: error.message }
}

#[async_trait]
impl ports::Network for Network {
    async fn attach(&self, pod_uid: &str, netns: &Path) -> Result<Vec<IpAddr>, PortError> {
        self.0.attach(pod_uid, netns).await.map_err(failed)
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), PortError> {
        self.0.detach(pod_uid).await.map_err(failed)
    }

    async fn retain(&self, pod_uids: &[String]) -> Result<(), PortError> {
        self.0.retain(pod_uids).await.map_err(failed)
    }

    async fn set_pod_range(&self, range: (Ipv4Addr, u8)) -> Result<(), PortError> {
        self.0.set_pod_range(range).await.map_err(failed)
    }
}

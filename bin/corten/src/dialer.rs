//! Reaches the kubelets for the API server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use corten_api::api::core::v1::Node;
use corten_apiserver::{NodeDialer, NodeStream};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(10);
const KUBELET_PORT: u16 = 10250;

/// Dials the node's internal address over TLS, as the API server.
pub(crate) struct Dialer {
    connector: TlsConnector,
}

impl Dialer {
    pub(crate) fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { connector: TlsConnector::from(tls) }
    }
}

#[async_trait]
impl NodeDialer for Dialer {
    async fn dial(&self, node: &Node) -> io::Result<Box<dyn NodeStream>> {
        let (address, port) = endpoint(node).ok_or_else(|| io::Error::other("the node has no internal address"))?;
        let connect = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            self.connector.connect(ServerName::IpAddress(address.into()), stream).await
        };
        match tokio::time::timeout(TIMEOUT, connect).await {
            Ok(stream) => Ok(Box::new(stream?)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address}:{port} does not answer"))),
        }
    }

    /// The process is in the node's network namespace, whose routes lead to pods and nodes.
    async fn dial_address(&self, address: SocketAddr) -> io::Result<Box<dyn NodeStream>> {
        match tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(stream) => {
                let stream = stream?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))),
        }
    }
}

/// Where the node says that its server listens.
fn endpoint(node: &Node) -> Option<(IpAddr, u16)> {
    let status = node.status.as_ref()?;
    let internal = status.addresses.iter().flatten().find(|address| address.type_ == "InternalIP")?;
    let port = status.daemon_endpoints.as_ref().and_then(|endpoints| endpoints.kubelet_endpoint.as_ref());
    let port = port.and_then(|endpoint| u16::try_from(endpoint.port).ok()).filter(|port| *port != 0);
    Some((internal.address.parse().ok()?, port.unwrap_or(KUBELET_PORT)))
}

//! The ports that a cluster listens on, taken before anything else is done.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, anyhow};

use crate::settings::Settings;

/// Listening sockets. Clients that come early wait in their queues.
pub(crate) struct Listeners {
    /// The API server's.
    pub(crate) api: TcpListener,
    /// The node's.
    pub(crate) node: TcpListener,
}

impl Listeners {
    pub(crate) fn bind(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            api: bind("--api-port", "the API server", settings.api_port)?,
            node: bind("--node-port", "the node", settings.node_port)?,
        })
    }
}

fn bind(option: &str, whose: &str, port: u16) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("port {port} of {whose} is taken by another process: stop that one, or choose another by {option}")
        }
        _ => anyhow!("cannot listen on port {port} of {whose}: {error}"),
    })?;
    listener.set_nonblocking(true).context("cannot set up a socket")?;
    Ok(listener)
}

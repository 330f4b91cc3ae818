//! Probes that connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::answer::Answer;

pub(super) async fn run(host: &str, port: u16, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, connect(host, port)).await {
        Ok(Ok(_)) => Answer::Healthy,
        Ok(Err(error)) => Answer::Unhealthy(error),
        Err(_) => Answer::Unhealthy(format!("dial tcp {}: i/o timeout", address(host, port))),
    }
}

/// Connects; the error is in the words that people know from upstream.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("dial tcp {}: connect: {}", address(host, port), words(&error));
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // A static binary has no resolver for host names, and pods have addresses.
        host => host.parse().map_err(|_| format!("dial tcp: lookup {host}: only addresses are supported yet"))?,
    };
    TcpStream::connect(SocketAddr::new(ip, port)).await.map_err(failed)
}

/// Host and port, with brackets where they are needed.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Without the number that Rust adds.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

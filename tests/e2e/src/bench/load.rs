//! A client that makes load: one TLS connection, one request after the other, bytes left as they come.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use corten_testkit::Sandbox;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// One request at a time on a connection.
    Http1,
    /// As client-go does.
    Http2,
}

/// Where the API of a sandbox is, and as whom to speak to it.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    host: String,
    tls: TlsConnector,
    protocol: Protocol,
}

impl Target {
    /// The administrator of the sandbox's cluster.
    pub(super) async fn of(sandbox: &Sandbox, protocol: Protocol) -> Result<Self> {
        let file = Kubeconfig::read_from(sandbox.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let host = config.cluster_url.host().context("the kubeconfig names no host")?.to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let address = SocketAddr::new(host.parse().context("the kubeconfig names no address")?, port);
        Ok(Self { address, host, tls: TlsConnector::from(Arc::new(tls)), protocol })
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = self.address.ip().into();
        let stream = TokioIo::new(self.tls.connect(name, stream).await?);
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        let authority = format!("{}:{}", self.host, self.address.port());
        Ok(Connection { sender, authority, protocol: self.protocol })
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection.
pub(super) struct Connection {
    sender: Sender,
    authority: String,
    protocol: Protocol,
}

impl Connection {
    /// Sends a request; the body of its answer, which must be a success.
    pub(super) async fn send(&mut self, method: Method, path: &str, accept: &str, body: Bytes) -> Result<Incoming> {
        let uri = match self.protocol {
            Protocol::Http1 => path.to_owned(),
            Protocol::Http2 => format!("https://{}{path}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri).header(ACCEPT, accept);
        if self.protocol == Protocol::Http1 {
            request = request.header(HOST, &self.authority);
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body))?;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => sender.send_request(request).await?,
        };
        let status = answer.status();
        if !status.is_success() {
            let text = answer.into_body().collect().await?.to_bytes();
            anyhow::bail!("{path}: {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(answer.into_body())
    }

    /// Sends a request and reads its whole answer; its size.
    pub(super) async fn size(&mut self, method: Method, path: &str, accept: &str, body: Bytes) -> Result<usize> {
        let mut incoming = self.send(method, path, accept, body).await?;
        let mut size = 0;
        while let Some(frame) = incoming.frame().await {
            size += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(size > 0, "{path}: an empty answer");
        Ok(size)
    }
}

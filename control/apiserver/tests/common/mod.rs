//! A server in memory, and requests to it in process.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use corten_api::api::core::v1::Node;
use corten_apiserver::{Config, Credentials, Identity, NodeDialer, NodeStream, Pki, PkiOptions, Server};
use corten_base::{Clock, Random};
use corten_store::{Options, Store};
use futures::StreamExt;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Nothing is reached.
pub(crate) struct NoNodes;

#[async_trait]
impl NodeDialer for NoNodes {
    async fn dial(&self, _node: &Node) -> io::Result<Box<dyn NodeStream>> {
        Err(io::Error::other("there are no nodes"))
    }
}

/// An empty store and new keys.
async fn fresh() -> (Store, Arc<Pki>) {
    let clock = Clock::system();
    let options =
        Options { dir: None, history: Duration::from_secs(3600), history_bytes: 16 << 20, clock: clock.clone() };
    let store = Store::open(options).await.expect("a store");
    let options = PkiOptions {
        node_name: "n".to_owned(),
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        service_address: IpAddr::from([10, 43, 0, 1]),
        names: vec![],
    };
    (store, Arc::new(Pki::ephemeral(&options, clock.now()).expect("keys")))
}

/// A server without nodes.
pub(crate) struct Api {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Store,
    pub(crate) pki: Arc<Pki>,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(None, NoNodes).await
    }

    /// A server that reaches nodes and pods by this dialer, over a store that may hold a cluster already.
    pub(crate) async fn with(cluster: Option<(Store, Arc<Pki>)>, dialer: impl NodeDialer) -> Self {
        let (store, pki) = match cluster {
            Some(cluster) => cluster,
            None => fresh().await,
        };
        let config = Config {
            store: store.clone(),
            clock: Clock::system(),
            random: Random::seeded(7),
            service_range: (Ipv4Addr::new(10, 43, 0, 0), 16),
            dns_address: Some(Ipv4Addr::new(10, 43, 0, 10)),
            node_address: IpAddr::from([127, 0, 0, 1]),
            port: 6443,
            pki: Arc::clone(&pki),
            dialer: Arc::new(dialer),
        };
        Self { server: Server::new(config).await.expect("a server"), store, pki }
    }

    pub(crate) async fn raw(
        &self,
        user: Identity,
        request: Request<Full<Bytes>>,
    ) -> http::Response<corten_apiserver::Body> {
        match self.server.service(user).oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let answer = self.raw(Identity::admin(), request.body(Full::new(body.into())).expect("a request")).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, "application/json", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(Method::DELETE, path, "application/json", "").await
    }

    /// The first lines of a watch, as `TYPE name`.
    pub(crate) async fn watched(&self, path: &str, count: usize) -> Vec<String> {
        let request = Request::get(path).body(Full::default()).expect("a request");
        let body = self.raw(Identity::admin(), request).await.into_body().into_data_stream();
        let mut text = String::new();
        let mut pieces = Box::pin(body);
        while text.lines().count() < count {
            let piece = tokio::time::timeout(Duration::from_secs(5), pieces.next()).await.expect("in time");
            text.push_str(&String::from_utf8_lossy(&piece.expect("a piece").expect("bytes")));
        }
        let show = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            format!(
                "{} {}",
                event["type"].as_str().unwrap_or_default(),
                event["object"]["metadata"]["name"].as_str().unwrap_or_default()
            )
        };
        text.lines().map(show).collect()
    }
}

/// A server that listens, with the CA by which clients know it.
pub(crate) struct Listening {
    address: std::net::SocketAddr,
    ca: String,
    cancel: CancellationToken,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Api {
    /// Listens on a port of its own until the answer is dropped.
    pub(crate) async fn listening(&self) -> Listening {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cancel = CancellationToken::new();
        tokio::spawn(Arc::clone(&self.server).serve(listener, self.pki.apiserver_tls().expect("TLS"), cancel.clone()));
        Listening { address, ca: self.pki.ca_pem().to_owned(), cancel }
    }
}

impl Listening {
    /// A connection as whoever the credentials are of.
    pub(crate) async fn connect(&self, credentials: Option<&Credentials>) -> TlsStream<tokio::net::TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("a certificate")).expect("added");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match credentials {
            None => builder.with_no_client_auth(),
            Some(credentials) => {
                let certificate = CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("a key")
            }
        };
        let stream = tokio::net::TcpStream::connect(self.address).await.expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS")
    }

    /// The code with which a list of nodes is answered; empty if the handshake was refused.
    pub(crate) async fn ask(&self, credentials: Option<&Credentials>, token: Option<&str>) -> String {
        let mut stream = self.connect(credentials).await;
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

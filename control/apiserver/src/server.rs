//! The server itself: what all requests share.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use corten_api::protobuf::Protobuf;
use corten_api::schema::Schema;
use corten_api::status::Status;
use corten_base::{Clock, Random};
use corten_kinds::Claims;
use corten_store::{LeaseId, Snapshot, Store, WriteError};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;

use crate::authenticate::impersonate::impersonate;
use crate::authorize::Authorizer;
use crate::body::{self, Answer, Body};
use crate::bootstrap::Started;
use crate::components::Components;
use crate::documents::Documents;
use crate::identity::Identity;
use crate::metrics::{Labels, Metrics};
use crate::negotiate::Wish;
use crate::node_proxy::NodeDialer;
use crate::openapi::OpenApi;
use crate::pki::{Pki, PkiError};
use crate::render::render;
use crate::request::{PeerAddress, Query, Request, decode_path, drop_body, read_in_time};
use crate::route::{Route, route};
use crate::storage::claim_key;
use crate::tokens::Tokens;
use crate::turns::Turns;
use crate::watch_events::Made;
use crate::{authorize, bootstrap, discovery, openid, verbs};

/// What a server is made of.
pub struct Config {
    /// Where objects live.
    pub store: Store,
    /// Time of day.
    pub clock: Clock,
    /// Names, UIDs, addresses.
    pub random: Random,
    /// Cluster IPs; the first is that of the `kubernetes` service.
    pub service_range: (Ipv4Addr, u8),
    /// Cluster IP of the cluster's DNS, which the `kube-dns` service keeps; `None` if the cluster has no DNS.
    pub dns_address: Option<Ipv4Addr>,
    /// Address at which this server is reached, published behind the `kubernetes` service.
    pub node_address: IpAddr,
    /// Port at which this server is reached.
    pub port: u16,
    /// Keys and certificates.
    pub pki: Arc<Pki>,
    /// Reaches the kubelets.
    pub dialer: Arc<dyn NodeDialer>,
}

/// A server. Serves requests in process ([`Server::service`]) and over TLS ([`Server::serve`]).
pub struct Server {
    config: Config,
    schema: Schema,
    protobuf: Protobuf,
    recent: Made,
    tokens: Tokens,
    authorizer: Authorizer,
    verifier: Arc<dyn ClientCertVerifier>,
    openapi: tokio::sync::OnceCell<OpenApi>,
    components: Components,
    documents: Documents,
    started: Started,
    metrics: Arc<Metrics>,
    /// Ends long requests when the server stops.
    stopping: CancellationToken,
    /// The lease on which short-lived objects of this minute hang.
    expiring: tokio::sync::Mutex<Option<(i64, LeaseId)>>,
    turns: Turns,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys do not make a server.
    #[error("cannot use the cluster's keys")]
    Pki(#[from] PkiError),
    /// What every cluster has cannot be written.
    #[error("cannot write the objects that every cluster has")]
    Bootstrap(#[source] Status),
}

impl Server {
    /// A server over the store, with the objects that every cluster has.
    pub async fn new(config: Config) -> Result<Arc<Self>, StartError> {
        let tokens = Tokens::new(config.pki.service_account_key(), config.random.clone())?;
        let verifier = config.pki.client_verifier()?;
        let authorizer = Authorizer::new(config.store.clone());
        let schema = Schema::build();
        let server = Arc::new(Self {
            config,
            authorizer,
            protobuf: Protobuf::build(&schema),
            recent: Made::default(),
            schema,
            tokens,
            verifier,
            openapi: tokio::sync::OnceCell::new(),
            components: Components::default(),
            documents: Documents::default(),
            started: Started::default(),
            metrics: Arc::default(),
            stopping: CancellationToken::new(),
            expiring: tokio::sync::Mutex::default(),
            turns: Turns::default(),
        });
        bootstrap::run(&server).await.map_err(StartError::Bootstrap)?;
        Ok(server)
    }

    /// The API in process, as this user: a `tower` service that `kube::Client` takes.
    #[must_use]
    pub fn service(self: &Arc<Self>, user: Identity) -> Service {
        Service { server: Arc::clone(self), user }
    }

    /// Ends watches and other long requests.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.config.store
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.config.clock
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn protobuf(&self) -> &Protobuf {
        &self.protobuf
    }

    pub(crate) fn recent(&self) -> &Made {
        &self.recent
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    pub(crate) fn verifier(&self) -> &dyn ClientCertVerifier {
        &*self.verifier
    }

    /// All documents. Making them takes a while, and keeps nobody waiting but those who ask for them.
    pub(crate) async fn openapi(&self) -> Result<&OpenApi, Status> {
        let make = async || tokio::task::spawn_blocking(OpenApi::build).await.map_err(Status::internal);
        self.openapi.get_or_try_init(make).await
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn components(&self) -> &Components {
        &self.components
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    pub(crate) fn started(&self) -> &Started {
        &self.started
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The lease for objects that live so long after their last write. Objects written in the same minute share one.
    pub(crate) async fn lease(&self, time_to_live: Duration) -> Result<LeaseId, WriteError> {
        const BUCKET: i64 = 60;
        let minute = self.clock().now().as_second() / BUCKET;
        let mut current = self.expiring.lock().await;
        if let Some((of, lease)) = *current
            && of == minute
        {
            return Ok(lease);
        }
        let lease = self.store().grant(time_to_live + Duration::from_secs(BUCKET.unsigned_abs())).await?;
        *current = Some((minute, lease));
        Ok(lease)
    }

    /// The turn of a write that charges a quota of this namespace.
    pub(crate) async fn turn(&self, namespace: Option<&str>) -> tokio::sync::OwnedMutexGuard<()> {
        self.turns.take(namespace.unwrap_or_default()).await
    }

    /// Answers a request.
    pub(crate) async fn answer<B>(self: &Arc<Self>, user: Result<Identity, Status>, request: http::Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let query = Query::parse(request.uri().query());
        let wish = Wish::of(request.headers(), &query);
        let answer = match user {
            Ok(user) => self.answer_as(user, query, request).await,
            Err(status) => body::status(&status),
        };
        render(&self.protobuf, wish, answer).await
    }

    async fn answer_as<B>(self: &Arc<Self>, user: Identity, query: Query, mut request: http::Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let upgrade = request.headers().contains_key(http::header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (parts, incoming) = request.into_parts();
        let path = decode_path(parts.uri.path());
        let route = route(&path);
        let request = Request {
            path: path.clone(),
            query,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: Bytes::new(),
            incoming: Some(incoming.map_err(Into::into).boxed_unsync()).into(),
            user,
            peer: parts.extensions.get::<PeerAddress>().map(|peer| peer.0),
            upgrade,
        };
        // A bug must end one request, not the connection with all that is on it.
        match AssertUnwindSafe(self.dispatch(request, route)).catch_unwind().await {
            Ok(answer) => answer.unwrap_or_else(|status| body::status(&status)),
            Err(_) => {
                tracing::error!(path, "answering a request panicked");
                body::status(&Status::internal("this request caused a panic"))
            }
        }
    }

    async fn dispatch(self: &Arc<Self>, request: Request, route: Result<Route, Status>) -> Result<Answer, Status> {
        let verb = match &route {
            Ok(Route::Resource(target)) => verbs::verb(&request, target),
            _ => Ok(""),
        };
        let measured = self.metrics.begin(match (&route, &verb) {
            (Ok(Route::Resource(target)), Ok(verb)) => Labels::of(verb, &request, target),
            _ => Labels::of_path(&request),
        });
        let answer = self.decide(request, route, verb).await;
        Ok(measured.answered(answer.unwrap_or_else(|status| body::status(&status))))
    }

    async fn decide(
        self: &Arc<Self>,
        mut request: Request,
        route: Result<Route, Status>,
        verb: Result<&'static str, Status>,
    ) -> Result<Answer, Status> {
        let proxied = route.as_ref().is_ok_and(Route::is_proxy);
        let admitted = self.admit(&mut request);
        if !proxied && let Some(incoming) = request.take_incoming() {
            match admitted {
                Ok(()) => request.body = read_in_time(incoming).await?,
                Err(_) => drop_body(incoming).await,
            }
        }
        admitted?;
        match route? {
            Route::Resource(target) => verbs::run(self, request, target, verb?).await,
            Route::Other => self.other(&request).await,
        }
    }

    /// As whom a request is carried out, and whether it may be: decided on its head alone, so that nobody has us keep
    /// what he may not send. Who may not know what is served somewhere is not told.
    fn admit(&self, request: &mut Request) -> Result<(), Status> {
        if let Some(other) = impersonate(&self.authorizer, &request.user, &mut request.headers)? {
            request.user = other;
        }
        authorize::request(self, request)
    }

    async fn other(self: &Arc<Self>, request: &Request) -> Result<Answer, Status> {
        match openid::answer(self, request) {
            Some(answer) => answer,
            None => discovery::answer(self, request).await,
        }
    }
}

/// A server's API as one user sees it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    server: Arc<Server>,
    user: Identity,
}

impl<B> tower::Service<http::Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self { server, user } = self.clone();
        async move { Ok(server.answer(Ok(user), request).await) }.boxed()
    }
}

/// What is free, according to one snapshot.
pub(crate) struct FreeIn<'a> {
    pub(crate) snapshot: Snapshot,
    pub(crate) server: &'a Server,
}

impl Claims for FreeIn<'_> {
    fn is_free(&self, claim: &str) -> bool {
        self.snapshot.get(&claim_key(claim)).is_none()
    }

    fn random(&self, bound: usize) -> usize {
        self.server.config.random.below(bound)
    }

    fn service_range(&self) -> (Ipv4Addr, u8) {
        self.server.config.service_range
    }
}

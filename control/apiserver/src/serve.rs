//! TLS and HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::authenticate::{Peer, authenticate, strip};
use crate::body::Answer;
use crate::negotiate::takes_gzip;
use crate::pieces::Gzip;
use crate::request::PeerAddress;
use crate::server::Server;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bodies of at least so many bytes are compressed for those who can read that, as upstream does.
const COMPRESS_FROM: u64 = 128 << 10;

impl Server {
    /// Serves until `cancel` fires.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        cancel: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        corten_base::accept(&listener, "the API server", &cancel, |stream| {
            tokio::spawn(Arc::clone(&self).connection(stream, acceptor.clone(), cancel.clone()));
        })
        .await;
        self.stop();
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, acceptor: TlsAcceptor, cancel: CancellationToken) {
        let address = stream.peer_addr().ok();
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
        let peer = Arc::new(Peer::new(stream.get_ref().1.peer_certificates().unwrap_or_default()));
        let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            let (server, peer) = (Arc::clone(&self), Arc::clone(&peer));
            async move {
                let user = authenticate(&server, &peer, request.headers());
                strip(request.headers_mut());
                if let Some(address) = address {
                    request.extensions_mut().insert(PeerAddress(address.ip()));
                }
                let headers = request.headers().clone();
                let answer = server.answer(user, request).await;
                Ok::<_, Infallible>(compressed(&headers, answer))
            }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder.http2().max_concurrent_streams(250);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = cancel.cancelled() => {
                // Requests under way may end; watches end by themselves, since the server stops.
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
            }
        }
    }
}

/// Compresses a large answer whose size is known: watches go out as they come.
fn compressed(headers: &HeaderMap, answer: Answer) -> Answer {
    let wanted = takes_gzip(headers);
    let large = answer.body().size_hint().exact().is_some_and(|size| size >= COMPRESS_FROM);
    if !wanted || !large || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    Answer::from_parts(parts, Gzip::new(body).boxed_unsync())
}

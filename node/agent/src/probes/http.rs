//! Probes that ask an HTTP server.
//!
//! Source: pkg/probe/http of Kubernetes v1.36. The words of failures are those of Go's client, which people search for.

use std::error::Error;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::answer::Answer;
use super::tcp;
use super::trust::NoVerification;

/// How probes introduce themselves.
pub(super) const AGENT: &str = "kube-probe/1.36";
const BODY_MAX: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// With a query, if there is one; begins with a slash.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Target {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", tcp::address(&self.host, self.port), self.path)
    }

    /// Where a redirect leads; `None` if it leads nowhere.
    fn redirected(&self, location: &str) -> Option<Self> {
        let uri: Uri = location.parse().ok()?;
        let mut target = self.clone();
        if let Some(scheme) = uri.scheme_str() {
            target.https = scheme == "https";
            target.port = if target.https { 443 } else { 80 };
        }
        if let Some(host) = uri.host() {
            target.host = host.trim_matches(['[', ']']).to_owned();
            target.port = uri.port_u16().unwrap_or(target.port);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        target.path = if path.starts_with('/') {
            path.to_owned()
        } else {
            let folder =
                self.path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
            format!("{folder}/{path}")
        };
        Some(target)
    }
}

pub(super) async fn run(target: &Target, timeout: Duration) -> Answer {
    let mut stage = Stage::Dial;
    let answer = tokio::time::timeout(timeout, follow(target, &mut stage)).await;
    match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Unhealthy(error),
        Err(_) => {
            let why = match stage {
                Stage::Dial => format!("dial tcp {}: i/o timeout", tcp::address(&target.host, target.port)),
                Stage::Headers => "context deadline exceeded".to_owned(),
                Stage::Body => {
                    let why = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
                    return Answer::Unhealthy(why.to_owned());
                }
            };
            Answer::Unhealthy(failed(target, format!("{why} (Client.Timeout exceeded while awaiting headers)")))
        }
    }
}

/// How far a request has come.
#[derive(Clone, Copy)]
enum Stage {
    Dial,
    Headers,
    Body,
}

fn failed(target: &Target, why: impl std::fmt::Display) -> String {
    format!("Get {:?}: {why}", target.url())
}

async fn follow(first: &Target, stage: &mut Stage) -> Result<Answer, String> {
    let mut target = first.clone();
    for _ in 0..=REDIRECTS_MAX {
        *stage = Stage::Dial;
        let (response, connection) = ask(&target, stage).await.map_err(|why| failed(&target, why))?;
        *stage = Stage::Body;
        let status = response.status();
        let next = is_redirect(status).then(|| response.headers().get(LOCATION)).flatten();
        let next = next.and_then(|location| location.to_str().ok()).and_then(|location| target.redirected(location));
        let elsewhere = next.as_ref().is_some_and(|next| next.host != first.host);
        match next {
            Some(next) if !elsewhere => {
                target = next;
                continue;
            }
            _ => {}
        }
        let body = body(response).await?;
        drop(connection);
        if elsewhere {
            // A probe never leaves its pod, but somebody answers there.
            return Ok(Answer::Warning(format!("Probe terminated redirects, Response body: {body}")));
        }
        return Ok(if (200..400).contains(&status.as_u16()) {
            Answer::Healthy
        } else {
            Answer::Unhealthy(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        });
    }
    Err(failed(&target, "stopped after 10 redirects"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// At most the first 10 KiB.
async fn body(response: Response<Incoming>) -> Result<String, String> {
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| words(&error))?.into_data() else { continue };
        read.extend_from_slice(&data);
        if read.len() >= BODY_MAX {
            read.truncate(BODY_MAX);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

type Answered = (Response<Incoming>, AbortOnDropHandle<()>);

async fn ask(target: &Target, stage: &mut Stage) -> Result<Answered, String> {
    let request = request(target)?;
    let stream = tcp::connect(&target.host, target.port).await?;
    *stage = Stage::Headers;
    if !target.https {
        return exchange(stream, request).await;
    }
    let name = rustls_pki_types::ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let tls = connector()?.connect(name, stream).await;
    let tls = tls.map_err(|error| format!("tls: {}", tcp::words(&error)))?;
    exchange(tls, request).await
}

fn connector() -> Result<TlsConnector, String> {
    static CONFIG: LazyLock<Result<Arc<rustls::ClientConfig>, String>> =
        LazyLock::new(|| NoVerification::config().map(Arc::new).map_err(|error| error.to_string()));
    CONFIG.clone().map(TlsConnector::from)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answered, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(|error| words(&error))?;
    Ok((response, connection))
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&target.path).body(Empty::new()).map_err(|error| error.to_string())?;
    let host = tcp::address(&target.host, target.port);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // The first of a name takes the place of ours, an empty one takes it away; more of a name are added.
    let mut own = Vec::new();
    for (name, value) in &target.headers {
        let invalid = |_| format!("invalid header {name:?}");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(http::Error::from(error)))?;
        let value = HeaderValue::from_str(value).map_err(|error| invalid(http::Error::from(error)))?;
        if value.is_empty() && (name == USER_AGENT || name == ACCEPT) {
            headers.remove(name);
        } else if own.contains(&name) && name != HOST {
            headers.append(name, value);
        } else {
            headers.insert(name.clone(), value);
            own.push(name);
        }
    }
    Ok(request)
}

/// An error of the connection in the words of Go's client.
fn words(error: &hyper::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return format!("read tcp: {}", tcp::words(error));
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "EOF".to_owned()
    } else if error.is_parse() {
        format!("malformed HTTP response: {error}")
    } else {
        error.to_string()
    }
}

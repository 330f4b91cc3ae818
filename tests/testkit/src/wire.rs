//! The way from a machine to the API server.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use corten_client::Client;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyStream, StreamBody};
use kube::client::Body;
use tokio::sync::watch;
use tower::ServiceExt;

/// A connection that a test can cut and mend, and that remembers what was written over it. Clones share it.
#[derive(Clone, Default)]
pub struct Wire(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cut: watch::Sender<bool>,
    writes: Mutex<Vec<String>>,
}

impl Wire {
    /// A client whose requests go over this wire.
    pub(crate) fn connect(&self, service: corten_apiserver::Service) -> Client {
        let inner = Arc::clone(&self.0);
        let call = tower::service_fn(move |request: Request<Body>| {
            let (inner, service) = (Arc::clone(&inner), service.clone());
            async move {
                let mut cut = inner.cut.subscribe();
                if *cut.borrow_and_update() {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the wire is cut"));
                }
                if request.method() != Method::GET {
                    let write = format!("{} {}", request.method(), request.uri().path());
                    inner.writes.lock().unwrap_or_else(PoisonError::into_inner).push(write);
                }
                let response = service.oneshot(request).await.map_err(io::Error::other)?;
                // Watches end when the wire is cut.
                let gone = async move { drop(cut.wait_for(|cut| *cut).await) };
                Ok(response.map(|body| StreamBody::new(BodyStream::new(body).take_until(Box::pin(gone)))))
            }
        });
        Client::new(call, "default")
    }

    /// Nothing gets through any more, and what was open breaks off.
    pub fn cut(&self) {
        self.0.cut.send_replace(true);
    }

    /// As if nothing had been.
    pub fn mend(&self) {
        self.0.cut.send_replace(false);
    }

    /// Method and path of every write since the last call.
    #[must_use]
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.writes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! What every controller is given.

use std::fmt::{self, Display};
use std::future::Future;
use std::sync::Arc;

use corten_client::{Client, Informers, Key, Next, Queue, Recorder, run_controller};
use tokio_util::sync::CancellationToken;

use crate::Config;

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: Informers,
    pub(crate) config: Config,
    pub(crate) cancel: CancellationToken,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) queue: Queue,
    name: &'static str,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        informers: Informers,
        config: Config,
        cancel: CancellationToken,
        name: &'static str,
    ) -> Self {
        let recorder = Recorder::new(client.clone(), &format!("{name}-controller"), None);
        Self { client, informers, config, cancel, recorder, queue: Queue::default(), name }
    }

    /// The same with a queue of its own, for a second kind of keys.
    pub(crate) fn with_queue(&self, queue: Queue) -> Self {
        Self { queue, ..self.clone() }
    }

    /// Works on the queue until the end.
    pub(crate) async fn work<F, R>(self, workers: usize, work: F)
    where
        F: Fn(Self, Key) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let (name, queue, cancel) = (self.name, self.queue.clone(), self.cancel.clone());
        run_controller(name, queue, workers, cancel, move |key| work(self.clone(), key)).await;
    }
}

/// Why a key could not be brought to where it should be; it is tried again.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            // What the API says is made for people, and events and conditions show it.
            kube::Error::Api(status) if !status.message.is_empty() => Self(status.message.clone()),
            error => Self(corten_base::chain(&error)),
        }
    }
}

impl From<String> for Error {
    fn from(error: String) -> Self {
        Self(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Whether nothing can be made because the namespace is being deleted.
pub(crate) fn namespace_ends(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}

/// Success if the object was gone already.
pub(crate) fn or_gone<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Success if the object was there already.
pub(crate) fn or_there<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(error),
    }
}

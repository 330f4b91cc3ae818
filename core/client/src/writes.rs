//! Writes that one waits to see.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Resource;

use crate::informer::{Informer, Kind};

/// Longest wait for one's own write to come back by the watch; after that the cache is as good as it gets.
const PATIENCE: Duration = Duration::from_secs(5);

/// The writes of one piece of work. `settle` returns once every cache has seen them, so that the next look at the
/// caches plans nothing twice.
#[derive(Default)]
pub struct Writes(Vec<BoxFuture<'static, ()>>);

impl Writes {
    /// Notes an object as the API returned it.
    pub fn note<K: Kind>(&mut self, informer: &Informer<K>, written: &K) {
        let version = Resource::meta(written).resource_version.as_deref().and_then(|version| version.parse().ok());
        if let Some(version) = version {
            let informer = informer.clone();
            self.0.push(async move { informer.reached(version).await }.boxed());
        }
    }

    /// Waits until the caches have seen all that was noted.
    pub async fn settle(self) {
        let _ = tokio::time::timeout(PATIENCE, futures::future::join_all(self.0)).await;
    }
}

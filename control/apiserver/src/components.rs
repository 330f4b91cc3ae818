//! The parts of the control plane, and whether they are well: what componentstatuses and readiness tell.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::server::Server;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says what is wrong with a part, if anything is.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Parts that run beside the server and told it how to ask them.
#[derive(Default)]
pub(crate) struct Components(Mutex<Vec<(&'static str, Check)>>);

/// What a check found.
pub(crate) struct Checked {
    pub(crate) name: &'static str,
    pub(crate) failure: Option<String>,
}

impl Server {
    /// Names a part of the control plane, such as `scheduler`, and how to ask whether it is well. The check must be
    /// quick: it is asked by every request that wants to know.
    pub fn add_component(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let mut all = self.components().0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(own, _)| *own != name);
        all.push((name, Box::new(check)));
    }
}

/// All parts, and the store.
pub(crate) async fn check(server: &Server) -> Vec<Checked> {
    let store = Checked { name: "etcd-0", failure: store(server).await.err() };
    let all = server.components().0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut checked: Vec<Checked> = all.iter().map(|(name, check)| Checked { name, failure: check().err() }).collect();
    checked.push(store);
    checked.sort_by_key(|checked| checked.name);
    checked
}

/// Whether the store answers a read that waits for all that was acknowledged.
pub(crate) async fn store(server: &Server) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, server.store().read()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(corten_base::chain(&error)),
        Err(_) => Err("the store does not answer in time".to_owned()),
    }
}

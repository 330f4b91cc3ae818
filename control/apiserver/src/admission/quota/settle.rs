//! A second look of a quota at what is there, once every write is charged to it.

use corten_api::status::Status;

use super::{Charges, STORAGE, counted, kind};
use crate::server::Server;
use crate::storage::{self, Commit, Committed};

/// How often a count is made anew because objects came and went meanwhile.
const ATTEMPTS: u32 = 32;

/// Settles the quota of this name if what was written with these charges is one that bounds something new.
pub(crate) async fn settle(server: &Server, namespace: Option<&str>, name: &str, written: &Charges) {
    if written.fence.as_ref().is_some_and(|fence| fence.moves) {
        recount(server, namespace, name).await;
    }
}

/// Settles all quotas of a namespace, from which something went that could not be read.
pub(crate) async fn settle_all(server: &Server, namespace: Option<&str>) {
    if namespace.is_none() {
        return;
    }
    for quota in super::all(&server.store().snapshot(), STORAGE, namespace) {
        recount(server, namespace, quota["metadata"]["name"].as_str().unwrap_or_default()).await;
    }
}

/// Puts the count of a quota right if it is not. The client has its answer, so that what fails here is for the log.
async fn recount(server: &Server, namespace: Option<&str>, name: &str) {
    if let Err(status) = counted_again(server, namespace, name).await {
        tracing::warn!(namespace, name, error = status.message, "a quota may count wrongly until it is changed");
    }
}

/// From its commit on every write is charged to a quota, and what is charged changes it: a count that is written to the
/// very quota that was counted against is true.
async fn counted_again(server: &Server, namespace: Option<&str>, name: &str) -> Result<(), Status> {
    let Some(kind) = kind() else { return Ok(()) };
    let key = storage::key(STORAGE, namespace, name);
    for _ in 0..ATTEMPTS {
        let snapshot = server.store().snapshot();
        let Some(entry) = snapshot.get(&key) else { return Ok(()) };
        let old = storage::decode(entry)?;
        let mut new = old.clone();
        counted(&snapshot, namespace, &mut new, false);
        if new == old {
            return Ok(());
        }
        let before = Some((&old, entry.mod_revision));
        let charges = &Charges::default();
        let commit = Commit { kind, key: key.clone(), old: before, new: Some(&new), lease: 0, charges };
        if let Committed::Done(..) = storage::commit(server.store(), commit).await? {
            return Ok(());
        }
    }
    Err(Status::internal("objects come and go too fast to be counted"))
}

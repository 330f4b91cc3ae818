//! Removing everything, with or without a running engine.

use corten_shim::Request;

use crate::cgroup::Cgroups;
use crate::shim::ask;
use crate::types::{EngineConfig, Error, Result};

/// Ends every shim and container and removes every cgroup and file of the runtime. Idempotent.
pub async fn purge(config: &EngineConfig) -> Result<()> {
    let failed = |what: &'static str| Error::io("RuntimeError", what);
    for entry in std::fs::read_dir(config.run_dir.join("pods")).into_iter().flatten().flatten() {
        let _ = ask(&entry.path(), &Request::Stop).await;
    }
    let cgroups = Cgroups::find(&config.cgroup_root).map_err(failed("cannot find the cgroups"))?;
    let removed = tokio::task::spawn_blocking(move || cgroups.remove_all()).await;
    removed
        .map_err(|error| Error::new("RuntimeError", error.to_string()))?
        .map_err(failed("cannot remove the cgroups"))?;
    for dir in [config.run_dir.join("pods"), config.run_dir.join("shim"), config.data_dir.join("containers")] {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new("RuntimeError", format!("cannot remove {}: {error}", dir.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

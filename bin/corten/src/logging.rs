//! Where log lines go: standard error, or the log file of a detached process.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// The log of a detached process.
pub(crate) fn file(run_dir: &Path) -> PathBuf {
    run_dir.join("corten.log")
}

/// Turns standard error into the log file, so that panics end up there too.
pub(crate) fn redirect(run_dir: &Path) -> anyhow::Result<()> {
    let path = file(run_dir);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open the log {}", path.display()))?;
    rustix::stdio::dup2_stderr(&log).context("cannot redirect standard error")
}

/// Logs what passes the filter, such as `info` or `info,corten_agent=debug`.
pub(crate) fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is no filter: try info, debug, or info,corten_agent=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| corten_base::Pulsing(std::io::stderr()))
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

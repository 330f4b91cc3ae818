//! Runs the whole story in a sandbox and prints its timeline. `cargo xtask demo` builds all it needs.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use corten_e2e::story::{STORY, tell};
use corten_testkit::Sandbox;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // From before anything is made, so that there is no moment at which a signal leaves something behind.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let sandbox = Arc::new(Sandbox::new().context("the demo cannot run here")?);
        println!("A cluster in the network namespace {}, which has no way out:", sandbox.name());
        let (done, result) = oneshot::channel();
        let own = Arc::clone(&sandbox);
        let teller = thread::spawn(move || drop(done.send(tell(&own, &STORY))));
        tokio::select! {
            told = result => {
                let _ = teller.join();
                told.context("the story ended without an end")??;
                println!("That was the whole story; nothing is left of it.");
                Ok(())
            }
            // The thread ends with the process.
            _ = interrupt.recv() => stop(&sandbox),
            _ = terminate.recv() => stop(&sandbox),
        }
    })
}

fn stop(sandbox: &Sandbox) -> Result<()> {
    eprintln!("stopping: what was made is removed");
    sandbox.clear();
    bail!("interrupted")
}

//! Runs the whole story in a sandbox and prints its timeline. `cargo xtask demo` builds all it needs.

use std::process::ExitCode;

use anyhow::{Context, Result};
use corten_e2e::story::{STORY, tell};
use corten_testkit::Sandbox;

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
    let sandbox = Sandbox::new().context("the demo cannot run here")?;
    println!("A cluster in the network namespace {}, which has no way out:", sandbox.name());
    tell(&sandbox, &STORY)?;
    println!("That was the whole story; nothing is left of it.");
    Ok(())
}

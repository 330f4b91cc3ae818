//! Corten: Kubernetes, whole, in one binary.
//!
//! This crate is the command line and the wiring; what the parts do is in their own crates.
//!
//! Architecture invariant: no logic of Kubernetes here. `commands` has one file per command, `cluster` starts the parts
//! and connects them, `ports` lets the node agent use the runtime, the image store and the network.

mod address;
mod cluster;
mod commands;
mod control;
mod dialer;
mod instance;
mod kubeconfig;
mod listeners;
mod logging;
mod mounts;
mod network_namespace;
mod ports;
mod preflight;
mod remove;
mod report;
mod settings;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

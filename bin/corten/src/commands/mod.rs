//! The commands, one file each.

mod down;
mod explain_scheduling;
mod image;
mod reset;
mod status;
mod up;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Kubernetes, whole, in one binary.
#[derive(Parser)]
#[command(name = "corten", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster on this machine: API server, controllers, scheduler and node
    Up(up::Arguments),
    /// Show whether the cluster runs, its node and its pods
    Status(status::Arguments),
    /// Stop the cluster and its containers; the data stays
    Down(down::Arguments),
    /// Stop the cluster and remove every trace of it
    Reset(reset::Arguments),
    /// Show why a pod was given its node, or why it has none
    ExplainScheduling(explain_scheduling::Arguments),
    /// Work with the images of this machine
    #[command(subcommand)]
    Image(image::Image),
    /// Show the version
    Version(version::Arguments),
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Up(arguments) => up::run(arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Down(arguments) => down::run(&arguments),
            Command::Reset(arguments) => reset::run(&arguments),
            Command::ExplainScheduling(arguments) => explain_scheduling::run(&arguments),
            Command::Image(image) => image::run(image),
            Command::Version(arguments) => version::run(&arguments),
        }
    }
}

/// Where a cluster keeps its files.
#[derive(Args)]
struct Places {
    /// Folder of everything that lasts
    #[arg(long, value_name = "DIR", default_value = "/var/lib/corten")]
    data_dir: PathBuf,
    /// Folder of what does not outlive a reboot
    #[arg(long, value_name = "DIR", default_value = "/run/corten")]
    run_dir: PathBuf,
}

impl Places {
    /// Data folder and run folder.
    fn absolute(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let absolute = |path| std::path::absolute(path).context("the current folder is gone");
        Ok((absolute(&self.data_dir)?, absolute(&self.run_dir)?))
    }
}

/// How a command prints what it found.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

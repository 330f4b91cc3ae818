//! Benchmarks against the real program. `cargo xtask bench first-light` builds all it needs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use corten_e2e::bench::{self, Protocol};

/// Benchmarks of Corten.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Start of the cluster, start of pods, memory and CPU at rest
    FirstLight {
        /// How often; medians are printed
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Writes, reads, lists and watches of many clients, and the memory that objects take
    Api {
        /// How often; medians are printed
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Pods whose memory is measured; 0 leaves that out
        #[arg(long, default_value_t = 100_000)]
        pods: usize,
        /// How the clients speak
        #[arg(long, value_enum, default_value_t = Protocol::Http2)]
        protocol: Protocol,
    },
    /// Pods placed per second, and how long each waits, with nodes that are objects alone
    Scheduler {
        /// How often; medians are printed
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Nodes
        #[arg(long, default_value_t = 5000)]
        nodes: usize,
        /// Pods
        #[arg(long, default_value_t = 30_000)]
        pods: usize,
    },
}

fn main() -> ExitCode {
    let table = match Arguments::parse().benchmark {
        Benchmark::FirstLight { runs } => bench::first_light(runs),
        Benchmark::Scheduler { runs, nodes, pods } => bench::scheduler(runs, nodes, pods),
        Benchmark::Api { runs, pods, protocol } => bench::api(runs, pods, protocol),
    };
    match table {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

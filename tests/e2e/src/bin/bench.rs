//! Benchmarks against the real program. `cargo xtask bench first-light` builds all it needs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

fn main() -> ExitCode {
    let Benchmark::FirstLight { runs } = Arguments::parse().benchmark;
    match corten_e2e::bench::first_light(runs) {
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

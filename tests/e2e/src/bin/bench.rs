//! Benchmarks against the real program. `cargo xtask bench first-light` builds all it needs.

use anyhow::Result;
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

fn main() -> Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::FirstLight { runs } => print!("{}", corten_e2e::bench::first_light(runs)?),
    }
    Ok(())
}

//! The project's own commands. `cargo xtask` lists them.

mod clients;
mod fuzz;
mod needs;
mod run;
mod setup;
mod test;
mod testbox;
mod tidy;

use anyhow::{Result, bail};

use crate::run::{Cargo, target};

const USAGE: &str = "usage: cargo xtask COMMAND
  demo            set up what is missing, build release, run the whole story, print its timeline, tear down
  test [FILTER]   set up what is missing, run every check and test: format, lints, layers, unit, integration, end to end
  bench NAME      run a benchmark (first-light, api, scheduler) with a release build and print its medians
  fuzz [S] [NAME] run the fuzzers of fuzz/, or those named, for S seconds each (60)
  testbox         build the test application's images: target/testbox/testbox-v1.tar and testbox-v2.tar
  tidy            hold the crates against the layering table
  deny            check licences, sources and duplicates of all dependencies";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["demo"] => end_to_end("demo", &[], &[]),
        ["test", filters @ ..] => test::run(filters),
        ["bench", words @ ..] if !words.is_empty() => end_to_end("bench", &["--release"], words),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["testbox"] => testbox::build(),
        ["tidy"] => tidy::check(),
        ["deny"] => test::deny(),
        _ => bail!("{USAGE}"),
    }
}

/// Runs a program of tests/e2e, built with `profile`, against a release build.
fn end_to_end(program: &str, profile: &[&str], words: &[&str]) -> Result<()> {
    setup::machine()?;
    testbox::build()?;
    Cargo::new("build").args(["--release", "-p", "corten"]).run()?;
    Cargo::new("run")
        .args(profile)
        .args(["-p", "corten-e2e", "--bin", program, "--"])
        .env("CORTEN_TESTBOX", target().join("testbox"))
        .env("CORTEN_KUBECTL", clients::kubectl()?)
        .env("CORTEN_BIN", target().join("release/corten"))
        .args(words)
        .run()
}

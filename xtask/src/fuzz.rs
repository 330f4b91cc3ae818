//! Runs the fuzzers of fuzz/ for a while: cargo-fuzz on stable Rust, without a sanitizer, since what is fuzzed has no
//! `unsafe`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{Cargo, has, root, run as run_command};
use crate::setup;

/// Seconds for each target if nobody says otherwise.
const SECONDS: u32 = 60;
/// Seconds that one input may take, on a machine that does other things too.
const LONGEST: u32 = 10;
/// Megabytes that a fuzzer may take.
const MOST_MEMORY: u32 = 2048;
/// Bytes of an input.
const MOST_INPUT: u32 = 8192;

/// `cargo xtask fuzz [SECONDS] [TARGET...]`: all targets, or those named.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (seconds, names) = match words.split_first() {
        Some((first, rest)) if first.parse::<u32>().is_ok() => (first.parse()?, rest),
        _ => (SECONDS, words),
    };
    let all = targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|own| own == *name)) {
        bail!("there is no fuzz target {unknown}: there are {}", all.join(", "));
    }
    setup::machine()?;
    // libFuzzer is C++.
    if !has("g++") {
        run_command(Command::new("apt-get").args(["install", "-q", "-y", "--no-install-recommends", "g++"]))?;
    }
    setup::cargo_tool("cargo-fuzz")?;
    let mut failed = Vec::new();
    for target in all.iter().filter(|own| names.is_empty() || names.contains(&own.as_str())) {
        println!("fuzzing {target} for {seconds} s");
        if let Err(error) = fuzz(target, seconds) {
            eprintln!("{target}: {error:#}");
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("fuzzers found something: {}; the inputs are in fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

/// The targets' names: those of their files.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let folder = root().join("fuzz");
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    Cargo::new("fuzz")
        .args(["run", "--sanitizer", "none", "--fuzz-dir"])
        .args([folder.as_os_str()])
        .args([target])
        .args([corpus, folder.join("seeds").join(target)])
        .args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-timeout={LONGEST}"),
            format!("-rss_limit_mb={MOST_MEMORY}"),
            format!("-max_len={MOST_INPUT}"),
            format!("-dict={}", folder.join("words.dict").display()),
            "-print_final_stats=1".to_owned(),
        ])
        // The flags of coverage are the compiler's own business, which stable Rust lets nobody touch otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        .run()
}

//! Every check and every test, in the order in which they fail fastest.

use anyhow::Result;

use crate::run::{Cargo, target};
use crate::{clients, setup, testbox, tidy};

/// `cargo xtask test`: all of it; with filters, only the tests whose names contain one.
pub(crate) fn run(filters: &[&str]) -> Result<()> {
    setup::machine()?;
    setup::cargo_tool("cargo-nextest")?;
    if filters.is_empty() {
        Cargo::new("fmt").args(["--all", "--check"]).run()?;
        tidy::check()?;
        Cargo::new("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]).run()?;
    }
    testbox::build()?;
    let kubectl = clients::kubectl()?;
    Cargo::new("build").args(["-p", "corten"]).run()?;
    Cargo::new("nextest")
        .args(["run", "--workspace"])
        .args(filters)
        .env("CORTEN_BIN", target().join("debug/corten"))
        .env("CORTEN_TESTBOX", target().join("testbox"))
        .env("CORTEN_KUBECTL", kubectl)
        .run()
}

/// `cargo xtask deny`: licences, sources, advisories and duplicates.
pub(crate) fn deny() -> Result<()> {
    setup::cargo_tool("cargo-deny")?;
    Cargo::new("deny").args(["check", "bans", "licenses", "sources"]).run()
}

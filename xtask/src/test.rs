//! Every check and every test, in the order in which they fail fastest.

use anyhow::Result;

use crate::run::{Cargo, target};
use crate::{clients, needs, setup, testbox, tidy};

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
    let (namespaces, old_kubectl) = (needs::namespaces(), clients::old_kubectl());
    let mut tests = Cargo::new("nextest")
        .args(["run", "--workspace", "-E", &needs::expression(namespaces, old_kubectl.is_some())])
        .args(filters)
        .env("CORTEN_BIN", target().join("debug/corten"))
        .env("CORTEN_TESTBOX", target().join("testbox"))
        .env("CORTEN_KUBECTL", kubectl);
    if let Some(old) = old_kubectl {
        tests = tests.env("CORTEN_KUBECTL_OLD", old);
    }
    if namespaces {
        tests = tests.env(needs::MUST_RUN, "1");
    }
    tests.run()
}

/// `cargo xtask deny`: licences, sources and duplicates. No advisories: their database would have to be fetched.
pub(crate) fn deny() -> Result<()> {
    setup::cargo_tool("cargo-deny")?;
    Cargo::new("deny").args(["check", "bans", "licenses", "sources"]).run()
}

//! Every check and every test, in the order in which they fail fastest.

use anyhow::Result;

use crate::clients::Client;
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
    let namespaces = needs::namespaces();
    // Without namespaces no test needs a client.
    let wanted = if namespaces { clients::CLIENTS } else { &[] };
    let (there, missing): (Vec<_>, Vec<_>) =
        wanted.iter().map(|client| (client, client.find())).partition(|(_, path)| path.is_some());
    let missing: Vec<&Client> = missing.into_iter().map(|(client, _)| client).collect();
    let mut tests = Cargo::new("nextest")
        .args(["run", "--workspace", "-E", &needs::expression(namespaces, &missing)])
        .args(filters)
        .env("CORTEN_BIN", target().join("debug/corten"))
        .env("CORTEN_TESTBOX", target().join("testbox"))
        .env("CORTEN_KUBECTL", kubectl);
    for (client, path) in there {
        tests = tests.env(client.variable, path.unwrap_or_default());
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

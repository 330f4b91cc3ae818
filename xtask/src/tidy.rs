//! Holds `cargo metadata` against the layering table of ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::root;

/// For each crate, the crates of ours that it may use. All may use base; what is not listed may use nothing else.
const MAY_USE: &[(&str, &[&str])] = &[
    ("corten-base", &[]),
    ("corten-api", &[]),
    ("corten-shim", &[]),
    ("corten-image", &[]),
    ("corten-runtime", &["corten-shim"]),
    ("corten-client", &["corten-api"]),
    ("corten-store", &[]),
    ("corten-kinds", &["corten-api"]),
    ("corten-apiserver", &["corten-api", "corten-kinds", "corten-store"]),
    ("corten-controllers", &["corten-api", "corten-client"]),
    ("corten-scheduler", &["corten-api", "corten-client"]),
    ("corten-network", &["corten-api", "corten-client"]),
    ("corten-agent", &["corten-api", "corten-client"]),
    ("testbox", &[]),
    ("xtask", &[]),
];
/// Crates that wire or test all others.
const MAY_USE_ALL: &[&str] = &["corten", "corten-testkit", "corten-e2e"];

/// Fails on the first edges that the table does not allow. Development dependencies are free.
pub(crate) fn check() -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if MAY_USE_ALL.contains(&name) {
            continue;
        }
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the layering table of xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let ours = allowed.contains_key(used) || MAY_USE_ALL.contains(&used);
            if ours && dependency["kind"].is_null() && used != "corten-base" && !may_use.contains(&used) {
                wrong.push(format!("{name} may not use {used}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("the layering is broken:\n  {}", wrong.join("\n  "))
}

//! Claims on real containers: what one pod writes the next one reads, and it goes with the claim.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{PATIENCE, apply, get, kubectl, manifest};
use corten_testkit::{Sandbox, eventually};

#[test]
fn data_outlives_its_pod_and_goes_with_its_claim() {
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = tell(&sandbox) {
        panic!("{error:?}");
    }
}

fn tell(sandbox: &Sandbox) -> Result<()> {
    sandbox.import("v1")?;
    sandbox.start()?;
    apply(sandbox, "data.yaml")?;
    phase(sandbox, "pod/writer", "Succeeded")?;
    phase(sandbox, "pvc/data", "Bound")?;
    let [folder] = &folders(sandbox)?[..] else { anyhow::bail!("{:?}", folders(sandbox)) };
    let kept = fs::metadata(folder.join("kept")).context("the pod's file")?;
    ensure!((kept.uid(), kept.gid()) == (1000, 2000), "{} {}", kept.uid(), kept.gid());
    kubectl(sandbox, &["delete", "pod", "writer"])?;
    apply(sandbox, "reader.yaml")?;
    phase(sandbox, "pod/reader", "Succeeded")?;
    ensure!(kubectl(sandbox, &["logs", "reader"])?.trim() == "hello");
    phase(sandbox, "pvc/reader-cache", "Bound")?;
    kubectl(sandbox, &["delete", "pod", "reader"])?;
    kubectl(sandbox, &["delete", "pvc", "data"])?;
    eventually("nothing is left of the claims", PATIENCE, || {
        let volumes = sandbox.kubectl(["get", "pv", "-o", "name"]).run()?;
        let left = folders(sandbox)?;
        ensure!(volumes.is_empty() && left.is_empty(), "{volumes} {left:?}");
        Ok(())
    })
}

/// The page for users shows what is tested here.
#[test]
fn the_documentation_is_tested() -> Result<()> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storage.md"))?;
    for name in ["data.yaml", "reader.yaml"] {
        let text = fs::read_to_string(manifest(name))?;
        for part in text.split("---\n").filter(|part| !part.contains("kind: Namespace")) {
            ensure!(page.contains(part), "{name}: docs/storage.md does not show\n{part}");
        }
    }
    Ok(())
}

fn folders(sandbox: &Sandbox) -> Result<Vec<PathBuf>> {
    let folder = sandbox.data_dir().join("agent/volumes");
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect())
}

fn phase(sandbox: &Sandbox, object: &str, expected: &str) -> Result<()> {
    eventually(&format!("{object} is {expected}"), PATIENCE, || {
        let object = get(sandbox, &[object])?;
        ensure!(object["status"]["phase"] == expected, "{}", object["status"]);
        Ok(())
    })
}

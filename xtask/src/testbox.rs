//! Builds the test application as a static binary and packs it into two images.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::run::{Cargo, target};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Leaves `target/testbox/testbox-v1.tar` and `testbox-v2.tar`: docker-archives of localhost/testbox:v1 and :v2,
/// and the binary itself beside them.
pub(crate) fn build() -> Result<()> {
    let build = target().join("testbox-build");
    Cargo::new("build")
        .args(["--release", "-p", "testbox", "--target", TARGET, "--target-dir"])
        .arg(&build)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .run()?;
    let binary = fs::read(build.join(TARGET).join("release/testbox")).context("the testbox binary is missing")?;
    let folder = target().join("testbox");
    fs::create_dir_all(&folder)?;
    // Tests also run it outside containers.
    fs::copy(build.join(TARGET).join("release/testbox"), folder.join("testbox"))?;
    for version in ["v1", "v2"] {
        let path = folder.join(format!("testbox-{version}.tar"));
        let bytes = archive(&binary, version)?;
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        write_through(&path, &bytes)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn write_through(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// One file or folder of a layer.
enum Item<'a> {
    File(&'a str, &'a [u8], u32),
    Folder(&'a str, u32),
    /// A name, and what it leads to.
    Link(&'a str, &'a str),
}

fn archive(binary: &[u8], version: &str) -> Result<Vec<u8>> {
    let layer = pack(&[
        Item::Folder("etc/", 0o755),
        Item::File("etc/passwd", b"root:x:0:0:root:/:/testbox\napp:x:1000:1000:app:/:/testbox\n", 0o644),
        Item::File("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n", 0o644),
        Item::File("testbox", binary, 0o755),
        Item::Link("tar", "testbox"),
        Item::Folder("tmp/", 0o1777),
    ])?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-11-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/testbox"],
            "Env": ["PATH=/", format!("TESTBOX_VERSION={version}")],
            "ExposedPorts": {"8080/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
        "history": [{"created": "2026-11-01T00:00:00Z", "created_by": "cargo xtask testbox"}],
    })
    .to_string();
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [format!("localhost/testbox:{version}")],
        "Layers": ["layer.tar"],
    }])
    .to_string();
    pack(&[
        Item::File("config.json", config.as_bytes(), 0o644),
        Item::File("layer.tar", &layer, 0o644),
        Item::File("manifest.json", manifest.as_bytes(), 0o644),
    ])
}

/// A tar whose bytes depend on nothing but the items.
fn pack(items: &[Item<'_>]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let (name, bytes, mode, kind) = match item {
            Item::File(name, bytes, mode) => (name, *bytes, mode, tar::EntryType::Regular),
            Item::Folder(name, mode) => (name, &[][..], mode, tar::EntryType::Directory),
            Item::Link(name, _) => (name, &[][..], &0o777, tar::EntryType::Symlink),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        if let Item::Link(_, target) = item {
            header.set_link_name(target)?;
        }
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_793_491_200);
        builder.append_data(&mut header, name, bytes)?;
    }
    Ok(builder.into_inner()?)
}

//! The administrator's kubeconfig file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// Fails if the file is there and somebody else's.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() || path.exists() && !is_ours(path) {
        bail!("{} is not a kubeconfig that corten wrote: choose another --kubeconfig", path.display());
    }
    Ok(())
}

/// Ours has one context, which is named like this cluster; one that people have merged theirs into is theirs. An empty
/// file is nobody's.
fn is_ours(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| {
        // Once in each entry of `contexts`, whichever key the writer put first.
        let contexts = text.lines().filter(|line| ["- context:", "  context:"].contains(&line.trim_end())).count();
        text.is_empty() || text.contains("\ncurrent-context: corten\n") && contexts <= 1
    })
}

/// Writes it whole or not at all, for its owner only.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let attempt = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().with_context(|| format!("cannot write the kubeconfig {}", path.display()))
}

/// Removes it if it is ours, and its folder if that is then empty and ours.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    if !is_ours(path) {
        return Ok(());
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    if let Some(folder) = path.parent().filter(|folder| *folder == Path::new("/etc/corten")) {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kubeconfig_is_never_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let (foreign, own) = (folder.path().join("foreign"), folder.path().join("sub/own"));
        fs::write(&foreign, "kind: Config\ncurrent-context: production\n").expect("written");
        assert!(check(&foreign).is_err());
        remove(&foreign).expect("nothing to do");
        assert!(foreign.exists());
        let merged = folder.path().join("merged");
        let context = |name: &str| format!("- context:\n    cluster: {name}\n  name: {name}\n");
        let text = format!("contexts:\n{}{}current-context: corten\n", context("corten"), context("production"));
        fs::write(&merged, text).expect("written");
        assert!(check(&merged).is_err(), "somebody merged theirs into it");
        check(&own).expect("free");
        write(&own, "kind: Config\ncurrent-context: corten\n").expect("written");
        check(&own).expect("ours");
        remove(&own).expect("removed");
        assert!(!own.exists());
    }
}

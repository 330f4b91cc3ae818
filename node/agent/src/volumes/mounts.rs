//! Where a container sees the volumes of its pod.

use std::path::{Path, PathBuf};

use corten_api::api::core::v1::{Container, VolumeMount};

use super::render::Plan;
use super::{PodVolumes, sub_path};
use crate::env::{config_error, expand};
use crate::files::{self, PodFiles};
use crate::ports::{Mount, PortError};

const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";

impl PodVolumes {
    /// The mounts of a container, outer ones first. `environment` is what `subPathExpr` may refer to. Waits for the disk.
    pub(crate) fn mounts(
        &self,
        container: &Container,
        environment: &[(String, String)],
        attempt: u32,
    ) -> Result<Vec<Mount>, PortError> {
        let mut mounts = Vec::new();
        for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            mounts.push(self.volume_mount(container, index, wanted, environment)?);
        }
        let context = container.security_context.as_ref();
        let read_only_root = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
        let termination = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        let last_words = files::termination_log(&self.dir, &container.name, attempt);
        files::make_termination_log(&last_words)
            .map_err(|error| config_error(format!("cannot make {}: {error}", last_words.display())))?;
        for (source, target, read_only) in [
            (self.dir.join(PodFiles::HOSTS), Path::new("/etc/hosts"), false),
            (self.dir.join(PodFiles::HOSTNAME), Path::new("/etc/hostname"), read_only_root),
            (self.dir.join(PodFiles::RESOLV_CONF), Path::new("/etc/resolv.conf"), read_only_root),
            (last_words, Path::new(termination.unwrap_or(DEFAULT_TERMINATION_LOG)), false),
        ] {
            // What the spec mounts there itself goes first.
            if mounts.iter().all(|mount: &Mount| mount.target != target) {
                mounts.push(Mount { source, target: target.to_owned(), read_only });
            }
        }
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }

    fn volume_mount(
        &self,
        container: &Container,
        index: usize,
        wanted: &VolumeMount,
        environment: &[(String, String)],
    ) -> Result<Mount, PortError> {
        let plan = self.plans.get(&wanted.name).ok_or_else(|| {
            config_error(format!("cannot find volume {:?} to mount into container {:?}", wanted.name, container.name))
        })?;
        unsupported(container, wanted)?;
        let (root, written) = match plan {
            Plan::Scratch { dir, .. } => (dir, false),
            Plan::Host { path, .. } | Plan::Local { path, .. } => (path, false),
            Plan::Written { dir } => (dir, true),
        };
        let only_read = matches!(plan, Plan::Host { read_only: true, .. } | Plan::Local { read_only: true, .. });
        let source = match sub_path_of(wanted, environment).map_err(config_error)? {
            None => root.clone(),
            Some(path) => self.sub_path(container, index, wanted, root, &path, written)?,
        };
        // What the agent writes is never the container's to change.
        let read_only = written || only_read || wanted.read_only == Some(true);
        Ok(Mount { source, target: Path::new("/").join(&wanted.mount_path), read_only })
    }

    fn sub_path(
        &self,
        container: &Container,
        index: usize,
        wanted: &VolumeMount,
        root: &Path,
        path: &str,
        written: bool,
    ) -> Result<PathBuf, PortError> {
        let failed = |error: std::io::Error| {
            let message = format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                wanted.name, container.name
            );
            tracing::debug!(path, message);
            config_error(message)
        };
        let file = sub_path::open(root, path).map_err(failed)?;
        if written {
            // Nobody but the agent can change what leads there.
            return sub_path::place_of(&file).map_err(failed);
        }
        let place = self.dir.join("volume-subpaths").join(&wanted.name).join(&container.name).join(index.to_string());
        sub_path::bind(&file, &place).map_err(failed)?;
        Ok(place)
    }
}

fn unsupported(container: &Container, wanted: &VolumeMount) -> Result<(), PortError> {
    if wanted.mount_propagation.as_deref() == Some("Bidirectional") {
        let message = format!("volumeMount {:?}: mountPropagation Bidirectional is not supported yet", wanted.name);
        return Err(config_error(message));
    }
    if wanted.recursive_read_only.as_deref() == Some("Enabled") {
        let message = format!(
            "container {:?} requested recursiveReadOnly for volumeMount {:?}, which is not supported yet",
            container.name, wanted.name
        );
        return Err(config_error(message));
    }
    Ok(())
}

/// The path inside the volume; `None` for all of it.
fn sub_path_of(wanted: &VolumeMount, environment: &[(String, String)]) -> Result<Option<String>, String> {
    let path = match (wanted.sub_path.as_deref(), wanted.sub_path_expr.as_deref()) {
        (Some(path), _) if !path.is_empty() => path.to_owned(),
        (_, Some(expression)) if !expression.is_empty() => expanded(expression, environment)?,
        _ => return Ok(None),
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{path}`: it must stay inside the volume"));
    }
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok((!path.is_empty()).then(|| path.join("/")))
}

fn expanded(expression: &str, environment: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let path = expand(expression, |name| {
        let value = environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sub_paths_stay_inside() {
        let environment = [("POD".to_owned(), "web-1".to_owned()), ("UP".to_owned(), "..".to_owned())];
        let check = |field: &str, path: &str| {
            let wanted = serde_json::from_value(json!({"name": "v", "mountPath": "/x", field: path})).expect("a mount");
            sub_path_of(&wanted, &environment)
        };
        assert_eq!(check("subPath", "a/./b//c"), Ok(Some("a/b/c".to_owned())));
        assert_eq!(check("subPath", "$(POD)"), Ok(Some("$(POD)".to_owned())));
        assert_eq!(check("subPath", ""), Ok(None));
        assert_eq!(check("subPathExpr", "logs/$(POD)"), Ok(Some("logs/web-1".to_owned())));
        assert_eq!(check("subPathExpr", "$(NONE)"), Err("missing value for \"NONE\"".to_owned()));
        for (field, path) in [("subPath", "../x"), ("subPath", "/x"), ("subPathExpr", "a/$(UP)/b")] {
            assert!(check(field, path).is_err(), "{path}");
        }
    }
}

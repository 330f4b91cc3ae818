//! `/version`.

use serde_json::{Value, json};

use crate::KUBERNETES_VERSION;

/// The oldest minor version that components beside this one may have.
const COMPATIBLE_MINOR: &str = "35";

/// What is served, and what built it.
pub(crate) fn version() -> Value {
    let mut parts = KUBERNETES_VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next(), parts.next());
    json!({
        "major": major, "minor": minor,
        "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": COMPATIBLE_MINOR,
        "gitVersion": KUBERNETES_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "", "goVersion": "",
        "compiler": "rustc", "platform": platform(),
    })
}

/// Such as `linux/amd64`, in Go's words.
pub(crate) fn platform() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{machine}", std::env::consts::OS)
}

//! Fetches real clients from Debian, PyPI and npm without installing them into the system.
//!
//! An apt configuration of its own (lists, cache and state under target/clients/apt) knows one suite besides the
//! machine's; `apt-get download` and `dpkg-deb -x` unpack a package under target/clients/NAME. The mirror is taken
//! from the machine's own apt sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{has, run, target};

/// What tests import.
const PYTHON_PACKAGES: &[&str] = &["kubernetes==37.0.2", "schemathesis==4.32.5"];

/// The JavaScript client. 2.x needs a newer Node.js than stable distributions have.
const NODE_PACKAGE: &str = "@kubernetes/client-node@1.4.0";

/// A client that some tests need. Tests find it by a variable of their environment.
pub(crate) struct Client {
    /// Names the variable.
    pub(crate) variable: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    /// Programs of corten-e2e, and which of their tests need it: a regular expression.
    pub(crate) tests: &'static [(&'static str, &'static str)],
    fetch: fn() -> Result<PathBuf>,
}

/// All of them.
pub(crate) const CLIENTS: &[Client] = &[
    Client {
        // It speaks SPDY alone.
        variable: "CORTEN_KUBECTL_OLD",
        what: "kubectl 1.20, the oldest that Debian has",
        tests: &[("old_kubectl", "^"), ("kubectl", "^the_oldest_kubectl$")],
        fetch: || debian("kubernetes-client", "bookworm", "usr/bin/kubectl"),
    },
    Client {
        variable: "CORTEN_KUBECTL_STABLE",
        what: "kubectl 1.32 of Debian 13",
        tests: &[("kubectl", "^the_kubectl_of_a_stable_distribution$")],
        fetch: || debian("kubectl", "trixie", "usr/bin/kubectl"),
    },
    Client {
        variable: "CORTEN_KUBECTL_NEW",
        what: "the newest kubectl that Debian has",
        tests: &[("kubectl", "^the_newest_kubectl$")],
        fetch: || debian("kubectl", "sid", "usr/bin/kubectl"),
    },
    Client {
        variable: "CORTEN_PYTHON",
        what: "Kubernetes' Python client and schemathesis",
        tests: &[("python", "^"), ("schemathesis", "^")],
        fetch: python,
    },
    Client {
        variable: "CORTEN_NODE",
        what: "Kubernetes' JavaScript client",
        tests: &[("javascript", "^")],
        fetch: javascript,
    },
];

impl Client {
    /// Where it is, fetched if need be. None, and it says why, if it cannot be fetched.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        (self.fetch)().inspect_err(|error| eprintln!("cannot get {}: {error:#}", self.what)).ok()
    }
}

/// The kubectl that tests use: the one on the PATH, else Debian's.
pub(crate) fn kubectl() -> Result<PathBuf> {
    if has("kubectl") {
        return Ok(PathBuf::from("kubectl"));
    }
    debian("kubectl", "trixie", "usr/bin/kubectl")
}

/// A Python that has [`PYTHON_PACKAGES`], in an environment of its own.
fn python() -> Result<PathBuf> {
    let folder = target().join("clients/python");
    let program = folder.join("bin/python");
    let mark = folder.join("packages");
    let wanted = PYTHON_PACKAGES.join(" ");
    if fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(program);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&program).args(["-m", "pip", "install", "-q"]).args(PYTHON_PACKAGES))?;
    fs::write(&mark, wanted)?;
    Ok(program)
}

/// A folder whose node_modules hold [`NODE_PACKAGE`].
fn javascript() -> Result<PathBuf> {
    let folder = target().join("clients/node");
    let mark = folder.join("package");
    if fs::read_to_string(&mark).is_ok_and(|there| there == NODE_PACKAGE) {
        return Ok(folder);
    }
    if !has("node") || !has("npm") {
        let install = ["install", "-q", "-y", "--no-install-recommends", "nodejs", "npm"];
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install))?;
    }
    fs::create_dir_all(&folder)?;
    let quiet = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts"];
    run(Command::new("npm").args(["install", "--prefix"]).arg(&folder).args(quiet).arg(NODE_PACKAGE))?;
    fs::write(&mark, NODE_PACKAGE)?;
    Ok(folder)
}

/// A program of a Debian package of `suite`.
fn debian(package: &str, suite: &str, program: &str) -> Result<PathBuf> {
    let folder = target().join("clients").join(format!("{package}-{suite}"));
    let path = folder.join(program);
    if path.exists() {
        return Ok(path);
    }
    let apt = target().join("clients/apt").join(suite);
    let options = configure(&apt, suite)?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.args(options.iter().flat_map(|option| ["-o", option.as_str()]));
        command
    };
    run(apt_get().arg("update"))?;
    let downloads = apt.join("debs");
    fs::create_dir_all(&downloads)?;
    let script = format!("cd '{}' && exec \"$@\"", downloads.display());
    let mut download = Command::new("sh");
    download.args(["-c", &script, "sh", "apt-get"]).args(options.iter().flat_map(|option| ["-o", option.as_str()]));
    run(download.args(["download", package]))?;
    for entry in fs::read_dir(&downloads)? {
        let deb = entry?.path();
        let name = deb.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with(&format!("{package}_")) {
            run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&folder))?;
        }
    }
    if !path.exists() {
        bail!("Debian's package {package} of {suite} holds no {program}");
    }
    Ok(path)
}

/// Options that keep apt inside `folder`.
fn configure(folder: &Path, suite: &str) -> Result<Vec<String>> {
    for part in ["lists/partial", "cache/archives/partial", "etc"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let sources = folder.join("etc/sources.list");
    fs::write(&sources, format!("deb [trusted=yes] {} {suite} main\n", mirror()?))?;
    fs::write(folder.join("status"), "")?;
    let at = |key: &str, path: &str| format!("{key}={}", folder.join(path).display());
    Ok(vec![
        at("Dir::State::lists", "lists"),
        at("Dir::State::status", "status"),
        at("Dir::Cache", "cache"),
        at("Dir::Etc::sourcelist", "etc/sources.list"),
        "Dir::Etc::sourceparts=-".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ])
}

/// The Debian mirror that this machine's apt uses.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.flatten().map(|entry| entry.path()));
    }
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n");
    let uri = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        match words.next()? {
            "URIs:" => words.next(),
            "deb" => words.find(|word| word.starts_with("http")),
            _ => None,
        }
        .filter(|uri| uri.trim_end_matches('/').ends_with("/debian"))
    });
    uri.map(str::to_owned).context("no Debian mirror in /etc/apt: cannot fetch kubectl; put one on the PATH")
}

//! A place of its own for a real cluster: network namespace, folders, cgroup.

mod background;
mod remains;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::program::Program;
pub use background::Background;
pub use remains::sweep;

/// Where the network namespaces' names are.
const NETNS: &str = "/run/netns";
/// The node's address in every sandbox: each is a world of its own.
const ADDRESS: &str = "172.30.0.1";
const RESET_TIMEOUT: Duration = Duration::from_secs(60);

/// A sandbox. Nothing in it reaches anything outside.
pub struct Sandbox {
    name: String,
    corten: PathBuf,
    kubectl: PathBuf,
    testbox: PathBuf,
}

/// What the environment names, as `cargo xtask` sets it.
fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// No sandbox: the test that wanted it returns. `cargo xtask test` leaves such a test out instead, so that it does not
/// count as passed, and where the machine can make sandboxes it says that none may skip itself.
fn skip<T>(why: &str) -> Result<Option<T>> {
    if given("CORTEN_MUST_RUN").is_some() {
        bail!("this machine has all that tests need, but the test {why}");
    }
    eprintln!("skipped: {why}");
    Ok(None)
}

impl Sandbox {
    /// A sandbox, or `None` where none can be made; then it says why the caller's test counts as skipped.
    pub fn new() -> Option<Self> {
        match Self::make() {
            Ok(sandbox) => sandbox,
            // The machine can do it, so this is a failure, not a reason to skip.
            Err(error) => panic!("cannot make a sandbox: {error:#}"),
        }
    }

    /// A sandbox whose kubectl is version 1.20, `$CORTEN_KUBECTL_OLD`; `None` as in [`Sandbox::new`].
    pub fn with_old_kubectl() -> Option<Self> {
        let Some(kubectl) = given("CORTEN_KUBECTL_OLD") else {
            return skip("needs $CORTEN_KUBECTL_OLD (cargo xtask test fetches it)")
                .unwrap_or_else(|error| panic!("{error}"));
        };
        let mut sandbox = Self::new()?;
        sandbox.kubectl = kubectl;
        Some(sandbox)
    }

    /// The path that a variable of the environment names, for a client that only some tests need; `None` as in
    /// [`Sandbox::new`].
    pub fn client(variable: &str) -> Option<PathBuf> {
        match given(variable) {
            Some(path) => Some(path),
            None => {
                skip(&format!("needs ${variable} (cargo xtask test sets it)")).unwrap_or_else(|error| panic!("{error}"))
            }
        }
    }

    fn make() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return skip("needs root");
        }
        let all = (given("CORTEN_BIN"), given("CORTEN_KUBECTL"), given("CORTEN_TESTBOX"));
        let (Some(corten), Some(kubectl), Some(testbox)) = all else {
            return skip("needs $CORTEN_BIN, $CORTEN_KUBECTL and $CORTEN_TESTBOX (cargo xtask test sets them)");
        };
        let probe = Program::new(["unshare", "--net", "--mount", "true"]).output();
        if !probe.is_ok_and(|output| output.code == 0) {
            return skip("this machine cannot make namespaces");
        }
        static SWEPT: std::sync::Once = std::sync::Once::new();
        SWEPT.call_once(sweep);
        let sandbox = Self { name: remains::fresh()?, corten, kubectl, testbox };
        let name = sandbox.name.as_str();
        Program::new(["ip", "netns", "add", name]).run()?;
        let address = format!("{ADDRESS}/24");
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "eth0", "type", "veth", "peer", "name", "eth0-peer"],
            &["link", "set", "eth0-peer", "up"],
            &["addr", "add", address.as_str(), "dev", "eth0"],
            &["link", "set", "eth0", "up"],
        ] {
            Program::new(["ip", "-n", name]).args(words).run()?;
        }
        Ok(Some(sandbox))
    }

    /// Name of its network namespace, its cgroups and its folder below /tmp.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address of the node.
    #[must_use]
    pub fn address(&self) -> &'static str {
        ADDRESS
    }

    /// Holds everything.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        remains::folder(&self.name)
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Its run folder.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("admin.conf")
    }

    /// The archive of the test application's image of this version: `v1` or `v2`.
    #[must_use]
    pub fn image(&self, version: &str) -> PathBuf {
        self.testbox.join(format!("testbox-{version}.tar"))
    }

    /// The test application itself.
    #[must_use]
    pub fn testbox_program(&self) -> PathBuf {
        self.testbox.join("testbox")
    }

    /// The test application, run in the node's network namespace.
    pub fn testbox<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Program {
        self.inside([self.testbox_program()]).args(words)
    }

    /// A program in the network namespace.
    pub fn inside<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Program {
        Program::new(["nsenter", &format!("--net={NETNS}/{}", self.name)]).args(words)
    }

    /// The program under test.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.corten
    }

    /// `corten VERB …` with this sandbox's folders.
    pub fn corten<W: AsRef<OsStr>>(&self, verb: &str, words: impl IntoIterator<Item = W>) -> Program {
        let (data, run) = (self.data_dir(), self.run_dir());
        self.inside([&self.corten])
            .args([verb])
            .args([OsStr::new("--data-dir"), data.as_os_str(), OsStr::new("--run-dir"), run.as_os_str()])
            .args(words)
    }

    /// `corten image …`
    pub fn corten_image<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Program {
        self.inside([&self.corten]).args(["image"]).args(words)
    }

    /// `corten image import` of a version of the test application.
    pub fn import(&self, version: &str) -> Result<String> {
        let (file, data) = (self.image(version), self.data_dir());
        self.corten_image(["import"]).args([file.as_os_str(), OsStr::new("--data-dir"), data.as_os_str()]).run()
    }

    /// `corten up` with all that keeps it inside this sandbox.
    pub fn up(&self) -> Program {
        let (root, kubeconfig) = (format!("/{}", self.name), self.kubeconfig());
        self.corten("up", ["--node-name", "node-1", "--cgroup-root", &root])
            .args([OsStr::new("--kubeconfig"), kubeconfig.as_os_str()])
    }

    /// Starts the cluster in the background and waits until its node is Ready.
    pub fn start(&self) -> Result<()> {
        self.up().args(["--detach"]).timeout(Duration::from_secs(90)).run().map(drop)
    }

    /// Process id of the running cluster.
    pub fn pid(&self) -> Result<i32> {
        let path = self.run_dir().join("corten.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))
    }

    /// `kill -9` of the cluster's process. Returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid()?).context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("cannot kill corten")?;
        eventually("corten ends", Duration::from_secs(5), || {
            if Path::new(&format!("/proc/{}/ns/net", pid.as_raw_nonzero())).exists() {
                bail!("it is there")
            } else {
                Ok(())
            }
        })
    }

    /// Starts the cluster in the foreground, its output in `run.log` of the folder.
    pub fn start_in_foreground(&self) -> Result<Background> {
        self.in_background(&self.up(), &self.folder().join("run.log"))
    }

    fn in_background(&self, program: &Program, output: &Path) -> Result<Background> {
        let file = fs::File::create(output).with_context(|| format!("cannot make {}", output.display()))?;
        let other = file.try_clone().context("cannot share a file")?;
        let prepare = move |command: &mut Command| {
            command.stdin(std::process::Stdio::null()).stdout(file).stderr(other);
        };
        Background::start(program, prepare)
    }

    /// The real kubectl.
    pub fn kubectl<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Program {
        self.inside([&self.kubectl])
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.folder())
            .env("NO_PROXY", "*")
            .args(words)
    }

    /// kubectl in the background, its output in a file.
    pub fn kubectl_in_background<W: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = W>,
        output: &Path,
    ) -> Result<Background> {
        self.in_background(&self.kubectl(words), output)
    }

    /// Runs a function on a thread in the network namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new(NETNS).join(&self.name);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = fs::File::open(&path).context("the sandbox has no network namespace")?;
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))
                    .context("cannot enter the sandbox")?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("the thread in the sandbox panicked"))?
        })
    }

    /// The log of the cluster's process.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.run_dir().join("corten.log")).unwrap_or_default()
    }

    /// What is left of the cluster on the machine: processes, mounts, cgroups, links, rules, files.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        remains::find(&self.name)
    }

    fn reset(&self) -> Result<String> {
        self.corten("reset", ["--yes"]).timeout(RESET_TIMEOUT).run()
    }
}

impl Sandbox {
    /// Removes everything, whatever state it is in. Dropping it does the same.
    pub fn clear(&self) {
        if let Err(error) = self.reset() {
            eprintln!("{}: {error:#}", self.name);
        }
        remains::remove(&self.name);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of corten's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        self.clear();
    }
}

/// Tries until it succeeds; after `patience` the last error.
pub fn eventually<T>(what: &str, patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > patience => {
                return Err(error).with_context(|| format!("{what}: not within {patience:?}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

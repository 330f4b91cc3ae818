//! The examples of docs/workloads.md: a section each, on a cluster of its own, with real containers.
//!
//! A yaml block is a file, named in its first line; a console block holds commands and what they say. What only looks is
//! tried again for a while: things take their time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use corten_e2e::golden::{Session, Step, plain};
use corten_testkit::Sandbox;

/// How long what a command says may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// A section's heading begins with these words.
fn check(heading: &str) {
    let Some(sandbox) = Sandbox::new() else { return };
    if let Err(error) = run(&sandbox, heading) {
        panic!("{heading}: {error:?}");
    }
}

#[test]
fn deployments() {
    check("Deployments");
}

#[test]
fn canary_releases() {
    check("Canary releases");
}

#[test]
fn blue_green_releases() {
    check("Blue-green releases");
}

#[test]
fn stateful_sets() {
    check("StatefulSets");
}

#[test]
fn daemon_sets() {
    check("DaemonSets");
}

#[test]
fn replication_controllers() {
    check("ReplicaSets and ReplicationControllers");
}

#[test]
fn jobs() {
    check("Jobs");
}

#[test]
fn cron_jobs() {
    check("CronJobs");
}

#[test]
fn disruption_budgets() {
    check("Disruption budgets");
}

/// A part of the page.
#[derive(Debug, Default)]
struct Section {
    files: BTreeMap<String, String>,
    console: String,
}

/// The sections that have something to run, by heading.
fn sections() -> Result<BTreeMap<String, Section>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workloads.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (mut all, mut heading, mut block) = (BTreeMap::<String, Section>::new(), String::new(), None);
    for line in text.lines() {
        match &mut block {
            Some((kind, content)) if line == "```" => {
                let section = all.entry(heading.clone()).or_default();
                let (kind, content): (String, String) = (std::mem::take(kind), std::mem::take(content));
                match (kind.as_str(), content.split_once('\n')) {
                    ("yaml", Some((name, yaml))) => {
                        let name = name.strip_prefix("# ").context("a yaml block names its file in its first line")?;
                        section.files.insert(name.to_owned(), yaml.to_owned());
                    }
                    ("console", _) => section.console.push_str(&format!("{content}\n")),
                    _ => {}
                }
                block = None;
            }
            Some((_, content)) => {
                content.push_str(line);
                content.push('\n');
            }
            None => {
                if let Some(kind) = line.strip_prefix("```") {
                    block = Some((kind.to_owned(), String::new()));
                } else if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    Ok(all)
}

fn run(sandbox: &Sandbox, heading: &str) -> Result<()> {
    let sections = sections()?;
    let section = sections.into_iter().find(|(title, _)| title.starts_with(heading)).context("no such section")?.1;
    sandbox.import("v1")?;
    sandbox.import("v2")?;
    sandbox.start()?;
    let folder = sandbox.folder().join("example");
    fs::create_dir_all(&folder)?;
    for (name, content) in &section.files {
        fs::write(folder.join(name), content)?;
    }
    // The commands of the page find their kubectl as a reader's do.
    let kubectl = env::var_os("CORTEN_KUBECTL").map(PathBuf::from).unwrap_or_default();
    let mut path = kubectl.parent().unwrap_or(&folder).as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let say = |step: &Step| -> Result<String> {
        let script = format!("cd '{}' && {}", folder.display(), step.command);
        let program = sandbox
            .inside(["sh", "-c", &script])
            .env("PATH", &path)
            .env("KUBECONFIG", sandbox.kubeconfig())
            .env("HOME", sandbox.folder())
            .env("NO_PROXY", "*")
            .timeout(Duration::from_secs(60));
        let output = program.output()?;
        let code = if output.code == 0 { String::new() } else { format!("\nexit {}", output.code) };
        Ok(plain(&format!("{}{code}", output.all().trim_end())))
    };
    let session = Session::parse(heading, &section.console)?;
    ensure!(!session.steps.is_empty(), "it has no commands");
    for step in &session.steps {
        let (wanted, start) = (plain(step.wanted("")), Instant::now());
        loop {
            let said = say(step)?;
            if said == wanted {
                break;
            }
            if !only_looks(&step.command) || start.elapsed() > PATIENCE {
                bail!("$ {}\n--- wanted\n{wanted}\n--- said\n{said}", step.command);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn only_looks(command: &str) -> bool {
    let looks = ["kubectl get ", "kubectl exec ", "kubectl logs ", "kubectl rollout history ", "kubectl describe "];
    looks.iter().any(|look| command.starts_with(look))
}

/// No example is left out.
#[test]
fn every_section_with_commands_has_a_test() {
    let source = include_str!("workloads.rs");
    for (heading, section) in sections().expect("the page") {
        let tested = source.lines().filter_map(|line| line.trim().strip_prefix("check(\"")?.strip_suffix("\");"));
        let known = tested.into_iter().any(|words| heading.starts_with(words));
        assert!(known || section.console.is_empty(), "{heading}: no test runs its commands");
    }
}

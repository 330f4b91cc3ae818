//! `corten up`.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::Places;
use crate::cluster::Cluster;
use crate::instance::{self, Lock};
use crate::listeners::Listeners;
use crate::report::Report;
use crate::settings::{CGROUP_ROOT, KUBECONFIG, Settings};
use crate::{address, logging, network_namespace, preflight};

/// The node is Ready long before this, or never.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Few threads: what they do is short, and each has its own memory pools.
const MOST_WORKERS: usize = 4;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    places: Places,
    /// Name of this machine's node [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Address at which others reach this machine [default: its first global IPv4 address]
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<Ipv4Addr>,
    /// Parent of all cgroups, below each hierarchy's mount
    #[arg(long, value_name = "PATH", default_value = CGROUP_ROOT)]
    cgroup_root: PathBuf,
    /// Port of the API server
    #[arg(long, value_name = "PORT", default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    api_port: u16,
    /// Port of the node's own server
    #[arg(long, value_name = "PORT", default_value_t = 10250, value_parser = clap::value_parser!(u16).range(1..))]
    node_port: u16,
    /// Where to write the administrator's kubeconfig
    #[arg(long, value_name = "FILE", default_value = KUBECONFIG)]
    kubeconfig: PathBuf,
    /// Return when the node is Ready, and keep running in the background
    #[arg(short, long)]
    detach: bool,
    /// What to log, such as debug or info,corten_agent=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// This is the process in the background: it reports on standard output
    #[arg(long, hide = true, requires = "detach")]
    background: bool,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.detach && !arguments.background {
        let settings = settings(&arguments)?;
        preflight::check(&settings)?;
        return detach(&settings);
    }
    if !arguments.background {
        return serve(&arguments);
    }
    let Err(error) = serve(&arguments) else { return Ok(ExitCode::SUCCESS) };
    tracing::error!("{error:#}");
    // Nobody listens any more if the cluster had been ready before.
    let _ = Report::Failed(format!("{error:#}")).send();
    Ok(ExitCode::FAILURE)
}

/// Starts this program again in the background and waits for its report.
fn detach(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut child = Command::new(std::env::current_exe().context("cannot find this program")?)
        .arg0("corten")
        .args(std::env::args_os().skip(1))
        .arg("--background")
        // Each thread that waits for the disk would get a pool of its own, and keep it.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the background process")?;
    let report = child.stdout.take().and_then(Report::receive);
    match report {
        Some(Report::Ready) => {
            say_ready(settings);
            Ok(ExitCode::SUCCESS)
        }
        Some(Report::Failed(why)) => {
            let _ = child.wait();
            bail!("{why}")
        }
        None => {
            let status = child.wait().context("cannot wait for the background process")?;
            bail!("the background process ended ({status}): see {}", logging::file(&settings.run_dir).display())
        }
    }
}

/// Runs the cluster until a signal.
fn serve(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings(arguments)?;
    preflight::check(&settings)?;
    // Waits for one that was killed just now and still holds its ports.
    if let Some(error) = own_cluster(&settings) {
        return Err(error);
    }
    let listeners = Listeners::bind(&settings).map_err(|error| own_cluster(&settings).unwrap_or(error))?;
    let _claim = network_namespace::claim()?;
    preflight::folders(&settings)?;
    let _lock = Lock::take(&settings)?;
    settings.check_places()?;
    settings.save()?;
    if arguments.background {
        rustix::process::setsid().context("cannot leave the terminal")?;
        logging::redirect(&settings.run_dir)?;
        std::env::set_current_dir("/").context("cannot leave the current folder")?;
    }
    logging::start(&arguments.log)?;
    // Clients of registries take the process's provider; everything else names its own. It fails only the second time.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(MOST_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(until_signal(Arc::new(settings), listeners, arguments.background));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

async fn until_signal(settings: Arc<Settings>, listeners: Listeners, background: bool) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut stopped = std::pin::pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    tracing::info!(
        node = settings.node_name,
        address = %settings.node_ip,
        api = settings.api_port,
        data = %settings.data_dir.display(),
        "starting corten {}",
        env!("CARGO_PKG_VERSION")
    );
    let cluster = tokio::select! {
        () = &mut stopped => return Ok(()),
        cluster = Cluster::start(Arc::clone(&settings), listeners) => cluster?,
    };
    tracing::info!("the API is served at {}", settings.url());
    let dead = cluster.tasks.cancelled();
    let result = tokio::select! {
        () = &mut stopped => Ok(()),
        () = dead.cancelled() => Err(part_died()),
        result = report_ready(&settings, &cluster, background) => match result {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                () = &mut stopped => Ok(()),
                () = dead.cancelled() => Err(part_died()),
            },
        },
    };
    tracing::info!("stopping; containers keep running");
    cluster.stop().await;
    result
}

async fn report_ready(settings: &Settings, cluster: &Cluster, background: bool) -> anyhow::Result<()> {
    match tokio::time::timeout(READY_TIMEOUT, cluster.ready()).await {
        Ok(()) => {
            tracing::info!(node = settings.node_name, "the node is Ready");
            if background {
                Report::Ready.send()
            } else {
                say_ready(settings);
                Ok(())
            }
        }
        Err(_) if background => {
            let log = logging::file(&settings.run_dir);
            bail!("the node did not become Ready within {} s: see {}", READY_TIMEOUT.as_secs(), log.display())
        }
        Err(_) => {
            tracing::warn!("the node is still not Ready after {} s", READY_TIMEOUT.as_secs());
            cluster.ready().await;
            say_ready(settings);
            Ok(())
        }
    }
}

fn part_died() -> anyhow::Error {
    anyhow::anyhow!("a part of the cluster ended unexpectedly: the log says which")
}

fn say_ready(settings: &Settings) {
    let kubeconfig = settings.kubeconfig.display();
    println!("The cluster is ready: node {}, API server {}", settings.node_name, settings.url());
    println!("Use it with any kubectl:");
    println!("    export KUBECONFIG={kubeconfig}");
    println!("    kubectl get nodes");
}

/// A better reason for a port that is taken: the cluster of these folders runs already.
fn own_cluster(settings: &Settings) -> Option<anyhow::Error> {
    let running = instance::find(&settings.run_dir).ok()??;
    let run_dir = settings.run_dir.display();
    Some(anyhow::anyhow!("the cluster of --run-dir {run_dir} is running already, as process {}", running.pid))
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let (data_dir, run_dir) = arguments.places.absolute()?;
    let absolute = |path: &PathBuf| std::path::absolute(path).context("the current folder is gone");
    Ok(Settings {
        node_name: arguments.node_name.clone().unwrap_or_else(address::node_name),
        node_ip: arguments.node_ip.map_or_else(address::node_ip, Ok)?,
        api_port: arguments.api_port,
        node_port: arguments.node_port,
        cgroup_root: arguments.cgroup_root.clone(),
        kubeconfig: absolute(&arguments.kubeconfig)?,
        data_dir,
        run_dir,
        network_namespace: network_namespace::own()?,
    })
}

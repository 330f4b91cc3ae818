//! The API as the administrator, over a Unix socket that only root can open: how `status` sees the cluster from any
//! network namespace and without certificates.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use corten_apiserver::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The socket in the run folder, which is its owner's only.
pub(crate) fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("api.sock")
}

/// Opens the socket; one that an earlier process left is replaced.
pub(crate) fn bind(run_dir: &Path) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = socket(run_dir);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(listener)
}

/// Serves until `cancel` fires.
pub(crate) async fn serve(listener: UnixListener, service: Service, cancel: CancellationToken) {
    corten_base::accept(&listener, "the control socket", &cancel, |stream| {
        let (service, cancel) = (TowerToHyperService::new(service.clone()), cancel.clone());
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = cancel.run_until_cancelled(server.serve_connection(TokioIo::new(stream), service)).await;
        });
    })
    .await;
}

/// A client of the cluster that runs in this run folder.
pub(crate) fn client(run_dir: &Path) -> kube::Client {
    let path = socket(run_dir);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(io::Error::other)
        }
    });
    kube::Client::new(service, "default")
}

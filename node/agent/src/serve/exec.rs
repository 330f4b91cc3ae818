//! exec and attach.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::lookup::{ContainerView, PodView};
use crate::ports::{ExecSpec, PortError, Session};
use crate::serve::streams::{self, Ending, Wanted};
use crate::serve::upgrade::{self, Protocol};
use crate::serve::{Answer, Node, Query, spdy, text, websocket};

const WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const SPDY: [&str; 1] = ["v4.channel.k8s.io"];
/// How long nothing is sent over a new WebSocket, while the command starts. kubectl up to 1.32 reads before it has made
/// its streams, and drops what comes for one that it does not have yet ("Unknown stream id"): we are too quick for it.
const HEAD_START: Duration = Duration::from_millis(10);

/// Runs a command in a container.
pub(crate) fn exec(node: &Node, pod: &Arc<PodView>, container: &ContainerView, request: Request<Incoming>) -> Answer {
    let query = Query::of(&request);
    let wanted = wanted(&query);
    let args = query.all("command").to_vec();
    if args.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least one command for the container");
    }
    let spec = ExecSpec { args, tty: wanted.tty, stdin: wanted.stdin };
    let (runtime, uid) = (Arc::clone(node.lookup.runtime()), pod.uid.clone());
    connect(container, (wanted, Ending::ExitCode), request, async move |id| runtime.exec(&uid, &id, spec).await)
}

/// Connects to a container's own streams.
pub(crate) fn attach(node: &Node, pod: &Arc<PodView>, container: &ContainerView, request: Request<Incoming>) -> Answer {
    let mut wanted = wanted(&Query::of(&request));
    wanted.tty = container.tty;
    wanted.stdin &= container.stdin;
    let (runtime, uid) = (Arc::clone(node.lookup.runtime()), pod.uid.clone());
    connect(container, (wanted, Ending::Success), request, async move |id| {
        let mut session = runtime.attach(&uid, &id).await?;
        if !wanted.stdin {
            session.stdin = None;
        }
        Ok(session)
    })
}

/// The kubelet's names for the streams, and the API server's.
fn wanted(query: &Query) -> Wanted {
    let flag = |kubelet: &str, api: &str| query.flag(kubelet) || query.flag(api);
    let tty = query.flag("tty");
    Wanted {
        stdin: flag("input", "stdin"),
        stdout: flag("output", "stdout"),
        stderr: flag("error", "stderr") && !tty,
        tty,
    }
}

/// Grants the upgrade, then starts the session and connects it.
fn connect<F>(
    container: &ContainerView,
    (wanted, ending): (Wanted, Ending),
    mut request: Request<Incoming>,
    start: impl FnOnce(String) -> F + Send + 'static,
) -> Answer
where
    F: Future<Output = Result<Session, PortError>> + Send,
{
    let Some(id) = container.id.clone().filter(|_| container.running) else {
        return text(StatusCode::NOT_FOUND, format!("container not found (\"{}\")", container.name));
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let protocol = match upgrade::choose(request.headers(), &WEBSOCKET, &SPDY) {
        Ok(protocol) => protocol,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let (answer, upgraded) = upgrade::accept(&mut request, protocol);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let connection = TokioIo::new(connection);
        let remote = match protocol {
            Protocol::WebSocket(dialect) => Some(websocket::remote(connection, dialect, wanted).await),
            Protocol::Spdy(_) => spdy::remote(connection, wanted).await,
        };
        let head_start = match protocol {
            Protocol::WebSocket(_) => HEAD_START,
            Protocol::Spdy(_) => Duration::ZERO,
        };
        if let Some((remote, protocol)) = remote {
            let (session, ()) = tokio::join!(start(id), tokio::time::sleep(head_start));
            streams::run(session, remote, ending).await;
            // The protocol task sends what is queued and says goodbye.
            let _ = protocol.await;
        }
    });
    answer
}

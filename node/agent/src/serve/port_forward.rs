//! Port-forward: connections to ports of a pod, each a pair of SPDY streams.
//!
//! Protocol `portforward.k8s.io`: for each connection the client opens an `error` stream and a `data` stream with the
//! same `requestid` and the wanted `port` (client-go tools/portforward). Newer clients carry SPDY in a WebSocket
//! (KEP-4006); others have channels in it, which `port_channels` serves.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lookup::PodView;
use crate::ports::Runtime;
use crate::serve::spdy::{self, Output, Stream};
use crate::serve::upgrade::{self, Protocol};
use crate::serve::{Answer, Node, Query, port_channels, text, websocket};

const WEBSOCKET: [&str; 2] = ["SPDY/3.1+portforward.k8s.io", port_channels::DIALECT];
const SPDY: [&str; 1] = ["portforward.k8s.io"];

/// A connection whose second stream has not been opened yet.
#[derive(Default)]
struct Pair {
    error: Option<Output>,
    data: Option<Stream>,
}

/// Grants the upgrade and serves connections until the client hangs up.
pub(crate) fn answer(node: &Node, pod: &Arc<PodView>, mut request: Request<Incoming>) -> Answer {
    let protocol = match upgrade::choose(request.headers(), &WEBSOCKET, &SPDY) {
        Ok(protocol) => protocol,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let ports = match protocol {
        Protocol::WebSocket(port_channels::DIALECT) => match port_channels::ports(&Query::of(&request)) {
            Ok(ports) => ports,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        },
        _ => Vec::new(),
    };
    let (answer, upgraded) = upgrade::accept(&mut request, protocol);
    let target = Target { runtime: Arc::clone(node.lookup.runtime()), uid: pod.uid.clone() };
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let connection = TokioIo::new(connection);
        match protocol {
            Protocol::WebSocket(port_channels::DIALECT) => {
                port_channels::serve(connection, &ports, |port| target.clone().connect(port)).await;
            }
            Protocol::WebSocket(_) => target.serve(websocket::tunnel(connection).await).await,
            Protocol::Spdy(_) => target.serve(connection).await,
        }
    });
    answer
}

/// The pod to connect to.
#[derive(Clone)]
struct Target {
    runtime: Arc<dyn Runtime>,
    uid: String,
}

impl Target {
    async fn serve<S>(&self, connection: S)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut streams, _connection) = spdy::accept(connection);
        let mut pairs: HashMap<String, Pair> = HashMap::new();
        while let Some(stream) = streams.recv().await {
            let id = stream.headers.get("requestid").cloned().unwrap_or_default();
            let pair = pairs.entry(id.clone()).or_default();
            match stream.headers.get("streamtype").map(String::as_str) {
                Some("error") => pair.error = Some(stream.output),
                Some("data") => pair.data = Some(stream),
                _ => stream.output.reset().await,
            }
            if pair.error.is_some()
                && pair.data.is_some()
                && let Some(Pair { error: Some(error), data: Some(data) }) = pairs.remove(&id)
            {
                let target = self.clone();
                tokio::spawn(async move { target.forward(data, &error).await });
            }
        }
    }

    async fn connect(self, port: u16) -> Result<TcpStream, String> {
        let connected = self.runtime.connect(&self.uid, port).await;
        connected.map_err(|error| format!("error forwarding port {port} to pod {}: {}", self.uid, error.message))
    }

    async fn forward(&self, data: Stream, error: &Output) {
        let port = data.headers.get("port").cloned().unwrap_or_default();
        let connected = match port.parse::<u16>() {
            Ok(number @ 1..) => self.clone().connect(number).await,
            _ => Err(format!("error forwarding port {port} to pod {}: {port:?} is no port", self.uid)),
        };
        match connected {
            Ok(connection) => copy(connection, data).await,
            Err(why) => {
                let _ = error.send(Bytes::from(why)).await;
                data.output.reset().await;
            }
        }
        error.finish().await;
    }
}

/// Copies both ways; each half ends on its own.
async fn copy(connection: TcpStream, data: Stream) {
    let Stream { mut input, output, .. } = data;
    let (mut reader, mut writer) = connection.into_split();
    let inwards = async {
        while let Some(bytes) = input.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    let outwards = async {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            if output.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                return;
            }
        }
        output.finish().await;
    };
    // The pod's end of the connection decides: a client may keep its half open for ever.
    tokio::select! {
        () = outwards => {}
        () = async { inwards.await; std::future::pending::<()>().await } => {}
    }
}

//! Port-forward over the channels of a WebSocket, as Python's client asks for it: `v4.channel.k8s.io`.
//!
//! The request names the ports. The port that it names n-th has the channels 2n for its bytes and 2n + 1 for what goes
//! wrong, and the first message of each is the port's number, little-endian. A port is connected to once.
//! Source: `pkg/kubelet/server/portforward/websocket.go` of Kubernetes (protocol only).

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::serve::Query;
use crate::serve::messages::{self, message};

/// The dialect's name.
pub(crate) const DIALECT: &str = "v4.channel.k8s.io";
/// A channel's number is a byte, and each port has two.
const MOST_PORTS: usize = 128;

/// The ports that a request names: `ports` as the API server has it, `port` as kubelets have it; each may be a list.
pub(crate) fn ports(query: &Query) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    let lists = query.all("ports").iter().chain(query.all("port"));
    for text in lists.flat_map(|list| list.split(',')) {
        match text.trim().parse::<u16>() {
            Ok(port @ 1..) => ports.push(port),
            _ => return Err(format!("unable to parse {text:?} as a port: it must be a number from 1 to 65535")),
        }
    }
    match ports.len() {
        0 => Err("query parameter \"ports\" is required".to_owned()),
        count if count > MOST_PORTS => Err(format!("at most {MOST_PORTS} ports can be forwarded at once")),
        _ => Ok(ports),
    }
}

/// Serves one client until it hangs up or every port's connection has ended.
pub(crate) async fn serve<S, C, F>(connection: S, ports: &[u16], connect: C)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Fn(u16) -> F,
    F: Future<Output = Result<TcpStream, String>> + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (sink, stream) = socket.split();
    let (output, queue) = mpsc::channel(16);
    // Dropped at the end, and the connections with it.
    let mut forwards = JoinSet::new();
    let mut inputs = Vec::new();
    for ((&port, data), error) in ports.iter().zip((0..=u8::MAX).step_by(2)).zip((1..=u8::MAX).step_by(2)) {
        let (input, received) = mpsc::channel(16);
        inputs.push(Some(input));
        let end = End { data, error, output: output.clone() };
        forwards.spawn(end.forward(port, received, connect(port)));
    }
    drop(output);
    messages::serve(read(stream, inputs), write(sink, queue)).await;
}

/// The client's end of a port: the numbers of its channels, and where their messages go.
struct End {
    data: u8,
    error: u8,
    output: mpsc::Sender<Message>,
}

impl End {
    async fn forward(
        self,
        port: u16,
        received: mpsc::Receiver<Bytes>,
        connecting: impl Future<Output = Result<TcpStream, String>>,
    ) {
        for channel in [self.data, self.error] {
            if self.output.send(message(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        match connecting.await {
            Ok(connection) => self.copy(connection, received).await,
            Err(why) => drop(self.output.send(message(self.error, why.as_bytes())).await),
        }
    }

    /// Copies both ways until the pod's end of the connection is closed.
    async fn copy(&self, connection: TcpStream, mut received: mpsc::Receiver<Bytes>) {
        let (mut reader, mut writer) = connection.into_split();
        let inwards = async {
            while let Some(bytes) = received.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
            std::future::pending::<()>().await;
        };
        let outwards = async {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if self.output.send(message(self.data, &buffer[..count])).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = outwards => {}
            () = inwards => {}
        }
    }
}

/// Hands the client's messages to their ports; returns when the client has gone.
async fn read<S>(mut stream: SplitStream<WebSocketStream<S>>, mut inputs: Vec<Option<mpsc::Sender<Bytes>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, payload)) = messages::next(&mut stream).await {
        // Nothing comes in where errors go out.
        let Some(place) = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0) else { continue };
        if let Some(input) = place
            && !payload.is_empty()
            && input.send(payload).await.is_err()
        {
            *place = None;
        }
    }
}

/// Sends what the ports say; says goodbye when the last of them is done.
async fn write<S>(mut sink: SplitSink<WebSocketStream<S>, Message>, mut queue: mpsc::Receiver<Message>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    messages::goodbye(&mut sink).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    use super::*;

    #[test]
    fn ports_are_named_in_the_query() {
        let ports = |query: &str| {
            let request =
                http::Request::builder().uri(format!("/portForward/a/b?{query}")).body(()).expect("a request");
            ports(&Query::of(&request))
        };
        assert_eq!(ports("ports=80,8080"), Ok(vec![80, 8080]));
        assert_eq!(ports("port=82&ports=80%2C81"), Ok(vec![80, 81, 82]));
        for wrong in ["", "ports=", "ports=0", "ports=65536", "ports=http", "other=80"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        let many = vec!["1"; MOST_PORTS + 1].join(",");
        assert!(ports(&format!("ports={many}")).is_err());
    }

    #[tokio::test]
    async fn each_port_has_a_channel_for_bytes_and_one_for_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut asked = [0; 4];
            connection.read_exact(&mut asked).await.expect("four bytes");
            assert_eq!(&asked, b"ping");
            connection.write_all(b"pong").await.expect("writes");
        });
        let (near, far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move {
            let connect = |port| async move {
                if port == 0x1234 {
                    TcpStream::connect(address).await.map_err(|error| error.to_string())
                } else {
                    Err("nobody listens".to_owned())
                }
            };
            serve(near, &[0x1234, 7], connect).await;
        });
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        client.send(message(0, b"ping")).await.expect("sends");
        let mut channels: [Vec<u8>; 4] = Default::default();
        loop {
            match client.next().await.expect("more").expect("a message") {
                Message::Binary(bytes) => channels[usize::from(bytes[0])].extend(&bytes[1..]),
                Message::Close(frame) => break assert_eq!(frame.expect("a reason").code, CloseCode::Normal),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(channels[0], b"\x34\x12pong");
        assert_eq!(channels[1], b"\x34\x12");
        assert_eq!(channels[2], b"\x07\x00");
        assert_eq!(channels[3], b"\x07\x00nobody listens");
        // The goodbye is answered by the next look at the socket.
        let _ = client.next().await;
        serving.await.expect("ends");
    }
}

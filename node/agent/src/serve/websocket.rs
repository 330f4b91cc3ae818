//! Remote command streams over WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`, and plain bytes for tunnels.
//!
//! The first byte of a message names its channel; in v5 a message `[255, channel]` closes one.
//! Source of the protocol: KEP-4006.

use std::io;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

use crate::serve::messages::{self, message};
use crate::serve::streams::{Channel, Remote, Wanted};

/// In v5: the message's second byte is a channel that the client closes.
const CLOSE: u8 = 255;

/// Serves one client's streams; the task ends when the returned `output` is dropped or the client goes.
pub(crate) async fn remote<S>(connection: S, dialect: &'static str, wanted: Wanted) -> (Remote, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (sink, stream) = socket.split();
    let (stdin, stdin_end) = mpsc::channel(16);
    let (resize, resize_end) = mpsc::channel(4);
    let (output, queue) = mpsc::channel(16);
    let task = tokio::spawn(async move {
        let inputs =
            Inputs { stdin: wanted.stdin.then_some(stdin), resize: Some(resize), closes: dialect.starts_with("v5") };
        messages::serve(read(stream, inputs), write(sink, queue, wanted)).await;
    });
    (Remote { stdin: stdin_end, resize: resize_end, output }, task)
}

struct Inputs {
    stdin: Option<mpsc::Sender<Bytes>>,
    resize: Option<mpsc::Sender<Bytes>>,
    closes: bool,
}

/// Hands the client's messages to their channels; returns when the client has gone.
async fn read<S>(mut stream: SplitStream<WebSocketStream<S>>, mut inputs: Inputs)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, payload)) = messages::next(&mut stream).await {
        match channel {
            CLOSE if inputs.closes && payload.first() == Some(&Channel::Stdin.number()) => inputs.stdin = None,
            0 => {
                if let Some(stdin) = &inputs.stdin
                    && !payload.is_empty()
                    && stdin.send(payload).await.is_err()
                {
                    inputs.stdin = None;
                }
            }
            4 => {
                if let Some(resize) = &inputs.resize {
                    let _ = resize.send(payload).await;
                }
            }
            _ => {}
        }
    }
}

/// Sends what the session writes; says goodbye with 1000 when it is done.
async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<(Channel, Bytes)>,
    wanted: Wanted,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Clients wait for one message before they take the connection for established.
    let first = if wanted.stdout { Channel::Stdout } else { Channel::Error };
    if sink.send(message(first.number(), &[])).await.is_err() {
        return;
    }
    while let Some((channel, bytes)) = queue.recv().await {
        if sink.send(message(channel.number(), &bytes)).await.is_err() {
            return;
        }
    }
    messages::goodbye(&mut sink).await;
}

/// Unwraps a byte stream that is carried in binary messages (SPDY through a WebSocket tunnel).
pub(crate) async fn tunnel<S>(connection: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut far_reader, mut far_writer) = tokio::io::split(far);
    tokio::spawn(async move {
        let inwards = async {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(bytes) => far_writer.write_all(&bytes).await?,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            far_writer.shutdown().await
        };
        let outwards = async {
            let mut buffer = vec![0; 32 * 1024];
            loop {
                let count = far_reader.read(&mut buffer).await?;
                if count == 0 {
                    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                    let _ = sink.send(Message::Close(Some(goodbye))).await;
                    return io::Result::Ok(());
                }
                if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                    return Ok(());
                }
            }
        };
        let _ = tokio::join!(inwards, outwards);
    });
    near
}

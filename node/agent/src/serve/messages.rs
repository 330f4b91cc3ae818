//! Messages of a WebSocket whose first byte names a channel: what remote commands and port-forward have in common.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// How long a client may take to answer a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// The next message of a client: its channel, and what is in it. None once the client has gone.
pub(super) async fn next<S>(stream: &mut SplitStream<WebSocketStream<S>>) -> Option<(u8, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return None,
            _ => continue,
        };
        if let Some(&channel) = bytes.first() {
            return Some((channel, bytes.slice(1..)));
        }
    }
    None
}

/// A message to the client.
pub(super) fn message(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}

/// Says goodbye with 1000: all went as it should, whatever it came to.
pub(super) async fn goodbye<S>(sink: &mut SplitSink<WebSocketStream<S>, Message>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // A client that has gone already hears nothing.
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.close().await;
}

/// Serves until `reading` ends, or until `writing` has said goodbye and the client has answered: closing before that
/// could cut off what it has not read yet.
pub(super) async fn serve(reading: impl Future<Output = ()>, writing: impl Future<Output = ()>) {
    tokio::pin!(reading);
    tokio::select! {
        () = writing => drop(tokio::time::timeout(GOODBYE_TIMEOUT, reading).await),
        () = &mut reading => {}
    }
}

//! SPDY/3.1 connections as a server, for exec, attach and port-forward of clients older than WebSockets, and inside
//! the WebSocket tunnel of newer ones' port-forward. No maintained crate speaks it.

mod frame;
mod headers;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::serve::streams::{Channel, Remote, Wanted};
use frame::Frame;
use headers::{Compressor, Decompressor, Headers};

/// How long a client may take to open the streams it announced.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to hang up after the end.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most streams that a client may hold open on one connection.
const STREAM_LIMIT: usize = 1024;

/// A stream that the client opened, already accepted.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    /// What the client sends; ends when its half is closed.
    pub(crate) input: mpsc::Receiver<Bytes>,
    pub(crate) output: Output,
}

/// Our half of a stream.
#[derive(Clone)]
pub(crate) struct Output {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

impl Output {
    pub(crate) async fn send(&self, bytes: Bytes) -> io::Result<()> {
        self.put(Frame::Data { stream: self.stream, bytes, fin: false }).await
    }

    /// Closes our half.
    pub(crate) async fn finish(&self) {
        let _ = self.put(Frame::Data { stream: self.stream, bytes: Bytes::new(), fin: true }).await;
    }

    /// Ends the stream in both directions.
    pub(crate) async fn reset(&self) {
        let _ = self.put(Frame::Reset { stream: self.stream }).await;
    }

    async fn put(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Serves a connection: streams as the client opens them. The task ends when the client hangs up, or soon after a
/// `GoAway` was sent.
pub(crate) fn accept<S>(connection: S) -> (mpsc::Receiver<Stream>, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(connection);
    let (opened, streams) = mpsc::channel(16);
    let (frames, queue) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        let reading = read(reader, opened, frames);
        tokio::pin!(reading);
        tokio::select! {
            _ = write(writer, queue) => {
                let _ = tokio::time::timeout(GOODBYE_TIMEOUT, reading).await;
            }
            _ = &mut reading => {}
        }
    });
    (streams, task)
}

/// Hands frames to their streams until the client hangs up.
async fn read<S>(mut from: ReadHalf<S>, opened: mpsc::Sender<Stream>, frames: mpsc::Sender<Frame>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut inflate = Decompressor::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    while let Some(frame) = frame::read(&mut from, &mut inflate).await? {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                inputs.retain(|_, input| !input.is_closed());
                if inputs.len() >= STREAM_LIMIT {
                    frames.send(Frame::Reset { stream }).await.map_err(gone)?;
                    continue;
                }
                let (input, receiver) = mpsc::channel(16);
                if !fin {
                    inputs.insert(stream, input);
                }
                frames.send(Frame::SynReply { stream }).await.map_err(gone)?;
                let output = Output { stream, frames: frames.clone() };
                if opened.send(Stream { headers, input: receiver, output }).await.is_err() {
                    frames.send(Frame::Reset { stream }).await.map_err(gone)?;
                }
            }
            Frame::Data { stream, bytes, fin } => {
                if let Some(input) = inputs.get(&stream)
                    && !bytes.is_empty()
                    && input.send(bytes).await.is_err()
                {
                    inputs.remove(&stream);
                }
                if fin {
                    inputs.remove(&stream);
                }
            }
            Frame::Reset { stream } => {
                inputs.remove(&stream);
            }
            Frame::Ping { id } if id % 2 == 1 => frames.send(Frame::Ping { id }).await.map_err(gone)?,
            Frame::GoAway => return Ok(()),
            Frame::Ping { .. } | Frame::SynReply { .. } | Frame::Other => {}
        }
    }
    Ok(())
}

/// Sends frames until `GoAway` has been sent or nobody is left to send any.
async fn write<S>(mut to: WriteHalf<S>, mut queue: mpsc::Receiver<Frame>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let mut deflate = Compressor::new()?;
    while let Some(frame) = queue.recv().await {
        to.write_all(&frame::encode(&frame, &mut deflate)?).await?;
        if queue.is_empty() {
            to.flush().await?;
        }
        if frame == Frame::GoAway {
            break;
        }
    }
    to.shutdown().await
}

/// Serves the streams of a remote command. `None` if the client does not open what it announced.
pub(crate) async fn remote<S>(connection: S, wanted: Wanted) -> Option<(Remote, JoinHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut opened, connection) = accept(connection);
    let mut missing = vec![Channel::Error];
    for (channel, want) in [
        (Channel::Stdin, wanted.stdin),
        (Channel::Stdout, wanted.stdout),
        (Channel::Stderr, wanted.stderr),
        (Channel::Resize, wanted.tty),
    ] {
        if want {
            missing.push(channel);
        }
    }
    let mut streams: HashMap<Channel, Stream> = HashMap::new();
    let collect = async {
        while !missing.is_empty() {
            let stream = opened.recv().await?;
            let channel = channel(stream.headers.get("streamtype")?)?;
            missing.retain(|&wanted| wanted != channel);
            streams.insert(channel, stream);
        }
        Some(())
    };
    tokio::time::timeout(OPEN_TIMEOUT, collect).await.ok().flatten()?;
    let mut outputs = HashMap::new();
    let mut input = |channel| match streams.remove(&channel) {
        Some(stream) => {
            outputs.insert(channel, stream.output);
            stream.input
        }
        None => mpsc::channel(1).1,
    };
    let (stdin, resize) = (input(Channel::Stdin), input(Channel::Resize));
    for channel in [Channel::Stdout, Channel::Stderr, Channel::Error] {
        // The client sends nothing on these.
        drop(input(channel));
    }
    let (output, mut queue) = mpsc::channel::<(Channel, Bytes)>(16);
    let task = tokio::spawn(async move {
        let forward = async {
            while let Some((channel, bytes)) = queue.recv().await {
                if let Some(output) = outputs.get(&channel)
                    && output.send(bytes).await.is_err()
                {
                    return;
                }
            }
            for output in outputs.values() {
                output.finish().await;
            }
            if let Some(output) = outputs.values().next() {
                let _ = output.put(Frame::GoAway).await;
            }
        };
        forward.await;
        drop(opened);
        let _ = connection.await;
    });
    Some((Remote { stdin, resize, output }, task))
}

fn channel(stream_type: &str) -> Option<Channel> {
    Some(match stream_type {
        "stdin" => Channel::Stdin,
        "stdout" => Channel::Stdout,
        "stderr" => Channel::Stderr,
        "error" => Channel::Error,
        "resize" => Channel::Resize,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's end: writes frames, reads frames.
    struct Client {
        connection: tokio::io::DuplexStream,
        deflate: Compressor,
        inflate: Decompressor,
    }

    impl Client {
        fn new(connection: tokio::io::DuplexStream) -> Self {
            Self { connection, deflate: Compressor::new().expect("zlib"), inflate: Decompressor::new() }
        }

        async fn send(&mut self, frame: Frame) {
            let bytes = frame::encode(&frame, &mut self.deflate).expect("encoded");
            self.connection.write_all(&bytes).await.expect("written");
        }

        async fn open(&mut self, stream: u32, stream_type: &str) {
            let headers = Headers::from([("streamtype".to_owned(), stream_type.to_owned())]);
            self.send(Frame::SynStream { stream, headers, fin: false }).await;
            assert_eq!(self.next().await, Some(Frame::SynReply { stream }));
        }

        async fn next(&mut self) -> Option<Frame> {
            frame::read(&mut self.connection, &mut self.inflate).await.expect("readable")
        }
    }

    #[tokio::test]
    async fn a_command_gets_its_input_and_the_client_its_output() {
        let (near, far) = tokio::io::duplex(4096);
        let mut client = Client::new(near);
        let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: false };
        let serving = tokio::spawn(remote(far, wanted));
        client.open(1, "error").await;
        client.open(3, "stdin").await;
        client.open(5, "stdout").await;
        let (mut remote, task) = serving.await.expect("joined").expect("opened");
        client.send(Frame::Data { stream: 3, bytes: Bytes::from_static(b"in"), fin: true }).await;
        assert_eq!(remote.stdin.recv().await, Some(Bytes::from_static(b"in")));
        assert_eq!(remote.stdin.recv().await, None);
        remote.output.send((Channel::Stdout, Bytes::from_static(b"out"))).await.expect("sent");
        assert_eq!(client.next().await, Some(Frame::Data { stream: 5, bytes: Bytes::from_static(b"out"), fin: false }));
        client.send(Frame::Ping { id: 1 }).await;
        assert_eq!(client.next().await, Some(Frame::Ping { id: 1 }));
        drop(remote);
        let mut finished = Vec::new();
        while let Some(frame) = client.next().await {
            if let Frame::Data { stream, fin: true, .. } = frame {
                finished.push(stream);
            }
        }
        finished.sort_unstable();
        assert_eq!(finished, [1, 3, 5]);
        drop(client);
        task.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_opens_nothing_is_given_up() {
        let (_near, far) = tokio::io::duplex(4096);
        let wanted = Wanted { stdin: false, stdout: true, stderr: false, tty: false };
        assert!(remote(far, wanted).await.is_none());
    }
}

//! One model of remote command streams for both protocols: channels in, channels out, an exit status.
//!
//! A protocol (WebSocket or SPDY) turns its frames into a [`Remote`]; [`run`] connects a runtime [`Session`] to it.
//! Channel numbers and the status format: k8s.io/apimachinery/pkg/util/remotecommand.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::ports::{PortError, Session};
use crate::serve::fds::AsyncFile;

/// Bytes read at a time from a container.
const CHUNK: usize = 32 * 1024;

/// The streams of a remote command. The numbers are WebSocket's channel bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

impl Channel {
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }
}

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// The client's side of the streams.
pub(crate) struct Remote {
    /// What the client types; ends when the client closes the stream.
    pub(crate) stdin: mpsc::Receiver<Bytes>,
    /// Terminal sizes: JSON `{"Width":80,"Height":24}`.
    pub(crate) resize: mpsc::Receiver<Bytes>,
    /// What the client gets to see. The protocol ends when this is dropped.
    pub(crate) output: mpsc::Sender<(Channel, Bytes)>,
}

/// What the client is told at the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// How the command ended.
    ExitCode,
    /// That all went well: how an attached container ended is in its pod's status.
    Success,
}

/// Connects a started command, or the failure to start it, to the client, until the command ends.
pub(crate) async fn run(session: Result<Session, PortError>, mut remote: Remote, ending: Ending) {
    let status = match session {
        Ok(session) => match pump(session, &mut remote).await {
            Some(code) if code == 0 || ending == Ending::Success => json!({"metadata": {}, "status": "Success"}),
            Some(code) => nonzero(code),
            None => failure("the command's exit code is lost: its supervising process has gone"),
        },
        Err(error) => failure(&error.message),
    };
    let _ = remote.output.send((Channel::Error, Bytes::from(status.to_string()))).await;
}

/// Copies until the process has ended and its output is drained; its exit code.
async fn pump(session: Session, remote: &mut Remote) -> Option<i32> {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let outputs = [(Channel::Stdout, stdout), (Channel::Stderr, stderr)].map(|(channel, fd)| {
        let output = remote.output.clone();
        async move {
            let Some(mut file) = fd.and_then(|fd| AsyncFile::new(fd).ok()) else { return };
            let mut buffer = vec![0; CHUNK];
            while let Ok(count @ 1..) = file.read(&mut buffer).await {
                if output.send((channel, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                    return;
                }
            }
        }
    });
    let drain = async {
        let [stdout, stderr] = outputs;
        tokio::join!(stdout, stderr);
    };
    let input = async {
        if let Some(mut file) = stdin.and_then(|fd| AsyncFile::new(fd).ok()) {
            while let Some(bytes) = remote.stdin.recv().await {
                if file.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // Dropping the pipe is how the process sees the end of its input.
        }
        std::future::pending::<()>().await;
    };
    let sizes = async {
        while let Some(bytes) = remote.resize.recv().await {
            if let Some(size) = parse_size(&bytes) {
                let _ = resize.send(size).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let gone = remote.output.closed();
    tokio::pin!(drain);
    let work = async {
        // Reading goes on meanwhile: a process that fills its pipe would never end.
        let mut exit = exit;
        let code = tokio::select! {
            code = &mut exit => code.ok(),
            () = &mut drain => return exit.await.ok(),
        };
        // A background child may keep the pipe open for ever: what the process itself wrote is there by now.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), &mut drain).await;
        code
    };
    tokio::select! {
        code = work => code,
        () = input => None,
        () = sizes => None,
        () = gone => None,
    }
}

fn parse_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let number = |key: &str| value[key].as_u64().and_then(|number| u16::try_from(number).ok());
    Some((number("Width")?, number("Height")?))
}

fn nonzero(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: error executing command, exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use tokio::sync::oneshot;

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().expect("a pipe")
    }

    #[tokio::test]
    async fn output_is_drained_before_the_exit_status() {
        let (reader, writer) = pipe();
        let (exit, exited) = oneshot::channel();
        let (resize, _sizes) = mpsc::channel(1);
        let session = Session { stdin: None, stdout: Some(reader), stderr: None, resize, exit: exited };
        let (output, mut seen) = mpsc::channel(8);
        let (_stdin, stdin) = mpsc::channel(1);
        let (_size, sizes) = mpsc::channel(1);
        rustix::io::write(&writer, b"hello").expect("written");
        drop(writer);
        exit.send(3).expect("a receiver");
        run(Ok(session), Remote { stdin, resize: sizes, output }, Ending::ExitCode).await;
        assert_eq!(seen.recv().await, Some((Channel::Stdout, Bytes::from_static(b"hello"))));
        let (channel, status) = seen.recv().await.expect("a status");
        assert_eq!(channel, Channel::Error);
        let status: Value = serde_json::from_slice(&status).expect("JSON");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    }

    #[tokio::test]
    async fn an_attached_container_that_fails_is_no_failure_of_attach() {
        let (reader, _) = pipe();
        let (exit, exited) = oneshot::channel();
        let (resize, _sizes) = mpsc::channel(1);
        let session = Session { stdin: None, stdout: Some(reader), stderr: None, resize, exit: exited };
        let (output, mut seen) = mpsc::channel(8);
        let ((_stdin, stdin), (_size, sizes)) = (mpsc::channel(1), mpsc::channel(1));
        exit.send(3).expect("a receiver");
        run(Ok(session), Remote { stdin, resize: sizes, output }, Ending::Success).await;
        let (_, status) = seen.recv().await.expect("a status");
        let status: Value = serde_json::from_slice(&status).expect("JSON");
        assert_eq!(status["status"], "Success");
    }

    #[tokio::test]
    async fn the_end_of_stdin_reaches_the_process_while_it_runs() {
        let (reader, writer) = pipe();
        let (exit, exited) = oneshot::channel();
        let (resize, _sizes) = mpsc::channel(1);
        let session = Session { stdin: Some(writer), stdout: None, stderr: None, resize, exit: exited };
        let (output, _seen) = mpsc::channel(8);
        let (stdin, input) = mpsc::channel(1);
        let (_size, sizes) = mpsc::channel(1);
        let running = tokio::spawn(run(Ok(session), Remote { stdin: input, resize: sizes, output }, Ending::ExitCode));
        stdin.send(Bytes::from_static(b"ab")).await.expect("sent");
        drop(stdin);
        let mut file = AsyncFile::new(reader).expect("a pipe");
        let mut text = String::new();
        file.read_to_string(&mut text).await.expect("read to the end");
        assert_eq!(text, "ab");
        exit.send(0).expect("still running");
        running.await.expect("ended");
    }
}

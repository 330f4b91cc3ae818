//! Probes that run a command in the container.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::answer::Answer;
use crate::ports::{ExecSpec, Runtime};
use crate::serve::fds::AsyncFile;

/// Most of a command's output that is kept.
const OUTPUT_MAX: usize = 10 * 1024;
/// How long to wait for the rest of the output when the command has ended: what it left behind may keep it open.
const REST: Duration = Duration::from_millis(50);

pub(super) async fn run(
    runtime: &Arc<dyn Runtime>,
    pod_uid: &str,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Answer {
    let spec = ExecSpec { args: command.to_vec(), tty: false, stdin: false };
    let run = async {
        let session = match runtime.exec(pod_uid, id, spec).await {
            Ok(session) => session,
            Err(error) => return Answer::Unknown(error.message),
        };
        let output = Arc::new(Mutex::new(Vec::new()));
        let streams = [session.stdout, session.stderr].into_iter().flatten();
        let mut reading = std::pin::pin!(futures::future::join_all(streams.map(|stream| read(stream, &output))));
        let mut exit = session.exit;
        let code = tokio::select! {
            code = &mut exit => {
                let _ = tokio::time::timeout(REST, reading).await;
                code
            }
            _ = &mut reading => exit.await,
        };
        match code {
            Ok(0) => Answer::Healthy,
            Ok(_) => Answer::Unhealthy(text(&output)),
            Err(_) => Answer::Unknown("the command's exit code was lost".to_owned()),
        }
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(answer) => answer,
        Err(_) => Answer::Unhealthy(format!(
            "command timed out: {:?} timed out after {}s",
            command.join(" "),
            timeout.as_secs()
        )),
    }
}

fn text(output: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&output.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Reads a stream to its end; what is too much is read and forgotten, so that the command does not block.
async fn read(stream: OwnedFd, output: &Mutex<Vec<u8>>) {
    let Ok(mut stream) = AsyncFile::new(stream) else { return };
    let mut buffer = vec![0; 4096];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_MAX.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..count.min(room)]);
    }
}

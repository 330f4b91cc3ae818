//! What a process says when it ends.
//!
//! Behaviour: pkg/kubelet/kuberuntime/kuberuntime_container.go (getTerminationMessage) of Kubernetes v1.36.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use corten_api::api::core::v1::Container;

use crate::ports::ContainerState;

/// Most bytes of a message that a process leaves in its file, and of one that is taken from its log.
const MOST_FILE: u64 = 4096;
const MOST_LOG: u64 = 2048;
const MOST_LINES: usize = 80;

/// The message in `file`; of a failed container that left none, the end of its log if its policy says so.
pub(crate) fn message(container: &Container, state: &ContainerState, file: &Path, log: &Path) -> Option<String> {
    let text = tail(file, MOST_FILE).filter(|text| !text.is_empty());
    let failed = state.exit.as_ref().is_some_and(|exit| exit.code != 0);
    let falls_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if text.is_some() || !(failed && falls_back) {
        return text;
    }
    // Room for what each line has before its text.
    let log = tail(log, MOST_LOG * 4)?;
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let lines = &lines[lines.len().saturating_sub(MOST_LINES)..];
    let mut text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let most = usize::try_from(MOST_LOG).unwrap_or(usize::MAX);
    if text.len() > most {
        let start = (text.len() - most..=text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.drain(..start);
    }
    Some(text)
}

/// The last bytes of a file, as text.
fn tail(path: &Path, most: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most))).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use corten_base::Timestamp;

    use super::*;
    use crate::ports::Exit;

    #[test]
    fn the_file_comes_before_the_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, log) = (dir.path().join("message"), dir.path().join("0.log"));
        let stamp = "2026-01-01T00:00:00.000000000Z stderr F";
        std::fs::write(&log, format!("{stamp} one\n{stamp} two words\n")).expect("written");
        let container =
            |policy: &str| Container { termination_message_policy: Some(policy.to_owned()), ..Container::default() };
        let ended = |code| ContainerState {
            id: String::new(),
            name: String::new(),
            attempt: 0,
            image: String::new(),
            pid: None,
            started_at: Timestamp::UNIX_EPOCH,
            exit: Some(Exit { code, signal: 0, oom_killed: false, at: Timestamp::UNIX_EPOCH }),
        };
        let fallback = container("FallbackToLogsOnError");
        assert_eq!(message(&fallback, &ended(1), &file, &log).as_deref(), Some("one\ntwo words\n"));
        assert_eq!(message(&fallback, &ended(0), &file, &log), None, "it did not fail");
        assert_eq!(message(&container("File"), &ended(1), &file, &log), None);
        std::fs::write(&file, "bye").expect("written");
        assert_eq!(message(&fallback, &ended(1), &file, &log).as_deref(), Some("bye"));
    }
}

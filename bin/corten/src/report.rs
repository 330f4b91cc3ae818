//! What a detached process tells the command that started it: that it is ready, or why it is not.
//!
//! One JSON line on standard output, which is a pipe then; afterwards standard output leads nowhere.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The one line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Report {
    /// The cluster serves and its node is Ready.
    Ready,
    /// It does not, and has stopped.
    Failed(String),
}

impl Report {
    /// Tells it. Fails if nobody listens any more.
    pub(crate) fn send(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)
            .and_then(|()| out.flush())
            .context("the command that started this process is gone")?;
        let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")?;
        rustix::stdio::dup2_stdout(&nowhere).context("cannot redirect standard output")
    }

    /// Waits for it; `None` if the process ended without a word.
    pub(crate) fn receive(pipe: impl Read) -> Option<Self> {
        let mut line = String::new();
        BufReader::new(pipe).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line() {
        let text = serde_json::to_string(&Report::Failed("a\nb".to_owned())).expect("json") + "\n";
        assert_eq!(text.lines().count(), 1);
        assert_eq!(Report::receive(text.as_bytes()), Some(Report::Failed("a\nb".to_owned())));
        assert_eq!(Report::receive(&b""[..]), None);
    }
}

//! Running a program with a time limit, and saying everything about it when it fails.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const TIMEOUT: Duration = Duration::from_secs(60);

/// What a program said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Both streams.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A program to run.
pub struct Program {
    words: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    input: Option<String>,
    timeout: Duration,
}

impl Program {
    /// A program and its arguments.
    pub fn new<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self { words, environment: Vec::new(), input: None, timeout: TIMEOUT }
    }

    /// More arguments.
    #[must_use]
    pub fn args<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// How long it may take; a minute unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same program in a terminal, such as a person has; `script` of util-linux makes it.
    #[must_use]
    pub fn in_terminal(mut self) -> Self {
        let quoted: Vec<String> =
            self.words.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"))).collect();
        self.words = ["script", "-qec", &quoted.join(" "), "/dev/null"].map(OsString::from).into();
        self
    }

    /// Its words, for people.
    pub(crate) fn text(&self) -> String {
        self.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Starts it in the background with its streams as they are set up by `prepare`.
    pub fn spawn(&self, prepare: impl FnOnce(&mut Command)) -> Result<Child> {
        let (program, args) = self.words.split_first().context("there is no program to run")?;
        let mut command = Command::new(program);
        command.args(args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        prepare(&mut command);
        command.spawn().with_context(|| format!("cannot run {}", self.text()))
    }

    /// Runs it to its end, whatever that is. A program that does not end in time is killed: an error.
    pub fn output(&self) -> Result<Output> {
        let mut child = self.spawn(|command| {
            let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        })?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.clone()) {
            thread::spawn(move || stdin.write_all(input.as_bytes()));
        }
        let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
        let ended = ends_within(&child, self.timeout)?;
        if !ended {
            let _ = child.kill();
        }
        let status = child.wait().with_context(|| format!("cannot wait for {}", self.text()))?;
        if !ended {
            // Its children may still hold the streams, so that they would never end.
            bail!("{} did not end within {:?}", self.text(), self.timeout);
        }
        let said = |stream: Option<JoinHandle<String>>| stream.and_then(|all| all.join().ok()).unwrap_or_default();
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Output { code, stdout: said(stdout), stderr: said(stderr) })
    }

    /// Runs it; what it printed, or an error with everything it said.
    pub fn run(&self) -> Result<String> {
        let output = self.output()?;
        if output.code != 0 {
            bail!("{} ended with {}:\n{}", self.text(), output.code, output.all().trim_end());
        }
        Ok(output.stdout)
    }

    /// Runs it; an error unless it fails. What it said on both streams.
    pub fn fail(&self) -> Result<String> {
        let output = self.output()?;
        if output.code == 0 {
            bail!("{} should have failed, but said:\n{}", self.text(), output.all().trim_end());
        }
        Ok(output.all())
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether the process ended in time.
pub(crate) fn ends_within(child: &Child, timeout: Duration) -> Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("cannot follow a process")?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).context("too long a time limit")?;
    Ok(poll(&mut fds, Some(&timeout)).context("cannot wait for a process")? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_everything() {
        let said = Program::new(["cat"]).input("hello").run().expect("it runs");
        assert_eq!(said, "hello");
        let error = Program::new(["sh", "-c", "echo out; echo err >&2; exit 3"]).run().expect_err("it fails");
        assert!(error.to_string().ends_with("ended with 3:\nout\nerr"), "{error}");
        let error = Program::new(["sleep", "60"]).timeout(Duration::from_millis(50)).run().expect_err("too slow");
        assert!(error.to_string().contains("did not end within 50ms"), "{error}");
    }
}

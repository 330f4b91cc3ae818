//! Programs that run beside a test.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::program::{Program, ends_within};

/// A program that is killed when this is dropped.
pub struct Background {
    child: Child,
    what: String,
}

impl Background {
    pub(super) fn start(program: &Program, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        Ok(Self { child: program.spawn(prepare)?, what: program.text() })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn runs(&self) -> Result<bool> {
        Ok(!ends_within(&self.child, Duration::ZERO)?)
    }

    /// Waits until it ends by itself, which it must within `patience`; its exit code.
    pub fn wait(mut self, patience: Duration) -> Result<i32> {
        if !ends_within(&self.child, patience)? {
            bail!("{} did not end within {patience:?}", self.what);
        }
        Ok(self.child.wait().context("cannot wait")?.code().unwrap_or(-1))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_background_is_not_waited_for_without_end() {
        let start = |seconds: &str| Background::start(&Program::new(["sleep", seconds]), |_| {}).expect("it runs");
        let slow = start("60");
        assert!(slow.runs().expect("known"));
        let error = slow.wait(Duration::from_millis(50)).expect_err("too slow");
        assert_eq!(error.to_string(), "sleep 60 did not end within 50ms");
        assert_eq!(start("0").wait(Duration::from_secs(10)).expect("it ends"), 0);
    }
}

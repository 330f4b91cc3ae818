//! A copy of a container's output for one who is attached.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long a reader may keep the container waiting before it gets nothing any more, nanoseconds.
const PATIENCE: i64 = 10_000_000_000;

/// One stream of one container, for one connection.
///
/// A reader that is slow slows the container down, as it does with other runtimes: nothing is lost. One that has stopped
/// reading is dropped.
pub(crate) struct Tap {
    container: String,
    stream: usize,
    pub(crate) connection: u64,
    writer: File,
    pending: Vec<u8>,
    /// Since when nothing went through.
    stuck_since: i64,
    ended: bool,
    broken: bool,
}

impl Tap {
    /// `writer` is a pipe that does not block.
    pub(crate) fn new(container: &str, stream: usize, connection: u64, writer: OwnedFd) -> Self {
        let (container, writer) = (container.to_owned(), File::from(writer));
        let (pending, stuck_since, ended, broken) = (Vec::new(), 0, false, false);
        Self { container, stream, connection, writer, pending, stuck_since, ended, broken }
    }

    pub(crate) fn is_of(&self, container: &str, stream: usize) -> bool {
        self.stream == stream && self.container == container
    }

    /// Whether it waits for its reader.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty() && !self.broken
    }

    /// Whether this stream must not be read on, or memory would have to hold what is read.
    pub(crate) fn holds_up(&self, container: &str, stream: usize) -> bool {
        self.waits() && self.is_of(container, stream)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], now: i64) {
        if self.broken {
            return;
        }
        if self.pending.is_empty() {
            self.stuck_since = now;
        }
        self.pending.extend_from_slice(bytes);
        self.flush(now);
    }

    pub(crate) fn flush(&mut self, now: i64) {
        while !self.pending.is_empty() {
            match self.writer.write(&self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                    self.stuck_since = now;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// The container says no more on this stream.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it can be let go of.
    pub(crate) fn is_done(&self, now: i64) -> bool {
        self.broken || (self.ended && self.pending.is_empty()) || (self.waits() && now - self.stuck_since > PATIENCE)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nothing_is_lost_for_a_slow_reader_and_a_stuck_one_is_dropped() {
        let (reader, writer) = crate::sys::pipe().expect("a pipe");
        crate::sys::set_nonblocking(writer.as_fd()).expect("set");
        let mut tap = Tap::new("c", 0, 1, writer);
        let said: Vec<u8> = (0..300_000_u32).map(|number| u8::try_from(number % 251).expect("small")).collect();
        tap.write(&said, 0);
        assert!(tap.holds_up("c", 0) && !tap.holds_up("c", 1) && !tap.is_done(PATIENCE));
        assert!(tap.is_done(PATIENCE + 1), "it waits no longer");
        tap.end();
        let mut reader = File::from(reader);
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while !tap.is_done(1) {
            let count = reader.read(&mut buffer).expect("read");
            heard.extend_from_slice(&buffer[..count]);
            tap.flush(1);
        }
        drop(tap);
        reader.read_to_end(&mut heard).expect("read");
        assert!(heard == said);
    }
}

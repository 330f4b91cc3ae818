//! Log files in the CRI format: `<RFC 3339 time> <stream> <F|P> <text>`.
//!
//! Spec: <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Longest text of one line; longer ones are written in parts, as upstream does.
const MOST: usize = 16 << 10;

/// The log of one container.
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// What has no line end yet, of stdout and of stderr.
    partial: [Vec<u8>; 2],
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Some(append(path)?), partial: [Vec::new(), Vec::new()] })
    }

    /// Starts a new file under the same name, after the old one was moved away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = Some(append(&self.path)?);
        Ok(())
    }

    /// Writes what a container said; `stream` 0 is stdout, 1 is stderr.
    pub(crate) fn write(&mut self, stream: usize, bytes: &[u8], now: i64) {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let partial = &mut self.partial[stream];
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            partial.extend_from_slice(text);
            while partial.len() > MOST {
                let rest = partial.split_off(MOST);
                line(&mut out, stream, partial, false, now);
                *partial = rest;
            }
            if ends {
                line(&mut out, stream, partial, true, now);
                partial.clear();
            }
        }
        self.put(&out);
    }

    /// Writes what is left at the end of a stream.
    pub(crate) fn finish(&mut self, stream: usize, now: i64) {
        let rest = std::mem::take(&mut self.partial[stream]);
        if !rest.is_empty() {
            let mut out = Vec::new();
            line(&mut out, stream, &rest, false, now);
            self.put(&out);
        }
    }

    /// A disk that is full loses log lines, not containers.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn line(out: &mut Vec<u8>, stream: usize, text: &[u8], whole: bool, now: i64) {
    let name = if stream == 0 { "stdout" } else { "stderr" };
    let _ = write!(out, "{} {name} {} ", rfc3339(now), if whole { 'F' } else { 'P' });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Nanoseconds of Unix time as text, UTC, nine digits.
fn rfc3339(nanos: i64) -> String {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date: Howard Hinnant's algorithm, years starting in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_709_164_799_000_000_001), "2024-02-28T23:59:59.000000001Z");
        assert_eq!(rfc3339(1_709_164_800_000_000_000), "2024-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_790_164_812_345_678_901), "2026-09-23T12:00:12.345678901Z");
    }

    #[test]
    fn lines_are_whole_or_marked_as_parts() {
        let path = std::env::temp_dir().join(format!("corten-shim-log-{}", std::process::id()));
        let mut log = Log::open(&path).expect("opens");
        log.write(0, b"one\ntw", 0);
        log.write(1, b"err\n", 0);
        log.write(0, b"o\n", 0);
        log.write(0, &[b'x'; MOST + 3], 0);
        log.finish(0, 0);
        let text = std::fs::read_to_string(&path).expect("reads");
        std::fs::remove_file(&path).expect("removed");
        let lines: Vec<String> = text.lines().map(|line| line[31..].chars().take(12).collect()).collect();
        assert_eq!(lines, ["stdout F one", "stderr F err", "stdout F two", "stdout P xxx", "stdout P xxx"]);
    }
}

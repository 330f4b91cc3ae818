//! Container logs: reads files in the CRI format, follows them by inotify.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a longer line.
//! Source: CRI's logging format (k8s.io/design-proposals-archive/node/kubelet-cri-logging.md).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corten_base::Timestamp;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::lookup::{ContainerView, PodView};
use crate::serve::{Answer, Node, Query, fds, text};

const CHUNK: usize = 256 * 1024;

/// What a client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    follow: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    timestamps: bool,
    previous: bool,
    limit: Option<usize>,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, String> {
        let number = |name: &str| match query.first(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse::<usize>()
                .map(Some)
                .map_err(|_| format!("invalid {name}: {text:?} is no number of 0 or more")),
        };
        let since = match (query.first("sinceTime"), number("sinceSeconds")?) {
            (Some(text), _) if !text.is_empty() => {
                Some(text.parse().map_err(|_| format!("invalid sinceTime: {text:?} is no RFC 3339 time"))?)
            }
            (_, Some(seconds)) => {
                i64::try_from(seconds).ok().and_then(|s| now.checked_sub(jiff::SignedDuration::from_secs(s)).ok())
            }
            _ => None,
        };
        Ok(Self {
            follow: query.flag("follow"),
            tail: number("tailLines")?,
            since,
            timestamps: query.flag("timestamps"),
            previous: query.flag("previous"),
            limit: number("limitBytes")?,
        })
    }
}

/// Streams a container's log.
pub(crate) async fn answer(node: &Node, pod: &PodView, container: &ContainerView, query: &Query) -> Answer {
    let options = match Options::parse(query, node.clock.now()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let pod_name = pod.pod.metadata.name.clone().unwrap_or_default();
    let path = match path(container, &pod_name, options.previous) {
        Ok(path) => path,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let (body, chunks) = mpsc::channel::<io::Result<Frame<Bytes>>>(8);
    let source = Source { node: node.clone(), pod: pod.clone(), container: container.clone(), path, options };
    tokio::spawn(async move {
        if let Err(error) = source.stream(&body).await {
            tracing::debug!(%error, "a log stream ended early");
        }
    });
    let chunks = stream::unfold(chunks, async |mut chunks| chunks.recv().await.map(|chunk| (chunk, chunks)));
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// The file to read, or why there is none yet.
fn path(container: &ContainerView, pod: &str, previous: bool) -> Result<PathBuf, String> {
    let name = &container.name;
    if previous {
        return container
            .previous_log_path()
            .filter(|path| path.exists())
            .ok_or_else(|| format!("previous terminated container \"{name}\" in pod \"{pod}\" not found"));
    }
    if container.id.is_none() {
        let why = container.waiting.as_deref().unwrap_or("ContainerCreating");
        return Err(format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {why}"));
    }
    Ok(container.log_path())
}

struct Source {
    node: Node,
    pod: PodView,
    container: ContainerView,
    path: PathBuf,
    options: Options,
}

impl Source {
    async fn stream(self, body: &mpsc::Sender<io::Result<Frame<Bytes>>>) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // A container that has said nothing may have no file yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(lines) = self.options.tail {
            let start = tail_offset(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let mut watch = if self.options.follow { Some(Watch::new(&self.path)?) } else { None };
        let mut changes = self.node.lookup.changes();
        let mut filter = Filter::new(&self.options);
        let mut pending = Vec::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            // Asked before reading: what the container wrote before it ended is then read in this round.
            let running = self.is_running();
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                pending.extend_from_slice(&buffer[..count]);
                let whole = pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                let out = filter.apply(&pending[..whole]);
                pending.drain(..whole);
                if !out.is_empty() && body.send(Ok(Frame::data(Bytes::from(out)))).await.is_err() {
                    return Ok(());
                }
                if filter.is_full() {
                    return Ok(());
                }
            }
            let Some(watch) = watch.as_mut().filter(|_| running) else { return Ok(()) };
            tokio::select! {
                changed = watch.changed() => changed?,
                _ = changes.changed() => {}
                () = body.closed() => return Ok(()),
            }
        }
    }

    /// Whether this very attempt still runs.
    fn is_running(&self) -> bool {
        let metadata = &self.pod.pod.metadata;
        let (namespace, name) =
            (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        self.node.lookup.pod(namespace, name).is_some_and(|view| {
            view.container(&self.container.name).is_some_and(|now| now.id == self.container.id && now.running)
        })
    }
}

/// Turns whole log entries into what the client sees.
struct Filter<'a> {
    options: &'a Options,
    left: Option<usize>,
    line_start: bool,
}

impl<'a> Filter<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, left: options.limit, line_start: true }
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    fn apply(&mut self, entries: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries.split_inclusive(|&byte| byte == b'\n') {
            let Some((time, part, message)) = split(entry) else { continue };
            if let Some(since) = self.options.since
                && std::str::from_utf8(time)
                    .ok()
                    .and_then(|time| time.parse::<Timestamp>().ok())
                    .is_some_and(|time| time < since)
            {
                continue;
            }
            if self.options.timestamps && self.line_start {
                out.extend_from_slice(time);
                out.push(b' ');
            }
            // The end of the line belongs to the message, unless more of the line follows.
            out.extend_from_slice(if part { message.strip_suffix(b"\n").unwrap_or(message) } else { message });
            self.line_start = !part;
        }
        if let Some(left) = &mut self.left {
            out.truncate(*left);
            *left -= out.len();
        }
        out
    }
}

/// (time, whether it is a part of a line, message with its newline)
fn split(entry: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut fields = entry.splitn(4, |&byte| byte == b' ');
    let (time, _stream, tag, message) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some((time, tag.starts_with(b"P"), message))
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut File, lines: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(size);
    }
    let mut window = 64 * 1024_u64;
    loop {
        let start = size.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(size - start).read_to_end(&mut bytes)?;
        let mut starts = Vec::new();
        let mut offset = 0;
        let mut complete = start == 0;
        for entry in bytes.split_inclusive(|&byte| byte == b'\n') {
            if complete {
                starts.push(start + offset as u64);
            }
            // The next entry begins a line if this one ends it; the window's first may be cut.
            complete = split(entry).is_some_and(|(_, part, _)| !part) || (start > 0 && offset == 0);
            offset += entry.len();
        }
        if starts.len() >= lines {
            return Ok(starts[starts.len() - lines]);
        }
        if start == 0 {
            return Ok(0);
        }
        window *= 4;
    }
}

/// Tells when a file grows.
struct Watch(AsyncFd<std::os::fd::OwnedFd>);

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)?;
        Ok(Self(fds::register(fd)?))
    }

    async fn changed(&mut self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(guard.get_inner(), &mut space);
        // One wake-up stands for all that is queued.
        while events.next().is_ok() {}
        guard.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LOG: &str = "\
2026-11-24T02:00:00.000000001Z stdout F one\n\
2026-11-24T02:00:01.000000001Z stdout P tw\n\
2026-11-24T02:00:01.000000002Z stdout F o\n\
2026-11-24T02:00:02.000000001Z stderr F three\n";

    fn check(options: &Options, want: &str) {
        let out = Filter::new(options).apply(LOG.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), want, "{options:?}");
    }

    #[test]
    fn entries_become_lines() {
        check(&Options::default(), "one\ntwo\nthree\n");
        check(&Options { limit: Some(5), ..Options::default() }, "one\nt");
        check(&Options { since: "2026-11-24T02:00:02Z".parse().ok(), ..Options::default() }, "three\n");
        check(
            &Options { timestamps: true, ..Options::default() },
            "2026-11-24T02:00:00.000000001Z one\n2026-11-24T02:00:01.000000001Z two\n2026-11-24T02:00:02.000000001Z three\n",
        );
    }

    #[test]
    fn the_tail_counts_lines_not_parts() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(LOG.as_bytes()).expect("written");
        for (lines, want) in
            [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (3, "one\ntwo\nthree\n"), (9, "one\ntwo\nthree\n")]
        {
            let offset = usize::try_from(tail_offset(&mut file, lines).expect("readable")).expect("small");
            let out = Filter::new(&Options::default()).apply(&LOG.as_bytes()[offset..]);
            assert_eq!(String::from_utf8_lossy(&out), want, "{lines}");
        }
    }

    #[test]
    fn the_tail_of_a_large_file_is_found_from_its_end() {
        let mut file = tempfile::tempfile().expect("a file");
        for number in 0..20_000 {
            writeln!(file, "2026-11-24T02:00:00.000000001Z stdout F line {number}").expect("written");
        }
        let offset = tail_offset(&mut file, 5000).expect("readable");
        file.seek(SeekFrom::Start(offset)).expect("sought");
        let mut rest = String::new();
        file.read_to_string(&mut rest).expect("read");
        assert_eq!(rest.lines().count(), 5000);
        assert!(rest.starts_with("2026-11-24T02:00:00.000000001Z stdout F line 15000\n"));
    }
}

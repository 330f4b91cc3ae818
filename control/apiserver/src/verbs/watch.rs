//! watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::status::Status;
use corten_store::{Event, Revision, RevisionError, Watch};
use http::header::ACCEPT;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::options;
use super::read::{reached, revision, unreadable};
use crate::body::{self, Answer};
use crate::negotiate::{self, Form, Shape};
use crate::objects::{self, Filter};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{storage, table};

/// How often a quiet watch says how far it is, as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts at least if the client does not say; up to twice that, as upstream.
const LEAST_TIME: u64 = 1800;
/// Longer times than a year are as good as a year, and can be added to any moment.
const MOST_TIME: u64 = 365 * 86_400;
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

pub(super) async fn watch(server: &Arc<Server>, request: &Request, target: Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let mut filter = Filter::parse(target.kind, &request.query)?;
    if let Some(name) = &target.name {
        filter.only(name);
    }
    let seconds = match request.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds.unsigned_abs().min(MOST_TIME),
        _ => LEAST_TIME + server.config().random.below(1800) as u64,
    };
    let version = revision(request)?.unwrap_or(0);
    let initial = request.query.flag("sendInitialEvents");
    options::watch(&request.query)?;
    let prefix = match filter.name().zip(target.namespace.as_deref()) {
        Some((name, namespace)) => storage::key(target.kind.storage(), Some(namespace), name),
        None => storage::prefix(target.kind.storage(), target.namespace.as_deref()),
    };
    let from_now = initial || version == 0;
    let mut stream = Stream {
        pending: VecDeque::new(),
        form,
        filter,
        request_includes: request.query.get("includeObject").map(str::to_owned),
        headed: false,
        bookmarks: request.query.flag("allowWatchBookmarks"),
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        end: Instant::now() + Duration::from_secs(seconds),
        stopping: server.stopping(),
        watch: None,
        server: Arc::clone(server),
        target,
    };
    let after = if from_now {
        if version > 0 {
            reached(server, version).await?;
        }
        let snapshot = server.store().snapshot();
        for (_, entry) in snapshot.prefix(&prefix) {
            if stream.filter.matches(&entry.value) {
                stream.push("ADDED", &entry.value)?;
            }
        }
        if initial && stream.bookmarks {
            stream.bookmark(snapshot.revision(), true);
        }
        snapshot.revision()
    } else {
        version
    };
    stream.watch = Some(server.store().watch(prefix, after).map_err(|error| unreadable(&error))?);
    let pieces = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    });
    let kind = if form.yaml { "application/yaml;stream=watch" } else { "application/json" };
    Ok(body::answer(StatusCode::OK, HeaderValue::from_static(kind), body::stream(pieces)))
}

struct Stream {
    server: Arc<Server>,
    target: Target,
    form: Form,
    filter: Filter,
    request_includes: Option<String>,
    /// Whether the columns of a table have been sent.
    headed: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    stopping: CancellationToken,
    /// `None` once it is over.
    watch: Option<Watch>,
    pending: VecDeque<Bytes>,
}

enum Turn {
    Events(Arc<[Event]>),
    Over(Option<RevisionError>),
    Bookmark,
}

impl Stream {
    /// What to send next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.pending.is_empty() {
                // What has gathered goes out in one piece.
                let all: Vec<Bytes> = self.pending.drain(..).collect();
                return Some(if let [one] = all.as_slice() { one.clone() } else { all.concat().into() });
            }
            let watch = self.watch.as_mut()?;
            let turn = tokio::select! {
                biased;
                () = self.stopping.cancelled() => Turn::Over(None),
                events = watch.next() => events.map_or_else(|error| Turn::Over(Some(error)), Turn::Events),
                () = tokio::time::sleep_until(self.end) => Turn::Over(None),
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => Turn::Bookmark,
            };
            match turn {
                Turn::Events(events) => {
                    for event in events.iter() {
                        if let Err(status) = self.event(event) {
                            self.error(&status);
                        }
                    }
                }
                Turn::Over(None) => self.watch = None,
                Turn::Over(Some(error)) => self.error(&unreadable(&error)),
                Turn::Bookmark => {
                    let progress = watch.progress();
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    self.bookmark(progress, false);
                }
            }
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), Status> {
        let before = event.previous.as_ref().filter(|entry| self.filter.matches(&entry.value));
        let after = event.entry.as_ref().filter(|entry| self.filter.matches(&entry.value));
        match (before, after) {
            (None, None) => Ok(()),
            (None, Some(entry)) => self.push("ADDED", &entry.value),
            (Some(_), Some(entry)) => self.push("MODIFIED", &entry.value),
            (Some(entry), None) => self.push("DELETED", &storage::restamped(entry, event.revision)),
        }
    }

    fn push(&mut self, kind: &str, bytes: &Bytes) -> Result<(), Status> {
        let object = match self.form.shape {
            Shape::Object | Shape::Discovery(_) => objects::served(self.target.kind, bytes)?,
            Shape::Metadata => objects::partial(self.form, bytes)?.to_string().into(),
            Shape::Table => {
                let includes = self.request_includes.as_deref();
                let mut table = table::one(&self.server, self.form, self.target.kind, bytes, includes)?;
                if std::mem::replace(&mut self.headed, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table.to_string().into()
            }
        };
        self.line(kind, &object);
        Ok(())
    }

    fn line(&mut self, kind: &str, object: &[u8]) {
        let mut line = Vec::with_capacity(object.len() + 40);
        line.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
        line.extend_from_slice(object);
        line.extend_from_slice(b"}\n");
        self.pending.push_back(line.into());
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) {
        let names = self.target.kind.names();
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let (version, kind) = match self.form.shape {
            Shape::Object | Shape::Discovery(_) => (names.api_version(), names.kind),
            Shape::Metadata => (format!("meta.k8s.io/{}", self.form.version), "PartialObjectMetadata"),
            Shape::Table => (format!("meta.k8s.io/{}", self.form.version), "Table"),
        };
        let mut object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        if self.form.shape == Shape::Table {
            object["columnDefinitions"] = json!([]);
            object["rows"] = json!([]);
        }
        self.line("BOOKMARK", object.to_string().as_bytes());
    }

    /// Tells why the watch ends, and ends it.
    fn error(&mut self, status: &Status) {
        self.line("ERROR", status.to_json().to_string().as_bytes());
        self.watch = None;
    }
}

//! watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::status::Status;
use corten_store::{Event, Revision, RevisionError, Watch};
use futures::FutureExt;
use http::header::ACCEPT;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::options;
use super::read::{place, reached, revision, unreadable};
use crate::body::{self, Answer};
use crate::negotiate::{self, Syntax};
use crate::objects::Filter;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage;
use crate::watch_events::{Events, Seen};

/// How often a quiet watch says how far it is, as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts at least if the client does not say; up to twice that, as upstream.
const LEAST_TIME: u64 = 1800;
/// Objects of the state that are looked up at a time.
const FOUND: usize = 256;
/// The least time that is waited.
const TICK: Duration = Duration::from_millis(1);
/// Longer times than a year are as good as a year, and can be added to any moment.
const MOST_TIME: u64 = 365 * 86_400;

pub(super) async fn watch(server: &Arc<Server>, request: &Request, target: Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    if form.syntax == Syntax::Yaml {
        return Err(negotiate::not_streamed());
    }
    let mut filter = Filter::parse(target.kind, &request.query)?;
    if let Some(name) = &target.name {
        filter.only(name);
    }
    let seconds = match request.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds.unsigned_abs().min(MOST_TIME),
        _ => LEAST_TIME + server.config().random.below(1800) as u64,
    };
    let version = revision(request)?.unwrap_or(0);
    let asked = request.query.has("sendInitialEvents");
    let initial = request.query.flag("sendInitialEvents");
    options::watch(&request.query)?;
    let place = place(&target, &filter);
    let prefix = match filter.name() {
        Some(name) if place.is_one_place => Bytes::from([&*place.bytes, name.as_bytes()].concat()),
        _ => place.bytes,
    };
    let from_now = initial || version == 0;
    // Without a word on it, a watch from now begins with what is there.
    let shows_state = initial || !asked;
    let mut stream = Stream {
        events: Events::new(server, &target, form, request.query.get("includeObject")),
        filter,
        bookmarks: request.query.flag("allowWatchBookmarks"),
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        end: Instant::now() + Duration::from_secs(seconds),
        sent: Instant::now(),
        stopping: server.stopping(),
        state: None,
        watch: None,
        server: Arc::clone(server),
    };
    let after = if from_now {
        if version > 0 {
            reached(server, version).await?;
        }
        // Any state will do for version 0; without a version it is the newest.
        let snapshot = match revision(request)? {
            None => server.store().read().await.map_err(storage::refused)?,
            Some(_) => server.store().snapshot(),
        };
        stream.state = Some(State {
            revision: snapshot.revision(),
            prefix: prefix.clone(),
            // Without objects to show there is nothing to walk.
            next: shows_state.then(|| prefix.clone()),
            found: VecDeque::new(),
            tells_end: initial && stream.bookmarks,
        });
        snapshot.revision()
    } else {
        version
    };
    match server.store().watch(prefix, after) {
        Ok(watch) => stream.watch = Some(watch),
        // As upstream: the watch begins, and says why it ends.
        Err(error) => stream.error(&unreadable(&error)),
    }
    let pieces = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    });
    let kind = if form.syntax == Syntax::Protobuf {
        "application/vnd.kubernetes.protobuf;stream=watch"
    } else {
        "application/json"
    };
    Ok(body::answer(StatusCode::OK, HeaderValue::from_static(kind), body::stream(pieces)))
}

/// A watch of one client. It is pulled: a client that does not read falls behind in the store's ring, and once the ring
/// has passed it, it is told so. Nothing waits for it in memory but one piece.
struct Stream {
    server: Arc<Server>,
    events: Events,
    filter: Filter,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    /// When the last piece was.
    sent: Instant,
    stopping: CancellationToken,
    /// What is to be shown before the first change.
    state: Option<State>,
    /// `None` once it is over.
    watch: Option<Watch>,
}

/// The objects of one revision, of which a piece is shown at a time. The snapshot is not held in between: it is found
/// again in the store's history, or it is too old.
struct State {
    revision: Revision,
    prefix: Bytes,
    /// The first key of the rest; `None` at the end.
    next: Option<Bytes>,
    /// What comes before the rest: finding a revision again costs something.
    found: VecDeque<Bytes>,
    /// Whether a bookmark says where the state ends.
    tells_end: bool,
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
            self.show_state();
            self.gather();
            if !self.events.is_empty() {
                self.wait_for_more().await;
                return self.events.take();
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
                Turn::Events(events) => self.changes(&events),
                Turn::Over(None) => self.watch = None,
                Turn::Over(Some(error)) => self.error(&unreadable(&error)),
                Turn::Bookmark => {
                    let progress = watch.progress();
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    self.events.bookmark(progress, false);
                }
            }
        }
    }

    /// Waits until the next piece may be sent, and takes what has come by then.
    async fn wait_for_more(&mut self) {
        let due = self.sent + self.events.apart();
        // Timers count milliseconds: they are no good for less.
        if due.saturating_duration_since(Instant::now()) >= TICK && !self.events.is_full() {
            tokio::time::sleep_until(due).await;
            self.gather();
        }
        self.sent = Instant::now();
    }

    /// Takes what is there without waiting, up to a piece.
    fn gather(&mut self) {
        while self.state.is_none() && !self.events.is_full() {
            if self.stopping.is_cancelled() || Instant::now() >= self.end {
                return self.watch = None;
            }
            let Some(watch) = &mut self.watch else { return };
            match watch.next().now_or_never() {
                Some(Ok(events)) => self.changes(&events),
                Some(Err(error)) => self.error(&unreadable(&error)),
                None => return,
            }
        }
    }

    /// Shows a piece of the state.
    fn show_state(&mut self) {
        let shown = self.state.take().map(|state| self.show(state));
        match shown {
            Some(Ok(rest)) => self.state = rest,
            Some(Err(status)) => self.error(&status),
            None => {}
        }
    }

    /// Shows a piece of the state, and tells the rest.
    fn show(&mut self, mut state: State) -> Result<Option<State>, Status> {
        while !self.events.is_full() {
            if let Some(object) = state.found.pop_front() {
                self.events.object("ADDED", &object)?;
            } else if let Some(start) = state.next.take() {
                let snapshot = self.server.store().snapshot_at(state.revision).map_err(|error| unreadable(&error))?;
                let here = snapshot.range(start..).take_while(|(key, _)| key.starts_with(&state.prefix));
                for (key, entry) in here {
                    if state.found.len() == FOUND {
                        state.next = Some(key.clone());
                        break;
                    }
                    if self.filter.matches(&entry.value) {
                        state.found.push_back(entry.value.clone());
                    }
                }
            } else {
                if state.tells_end {
                    self.events.bookmark(state.revision, true);
                }
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    fn changes(&mut self, events: &[Event]) {
        for event in events {
            if let Err(status) = self.change(event) {
                return self.error(&status);
            }
        }
    }

    fn change(&mut self, event: &Event) -> Result<(), Status> {
        let chosen = |entry: &&corten_store::Entry| {
            self.filter.is_empty() || self.filter.matches_facts(&self.events.facts(&event.key, entry), &entry.value)
        };
        let before = event.previous.as_ref().filter(chosen);
        let after = event.entry.as_ref().filter(chosen);
        match (before, after) {
            (None, None) => Ok(()),
            (None, Some(entry)) => self.events.change("ADDED", event, &Seen::Now(entry)),
            (Some(_), Some(entry)) => self.events.change("MODIFIED", event, &Seen::Now(entry)),
            (Some(entry), None) => self.events.change("DELETED", event, &Seen::Last(entry)),
        }
    }

    /// Tells why the watch ends, and ends it.
    fn error(&mut self, status: &Status) {
        self.events.error(status);
        self.state = None;
        self.watch = None;
    }
}

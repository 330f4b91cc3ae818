//! Events of watches in the form that the client wants.
//!
//! JSON events are stored bytes between a head and a brace: writing them is copying. Any other form is made once for all
//! who watch, as long as they are near each other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_api::names::Names;
use corten_api::protobuf::Protobuf;
use corten_api::status::Status;
use corten_kinds::AnyKind;
use corten_store::{Entry, Event, Revision};
use serde_json::json;

use crate::filter::Facts;
use crate::negotiate::{Form, Shape, Syntax};
use crate::recent::Recent;
use crate::route::Target;
use crate::server::Server;
use crate::{objects, storage, table};

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// So many bytes are sent at a time, or what there is.
const PIECE: usize = 32 << 10;
/// What a piece costs the processor on its way to a client, generously.
const PIECE_COSTS: Duration = Duration::from_micros(50);
/// Nobody is kept waiting for longer.
const MOST_APART: Duration = Duration::from_millis(20);

/// What was made of recent changes.
pub(crate) struct Made {
    forms: Recent<FormOf, Bytes>,
    /// Watches that want forms. When the last has gone, so do they.
    users: AtomicUsize,
    facts: Recent<&'static Names, Arc<Facts>>,
    /// Watches by where their objects are stored.
    watches: Mutex<HashMap<&'static str, Arc<AtomicUsize>>>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            forms: Recent::new(4 << 20),
            users: AtomicUsize::new(0),
            facts: Recent::new(1 << 20),
            watches: Mutex::default(),
        }
    }
}

impl Made {
    fn watches(&self, storage: &'static str) -> Arc<AtomicUsize> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watches.entry(storage).or_default())
    }
}

/// What tells apart the forms of an object at one revision.
#[derive(PartialEq)]
struct FormOf {
    kind: &'static Names,
    form: Form,
    include: Option<String>,
    /// The object as it was before this revision took it away.
    last: bool,
}

/// An object in an event.
pub(crate) enum Seen<'a> {
    /// As the event left it.
    Now(&'a Entry),
    /// As it was before it went, or went out of sight.
    Last(&'a Entry),
}

/// Writes events one after another.
pub(crate) struct Events {
    server: Arc<Server>,
    kind: &'static dyn AnyKind,
    form: Form,
    include: Option<String>,
    /// Counts what is sent.
    sent: Arc<AtomicU64>,
    /// Watches on the same kind, this one included.
    watches: Arc<AtomicUsize>,
    /// Whether the columns of a table have been sent.
    headed: bool,
    buffer: BytesMut,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
        let made = self.server.recent();
        if !self.is_plain() && made.users.fetch_sub(1, Ordering::Relaxed) == 1 {
            made.forms.clear();
        }
    }
}

impl Events {
    pub(crate) fn new(server: &Arc<Server>, target: &Target, form: Form, include: Option<&str>) -> Self {
        let events = Self {
            server: Arc::clone(server),
            kind: target.kind,
            form,
            include: include.map(str::to_owned),
            sent: server.metrics().watch_events(target.kind.names()),
            watches: server.recent().watches(target.kind.storage()),
            headed: false,
            buffer: BytesMut::new(),
        };
        events.watches.fetch_add(1, Ordering::Relaxed);
        if !events.is_plain() {
            server.recent().users.fetch_add(1, Ordering::Relaxed);
        }
        events
    }

    /// Whether there is enough to be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE
    }

    /// Whether there is nothing to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Least time between two pieces of a watch. A piece has its price however little is in it, and all who watch the
    /// same objects are woken together: while they are many, each sends what gathers while the others send.
    pub(crate) fn apart(&self) -> Duration {
        PIECE_COSTS
            .saturating_mul(u32::try_from(self.watches.load(Ordering::Relaxed)).unwrap_or(u32::MAX))
            .min(MOST_APART)
    }

    /// What has been written.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }

    /// What filters need to know of an object.
    pub(crate) fn facts(&self, key: &Bytes, entry: &Entry) -> Arc<Facts> {
        let make = || Ok::<_, Infallible>(Arc::new(Facts::of(&entry.value)));
        let facts = &self.server.recent().facts;
        match facts.get_or_make(entry.mod_revision, key, self.kind.names(), |facts| facts.size(), make) {
            Ok(facts) => facts,
            Err(never) => match never {},
        }
    }

    /// Writes an object of the state with which a watch begins.
    pub(crate) fn object(&mut self, event: &str, object: &Bytes) -> Result<(), Status> {
        let body = if self.is_plain() { object.clone() } else { self.make(object)? };
        self.write(event, &body);
        Ok(())
    }

    /// Writes a change.
    pub(crate) fn change(&mut self, event: &str, change: &Event, seen: &Seen<'_>) -> Result<(), Status> {
        let object = match seen {
            Seen::Now(entry) => Cow::Borrowed(&entry.value),
            Seen::Last(entry) => Cow::Owned(storage::restamped(entry, change.revision)),
        };
        // The first row of a table comes with its columns: that is for this client alone.
        if self.is_plain() || (self.form.shape == Shape::Table && !self.headed) {
            return self.object(event, &object);
        }
        let what = FormOf {
            kind: self.kind.names(),
            form: self.form,
            include: self.include.clone(),
            last: matches!(seen, Seen::Last(_)),
        };
        let server = Arc::clone(&self.server);
        let make = || self.make(&object);
        let body = server.recent().forms.get_or_make(change.revision, &change.key, what, Bytes::len, make)?;
        self.write(event, &body);
        Ok(())
    }

    pub(crate) fn bookmark(&mut self, revision: Revision, initial_end: bool) {
        let names = self.kind.names();
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
        match self.syntax(&version, kind, object.to_string().into()) {
            Ok(body) => self.write("BOOKMARK", &body),
            Err(status) => self.error(&status),
        }
    }

    pub(crate) fn error(&mut self, status: &Status) {
        let text = Bytes::from(status.to_json().to_string());
        match self.syntax("v1", "Status", text) {
            Ok(body) => self.write("ERROR", &body),
            Err(status) => tracing::error!(status = status.message, "cannot tell a watcher why its watch ends"),
        }
    }

    /// Whether stored bytes are what the client wants.
    fn is_plain(&self) -> bool {
        self.form.syntax == Syntax::Json && self.form.shape == Shape::Object && !self.kind.is_view()
    }

    /// A stored object in the wanted form.
    fn make(&mut self, object: &Bytes) -> Result<Bytes, Status> {
        let names = self.kind.names();
        let meta = || format!("meta.k8s.io/{}", self.form.version);
        match self.form.shape {
            Shape::Object | Shape::Discovery(_) => {
                self.syntax(&names.api_version(), names.kind, objects::served(self.kind, object)?)
            }
            Shape::Metadata if self.form.syntax == Syntax::Protobuf => {
                self.syntax(&meta(), "PartialObjectMetadata", object.clone())
            }
            Shape::Metadata => {
                let mut partial = Vec::with_capacity(object.len() / 2);
                objects::write_partial(self.form, object, &mut partial)?;
                Ok(partial.into())
            }
            Shape::Table => {
                let (server, include) = (&self.server, self.include.as_deref());
                let headed = std::mem::replace(&mut self.headed, true);
                let table = if headed {
                    table::row(server, self.form, self.kind, object, include)
                } else {
                    table::of(server, self.form, self.kind, std::slice::from_ref(object), json!({}), include)
                };
                table.map(Bytes::from)
            }
        }
    }

    /// JSON in the wanted syntax.
    fn syntax(&self, api_version: &str, kind: &str, json: Bytes) -> Result<Bytes, Status> {
        if self.form.syntax != Syntax::Protobuf {
            return Ok(json);
        }
        let encoded = self.server.protobuf().encode(api_version, kind, &json);
        encoded.map(Bytes::from).map_err(|error| Status::internal(corten_base::chain(&error)))
    }

    /// Writes an event around an object in the wanted form.
    fn write(&mut self, event: &str, body: &[u8]) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if self.form.syntax == Syntax::Protobuf {
            self.buffer.extend_from_slice(&Protobuf::watch_frame(event, body));
            return;
        }
        self.buffer.reserve(body.len() + 48);
        self.buffer.extend_from_slice(b"{\"type\":\"");
        self.buffer.extend_from_slice(event.as_bytes());
        self.buffer.extend_from_slice(b"\",\"object\":");
        self.buffer.extend_from_slice(body);
        self.buffer.extend_from_slice(b"}\n");
    }
}

//! What the server did, in numbers: `/metrics`.
//!
//! Names and labels: k8s.io/apiserver/pkg/endpoints/metrics. A request costs one lock and a few additions.

mod process;
mod text;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use corten_api::names::Names;
use http::Method;
use http::header::CONTENT_TYPE;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::body::{Answer, Body};
use crate::health::Tally;
use crate::request::Request;
use crate::route::{Target, subresource_name};

pub(crate) use text::write;

/// Upper bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Upper bounds of the buckets of sizes, in bytes.
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Group, version and plural of a kind.
type Resource = (&'static str, &'static str, &'static str);

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) dry_run: bool,
}

impl Labels {
    /// Of a request on objects.
    pub(crate) fn of(verb: &'static str, request: &Request, target: &Target) -> Self {
        let names = target.kind.names();
        let subresource = target.subresource.map_or("", subresource_name);
        let connects = ["attach", "exec", "portforward", "proxy"].contains(&subresource);
        Self {
            verb: match verb {
                _ if connects => "CONNECT",
                "get" => "GET",
                "list" => "LIST",
                "watch" => "WATCH",
                "create" => "POST",
                "update" => "PUT",
                "patch" if request.header(CONTENT_TYPE).is_some_and(|kind| kind.contains("apply-patch")) => "APPLY",
                "patch" => "PATCH",
                "delete" => "DELETE",
                "deletecollection" => "DELETECOLLECTION",
                _ => "other",
            },
            group: names.group,
            version: names.version,
            resource: names.plural,
            subresource,
            scope: match (&target.name, &target.namespace) {
                (Some(_), _) => "resource",
                (None, Some(_)) => "namespace",
                (None, None) => "cluster",
            },
            dry_run: request.query.has("dryRun"),
        }
    }

    /// Of any other request. Paths that are not known are one series, however many there are.
    pub(crate) fn of_path(request: &Request) -> Self {
        const KNOWN: [&str; 8] = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi", "/readyz", "/version"];
        let top = KNOWN.iter().rev().find(|known| request.path.starts_with(**known));
        let verb = if request.method == Method::GET { "GET" } else { "other" };
        Self {
            verb,
            group: "",
            version: "",
            resource: "",
            subresource: top.copied().unwrap_or_default(),
            scope: "",
            dry_run: false,
        }
    }

    fn mutates(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH" | "CONNECT" | "other")
    }

    /// Requests that last as long as somebody listens.
    fn is_long(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT") || self.subresource == "log"
    }
}

#[derive(Clone, Default)]
struct Series {
    /// How many were answered with which code.
    codes: Vec<(u16, u64)>,
    seconds: Histogram<{ SECONDS.len() }>,
    bytes: Histogram<{ BYTES.len() }>,
    /// How many are under way, if they are long.
    running: i64,
}

#[derive(Clone)]
struct Histogram<const N: usize> {
    buckets: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: [0; N], count: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[f64; N], value: f64) {
        if let Some(bucket) = bounds.iter().position(|bound| value <= *bound).and_then(|at| self.buckets.get_mut(at)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

/// All numbers.
#[derive(Default)]
pub(crate) struct Metrics {
    series: Mutex<HashMap<Labels, Series>>,
    mutating: AtomicI64,
    reading: AtomicI64,
    /// Events that watches sent, by (group, version, resource).
    watch_events: Mutex<HashMap<Resource, Arc<AtomicU64>>>,
    pub(crate) health: Tally,
}

impl Metrics {
    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, labels: Labels) -> Measured {
        if labels.is_long() {
            self.change(labels, |series| series.running += 1);
        } else {
            self.in_flight(&labels).fetch_add(1, Ordering::Relaxed);
        }
        Measured { metrics: Arc::clone(self), labels, began: Instant::now(), code: 0, bytes: None }
    }

    /// The counter of the events that watches of this kind send.
    pub(crate) fn watch_events(&self, names: &'static Names) -> Arc<AtomicU64> {
        let mut all = self.watch_events.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((names.group, names.version, names.plural)).or_default())
    }

    fn in_flight(&self, labels: &Labels) -> &AtomicI64 {
        if labels.mutates() { &self.mutating } else { &self.reading }
    }

    fn change(&self, labels: Labels, change: impl FnOnce(&mut Series)) {
        change(self.series.lock().unwrap_or_else(PoisonError::into_inner).entry(labels).or_default());
    }
}

/// A request that is being measured, until it is dropped.
pub(crate) struct Measured {
    metrics: Arc<Metrics>,
    labels: Labels,
    began: Instant,
    /// 0 until there is an answer.
    code: u16,
    bytes: Option<u64>,
}

impl Measured {
    /// The request is answered; a long one goes on as long as its body is read.
    pub(crate) fn answered(mut self, answer: Answer) -> Answer {
        self.code = answer.status().as_u16();
        self.bytes = answer.body().size_hint().exact();
        if !self.labels.is_long() || self.bytes.is_some() {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        Answer::from_parts(parts, Guarded { body, _measured: self }.boxed_unsync())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        let long = self.labels.is_long();
        if !long {
            self.metrics.in_flight(&self.labels).fetch_sub(1, Ordering::Relaxed);
        }
        let (code, bytes) = (self.code, self.bytes);
        self.metrics.change(self.labels, |series| {
            if long {
                series.running -= 1;
            }
            // Without a code nobody waited for the answer any more.
            if code == 0 {
                return;
            }
            match series.codes.iter_mut().find(|(own, _)| *own == code) {
                Some((_, count)) => *count += 1,
                None => series.codes.push((code, 1)),
            }
            series.seconds.observe(&SECONDS, seconds);
            if let Some(bytes) = bytes {
                #[expect(clippy::cast_precision_loss, reason = "sizes of answers are far below 2^52")]
                series.bytes.observe(&BYTES, bytes as f64);
            }
        });
    }
}

/// A body that ends its request's measuring.
struct Guarded {
    body: Body,
    _measured: Measured,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

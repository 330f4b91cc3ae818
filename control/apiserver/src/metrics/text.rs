//! The numbers in Prometheus' text form, version 0.0.4.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use corten_kinds::KINDS;

use super::{BYTES, Histogram, Labels, SECONDS, Series, process};
use crate::server::Server;
use crate::{KUBERNETES_VERSION, storage};

/// Everything, ready to be sent.
pub(crate) fn write(server: &Server) -> String {
    let metrics = server.metrics();
    let series = metrics.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut series: Vec<(Labels, Series)> = series.into_iter().collect();
    series.sort_by_key(|(labels, _)| *labels);
    let mut out = String::with_capacity(64 << 10);
    requests(&mut out, &series);

    head(&mut out, "apiserver_current_inflight_requests", "gauge", "Requests that are being answered");
    for (kind, number) in [("mutating", &metrics.mutating), ("readOnly", &metrics.reading)] {
        let number = number.load(Ordering::Relaxed).max(0);
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {number}");
    }
    head(&mut out, "apiserver_watch_events_total", "counter", "Events that watches sent");
    let events = metrics.watch_events.lock().unwrap_or_else(PoisonError::into_inner);
    let mut events: Vec<_> = events.iter().map(|(names, count)| (*names, count.load(Ordering::Relaxed))).collect();
    events.sort_unstable();
    for ((group, version, resource), count) in events {
        let labels = format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\"");
        let _ = writeln!(out, "apiserver_watch_events_total{{{labels}}} {count}");
    }
    objects(&mut out, server);
    head(&mut out, "kubernetes_build_info", "gauge", "The version that is served");
    let _ = writeln!(
        out,
        "kubernetes_build_info{{git_version=\"{KUBERNETES_VERSION}\",major=\"1\",minor=\"36\",platform=\"{}\"}} 1",
        crate::version::platform()
    );
    process::write(&mut out);
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn requests(out: &mut String, series: &[(Labels, Series)]) {
    let answered = || series.iter().filter(|(_, series)| series.seconds.count > 0);
    head(out, "apiserver_request_total", "counter", "Requests, by what they were and how they were answered");
    for (labels, series) in answered() {
        for (code, count) in &series.codes {
            let (labels, dry_run) = (common(labels), dry_run(labels));
            let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{dry_run},{labels}}} {count}");
        }
    }
    let name = "apiserver_request_duration_seconds";
    head(out, name, "histogram", "Time from a request's head to the end of its answer");
    for (labels, series) in answered() {
        let labels = format!("{},{}", dry_run(labels), common(labels));
        histogram(out, name, &labels, &SECONDS, &series.seconds);
    }
    let name = "apiserver_response_sizes";
    head(out, name, "histogram", "Bytes of answers that were whole when they were sent");
    for (labels, series) in series.iter().filter(|(_, series)| series.bytes.count > 0) {
        histogram(out, name, &common(labels), &BYTES, &series.bytes);
    }
    let name = "apiserver_longrunning_requests";
    head(out, name, "gauge", "Watches and streams that are open");
    for (labels, series) in series.iter().filter(|(labels, _)| labels.is_long()) {
        let _ = writeln!(out, "{name}{{{}}} {}", common(labels), series.running);
    }
}

fn common(labels: &Labels) -> String {
    let Labels { verb, group, version, resource, subresource, scope, .. } = labels;
    format!(
        "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
    )
}

fn dry_run(labels: &Labels) -> &'static str {
    if labels.dry_run { "dry_run=\"All\"" } else { "dry_run=\"\"" }
}

fn histogram<const N: usize>(out: &mut String, name: &str, labels: &str, bounds: &[f64; N], of: &Histogram<N>) {
    let mut sum = 0;
    for (bound, count) in bounds.iter().zip(of.buckets) {
        sum += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
    }
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", of.count);
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", of.sum);
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", of.count);
}

/// Counted when asked for: nobody pays for it else.
fn objects(out: &mut String, server: &Server) {
    head(out, "apiserver_storage_objects", "gauge", "Stored objects, by kind");
    let snapshot = server.store().snapshot();
    for kind in KINDS.iter().filter(|kind| !kind.is_virtual() && !kind.is_view()) {
        let resource = kind.names().qualified_resource();
        let count = snapshot.prefix(&storage::prefix(kind.storage(), None)).count();
        let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
    }
}

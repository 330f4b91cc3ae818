//! `/healthz`, `/livez`, `/readyz`: named checks, one by one or all together.
//!
//! Words and parameters: k8s.io/apiserver/pkg/server/healthz.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_api::status::Status;
use http::StatusCode;

use crate::body::{self, Answer};
use crate::components;
use crate::request::Request;
use crate::server::Server;

const HEALTHZ: &str = "healthz";
const LIVEZ: &str = "livez";
const READYZ: &str = "readyz";

/// What can be checked, and by which endpoints it is.
const CHECKS: &[(&str, &[&str])] = &[
    ("ping", &[HEALTHZ, LIVEZ, READYZ]),
    ("log", &[HEALTHZ, LIVEZ, READYZ]),
    ("etcd", &[HEALTHZ, LIVEZ, READYZ]),
    ("etcd-readiness", &[READYZ]),
    ("poststarthook/bootstrap-controller", &[HEALTHZ, LIVEZ, READYZ]),
    ("poststarthook/start-system-namespaces-controller", &[HEALTHZ, LIVEZ, READYZ]),
    ("poststarthook/rbac/bootstrap-roles", &[HEALTHZ, LIVEZ, READYZ]),
    ("shutdown", &[READYZ]),
];

/// How long the log may take for a line, as upstream has it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each check ended how, by (endpoint, check, success).
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(&'static str, &'static str, bool), u64>>);

async fn check(server: &Server, name: &str) -> Result<(), String> {
    match name {
        "etcd" | "etcd-readiness" => components::store(server).await,
        "log" => log(corten_base::log_stuck_for()),
        "shutdown" if server.stopping().is_cancelled() => Err("process is shutting down".to_owned()),
        // That it answers is all that the first asks, and nobody would answer the last otherwise.
        "ping" | "shutdown" => Ok(()),
        hook => server.started().check(hook.trim_start_matches("poststarthook/")),
    }
}

/// A log that takes no lines will soon stop whoever writes one.
fn log(stuck: Option<Duration>) -> Result<(), String> {
    match stuck.filter(|time| *time >= PATIENCE) {
        Some(time) => Err(format!("the log has taken no line for {} seconds", time.as_secs())),
        None => Ok(()),
    }
}

/// Answers `/ENDPOINT` and `/ENDPOINT/CHECK`.
pub(crate) async fn answer(server: &Server, request: &Request, parts: &[&str]) -> Result<Answer, Status> {
    let Some((endpoint, rest)) = parts.split_first() else { return Err(Status::no_such_path()) };
    let all: Vec<(&'static str, &'static str)> = CHECKS
        .iter()
        .filter_map(|(name, endpoints)| Some((*name, *endpoints.iter().find(|own| *own == endpoint)?)))
        .collect();
    if !rest.is_empty() {
        let name = rest.join("/");
        let (name, endpoint) = *all.iter().find(|(own, _)| *own == name).ok_or_else(Status::no_such_path)?;
        return Ok(match tallied(server, endpoint, name).await {
            Ok(()) => text(StatusCode::OK, "ok".to_owned()),
            Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let mut excluded: Vec<&str> = request.query.all("exclude").iter().map(String::as_str).collect();
    let (mut lines, mut failed) = (String::new(), false);
    for (name, endpoint) in all {
        if excluded.contains(&name) {
            excluded.retain(|own| *own != name);
            let _ = writeln!(lines, "[+]{name} excluded: ok");
            continue;
        }
        match tallied(server, endpoint, name).await {
            Ok(()) => drop(writeln!(lines, "[+]{name} ok")),
            // Why is for the log: who may ask for health may be anybody.
            Err(why) => {
                tracing::warn!(check = name, why, "a health check failed");
                failed = true;
                let _ = writeln!(lines, "[-]{name} failed: reason withheld");
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(lines, "warn: some health checks cannot be excluded: no matches for {}", names.join(","));
    }
    Ok(if failed {
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    } else if request.query.has("verbose") {
        text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        text(StatusCode::OK, "ok".to_owned())
    })
}

async fn tallied(server: &Server, endpoint: &'static str, name: &'static str) -> Result<(), String> {
    let result = check(server, name).await;
    let mut tally = server.metrics().health.0.lock().unwrap_or_else(PoisonError::into_inner);
    *tally.entry((endpoint, name, result.is_ok())).or_default() += 1;
    result
}

fn text(code: StatusCode, text: String) -> Answer {
    let mut answer = body::text(code, text);
    answer.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    answer
}

/// Paths below which checks can be asked for one by one.
pub(crate) fn paths() -> Vec<String> {
    let each = CHECKS.iter().flat_map(|(name, endpoints)| endpoints.iter().map(move |own| format!("/{own}/{name}")));
    [HEALTHZ, LIVEZ, READYZ].iter().map(|own| format!("/{own}")).chain(each).collect()
}

/// `/metrics/slis`: every check once, and how often each ended how.
pub(crate) async fn indicators(server: &Server) -> String {
    let mut text = String::from(
        "# HELP kubernetes_healthcheck [STABLE] Result of a health check\n# TYPE kubernetes_healthcheck gauge\n",
    );
    for (name, endpoints) in CHECKS {
        for endpoint in *endpoints {
            let well = u8::from(tallied(server, endpoint, name).await.is_ok());
            let _ = writeln!(text, "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {well}");
        }
    }
    text.push_str(
        "# HELP kubernetes_healthchecks_total [STABLE] Results of health checks\n# TYPE kubernetes_healthchecks_total counter\n",
    );
    let tally = server.metrics().health.0.lock().unwrap_or_else(PoisonError::into_inner);
    for ((endpoint, name, well), count) in tally.iter() {
        let status = if *well { "success" } else { "error" };
        let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{endpoint}\"");
        let _ = writeln!(text, "kubernetes_healthchecks_total{{{labels}}} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_may_be_slow_but_not_stuck() {
        assert_eq!(log(None), Ok(()));
        assert_eq!(log(Some(Duration::from_secs(119))), Ok(()));
        assert_eq!(log(Some(Duration::from_secs(121))), Err("the log has taken no line for 121 seconds".to_owned()));
    }
}

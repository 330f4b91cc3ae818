//! `/proxy` of pods, services and nodes: HTTP to the servers behind them, as the API server reaches them.
//!
//! Behaviour: <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>
//! Invariant: nobody is led to this machine itself or to its link (loopback, link-local), and what proves who the
//! client is stays here.

mod backend;
mod forward;
mod links;
mod tls;

use std::sync::Arc;

use corten_api::status::Status;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};

use crate::body::{self, Answer};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;

pub(crate) async fn run(server: &Arc<Server>, request: Request, target: &Target) -> Result<Answer, Status> {
    let (own, below) = split(request.uri.path(), own_parts(target));
    // The path was understood with its escapes undone. Where ours ends would not be clear if one of them was a slash.
    if own.to_ascii_lowercase().contains("%2f") {
        return Err(Status::no_such_path());
    }
    let wants_upgrade = request.upgrade.is_some();
    // Relative links of a page need a place that ends with a slash.
    if below.is_empty() && [Method::GET, Method::HEAD].contains(&request.method) && !wants_upgrade {
        let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut answer = body::text(StatusCode::MOVED_PERMANENTLY, "");
        let location = HeaderValue::from_str(&format!("{own}/{query}")).map_err(Status::internal)?;
        answer.headers_mut().insert(LOCATION, location);
        return Ok(answer);
    }
    let (own, below) = (own.to_owned(), if below.is_empty() { "/".to_owned() } else { below.to_owned() });
    let backend = backend::find(server, target)?;
    forward::forward(server, request, &backend, &own, &below).await
}

/// How many parts a path has up to `/proxy`: group and version, namespace, plural, name, and `proxy` itself.
fn own_parts(target: &Target) -> usize {
    let version = if target.kind.names().group.is_empty() { 2 } else { 3 };
    version + if target.namespace.is_some() { 2 } else { 0 } + 3
}

/// A path in what is ours, which is its first parts, and what is below, as it was written.
fn split(path: &str, parts: usize) -> (&str, &str) {
    let (mut seen, mut end) = (0, 0);
    for part in path.split('/') {
        if seen == parts {
            break;
        }
        seen += usize::from(!part.is_empty());
        end += part.len() + 1;
    }
    // One slash less than there are parts, the first of which is empty.
    path.split_at_checked(end.saturating_sub(1)).unwrap_or((path, ""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_below_a_proxy_is_kept_as_it_is() {
        for (path, parts, own, below) in [
            ("/api/v1/namespaces/n/pods/p/proxy", 7, "/api/v1/namespaces/n/pods/p/proxy", ""),
            ("/api/v1/namespaces/n/pods/p/proxy/", 7, "/api/v1/namespaces/n/pods/p/proxy", "/"),
            ("/api/v1/namespaces/n/pods/p/proxy/a%2Fb//c", 7, "/api/v1/namespaces/n/pods/p/proxy", "/a%2Fb//c"),
            (
                "/api/v1/namespaces/n/services/proxy/proxy/x/proxy",
                7,
                "/api/v1/namespaces/n/services/proxy/proxy",
                "/x/proxy",
            ),
            ("/api/v1/namespaces/proxy/pods/p/proxy/x", 7, "/api/v1/namespaces/proxy/pods/p/proxy", "/x"),
            ("//api/v1//nodes/proxy/proxy/x", 5, "//api/v1//nodes/proxy/proxy", "/x"),
        ] {
            assert_eq!(super::split(path, parts), (own, below), "{path}");
        }
    }
}

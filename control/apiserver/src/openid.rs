//! What others need to check the tokens that this cluster issues: OpenID discovery.
//!
//! Spec: <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>

use corten_api::status::Status;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, StatusCode};

use crate::body::{self, Answer};
use crate::request::Request;
use crate::server::Server;
use crate::tokens;

/// Answers a request for one of the documents; `None` for any other path.
pub(crate) fn answer(server: &Server, request: &Request) -> Option<Result<Answer, Status>> {
    let (kind, document) = match request.path.trim_end_matches('/') {
        "/.well-known/openid-configuration" => {
            let config = server.config();
            let authority = std::net::SocketAddr::new(config.node_address, config.port).to_string();
            ("application/json", tokens::configuration(&authority))
        }
        "/openid/v1/jwks" => ("application/jwk-set+json", server.tokens().key_set()),
        _ => return None,
    };
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some(Err(Status::method_not_allowed()));
    }
    let body = body::full(document.to_string());
    let mut answer = body::answer(StatusCode::OK, HeaderValue::from_static(kind), body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Some(Ok(answer))
}

//! Who asks: a client certificate, a service-account token, or nobody; and on whose behalf.

pub(crate) mod impersonate;
mod peer;
mod token;

use corten_api::status::Status;
use http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

use crate::identity::Identity;
use crate::server::Server;

pub(crate) use peer::Peer;
pub(crate) use token::{Bearer, SECRET_TYPE, bearer};

/// Key of what names the credentials behind a request.
pub(crate) const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";
/// Browsers cannot set headers on WebSockets: there the token is a subprotocol, as base64url.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The identity behind a request; 401 for credentials that are not good. Any good credential is enough.
pub(crate) fn authenticate(server: &Server, peer: &Peer, headers: &HeaderMap) -> Result<Identity, Status> {
    let mut refused = false;
    if !peer.is_nobody() {
        match peer.user(server) {
            Some(user) => return Ok(user),
            None => refused = true,
        }
    }
    for token in tokens(headers)? {
        match bearer(server, &token, &[]) {
            Ok(Bearer { user, .. }) => return Ok(user),
            Err(_) => refused = true,
        }
    }
    if refused { Err(Status::unauthorized()) } else { Ok(Identity::anonymous()) }
}

/// Takes the credentials off a request that has been authenticated: nobody further on, such as a proxied service,
/// needs them.
pub(crate) fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let is_token = |protocol: &&str| protocol.starts_with(TOKEN_PROTOCOL);
    if !protocols(headers).iter().any(|protocol| is_token(&protocol.as_str())) {
        return;
    }
    let kept: Vec<String> = protocols(headers).into_iter().filter(|own| !is_token(&own.as_str())).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&kept.join(", ")) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// The bearer tokens of a request. Other schemes of authorization are not known here and count for nothing.
fn tokens(headers: &HeaderMap) -> Result<Vec<String>, Status> {
    use base64::Engine;
    let mut tokens = Vec::new();
    if let Some(header) = headers.get(AUTHORIZATION) {
        let text = header.to_str().map_err(|_| Status::unauthorized())?;
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        tokens.extend(token.map(|(_, token)| token.trim().to_owned()).filter(|token| !token.is_empty()));
    }
    let websocket =
        headers.get(http::header::UPGRADE).is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket {
        return Ok(tokens);
    }
    let protocols = protocols(headers);
    let mut encoded = protocols.iter().filter_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL));
    if let Some(own) = encoded.next() {
        // The server must choose a protocol, and the token is none to choose.
        if encoded.next().is_some() || protocols.len() < 2 {
            return Err(Status::unauthorized());
        }
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(own).map_err(|_| Status::unauthorized())?;
        tokens.push(String::from_utf8(bytes).map_err(|_| Status::unauthorized())?);
    }
    Ok(tokens)
}

fn protocols(headers: &HeaderMap) -> Vec<String> {
    values(headers, &SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|value| value.split(','))
        .map(|own| own.trim().to_owned())
        .collect()
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_come_in_headers_and_as_protocols() {
        let found = |pairs: &[(&'static str, &'static str)]| tokens(&headers(pairs)).map_err(|status| status.code);
        assert_eq!(found(&[("authorization", "Bearer abc")]), Ok(vec!["abc".to_owned()]));
        assert_eq!(found(&[("authorization", "bearer   abc ")]), Ok(vec!["abc".to_owned()]));
        assert_eq!(found(&[("authorization", "Basic abc")]), Ok(vec![]));
        assert_eq!(found(&[("authorization", "Bearer ")]), Ok(vec![]));
        let upgrade = ("upgrade", "WebSocket");
        let protocol = "sec-websocket-protocol";
        let token = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(found(&[upgrade, (protocol, token)]), Ok(vec!["abc".to_owned()]));
        assert_eq!(found(&[(protocol, token)]), Ok(vec![]), "no upgrade");
        assert_eq!(found(&[upgrade, (protocol, "base64url.bearer.authorization.k8s.io.YWJj")]), Err(401), "alone");
        let two = "x, base64url.bearer.authorization.k8s.io.YWJj, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(found(&[upgrade, (protocol, two)]), Err(401));
        assert_eq!(found(&[upgrade, (protocol, "x, base64url.bearer.authorization.k8s.io.!")]), Err(401));
    }

    #[test]
    fn credentials_go_no_further() {
        let protocols = "a, base64url.bearer.authorization.k8s.io.YWJj, b";
        let mut own =
            headers(&[("authorization", "Bearer x"), ("sec-websocket-protocol", protocols), ("accept", "*/*")]);
        strip(&mut own);
        assert_eq!(own, headers(&[("sec-websocket-protocol", "a, b"), ("accept", "*/*")]));
    }
}

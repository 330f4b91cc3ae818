//! Acting as somebody else, for those who may.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use std::collections::BTreeMap;

use corten_api::status::Status;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::authorize::{Attributes, Authorizer, Resource};
use crate::identity::{Identity, account_groups, account_of};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The user as whom a request is to be carried out: the real one, unless its headers name another whom the real one
/// may impersonate. The headers are taken off.
pub(crate) fn impersonate(
    authorizer: &Authorizer,
    real: &Identity,
    headers: &mut HeaderMap,
) -> Result<Option<Identity>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(None) };
    for header in [USER, GROUP, UID] {
        headers.remove(header);
    }
    let extra: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(EXTRA)).cloned().collect();
    for name in extra {
        headers.remove(name);
    }
    let may = |resource: Resource<'_>| authorizer.check(real, &Attributes::to("impersonate", resource));
    match account_of(&wanted.name) {
        Some((namespace, name)) => {
            may(Resource { resource: "serviceaccounts", namespace, name: name.into(), ..Resource::default() })?;
        }
        None => may(Resource { resource: "users", name: wanted.name.as_str().into(), ..Resource::default() })?,
    }
    for group in &wanted.groups {
        may(Resource { resource: "groups", name: group.as_str().into(), ..Resource::default() })?;
    }
    for (key, value) in wanted.extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value))) {
        let name = value.as_str().into();
        let group = AUTHENTICATION;
        may(Resource { group, resource: "userextras", subresource: key, name, ..Resource::default() })?;
    }
    if !wanted.uid.is_empty() {
        let name = wanted.uid.as_str().into();
        may(Resource { group: AUTHENTICATION, resource: "uids", name, ..Resource::default() })?;
    }
    Ok(Some(completed(wanted)))
}

/// The user that headers name, as they name it.
fn wanted(headers: &HeaderMap) -> Result<Option<Identity>, Status> {
    let all = |name: &HeaderName| -> Result<Vec<String>, Status> {
        headers.get_all(name).iter().map(|value| text(name, value)).collect()
    };
    let first = |name: &HeaderName| Ok::<_, Status>(all(name)?.into_iter().next().unwrap_or_default());
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let value = text(name, value)?;
        // Header names cannot hold everything that keys can, so it is percent-encoded there.
        let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
        extra.entry(key.to_lowercase()).or_default().push(value);
    }
    let user = Identity { name: first(&USER)?, uid: first(&UID)?, groups: all(&GROUP)?, extra };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    let groups = user.groups.iter().map(|group| format!("group {group:?}"));
    let extra = user.extra.keys().map(|key| format!("extra {key:?}"));
    let uid = Some(&user.uid).filter(|uid| !uid.is_empty()).map(|uid| format!("uid {uid:?}"));
    let others: Vec<String> = groups.chain(extra).chain(uid).collect();
    if others.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request(format!("requested [{}] without impersonating a user name", others.join(" "))))
}

/// A value of a header. One that cannot be read is refused: without it, the request would be somebody else's.
fn text(name: &HeaderName, value: &HeaderValue) -> Result<String, Status> {
    let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
    text.map_err(|_| Status::bad_request(format!("the header {name} is no UTF-8")))
}

/// With the groups in which such a user is whatever the headers say.
fn completed(mut user: Identity) -> Identity {
    if let Some((namespace, _)) = account_of(&user.name).filter(|_| user.groups.is_empty()) {
        user.groups = account_groups(namespace).into();
    }
    let known = |user: &Identity, groups: &[&str]| groups.iter().any(|group| user.is_in(group));
    if user.name == ANONYMOUS {
        if !known(&user, &[UNAUTHENTICATED]) {
            user.groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !known(&user, &[AUTHENTICATED, UNAUTHENTICATED]) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Option<Identity>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        wanted(&headers).map(|user| user.map(completed)).map_err(|status| status.message)
    }

    #[test]
    fn headers_name_a_user() {
        assert_eq!(read(&[("accept", "x")]), Ok(None));
        let ann = read(&[
            ("impersonate-user", "ann"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-scopes", "x"),
            ("impersonate-extra-scopes", "y"),
            ("impersonate-extra-acme.com%2fproject", "z"),
        ]);
        let ann = ann.expect("fine").expect("a user");
        assert_eq!((ann.name.as_str(), ann.uid.as_str()), ("ann", "7"));
        assert_eq!(ann.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(ann.extra["scopes"], ["x", "y"]);
        assert_eq!(ann.extra["acme.com/project"], ["z"]);
        let groups = |name: &'static str| read(&[("impersonate-user", name)]).expect("fine").expect("a user").groups;
        assert_eq!(groups("system:anonymous"), ["system:unauthenticated"]);
        let account = ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"];
        assert_eq!(groups("system:serviceaccount:a:b"), account);
        let error = read(&[("impersonate-group", "a")]).expect_err("no user");
        assert_eq!(error, "requested [group \"a\"] without impersonating a user name");
    }

    #[test]
    fn names_of_all_letters_count_and_broken_ones_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_bytes("jörg".as_bytes()).expect("a value"));
        assert_eq!(wanted(&headers).expect("fine").expect("a user").name, "jörg");
        headers.insert(USER, HeaderValue::from_bytes(b"j\xf6rg").expect("a value"));
        assert_eq!(wanted(&headers).expect_err("not as the real user").code, 400);
    }
}

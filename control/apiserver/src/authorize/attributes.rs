//! What a request asks to do, as policy sees it: read off its path, whether or not anything is served there.
//!
//! Behaviour: k8s.io/apiserver/pkg/endpoints/request/requestinfo.go.

use std::borrow::Cow;

use corten_api::selector::Fields;
use http::Method;

use crate::request::Query;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    /// Kubernetes' verb, such as `list`; of a path that is no object, the method in lower case.
    pub(crate) verb: Cow<'a, str>,
    pub(crate) what: What<'a>,
}

/// On what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// Objects.
    Resource(Resource<'a>),
    /// A path that is no object.
    Path(&'a str),
}

/// Objects, or one of them. What is empty is not asked for in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: Cow<'a, str>,
    /// The node whose objects alone a list or a watch is of, by its field selector.
    pub(crate) node: Option<Cow<'a, str>>,
}

/// The field by which objects of one node are selected.
pub(crate) const NODE_FIELD: &str = "spec.nodeName";

/// What under a namespace belongs to the namespace itself.
const OF_NAMESPACES: [&str; 2] = ["status", "finalize"];

impl<'a> Attributes<'a> {
    /// What a request asks for.
    pub(crate) fn of(method: &Method, path: &'a str, query: &Query) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => return Self { verb: method.as_str().to_lowercase().into(), what: What::Path(path) },
        };
        let (watched, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (query.flag("watch"), rest),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, ..] if !OF_NAMESPACES.contains(resource) => (*namespace, &rest[2..]),
            // A namespace is in itself.
            ["namespaces", namespace, ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |at: usize| rest.get(at).copied().unwrap_or_default();
        let mut resource =
            Resource { group, resource: part(0), subresource: part(2), namespace, name: part(1).into(), node: None };
        let one = !resource.name.is_empty();
        let verb = match *method {
            Method::GET | Method::HEAD if watched && resource.subresource.is_empty() => "watch",
            Method::GET | Method::HEAD if one => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            _ => "",
        };
        if !one && ["list", "watch", "deletecollection"].contains(&verb) {
            let selected = query.get("fieldSelector").and_then(|text| Fields::parse(text).ok()).unwrap_or_default();
            // A list of the one object of a name is as good as that object.
            let name = selected.exact("metadata.name").filter(|name| verb != "deletecollection" && is_segment(name));
            if let Some(name) = name {
                resource.name = name.to_owned().into();
            }
            resource.node = selected.exact(NODE_FIELD).map(|node| node.to_owned().into());
        }
        Self { verb: verb.into(), what: What::Resource(resource) }
    }

    /// Something to do with an object.
    pub(crate) fn to(verb: &'a str, resource: Resource<'a>) -> Self {
        Self { verb: verb.into(), what: What::Resource(resource) }
    }
}

/// Whether a name can stand in a path.
fn is_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(method: &Method, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let asked = Attributes::of(method, path, &Query::parse(Some(query)));
        match asked.what {
            What::Path(path) => format!("{} {path}", asked.verb),
            What::Resource(own) => format!(
                "{} {}.{}/{} in {:?} name {:?}",
                asked.verb, own.resource, own.group, own.subresource, own.namespace, own.name
            ),
        }
    }

    #[test]
    fn requests_are_read_off_their_paths() {
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        let cases = [
            (&get, "/api/v1/pods"),
            (&get, "/api/v1/pods?watch=true"),
            (&get, "/api/v1/watch/namespaces/a/pods"),
            (&get, "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db"),
            (&get, "/api/v1/namespaces/a/pods/b/log?watch=1"),
            (&post, "/api/v1/namespaces/a/pods/b/exec"),
            (&get, "/api/v1/namespaces/a"),
            (&Method::PUT, "/api/v1/namespaces/a/finalize"),
            (&get, "/api/v1/namespaces"),
            (&delete, "/apis/apps/v1/namespaces/a/deployments"),
            (&delete, "/apis/apps/v1/namespaces/a/deployments/b"),
            (&Method::HEAD, "/apis/apps/v1/deployments/"),
            (&Method::PATCH, "/apis/any.example/v9/things/x/status"),
            (&get, "/apis/apps/v1"),
            (&get, "/api/v1/"),
            (&Method::POST, "/healthz/x"),
            (&get, "/api/v1/watch"),
        ];
        let lines: Vec<String> = cases.iter().map(|(method, url)| show(method, url)).collect();
        expect_test::expect![[r#"
            list pods./ in "" name ""
            watch pods./ in "" name ""
            watch pods./ in "a" name ""
            list pods./ in "a" name "b"
            get pods./log in "a" name "b"
            create pods./exec in "a" name "b"
            get namespaces./ in "a" name "a"
            update namespaces./finalize in "a" name "a"
            list namespaces./ in "" name ""
            deletecollection deployments.apps/ in "a" name ""
            delete deployments.apps/ in "a" name "b"
            list deployments.apps/ in "" name ""
            patch things.any.example/status in "" name "x"
            get /apis/apps/v1
            get /api/v1/
            post /healthz/x
            list watch./ in "" name """#]]
        .assert_eq(&lines.join("\n"));
    }
}

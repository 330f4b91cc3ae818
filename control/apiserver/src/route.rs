//! What a path means.

use corten_api::names::Scope;
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS, Subresource};

/// What is asked for.
#[derive(Clone)]
pub(crate) enum Route {
    /// Objects of a kind.
    Resource(Target),
    /// Anything else, by its path.
    Other,
}

impl Route {
    /// Whether the request is somebody else's to read and to answer.
    pub(crate) fn is_proxy(&self) -> bool {
        matches!(self, Self::Resource(Target { subresource: Some(Subresource::Proxy), .. }))
    }
}

/// A place in the tree of objects.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) kind: &'static dyn AnyKind,
    /// `None` for cluster-scoped kinds and for all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<Subresource>,
    /// Reached by the old form `/api/v1/watch/...`.
    pub(crate) watch: bool,
}

/// Name of a subresource in paths.
pub(crate) fn subresource_name(subresource: Subresource) -> &'static str {
    match subresource {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Binding => "binding",
        Subresource::Eviction => "eviction",
        Subresource::Finalize => "finalize",
        Subresource::Token => "token",
        Subresource::Log => "log",
        Subresource::Exec => "exec",
        Subresource::Attach => "attach",
        Subresource::PortForward => "portforward",
        Subresource::EphemeralContainers => "ephemeralcontainers",
        Subresource::Resize => "resize",
        Subresource::Approval => "approval",
        Subresource::Proxy => "proxy",
    }
}

/// Finds what a path means; 404 for a resource that is not served.
pub(crate) fn route(path: &str) -> Result<Route, Status> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, mut rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Route::Other),
    };
    let watch = rest.first() == Some(&"watch");
    if watch {
        rest = &rest[1..];
    }
    let find = |plural: &str| {
        KINDS.iter().copied().find(|kind| {
            let names = kind.names();
            names.group == group && names.version == version && names.plural == plural
        })
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..] if find(plural).is_some() => {
            (Some(*namespace), [&[*plural], rest].concat())
        }
        other => (None, other.to_vec()),
    };
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        // Below a proxy is the world of somebody else's server.
        [plural, name, "proxy", ..] => (*plural, Some(*name), Some("proxy")),
        _ => return Err(Status::no_such_path()),
    };
    let kind = find(plural).ok_or_else(Status::no_such_path)?;
    let scoped = match kind.scope() {
        Scope::Cluster => namespace.is_none(),
        // Objects of namespaced kinds have a namespace; only lists span all of them.
        Scope::Namespaced => namespace.is_some() || name.is_none(),
    };
    // Objects are watched, not what hangs on them.
    if !scoped || (watch && subresource.is_some()) {
        return Err(Status::no_such_path());
    }
    let subresource = subresource
        .map(|name| {
            let own = kind.subresources().iter().copied().find(|own| subresource_name(*own) == name);
            own.ok_or_else(Status::no_such_path)
        })
        .transpose()?;
    Ok(Route::Resource(Target {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource,
        watch,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(path: &str) -> String {
        match route(path) {
            Err(status) => format!("{}", status.code),
            Ok(Route::Other) => "other".to_owned(),
            Ok(Route::Resource(target)) => format!(
                "{} ns={} name={} sub={}",
                target.kind.names(),
                target.namespace.unwrap_or_default(),
                target.name.unwrap_or_default(),
                target.subresource.map_or("", subresource_name)
            ),
        }
    }

    #[test]
    fn paths_lead_to_objects() {
        let cases = [
            "/api/v1/pods",
            "/api/v1/namespaces/a/pods/b/log",
            "/api/v1/namespaces",
            "/api/v1/namespaces/a",
            "/api/v1/namespaces/a/status",
            "/api/v1/nodes/n",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            "/apis/apps/v1/namespaces/a/deployments/b/log",
            "/api/v1/pods/b",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/watch/namespaces/a/pods/b",
            "/api/v1/watch/namespaces/a/pods/b/proxy/x",
            "/apis/apps/v2/deployments",
            "/apis/apps/v1",
            "/version",
        ];
        let lines: Vec<String> = cases.iter().map(|path| show(path)).collect();
        expect_test::expect![[r#"
            v1/pods ns= name= sub=
            v1/pods ns=a name=b sub=log
            v1/namespaces ns= name= sub=
            v1/namespaces ns= name=a sub=
            v1/namespaces ns= name=a sub=status
            v1/nodes ns= name=n sub=
            apps/v1/deployments ns=a name=b sub=scale
            404
            404
            404
            v1/pods ns=a name=b sub=
            404
            404
            other
            other"#]]
        .assert_eq(&lines.join("\n"));
    }
}

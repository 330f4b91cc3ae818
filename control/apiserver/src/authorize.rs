//! Who may do what: a fixed policy until roles and bindings come.
//!
//! - `system:masters`, the control plane's own identities and nodes may do everything;
//! - everybody who is authenticated may look at discovery, OpenAPI, version and health;
//! - nobody else may do anything, save health and version.

use corten_api::status::Status;
use http::Method;

use crate::identity::Identity;
use crate::route::{Target, subresource_name};

const COMPONENTS: [&str; 3] = ["system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"];

fn may_do_everything(user: &Identity) -> bool {
    user.is_in("system:masters") || user.is_in("system:nodes") || COMPONENTS.contains(&user.name.as_str())
}

/// Whether a user may act on objects. `verb` is Kubernetes' verb, such as `list`.
pub(crate) fn resource(user: &Identity, verb: &str, target: &Target) -> Result<(), Status> {
    if may_do_everything(user) {
        return Ok(());
    }
    let names = target.kind.names();
    let resource = match target.subresource {
        Some(subresource) => format!("{}/{}", names.plural, subresource_name(subresource)),
        None => names.plural.to_owned(),
    };
    let place = match &target.namespace {
        Some(namespace) => format!(" in the namespace \"{namespace}\""),
        None => " at the cluster scope".to_owned(),
    };
    let why =
        format!("User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{}\"{place}", user.name, names.group);
    Err(Status::forbidden(names, target.name.as_deref().unwrap_or_default(), &why))
}

/// Whether a user may read a path that is no object.
pub(crate) fn path(user: &Identity, method: &Method, path: &str) -> Result<(), Status> {
    let below = |roots: &[&str]| roots.iter().any(|root| path == *root || path.starts_with(&format!("{root}/")));
    let public = below(&["/healthz", "/livez", "/readyz", "/version"]);
    let known = public || below(&["/api", "/apis", "/openapi"]);
    if may_do_everything(user) || public || (known && user.is_in("system:authenticated")) {
        return Ok(());
    }
    let verb = method.as_str().to_lowercase();
    let message = format!("forbidden: User \"{}\" cannot {verb} path \"{path}\"", user.name);
    Err(Status::failure(403, "Forbidden", message))
}

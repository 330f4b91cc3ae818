//! What is not an object: discovery, OpenAPI, version, health, metrics.

use corten_api::names::Scope;
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS, Proxied, Subresource};
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::{self, Answer};
use crate::negotiate::{self, Form, Shape};
use crate::request::Request;
use crate::route::subresource_name;
use crate::server::Server;
use crate::{documents, health, metrics, openapi, version};

/// How far in front a group is when clients look for a resource, as upstream ranks them.
const GROUPS: &[(&str, i32)] = &[
    ("", 18_000),
    ("apiregistration.k8s.io", 17_900),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];
/// Groups that are not named above follow.
const OTHERS: i32 = 15_000;

/// How far in front a group is.
pub(crate) fn group_priority(group: &str) -> i32 {
    GROUPS.iter().find(|(own, _)| *own == group).map_or(OTHERS, |(_, priority)| *priority)
}

/// Prometheus' text form.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(crate) async fn answer(server: &Server, request: &Request) -> Result<Answer, Status> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Status::method_not_allowed());
    }
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    let is_plain = |form: Form| match form.shape {
        Shape::Discovery(version) => Some(version),
        _ => None,
    };
    match parts.as_slice() {
        [] => Ok(paths()),
        ["healthz" | "livez" | "readyz", ..] => health::answer(server, request, &parts).await,
        ["metrics"] => Ok(body::answer(StatusCode::OK, METRICS, body::full(metrics::write(server)))),
        ["metrics", "slis"] => Ok(body::answer(StatusCode::OK, METRICS, body::full(health::indicators(server).await))),
        ["version"] => Ok(body::value(StatusCode::OK, &version::version())),
        ["openapi", rest @ ..] => openapi::answer(server, request, rest).await,
        ["api"] => document(request, |form| match is_plain(form) {
            Some(version) => (aggregated(version, true), true),
            None => (legacy_versions(server), false),
        }),
        ["apis"] => document(request, |form| match is_plain(form) {
            Some(version) => (aggregated(version, false), true),
            None => {
                let groups: Vec<Value> = groups().into_iter().map(group).collect();
                (json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}), false)
            }
        }),
        ["apis", name] if groups().contains(name) => document(request, |_| {
            let mut group = group(name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            (group, false)
        }),
        ["api", version] if served("", version).next().is_some() => {
            document(request, |_| (resources("", version), false))
        }
        ["apis", group, version] if served(group, version).next().is_some() => {
            document(request, |_| (resources(group, version), false))
        }
        ["corten", "v1", name, rest @ ..] => documents::answer(server, name, rest),
        _ => Err(Status::no_such_path()),
    }
}

/// A document with its hash, so that clients fetch it once. `make` also says whether it is an aggregated one.
fn document(request: &Request, make: impl FnOnce(Form) -> (Value, bool)) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let (value, is_aggregated) = make(form);
    let text = value.to_string();
    let etag = format!("\"{}\"", hex(&Sha256::digest(text.as_bytes())));
    if request.header(IF_NONE_MATCH) == Some(&etag) {
        return Ok(body::not_modified(&etag));
    }
    let mut answer = match form.shape {
        Shape::Discovery(version) if is_aggregated => {
            let kind = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            let kind = HeaderValue::from_str(&kind).map_err(Status::internal)?;
            body::answer(StatusCode::OK, kind, body::full(text))
        }
        _ => body::value(StatusCode::OK, &value),
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(answer)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Groups other than the core one, the preferred first.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = group_versions().into_iter().map(|(group, _)| group).collect();
    groups.retain(|group| !group.is_empty());
    groups.dedup();
    groups
}

/// Group versions: groups in their order, versions of one in the order of the kinds.
pub(crate) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    for kind in KINDS {
        let pair = (kind.names().group, kind.names().version);
        if !all.contains(&pair) {
            all.push(pair);
        }
    }
    all.sort_by_key(|(group, _)| std::cmp::Reverse(group_priority(group)));
    all
}

/// Kinds of a group version, by the name of their resource.
fn served(group: &str, version: &str) -> impl Iterator<Item = &'static dyn AnyKind> {
    let own = |kind: &&dyn AnyKind| kind.names().group == group && kind.names().version == version;
    let mut kinds: Vec<&'static dyn AnyKind> = KINDS.iter().copied().filter(own).collect();
    kinds.sort_by_key(|kind| kind.names().plural);
    kinds.into_iter()
}

/// Subresources of a kind, by their names.
fn subresources(kind: &dyn AnyKind) -> Vec<Subresource> {
    let mut all = kind.subresources().to_vec();
    all.sort_by_key(|subresource| subresource_name(*subresource));
    all
}

fn versions_of(group: &str) -> Vec<&'static str> {
    group_versions().into_iter().filter(|(own, _)| *own == group).map(|(_, version)| version).collect()
}

fn group(name: &str) -> Value {
    let version = |version: &str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions_of(name).into_iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn legacy_versions(server: &Server) -> Value {
    let address = format!("{}:{}", server.config().node_address, server.config().port);
    json!({
        "kind": "APIVersions",
        "versions": versions_of(""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// What a subresource's objects are: group, version, kind; and what can be done to them.
pub(crate) fn spoken(
    kind: &dyn AnyKind,
    subresource: Subresource,
) -> ((&'static str, &'static str, &'static str), &'static [&'static str]) {
    let names = kind.names();
    let own = (names.group, names.version, names.kind);
    match subresource {
        Subresource::Status => (own, &["get", "patch", "update"]),
        Subresource::Finalize => (own, &["update"]),
        Subresource::Scale => (("autoscaling", "v1", "Scale"), &["get", "patch", "update"]),
        Subresource::Binding => (("", "v1", "Binding"), &["create"]),
        Subresource::Eviction => (("policy", "v1", "Eviction"), &["create"]),
        Subresource::Token => (("authentication.k8s.io", "v1", "TokenRequest"), &["create"]),
        Subresource::Log => (own, &["get"]),
        Subresource::Exec => (("", "v1", "PodExecOptions"), &["create", "get"]),
        Subresource::Attach => (("", "v1", "PodAttachOptions"), &["create", "get"]),
        Subresource::PortForward => (("", "v1", "PodPortForwardOptions"), &["create", "get"]),
        Subresource::EphemeralContainers | Subresource::Resize | Subresource::Approval => {
            (own, &["get", "patch", "update"])
        }
        Subresource::Proxy => {
            let options = match kind.proxied() {
                Some(Proxied::Service) => "ServiceProxyOptions",
                Some(Proxied::Node) => "NodeProxyOptions",
                Some(Proxied::Pod) | None => "PodProxyOptions",
            };
            (("", "v1", options), &["create", "delete", "get", "patch", "update"])
        }
    }
}

fn resources(group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for kind in served(group, version) {
        let names = kind.names();
        let namespaced = kind.scope() == Scope::Namespaced;
        let mut resource = json!({
            "name": names.plural, "singularName": names.singular, "namespaced": namespaced, "kind": names.kind,
            "verbs": kind.verbs(),
        });
        if !kind.is_virtual() {
            resource["storageVersionHash"] = storage_version_hash(kind).into();
        }
        if !names.short.is_empty() {
            resource["shortNames"] = names.short.into();
        }
        if !names.categories.is_empty() {
            resource["categories"] = names.categories.into();
        }
        list.push(resource);
        for subresource in subresources(kind) {
            let ((own_group, own_version, own_kind), verbs) = spoken(kind, subresource);
            let mut resource = json!({
                "name": format!("{}/{}", names.plural, subresource_name(subresource)), "singularName": "",
                "namespaced": namespaced, "kind": own_kind, "verbs": verbs,
            });
            if own_group != group {
                resource["group"] = own_group.into();
                resource["version"] = own_version.into();
            }
            list.push(resource);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    // As upstream: the core group's list is older than the field.
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document
}

/// Tells clients which resources are views of the same objects, and when the stored version changes.
fn storage_version_hash(kind: &dyn AnyKind) -> String {
    use base64::Engine;
    let stored = kind.stored();
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(text)[..8])
}

/// All groups in one document, of `/api` or of `/apis`.
fn aggregated(version: &str, core: bool) -> Value {
    let groups = if core { vec![""] } else { groups() };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|group| {
            let versions: Vec<Value> = versions_of(group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = served(group, version).map(aggregated_resource).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let version = format!("apidiscovery.k8s.io/{version}");
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": version, "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &'static dyn AnyKind) -> Value {
    let names = kind.names();
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|subresource| {
            let ((group, version, own), verbs) = spoken(kind, subresource);
            json!({
                "subresource": subresource_name(subresource), "verbs": verbs,
                "responseKind": {"group": group, "version": version, "kind": own},
            })
        })
        .collect();
    let mut resource = json!({
        "resource": names.plural,
        "responseKind": {"group": names.group, "version": names.version, "kind": names.kind},
        "scope": match kind.scope() { Scope::Cluster => "Cluster", Scope::Namespaced => "Namespaced" },
        "singularResource": names.singular,
        "verbs": kind.verbs(),
    });
    for (field, values) in [("shortNames", names.short), ("categories", names.categories)] {
        if !values.is_empty() {
            resource[field] = values.into();
        }
    }
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// Every path that is no object.
fn paths() -> Answer {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(health::paths());
    paths.extend(groups().into_iter().map(|group| format!("/apis/{group}")));
    for (group, version) in group_versions() {
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        paths.push(format!("/openapi/v3/{path}"));
        paths.push(format!("/{path}"));
    }
    paths.sort_unstable();
    body::value(StatusCode::OK, &json!({"paths": paths}))
}

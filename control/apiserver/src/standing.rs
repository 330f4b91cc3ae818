//! Objects that stand for what the API server itself is and does: an APIService for each group and version, the
//! flow schemas and priority levels that upstream suggests, and the range of service addresses.
//!
//! Made where they are missing, all in one write; what is there is left as it is.

use std::collections::BTreeSet;

use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS, Operation, Warnings, WriteContext};
use corten_store::{Compare, Op, Outcome, Snapshot, Txn};
use serde_json::{Value, json};

use crate::discovery::group_priority;
use crate::objects::time;
use crate::server::{FreeIn, Server};
use crate::storage;

/// How often a start decides anew because another process wrote meanwhile.
const ATTEMPTS: u32 = 8;
const FLOW: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Writes what is missing; nothing if nothing is.
pub(crate) async fn ensure(server: &Server) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let txn = plan(server, &server.store().snapshot())?;
        if txn.then.is_empty() {
            return Ok(());
        }
        if let Outcome::Committed { .. } = server.store().transact(txn).await.map_err(storage::refused)? {
            return Ok(());
        }
    }
    Err(Status::internal("the objects of the API server change again and again while they are written"))
}

fn plan(server: &Server, snapshot: &Snapshot) -> Result<Txn, Status> {
    let mut txn = Txn::default();
    for (object, status) in objects(server) {
        let named = |kind: &&&dyn AnyKind| {
            object["kind"] == kind.names().kind && object["apiVersion"] == kind.names().api_version()
        };
        let Some(kind) = KINDS.iter().find(named) else { continue };
        let key = storage::key(kind.storage(), None, object["metadata"]["name"].as_str().unwrap_or_default());
        if snapshot.get(&key).is_some() {
            continue;
        }
        let object = created(server, snapshot, *kind, object, status)?;
        let (value, stamp) = storage::encode(&object)?;
        txn.compare.push(Compare::ModRevision(key.clone(), 0));
        txn.then.push(Op::Put { key, value, stamp: Some(stamp), lease: 0 });
    }
    Ok(txn)
}

/// The object as it is stored: through its kind's rules, as any other, and with the status that it has at once.
fn created(
    server: &Server,
    snapshot: &Snapshot,
    kind: &dyn AnyKind,
    mut object: Value,
    status: Value,
) -> Result<Value, Status> {
    let now = server.clock().now();
    let uid = uuid::Builder::from_random_bytes(server.config().random.bytes16()).into_uuid().to_string();
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["creationTimestamp"] = time(now);
    let (claims, warnings) = (&FreeIn { snapshot: snapshot.clone(), server }, &Warnings::default());
    let cx = WriteContext { now, claims, user: None, warnings };
    let mut object = kind.process(object, Operation::Create, &cx)?;
    if let Value::Object(mut condition) = status {
        condition.insert("lastTransitionTime".to_owned(), time(now));
        object["status"]["conditions"] = json!([condition]);
    }
    Ok(object)
}

/// The objects, each with the condition that its status has, or null.
fn objects(server: &Server) -> Vec<(Value, Value)> {
    let mut all: Vec<(Value, Value)> = api_services().into_iter().map(|service| (service, Value::Null)).collect();
    all.extend(LEVELS.iter().map(|level| (priority_level(level), Value::Null)));
    for schema in FLOWS {
        let level = schema.level;
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists");
        let found = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message});
        all.push((flow_schema(schema), found));
    }
    let (network, length) = server.config().service_range;
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [format!("{network}/{length}")]},
    });
    let ready = json!({"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"});
    all.push((range, ready));
    all
}

fn api_services() -> Vec<Value> {
    let served = KINDS.iter().map(|kind| (kind.names().group, kind.names().version));
    let versions: BTreeSet<(&str, &str)> = served.filter(|(group, _)| *group != "apiregistration.k8s.io").collect();
    let service = |(group, version): &(&str, &str)| {
        let version_priority = match (*group, *version) {
            ("", _) => 1,
            ("autoscaling", "v2") => 30,
            _ => 15,
        };
        let mut spec = json!({
            "version": version, "groupPriorityMinimum": group_priority(group), "versionPriority": version_priority,
        });
        if !group.is_empty() {
            spec["group"] = (*group).into();
        }
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {
                "name": format!("{version}.{group}"),
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
            },
            "spec": spec,
        })
    };
    versions.iter().map(service).collect()
}

/// Name, shares, percent that may be lent, queues and size of a hand. No queues: what is too much is refused.
/// No shares: nothing is ever held up.
type Level = (&'static str, i32, i32, i32, i32);

const LEVELS: &[Level] = &[
    ("exempt", 0, 0, 0, 0),
    ("catch-all", 5, 0, 0, 0),
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

fn priority_level(&(name, shares, lendable, queues, hand): &Level) -> Value {
    let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
    let response = if queues == 0 { json!({"type": "Reject"}) } else { json!({"type": "Queue", "queuing": queuing}) };
    let counts = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable});
    let spec = if shares == 0 {
        json!({"type": "Exempt", "exempt": counts})
    } else {
        let mut limited = counts;
        limited["limitResponse"] = response;
        json!({"type": "Limited", "limited": limited})
    };
    json!({"apiVersion": FLOW, "kind": "PriorityLevelConfiguration", "metadata": metadata(name), "spec": spec})
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

/// A flow schema in short.
struct Flow {
    name: &'static str,
    precedence: i32,
    level: &'static str,
    /// `ByUser`, `ByNamespace` or nothing.
    method: &'static str,
    /// `g:group`, `u:user` or `a:namespace/account`.
    subjects: &'static [&'static str],
    /// `verbs group resources namespaces`, lists with commas, `core` for the core group, `-` for none; `cluster`
    /// among the namespaces stands for what has none. Or `verbs /path,/path`.
    rules: &'static [&'static str],
}

const EVERYTHING: &[&str] = &["* * * *,cluster", "* *"];

const fn flow(
    name: &'static str,
    (precedence, level, method): (i32, &'static str, &'static str),
    subjects: &'static [&'static str],
    rules: &'static [&'static str],
) -> Flow {
    Flow { name, precedence, level, method, subjects, rules }
}

const EVERYBODY: &[&str] = &["g:system:unauthenticated", "g:system:authenticated"];
const LEADERS: &[&str] = &["get,create,update coordination.k8s.io leases *"];

const FLOWS: &[Flow] = &[
    flow("exempt", (1, "exempt", ""), &["g:system:masters"], EVERYTHING),
    flow("probes", (2, "exempt", ""), EVERYBODY, &["get /healthz,/readyz,/livez"]),
    flow(
        "system-leader-election",
        (100, "leader-election", "ByUser"),
        &["u:system:kube-controller-manager", "u:system:kube-scheduler", "a:kube-system/*"],
        &["get,create,update coordination.k8s.io leases kube-system"],
    ),
    flow(
        "endpoint-controller",
        (150, "workload-high", "ByUser"),
        &[
            "u:system:kube-controller-manager",
            "a:kube-system/endpoint-controller",
            "a:kube-system/endpointslicemirroring-controller",
        ],
        &["get,create,update core endpoints *"],
    ),
    flow("workload-leader-election", (200, "leader-election", "ByUser"), &["a:kube-system/*"], LEADERS),
    flow(
        "system-node-high",
        (400, "node-high", "ByUser"),
        &["g:system:nodes"],
        &["* core nodes,nodes/status *,cluster", "* coordination.k8s.io leases *"],
    ),
    flow("system-nodes", (500, "system", "ByUser"), &["g:system:nodes"], EVERYTHING),
    flow(
        "kube-controller-manager",
        (800, "workload-high", "ByNamespace"),
        &["u:system:kube-controller-manager"],
        EVERYTHING,
    ),
    flow("kube-scheduler", (800, "workload-high", "ByNamespace"), &["u:system:kube-scheduler"], EVERYTHING),
    flow("kube-system-service-accounts", (900, "workload-high", "ByNamespace"), &["a:kube-system/*"], EVERYTHING),
    flow("service-accounts", (9000, "workload-low", "ByUser"), &["g:system:serviceaccounts"], EVERYTHING),
    flow("global-default", (9900, "global-default", "ByUser"), EVERYBODY, EVERYTHING),
    flow("catch-all", (10_000, "catch-all", "ByUser"), EVERYBODY, EVERYTHING),
];

fn flow_schema(flow: &Flow) -> Value {
    let subjects: Vec<Value> = flow.subjects.iter().map(|text| subject(text)).collect();
    let rules: Vec<Value> = flow.rules.iter().map(|text| rule(text)).collect();
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        rules.into_iter().partition(|rule| rule.get("nonResourceURLs").is_some());
    let mut set = json!({"subjects": subjects});
    for (field, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if !rules.is_empty() {
            set[field] = rules.into();
        }
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": flow.level}, "matchingPrecedence": flow.precedence, "rules": [set],
    });
    if !flow.method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": flow.method});
    }
    json!({"apiVersion": FLOW, "kind": "FlowSchema", "metadata": metadata(flow.name), "spec": spec})
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("g", text));
    match kind {
        "u" => json!({"kind": "User", "user": {"name": name}}),
        "a" => {
            let (namespace, name) = name.split_once('/').unwrap_or((name, "*"));
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
        }
        _ => json!({"kind": "Group", "group": {"name": name}}),
    }
}

fn rule(text: &str) -> Value {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    match text.split(' ').collect::<Vec<&str>>()[..] {
        [verbs, paths] => json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}),
        [verbs, group, resources, places] => {
            let namespaces: Vec<String> = list(places).into_iter().filter(|place| place != "cluster").collect();
            let mut rule = json!({
                "verbs": list(verbs), "apiGroups": [if group == "core" { "" } else { group }],
                "resources": list(resources), "namespaces": namespaces,
            });
            if places.contains("cluster") {
                rule["clusterScope"] = true.into();
            }
            rule
        }
        _ => Value::Null,
    }
}

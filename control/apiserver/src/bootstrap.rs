//! The objects that every cluster has.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS, SYSTEM_CLASSES};
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::managed::{Tracking, Writer};
use crate::objects::first_address;
use crate::policy;
use crate::route::Target;
use crate::server::Server;
use crate::standing;
use crate::verbs::{Change, Write, change_object, create_object};

const LOCAL_PATH: &str = "local-path";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The steps of a start that health checks ask for by upstream's names.
const NAMESPACES_MADE: &str = "start-system-namespaces-controller";
const POLICY_MADE: &str = "rbac/bootstrap-roles";
const SERVICE_MADE: &str = "bootstrap-controller";

/// Which steps of the start are done.
#[derive(Default)]
pub(crate) struct Started(Mutex<BTreeSet<&'static str>>);

impl Started {
    fn done(&self, step: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(step);
    }

    /// Whether a step is done.
    pub(crate) fn check(&self, step: &str) -> Result<(), String> {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(step);
        if done { Ok(()) } else { Err("not finished".to_owned()) }
    }
}

/// Creates what is missing, and keeps the addresses of the `kubernetes` service true.
pub(crate) async fn run(server: &Server) -> Result<(), Status> {
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, "Namespace", None, name, object, false).await?;
    }
    server.started().done(NAMESPACES_MADE);
    for (name, value, description) in SYSTEM_CLASSES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description,
        });
        ensure(server, "PriorityClass", None, name, class, false).await?;
    }
    ensure(server, "StorageClass", None, LOCAL_PATH, local_path(), false).await?;
    policy::reconcile(server).await?;
    server.started().done(POLICY_MADE);
    standing::ensure(server).await?;
    let config = server.config();
    let address = first_address(config.service_range).to_string();
    let metadata = |labels: Value| json!({"name": "kubernetes", "namespace": "default", "labels": labels});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(json!({"component": "apiserver", "provider": "kubernetes"})),
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port}],
        },
    });
    ensure(server, "Service", Some("default"), "kubernetes", service, true).await?;
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"})),
        "subsets": [{
            "addresses": [{"ip": config.node_address}],
            "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
        }],
    });
    ensure(server, "Endpoints", Some("default"), "kubernetes", endpoints, true).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": "kubernetes"})),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [config.node_address], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
    });
    ensure(server, "EndpointSlice", Some("default"), "kubernetes", slice, true).await?;
    server.started().done(SERVICE_MADE);
    let Some(address) = config.dns_address else { return Ok(()) };
    ensure(server, "Service", Some("kube-system"), "kube-dns", dns(address), false).await
}

/// The class of the built-in provisioner: folders of the node on which a claim is first used.
fn local_path() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": LOCAL_PATH, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "corten.dev/local-path", "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    })
}

/// Under this name clients look for the cluster's DNS. It has no endpoints: each node answers at the address itself.
fn dns(address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

async fn ensure(
    server: &Server,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    object: Value,
    renew: bool,
) -> Result<(), Status> {
    let kind: &'static dyn AnyKind = KINDS
        .iter()
        .copied()
        .find(|own| own.names().kind == kind)
        .ok_or_else(|| Status::internal(format!("{kind} is not served")))?;
    let target = Target {
        kind,
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        subresource: None,
        watch: false,
    };
    let writer = Writer::server();
    let admin = Identity::admin();
    let write = Write::new(&admin, false, Tracking::Update(&writer));
    if renew {
        let change = |old: &Value| {
            let mut new = old.clone();
            for (field, value) in object.as_object().into_iter().flatten().filter(|(field, _)| *field != "metadata") {
                match value {
                    Value::Object(parts) if new[field].is_object() => {
                        parts.iter().for_each(|(part, value)| new[field][part] = value.clone());
                    }
                    _ => new[field] = value.clone(),
                }
            }
            Ok((new, Vec::new()))
        };
        match change_object(server, &target, Change::Object, &write, change).await {
            Err(status) if status.code == 404 => {}
            result => return result.map(|_| ()),
        }
    }
    match create_object(server, kind, namespace, object, &write).await {
        Err(status) if status.code == 409 => Ok(()),
        result => result.map(|_| ()),
    }
}

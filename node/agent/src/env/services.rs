//! Services as environment variables, in the style of Docker links.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::core::v1::Service;

/// The service of the API itself, which pods of all namespaces see.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The variables of the services that a pod of `namespace` sees; with `links` all of its namespace.
pub(crate) fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut seen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let (own, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        if address(service).is_none() {
            continue;
        }
        if links && own == namespace {
            seen.insert(name, service);
        } else if (own, name) == MASTER {
            seen.entry(name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, service) in seen {
        of_service(name, service, &mut variables);
    }
    variables
}

fn address(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|address| !address.is_empty() && *address != "None")
}

fn of_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(address) = address(service) else { return };
    let prefix = variable_name(name);
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    for (index, port) in ports.iter().enumerate() {
        let number = port.port.to_string();
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), number.clone());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            variables.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.insert(format!("{port_prefix}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{port_prefix}_PORT"), number);
        variables.insert(format!("{port_prefix}_ADDR"), address.to_owned());
        variables.insert(port_prefix, url);
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn service(namespace: &str, name: &str, address: &str, ports: &serde_json::Value) -> Arc<Service> {
        let object = json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": address, "ports": ports}});
        Arc::new(serde_json::from_value(object).expect("a service"))
    }

    #[test]
    fn links_of_the_namespace_and_the_api() {
        let services = [
            service("default", "kubernetes", "10.43.0.1", &json!([{"name": "https", "port": 443, "protocol": "TCP"}])),
            service(
                "demo",
                "my-web",
                "10.43.0.7",
                &json!([{"port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]),
            ),
            service("demo", "headless", "None", &json!([{"port": 80}])),
            service("other", "web", "10.43.0.8", &json!([{"port": 80}])),
        ];
        let lines = |links| {
            variables(&services, "demo", links)
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect::<String>()
        };
        expect![[r"
            KUBERNETES_PORT=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.43.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            MY_WEB_PORT=tcp://10.43.0.7:80
            MY_WEB_PORT_53_UDP=udp://10.43.0.7:53
            MY_WEB_PORT_53_UDP_ADDR=10.43.0.7
            MY_WEB_PORT_53_UDP_PORT=53
            MY_WEB_PORT_53_UDP_PROTO=udp
            MY_WEB_PORT_80_TCP=tcp://10.43.0.7:80
            MY_WEB_PORT_80_TCP_ADDR=10.43.0.7
            MY_WEB_PORT_80_TCP_PORT=80
            MY_WEB_PORT_80_TCP_PROTO=tcp
            MY_WEB_SERVICE_HOST=10.43.0.7
            MY_WEB_SERVICE_PORT=80
            MY_WEB_SERVICE_PORT_DNS_UDP=53
        "]]
        .assert_eq(&lines(true));
        assert_eq!(lines(false).lines().filter(|line| !line.starts_with("KUBERNETES_")).count(), 0);
    }
}

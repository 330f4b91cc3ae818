//! `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and the file of the last words of a container.
//!
//! Source: pkg/kubelet/kubelet_pods.go and pkg/kubelet/network/dns of Kubernetes v1.36.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corten_api::api::core::v1::{HostAlias, Pod, PodDNSConfig};

use crate::facts::NodeFacts;

/// Longest host name that Linux takes is 64; a DNS label has at most 63 letters.
const LABEL_MAX: usize = 63;
const FQDN_MAX: usize = 64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LETTERS_MAX: usize = 2048;

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostName {
    /// What `hostname` says inside.
    pub(crate) hostname: String,
    /// First label of the full name.
    short: String,
    /// The rest of the full name; empty without a subdomain.
    domain: String,
}

/// The names of a pod.
pub(crate) fn host_name(pod: &Pod, node: &NodeFacts) -> Result<HostName, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override.filter(|name| !name.is_empty()) {
        return Ok(HostName { short: name.clone(), hostname: name, domain: String::new() });
    }
    let given = spec.hostname.filter(|name| !name.is_empty());
    let short = given.unwrap_or_else(|| truncated(pod.metadata.name.as_deref().unwrap_or_default()));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = spec.subdomain.filter(|subdomain| !subdomain.is_empty());
    let domain =
        domain.map(|subdomain| format!("{subdomain}.{namespace}.svc.{}", node.cluster_domain)).unwrap_or_default();
    let hostname = if spec.host_network == Some(true) {
        node.hostname.clone()
    } else if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        let full = format!("{short}.{domain}");
        if full.len() > FQDN_MAX {
            return Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({FQDN_MAX} characters is the max, {} characters requested)",
                full.len()
            ));
        }
        full
    } else {
        short.clone()
    };
    Ok(HostName { hostname, short, domain })
}

/// Names of pods may be longer than host names; what a cut leaves at the end must be a letter or digit.
fn truncated(name: &str) -> String {
    name.get(..LABEL_MAX).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
}

/// `/etc/hosts` of a pod.
pub(crate) fn hosts(pod: &Pod, name: &HostName, ips: &[IpAddr], node_hosts: &str) -> String {
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let mut text = if host_network {
        let end = if node_hosts.is_empty() || node_hosts.ends_with('\n') { "" } else { "\n" };
        format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}{end}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            let HostName { short, domain, .. } = name;
            let names = if domain.is_empty() { short.clone() } else { format!("{short}.{domain}\t{short}") };
            text += &format!("{ip}\t{names}\n");
        }
        text
    };
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for HostAlias { ip, hostnames } in aliases {
        text += &format!("{ip}\t{}\n", hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    // The last line counts.
                    let name = |word: &str| if word == "." { word } else { word.trim_end_matches('.') }.to_owned();
                    resolver.searches = words.map(name).collect();
                }
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn add(&mut self, config: &PodDNSConfig) {
        self.nameservers.extend(config.nameservers.iter().flatten().cloned());
        self.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            };
            let same = |own: &String| own.split_once(':').map_or(own.as_str(), |(name, _)| name) == name;
            match self.options.iter_mut().find(|own| same(own)) {
                Some(own) => *own = text,
                None => self.options.push(text),
            }
        }
    }

    /// What resolvers read at most.
    fn limit(&mut self) {
        distinct(&mut self.nameservers);
        distinct(&mut self.searches);
        self.nameservers.truncate(NAMESERVERS_MAX);
        self.searches.truncate(SEARCHES_MAX);
        while self.searches.join(" ").len() > SEARCH_LETTERS_MAX {
            self.searches.pop();
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.nameservers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

fn distinct(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// `/etc/resolv.conf` of a pod; `own` is the node's.
pub(crate) fn resolv_conf(pod: &Pod, node: &NodeFacts, own: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let own = Resolver::parse(own);
    let host_network = spec.host_network == Some(true);
    let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "ClusterFirst" if !host_network && !node.cluster_dns.is_empty() => cluster_first(pod, node, own),
        "ClusterFirstWithHostNet" if !node.cluster_dns.is_empty() => cluster_first(pod, node, own),
        _ => own,
    };
    if let Some(config) = &spec.dns_config {
        resolver.add(config);
    }
    resolver.limit();
    resolver.text()
}

fn cluster_first(pod: &Pod, node: &NodeFacts, own: Resolver) -> Resolver {
    let (namespace, domain) = (pod.metadata.namespace.as_deref().unwrap_or_default(), &node.cluster_domain);
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    searches.extend(own.searches);
    Resolver {
        nameservers: node.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

/// The generated files of a pod, in its folder.
pub(crate) struct PodFiles;

impl PodFiles {
    /// Mounted on `/etc/hosts`.
    pub(crate) const HOSTS: &str = "etc-hosts";
    /// Mounted on `/etc/hostname`.
    pub(crate) const HOSTNAME: &str = "hostname";
    /// Mounted on `/etc/resolv.conf`.
    pub(crate) const RESOLV_CONF: &str = "resolv.conf";

    /// Writes what has changed.
    pub(crate) fn write(dir: &Path, pod: &Pod, ips: &[IpAddr], node: &NodeFacts) -> Result<(), String> {
        let name = host_name(pod, node)?;
        let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let node_hosts =
            if host_network { fs::read_to_string("/etc/hosts").unwrap_or_default() } else { String::new() };
        let own = fs::read_to_string(&node.resolv_conf).unwrap_or_default();
        for (file, text) in [
            (Self::HOSTS, hosts(pod, &name, ips, &node_hosts)),
            (Self::HOSTNAME, format!("{}\n", name.hostname)),
            (Self::RESOLV_CONF, resolv_conf(pod, node, &own)),
        ] {
            let path = dir.join(file);
            write_in_place(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// Running containers have the file mounted, so it stays the same file.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

/// Where a container leaves its last words, which its status shows when it has ended.
pub(crate) fn termination_log(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(format!("{attempt}.termination-log"))
}

/// Makes an empty file for the last words of a container, which any user may write to.
pub(crate) fn make_termination_log(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o666))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn pod(spec: &Value) -> Pod {
        testing::pod(json!({"metadata": {"name": "web-1", "namespace": "demo"}, "spec": spec}))
    }

    #[test]
    fn hosts_files() {
        let check = |mut spec: Value, expect: &Expect| {
            spec["containers"] = json!([]);
            let pod = pod(&spec);
            let name = host_name(&pod, &testing::node()).expect("a name");
            let ips = ["10.42.0.5".parse().expect("an address")];
            expect.assert_eq(&hosts(&pod, &name, &ips, "127.0.0.1 localhost"));
        };
        let alias = json!([{"ip": "10.1.2.3", "hostnames": ["a", "b.c"]}]);
        check(
            json!({"subdomain": "db", "hostAliases": alias.clone()}),
            &expect![[r"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.42.0.5	web-1.db.demo.svc.cluster.local	web-1

            # Entries added by HostAliases.
            10.1.2.3	a	b.c
        "]],
        );
        check(
            json!({"hostNetwork": true, "hostAliases": alias}),
            &expect![[r"
            # Kubernetes-managed hosts file (host network).
            127.0.0.1 localhost

            # Entries added by HostAliases.
            10.1.2.3	a	b.c
        "]],
        );
    }

    #[test]
    fn host_names() {
        let check = |mut spec: Value, expected: Result<&str, &str>| {
            spec["containers"] = json!([]);
            let name = host_name(&pod(&spec), &testing::node()).map(|name| name.hostname);
            assert_eq!(name.as_deref().map_err(|error| error.get(..24).unwrap_or(error)), expected, "{spec}");
        };
        check(json!({}), Ok("web-1"));
        check(json!({"hostname": "db-0", "subdomain": "db"}), Ok("db-0"));
        check(
            json!({"hostname": "db-0", "subdomain": "db", "setHostnameAsFQDN": true}),
            Ok("db-0.db.demo.svc.cluster.local"),
        );
        check(json!({"subdomain": "d".repeat(60), "setHostnameAsFQDN": true}), Err("failed to construct FQDN"));
        check(json!({"hostNetwork": true}), Ok("n1"));
        check(json!({"hostnameOverride": "own.name"}), Ok("own.name"));
        assert_eq!(truncated(&format!("{}-{}", "a".repeat(62), "b")), "a".repeat(62));
    }

    #[test]
    fn resolver_configurations() {
        const OWN: &str = "# by hand\nnameserver 192.0.2.53\nsearch corp.example. .\noptions rotate\n";
        let check = |mut spec: Value, expect: &Expect| {
            spec["containers"] = json!([]);
            expect.assert_eq(&resolv_conf(&pod(&spec), &testing::node(), OWN));
        };
        check(
            json!({}),
            &expect![[r"
            search demo.svc.cluster.local svc.cluster.local cluster.local corp.example .
            nameserver 10.43.0.10
            options ndots:5
        "]],
        );
        check(
            json!({"hostNetwork": true}),
            &expect![[r"
            search corp.example .
            nameserver 192.0.2.53
            options rotate
        "]],
        );
        let config = json!({"nameservers": ["10.0.0.1", "10.43.0.10"], "searches": ["more.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(
            json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true, "dnsConfig": config.clone()}),
            &expect![[r"
            search demo.svc.cluster.local svc.cluster.local cluster.local corp.example . more.example
            nameserver 10.43.0.10
            nameserver 10.0.0.1
            options ndots:2 edns0
        "]],
        );
        check(
            json!({"dnsPolicy": "Default"}),
            &expect![[r"
            search corp.example .
            nameserver 192.0.2.53
            options rotate
        "]],
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": config}),
            &expect![[r"
            search more.example
            nameserver 10.0.0.1
            nameserver 10.43.0.10
            options ndots:2 edns0
        "]],
        );
    }
}

//! A node in a network namespace of its own, with an uplink to an "outside" that is another namespace and nothing else.

#![expect(dead_code, reason = "not every test needs everything")]

pub(crate) mod api;
mod namespace;
pub(crate) mod talk;

use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_network::{Config, Network};
use futures::TryStreamExt;
pub(crate) use namespace::Namespace;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

/// A node's namespace and what is outside of it.
pub(crate) struct Machine {
    pub(crate) node: Namespace,
    pub(crate) outside: Namespace,
}

impl Machine {
    /// None, and a word about it, where the test may not make namespaces.
    pub(crate) fn new() -> Option<Self> {
        let (node, outside) = (Namespace::new()?, Namespace::new()?);
        let file = std::fs::File::open(outside.path()).expect("the namespace");
        node.run(move || {
            block_on(async move {
                let handle = routing();
                let pair = LinkVeth::new("uplink", "far");
                handle.link().add(pair.build()).execute().await.expect("a pair of links");
                let far = index(&handle, "far").await;
                let moved = LinkUnspec::new_with_index(far).setns_by_fd(file.as_raw_fd()).build();
                handle.link().set(moved).execute().await.expect("move a link");
                give(&handle, "uplink", NODE).await;
            });
        });
        outside.run(|| block_on(async { give(&routing(), "far", OUTSIDE).await }));
        Some(Self { node, outside })
    }

    /// Runs a test in the node's namespace, with a runtime of its own, whose threads are born there.
    pub(crate) fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send + 'static) {
        self.node.run(move || block_on(test()));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Speaks to the kernel by other code than that under test.
pub(crate) fn routing() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    handle
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let link = handle.link().get().match_name(name.to_owned()).execute().try_next().await.expect("links");
    link.expect("the link").header.index
}

async fn give(handle: &Handle, name: &str, address: Ipv4Addr) {
    let index = index(handle, name).await;
    handle.address().add(index, address.into(), 24).execute().await.expect("an address");
    for index in [1, index] {
        handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.expect("a link that is up");
    }
}

/// The names of all links.
pub(crate) async fn link_names() -> Vec<String> {
    use rtnetlink::packet_route::link::LinkAttribute;
    let links: Vec<_> = routing().link().get().execute().try_collect().await.expect("links");
    let names = links.into_iter().flat_map(|link| link.attributes).filter_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    names.collect()
}

pub(crate) fn config() -> Config {
    Config {
        node_name: "node".to_owned(),
        node_ip: NODE.into(),
        cluster_range: (Ipv4Addr::new(10, 42, 0, 0), 16),
        service_range: (Ipv4Addr::new(10, 43, 0, 0), 16),
        dns_address: DNS,
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: PathBuf::from("/nonexistent/resolv.conf"),
    }
}

pub(crate) const POD_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 42, 0, 0), 24);

/// A pod: a namespace that is connected.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) uid: String,
    pub(crate) address: Ipv4Addr,
}

impl Pod {
    pub(crate) async fn attach(network: &Network, uid: &str) -> Self {
        let namespace = Namespace::new().expect("a namespace");
        let addresses = network.attach(uid, namespace.path()).await.expect("attach");
        let Some(std::net::IpAddr::V4(address)) = addresses.first().copied() else { panic!("no address") };
        Self { namespace, uid: uid.to_owned(), address }
    }
}

/// Waits until something is true; says how long that took.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within five seconds");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// Everything that a node's network may have left behind, as text: links, addresses, routes, tables of the packet filter.
pub(crate) async fn traces() -> String {
    let handle = routing();
    let addresses: Vec<_> = handle.address().get().execute().try_collect().await.expect("addresses");
    let addresses =
        addresses.iter().filter(|a| matches!(a.header.family, rtnetlink::packet_route::AddressFamily::Inet));
    let addresses: Vec<_> = addresses.map(|address| format!("{:?}", address.attributes.first())).collect();
    let routes = handle.route().get(rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let routes: Vec<_> = routes.try_collect().await.expect("routes");
    let routes: Vec<_> = routes.iter().map(|route| format!("{route:?}")).collect();
    let tables: Vec<_> = tables().iter().map(|table| format!("table {table}")).collect();
    [link_names().await, addresses, routes, tables].concat().join("\n")
}

/// The packet filter's tables.
fn tables() -> Vec<String> {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with,
    };
    let protocol = Some(netlink::NETFILTER);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).expect("netlink");
    let mut request = vec![20, 0, 0, 0, 1, 10, 1, 3]; // length; list the tables
    request.extend([0; 12]);
    sendto(&socket, &request, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    let (len, _) = recv(&socket, &mut buffer[..], RecvFlags::empty()).expect("receive");
    let (mut rest, mut names) = (&buffer[..len], Vec::new());
    while rest.len() >= 24 && u16::from_ne_bytes([rest[4], rest[5]]) != 3 {
        let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let name = &rest[24..20 + usize::from(rest[20])]; // the first attribute
        names.push(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        rest = &rest[len..];
    }
    names
}

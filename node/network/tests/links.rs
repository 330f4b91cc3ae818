//! Pods' links against the kernel.

mod common;

use std::time::Instant;

use common::talk::{ask_tcp, serve_tcp};
use common::{Machine, NODE, OUTSIDE, POD_RANGE, Pod, config, link_names};
use corten_network::{Network, purge};

#[test]
fn pods_reach_each_other_the_node_and_the_outside() {
    let Some(machine) = Machine::new() else { return };
    machine.outside.run(|| serve_tcp("outside", 80));
    machine.run(|| async {
        let network = Network::open(config()).await.expect("open");
        network.set_pod_range(POD_RANGE).await.expect("range");
        let (a, b) = (Pod::attach(&network, "uid-a").await, Pod::attach(&network, "uid-b").await);
        serve_tcp("node", 80);
        b.namespace.run(|| serve_tcp("b", 80));
        let to_b = (b.address, 80);
        assert_eq!(a.namespace.run(move || ask_tcp(to_b)).expect("pod to pod"), format!("b {}", a.address));
        assert_eq!(ask_tcp(to_b).expect("node to pod"), format!("b {NODE}"));
        assert_eq!(a.namespace.run(|| ask_tcp((NODE, 80))).expect("pod to node"), format!("node {}", a.address));
        assert_eq!(a.namespace.run(|| ask_tcp((OUTSIDE, 80))).expect("pod to outside"), format!("outside {NODE}"));
        let lo = a.address;
        a.namespace.run(move || serve_tcp("a", 81));
        assert_eq!(a.namespace.run(move || ask_tcp((lo, 81))).expect("pod to itself"), format!("a {lo}"));
    });
}

#[test]
fn the_next_process_finds_what_the_last_one_left() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let first = Network::open(config()).await.expect("open");
        first.set_pod_range(POD_RANGE).await.expect("range");
        let (a, b) = (Pod::attach(&first, "uid-a").await, Pod::attach(&first, "uid-b").await);
        b.namespace.run(|| serve_tcp("b", 80));
        drop(first);

        let second = Network::open(config()).await.expect("open again");
        let again = second.attach(&a.uid, a.namespace.path()).await.expect("attach again");
        assert_eq!(again, [a.address], "without a range, since the kernel knows it");
        let to_b = (b.address, 80);
        a.namespace.run(move || ask_tcp(to_b)).expect("pod to pod");
        second.set_pod_range(POD_RANGE).await.expect("range");
        let c = Pod::attach(&second, "uid-c").await;
        assert!(c.address != a.address && c.address != b.address);

        second.retain(std::slice::from_ref(&b.uid)).await.expect("retain");
        second.detach("uid-a").await.expect("detach what is gone");
        assert_eq!(link_names().await.len(), 4, "lo, the uplink, the DNS link and one pod");
        ask_tcp(to_b).expect("the pod that stays is untouched");
        let d = Pod::attach(&second, "uid-d").await;
        assert!(d.address > c.address, "addresses are not reused at once");

        // A pod that moved into a new namespace keeps its address.
        let moved = Pod::attach(&second, "uid-b").await;
        assert_eq!(moved.address, b.address);
        moved.namespace.run(|| serve_tcp("moved", 80));
        assert_eq!(ask_tcp(to_b).expect("node to pod"), format!("moved {NODE}"));

        // Addresses that no pod has are refused at once.
        let start = Instant::now();
        assert!(ask_tcp((c.address, 80)).is_err());
        assert!(start.elapsed().as_millis() < 500);
    });
}

#[test]
fn purge_leaves_nothing() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        purge().await.expect("purge where nothing is");
        let before = common::traces().await;
        let network = Network::open(config()).await.expect("open");
        network.set_pod_range(POD_RANGE).await.expect("range");
        let _pod = Pod::attach(&network, "uid-a").await;
        let during = common::traces().await;
        assert_ne!(before, during);
        assert!(during.contains("table corten"), "{during}");
        purge().await.expect("purge");
        assert_eq!(common::traces().await, before);
        purge().await.expect("purge again");
    });
}

#[test]
fn links_are_quick() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let network = Network::open(config()).await.expect("open");
        network.set_pod_range(POD_RANGE).await.expect("range");
        let spaces: Vec<_> = (0..50).filter_map(|_| common::Namespace::new()).collect();
        let mut times = [Vec::new(), Vec::new()];
        for (n, space) in spaces.iter().enumerate() {
            let start = Instant::now();
            network.attach(&format!("uid-{n}"), space.path()).await.expect("attach");
            times[0].push(start.elapsed());
        }
        for n in 0..spaces.len() {
            let start = Instant::now();
            network.detach(&format!("uid-{n}")).await.expect("detach");
            times[1].push(start.elapsed());
        }
        let pods: Vec<_> = (0..spaces.len()).map(|n| format!("again-{n}")).collect();
        let start = Instant::now();
        let attach = pods.iter().zip(&spaces).map(|(pod, space)| network.attach(pod, space.path()));
        let addresses = futures::future::try_join_all(attach).await.expect("attach all");
        println!("attach {} at once: {:?}", pods.len(), start.elapsed());
        assert_eq!(addresses.into_iter().flatten().collect::<std::collections::HashSet<_>>().len(), pods.len());
        let start = Instant::now();
        futures::future::try_join_all(pods.iter().map(|pod| network.detach(pod))).await.expect("detach all");
        println!("detach {} at once: {:?}", pods.len(), start.elapsed());
        for (what, times) in ["attach", "detach"].iter().zip(&mut times) {
            times.sort();
            println!("{what}: median {:?}, min {:?}, max {:?}", times[25], times[0], times[49]);
            assert!(times[25].as_millis() < 200, "{what} is slow");
        }
    });
}

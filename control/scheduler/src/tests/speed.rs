//! How quickly is decided. `cargo nextest run -p corten-scheduler --run-ignored only --release --no-capture speed`

use std::time::Instant;

use serde_json::{Value, json};

use super::{World, node_in, pod};

fn measure(name: &str, nodes: usize, pods: usize, spec: impl Fn(usize) -> Value) {
    let mut world = World::new();
    for number in 0..nodes {
        let mut node = node_in(&format!("zone-{}", number % 10), &format!("node-{number}"), "32");
        node["status"]["allocatable"]["memory"] = "256Gi".into();
        node["status"]["allocatable"]["pods"] = "110".into();
        world.node(&node);
    }
    let objects: Vec<Value> = (0..pods).map(|number| pod(&format!("pod-{number}"), spec(number))).collect();
    let start = Instant::now();
    objects.iter().for_each(|object| world.pod(object));
    let taken_in = start.elapsed();
    let (start, mut times) = (Instant::now(), Vec::with_capacity(pods));
    let mut placed = 0;
    loop {
        let one = Instant::now();
        let Some(line) = world.decide() else { break };
        times.push(one.elapsed());
        placed += usize::from(line.contains("->"));
    }
    let elapsed = start.elapsed();
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{name}: {placed} of {pods} pods on {nodes} nodes in {elapsed:?}: {:.0}/s; median {:?}, p99 {:?}; taken in within {taken_in:?}",
        pods as f64 / elapsed.as_secs_f64(),
        percentile(50),
        percentile(99),
    );
    assert_eq!(placed, pods);
}

#[test]
#[ignore = "prints figures"]
fn decisions_per_second() {
    let containers =
        || json!([{"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}]);
    measure("plain", 5000, 30_000, |_| json!({"containers": containers()}));
    measure("spread and apart", 5000, 30_000, |number| {
        let app = format!("app-{}", number % 100);
        let selector = json!({"matchLabels": {"app": app}});
        json!({
            "labels": {"app": app}, "containers": containers(),
            "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}},
        })
    });
}

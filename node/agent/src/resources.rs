//! From requests and limits to cgroup settings, service class and readiness to be killed.
//!
//! Source: pkg/kubelet/cm/helpers_linux.go and pkg/kubelet/qos of Kubernetes v1.36.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;

use crate::ports::Resources;

const SHARES_PER_CPU: i64 = 1024;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// Microseconds per period of 100 ms and thousandth of a CPU.
const QUOTA_PER_MILLI: i64 = 100;
const MIN_QUOTA: i64 = 1000;
/// Pods with at least this priority keep the node itself going.
const NODE_CRITICAL: i32 = 2_000_001_000;
const GUARANTEED_SCORE: i32 = -997;
const BEST_EFFORT_SCORE: i32 = 1000;

/// The service class of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let mut sums = (BTreeMap::new(), BTreeMap::new());
    let mut all_limited = true;
    let own = spec.resources.as_ref().filter(|own| own.requests.is_some() || own.limits.is_some());
    let parts: Vec<&ResourceRequirements> = match own {
        Some(own) => vec![own],
        None => {
            let containers: Vec<_> = all_containers(spec).collect();
            all_limited = containers.iter().all(|container| container.resources.is_some());
            containers.into_iter().filter_map(|container| container.resources.as_ref()).collect()
        }
    };
    for part in parts {
        let mut limited = 0;
        for name in ["cpu", "memory"] {
            let request = amount(part.requests.as_ref(), name);
            let limit = amount(part.limits.as_ref(), name);
            for (sum, amount) in [(&mut sums.0, request), (&mut sums.1, limit)] {
                if !amount.is_zero() {
                    *sum.entry(name).or_insert(Quantity::ZERO) += amount;
                }
            }
            limited += usize::from(!limit.is_zero());
        }
        all_limited &= limited == 2;
    }
    let (requests, limits) = sums;
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Limits of a container's cgroup.
pub(crate) fn container(container: &Container) -> Resources {
    let (requests, limits) = parts(container.resources.as_ref());
    let (request, limit) = (amount(requests, "cpu"), amount(limits, "cpu"));
    let weight = if request.is_zero() { limit } else { request };
    Resources {
        cpu_shares: Some(shares(weight.millis())),
        cpu_quota: quota(limit.millis()),
        memory_limit: positive(amount(limits, "memory").units()),
        pids_limit: None,
    }
}

/// Limits of a pod's cgroup.
pub(crate) fn pod(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let class = qos(pod);
    if class == "BestEffort" {
        return Resources { cpu_shares: Some(shares(0)), ..Resources::default() };
    }
    let limit = |name: &str| {
        let own = spec.resources.as_ref().and_then(|own| own.limits.as_ref()).map(|limits| amount(Some(limits), name));
        if let Some(own) = own.filter(|own| !own.is_zero()) {
            return Some(own);
        }
        let of = |container: &Container| amount(parts(container.resources.as_ref()).1, name);
        // One container without a limit may use what it likes, and so may its pod.
        let all_limited = all_containers(spec).all(|container| !of(container).is_zero());
        all_limited.then(|| total(spec, of) + overhead(spec, name))
    };
    let own =
        spec.resources.as_ref().and_then(|own| own.requests.as_ref()).map(|requests| amount(Some(requests), "cpu"));
    let request = own.filter(|own| !own.is_zero()).unwrap_or_else(|| {
        total(spec, |container| amount(parts(container.resources.as_ref()).0, "cpu")) + overhead(spec, "cpu")
    });
    Resources {
        cpu_shares: Some(shares(request.millis())),
        cpu_quota: limit("cpu").and_then(|limit| quota(limit.millis())),
        memory_limit: limit("memory").and_then(|limit| positive(limit.units())),
        pids_limit: None,
    }
}

/// How willingly the kernel kills a container when memory runs out: the less it requested, the sooner.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= NODE_CRITICAL);
    match qos(pod) {
        _ if critical => GUARANTEED_SCORE,
        "Guaranteed" => GUARANTEED_SCORE,
        "BestEffort" => BEST_EFFORT_SCORE,
        _ => {
            let request = i128::from(amount(parts(container.resources.as_ref()).0, "memory").units());
            let share = 1000 * request / i128::from(memory_capacity.max(1));
            // Never as safe as a guaranteed pod, never as doomed as one that promised nothing.
            i32::try_from(1000 - share).unwrap_or(0).clamp(BEST_EFFORT_SCORE + GUARANTEED_SCORE, BEST_EFFORT_SCORE - 1)
        }
    }
}

/// The sum of what runs at one time, or what the hungriest init container takes, whichever is more.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Quantity) -> Quantity {
    let mut sidecars = Quantity::ZERO;
    let mut most = Quantity::ZERO;
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars += of(container);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + of(container));
        }
    }
    let main: Quantity = spec.containers.iter().map(of).sum();
    most.max(main + sidecars)
}

/// Whether an init container keeps running beside the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

type Amounts = BTreeMap<String, Text>;

fn parts(resources: Option<&ResourceRequirements>) -> (Option<&Amounts>, Option<&Amounts>) {
    resources.map_or((None, None), |resources| (resources.requests.as_ref(), resources.limits.as_ref()))
}

/// An amount; nothing if it is not there. The API server has checked that it can be read.
pub(crate) fn amount(amounts: Option<&Amounts>, name: &str) -> Quantity {
    amounts.and_then(|amounts| amounts.get(name)).and_then(|text| Quantity::of(text).ok()).unwrap_or(Quantity::ZERO)
}

fn overhead(spec: &PodSpec, name: &str) -> Quantity {
    amount(spec.overhead.as_ref(), name)
}

fn shares(millis: i64) -> u64 {
    (millis.saturating_mul(SHARES_PER_CPU) / 1000).clamp(MIN_SHARES, MAX_SHARES).unsigned_abs()
}

fn quota(millis: i64) -> Option<i64> {
    positive(millis).map(|millis| millis.saturating_mul(QUOTA_PER_MILLI).max(MIN_QUOTA))
}

fn positive(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(spec: Value, expect: &Expect) {
        let given: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let mut lines = format!("{} {}\n", qos(&given), show(pod(&given)));
        for one in all_containers(given.spec.as_ref().expect("a spec")) {
            let score = oom_score_adj(&given, one, 1 << 30);
            lines += &format!("{} {} oom={score}\n", one.name, show(container(one)));
        }
        expect.assert_eq(&lines);
    }

    fn show(resources: Resources) -> String {
        let Resources { cpu_shares, cpu_quota, memory_limit, .. } = resources;
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let shares = cpu_shares.map_or("-".to_owned(), |shares| shares.to_string());
        format!("shares={shares} quota={} memory={}", number(cpu_quota), number(memory_limit))
    }

    fn named(name: &str, requests: Value, limits: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn nothing_asked() {
        check(
            json!({"containers": [{"name": "a"}]}),
            &expect![[r"
            BestEffort shares=2 quota=- memory=-
            a shares=2 quota=- memory=- oom=1000
        "]],
        );
    }

    #[test]
    fn requests_that_equal_limits() {
        let amounts = json!({"cpu": "500m", "memory": "64Mi"});
        let spec =
            json!({"containers": [named("a", amounts.clone(), amounts.clone()), named("b", amounts.clone(), amounts)]});
        check(
            spec,
            &expect![[r"
            Guaranteed shares=1024 quota=100000 memory=134217728
            a shares=512 quota=50000 memory=67108864 oom=-997
            b shares=512 quota=50000 memory=67108864 oom=-997
        "]],
        );
    }

    #[test]
    fn one_without_limits_frees_the_pod() {
        let a = named("a", json!({"cpu": "100m", "memory": "512Mi"}), json!({"cpu": "1", "memory": "1Gi"}));
        check(
            json!({"containers": [a, {"name": "b"}]}),
            &expect![[r"
            Burstable shares=102 quota=- memory=-
            a shares=102 quota=100000 memory=1073741824 oom=500
            b shares=2 quota=- memory=- oom=999
        "]],
        );
    }

    #[test]
    fn init_containers_and_sidecars() {
        let amounts = |cpu: &str| json!({"cpu": cpu, "memory": "10Mi"});
        let mut sidecar = named("side", amounts("100m"), amounts("100m"));
        sidecar["restartPolicy"] = "Always".into();
        let init = named("init", amounts("1"), amounts("1"));
        let main = named("main", amounts("5m"), amounts("5m"));
        check(
            json!({"initContainers": [sidecar, init], "containers": [main]}),
            &expect![[r"
            Guaranteed shares=1126 quota=110000 memory=20971520
            side shares=102 quota=10000 memory=10485760 oom=-997
            init shares=1024 quota=100000 memory=10485760 oom=-997
            main shares=5 quota=1000 memory=10485760 oom=-997
        "]],
        );
    }

    #[test]
    fn a_critical_pod_is_spared() {
        check(
            json!({"priority": 2_000_001_000, "containers": [{"name": "a"}]}),
            &expect![[r"
            BestEffort shares=2 quota=- memory=-
            a shares=2 quota=- memory=- oom=-997
        "]],
        );
    }
}

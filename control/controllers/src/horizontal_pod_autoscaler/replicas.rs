//! From what pods use to how many there should be: pure.
//!
//! Spec: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>
//! Invariant: pods of which nothing is known never make the answer bolder, only more careful.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_api::api::core::v1::Pod;
use corten_api::quantity::Quantity;
use corten_base::Timestamp;
use kube::ResourceExt;

use crate::pods::phase;

/// The processor's load of a pod that starts says nothing, for so long.
const INITIALIZATION: Duration = Duration::from_secs(300);
/// A pod that became unready so soon after its start has never been ready.
const INITIAL_READINESS: Duration = Duration::from_secs(30);

/// What a pod used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Thousandths.
    pub(super) value: i64,
    /// Until when it was measured, and over which time.
    pub(super) at: Timestamp,
    pub(super) window: Duration,
}

/// By pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far from its target a ratio may be that calls for nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerance {
    fn holds(self, ratio: f64) -> bool {
        ratio >= 1.0 - self.down && ratio <= 1.0 + self.up
    }
}

/// What a metric is held against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Percent of what pods request.
    Utilization(i64),
    /// So much a pod, in thousandths.
    Average(i64),
}

/// What one metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// Percent of the requests, if it is held against them.
    pub(super) utilization: Option<i64>,
    /// Thousandths a pod.
    pub(super) average: i64,
}

/// What a metric is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// `cpu`, `memory`, or nothing for what pods tell themselves.
    pub(super) resource: &'a str,
    /// One container alone.
    pub(super) container: Option<&'a str>,
}

/// How many pods a metric of the pods themselves calls for.
pub(super) fn of_pods(
    current: i32,
    pods: &[&Pod],
    mut samples: Samples,
    about: About<'_>,
    (target, tolerance): (Target, Tolerance),
    now: Timestamp,
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = Groups::of(pods, &samples, about.resource == "cpu", now);
    samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let mut values: BTreeMap<String, i64> = samples.into_iter().map(|(pod, sample)| (pod, sample.value)).collect();
    let requests = match target {
        Target::Utilization(_) => requests(pods, about)?,
        Target::Average(_) => BTreeMap::new(),
    };
    let (ratio, utilization, average) = usage(&values, &requests, target)?;
    let proposal = |replicas| Proposal { replicas, utilization, average };
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if tolerance.holds(ratio) {
            return Ok(proposal(current));
        }
        return Ok(proposal(ceil(ratio * groups.ready)));
    }
    for pod in &groups.missing {
        let careful = match target {
            // Less is called for: they are taken to need all that they may have.
            Target::Utilization(percent) if ratio < 1.0 => {
                requests.get(pod).copied().unwrap_or(0) * percent.max(100) / 100
            }
            Target::Average(value) if ratio < 1.0 => value,
            _ => 0,
        };
        values.insert(pod.clone(), careful);
    }
    if up_with_unready {
        values.extend(groups.unready.iter().map(|pod| (pod.clone(), 0)));
    }
    let (careful, ..) = usage(&values, &requests, target)?;
    // Whatever only those make of it of whom nothing is known is no reason to act.
    if tolerance.holds(careful) || (ratio < 1.0 && careful > 1.0) || (ratio > 1.0 && careful < 1.0) {
        return Ok(proposal(current));
    }
    let replicas = ceil(careful * count(values.len()));
    let turned = (careful < 1.0 && replicas > current) || (careful > 1.0 && replicas < current);
    Ok(proposal(if turned { current } else { replicas }))
}

/// How many pods the value of something else calls for: one value for all, in thousandths.
pub(super) fn of_value(current: i32, ready: usize, value: i64, target: i64, tolerance: Tolerance) -> Proposal {
    let ratio = divide(value, target);
    let replicas = if current == 0 {
        ceil(ratio)
    } else if tolerance.holds(ratio) {
        current
    } else {
        ceil(ratio * count(ready))
    };
    Proposal { replicas, utilization: None, average: value }
}

/// How many pods share the value of something else, so much for each; `known` is how many there are.
pub(super) fn of_share(known: i32, value: i64, target: i64, tolerance: Tolerance) -> Proposal {
    let ratio = if known == 0 { f64::INFINITY } else { divide(value, target) / f64::from(known) };
    let replicas = if tolerance.holds(ratio) { known } else { ceil(divide(value, target)) };
    let average = if known == 0 { 0 } else { value.div_ceil_by(i64::from(known)) };
    Proposal { replicas, utilization: None, average }
}

/// Division that rounds up, for what is not negative.
trait DivCeil {
    fn div_ceil_by(self, by: Self) -> Self;
}

impl DivCeil for i64 {
    fn div_ceil_by(self, by: Self) -> Self {
        (self + by - 1).checked_div(by).unwrap_or(0)
    }
}

/// How many pods are ready.
pub(super) fn ready(pods: &[&Pod]) -> usize {
    let is_ready = |pod: &&&Pod| phase(pod) == "Running" && crate::pods::is_ready(pod);
    pods.iter().filter(is_ready).count()
}

/// Pods by what is known of them.
#[derive(Debug, Default)]
struct Groups {
    ready: f64,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

impl Groups {
    fn of(pods: &[&Pod], samples: &Samples, cpu: bool, now: Timestamp) -> Self {
        let mut groups = Self::default();
        for pod in pods {
            let name = pod.name_any();
            if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
                groups.ignored.push(name);
            } else if phase(pod) == "Pending" {
                groups.unready.push(name);
            } else if let Some(sample) = samples.get(&name) {
                if cpu && starts(pod, *sample, now) {
                    groups.unready.push(name);
                } else {
                    groups.ready += 1.0;
                }
            } else {
                groups.missing.push(name);
            }
        }
        groups
    }
}

/// Whether what a pod uses of the processor is still the effort of its start.
fn starts(pod: &Pod, sample: Sample, now: Timestamp) -> bool {
    let Some(status) = &pod.status else { return true };
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let (Some(condition), Some(start)) = (condition, &status.start_time) else { return true };
    let Some(since) = condition.last_transition_time.as_ref().map(|time| time.0) else { return true };
    if start.0 + INITIALIZATION > now {
        // Measured, at least in part, before it was ready.
        condition.status == "False" || sample.at < since + sample.window
    } else {
        condition.status == "False" && start.0 + INITIAL_READINESS > since
    }
}

/// What each pod requests, in thousandths.
fn requests(pods: &[&Pod], about: About<'_>) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let sidecar =
            |container: &&corten_api::api::core::v1::Container| container.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
        let mut sum = 0_i64;
        for container in spec.containers.iter().chain(sidecars) {
            if about.container.is_some_and(|name| name != container.name) {
                continue;
            }
            let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let amount = requests.and_then(|requests| requests.get(about.resource));
            let amount = amount.and_then(|amount| Quantity::of(amount).ok()).ok_or_else(|| {
                let (resource, name) = (about.resource, pod.name_any());
                format!("missing request for {resource} in container {} of Pod {name}", container.name)
            })?;
            sum = sum.saturating_add(amount.millis());
        }
        all.insert(pod.name_any(), sum);
    }
    Ok(all)
}

/// How far the use is from its target, in percent of the requests, and on average.
fn usage(
    values: &BTreeMap<String, i64>,
    requests: &BTreeMap<String, i64>,
    target: Target,
) -> Result<(f64, Option<i64>, i64), String> {
    let mean = |total: i64, count: usize| total / i64::try_from(count).unwrap_or(i64::MAX).max(1);
    match target {
        Target::Average(target) => {
            let average = mean(values.values().copied().fold(0, i64::saturating_add), values.len());
            Ok((divide(average, target), None, average))
        }
        Target::Utilization(target) => {
            let known: Vec<(i64, i64)> =
                values.iter().filter_map(|(pod, value)| Some((*value, *requests.get(pod)?))).collect();
            let total = known.iter().fold(0_i64, |sum, (value, _)| sum.saturating_add(*value));
            let requested = known.iter().fold(0_i64, |sum, (_, request)| sum.saturating_add(*request));
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = i64::try_from(i128::from(total) * 100 / i128::from(requested)).unwrap_or(i64::MAX);
            Ok((divide(percent, target), Some(percent), mean(total, known.len())))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "ratios need no more than a float has")]
fn divide(value: i64, by: i64) -> f64 {
    value as f64 / by as f64
}

#[expect(clippy::cast_precision_loss, reason = "nobody has so many pods")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Rounded up; what is no number counts as nothing.
#[expect(clippy::cast_possible_truncation, reason = "it is kept within the range first")]
pub(super) fn ceil(number: f64) -> i32 {
    if number.is_nan() { 0 } else { number.ceil().clamp(0.0, f64::from(i32::MAX)) as i32 }
}

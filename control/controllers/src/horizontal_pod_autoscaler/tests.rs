//! Loads in tables: what is measured, and what is then wanted.

use std::time::Duration;

use corten_api::api::autoscaling::v2::HorizontalPodAutoscaler;
use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use expect_test::expect;
use serde_json::{Value, json};

use super::behavior::{History, limit};
use super::plan::{Failure, Reading, plan};
use super::replicas::{About, Sample, Samples, Target, Tolerance, of_pods, of_share, of_value};

const NOW: &str = "2026-01-01T12:00:00Z";
const TOLERANCE: Tolerance = Tolerance { up: 0.1, down: 0.1 };

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// Pods that request one processor each: `+` ready for long, `-` not ready since its start, `p` pending, `f` failed.
fn pods(kinds: &str) -> Vec<Pod> {
    let pod = |(index, kind): (usize, char)| {
        let phase = match kind {
            'p' => "Pending",
            'f' => "Failed",
            _ => "Running",
        };
        let (ready, start) =
            if kind == '-' { ("False", "2026-01-01T11:59:00Z") } else { ("True", "2026-01-01T10:00:00Z") };
        let object = json!({
            "metadata": {"name": format!("p{index}")},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
            "status": {"phase": phase, "startTime": start,
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": start}]},
        });
        serde_json::from_value(object).expect("a pod")
    };
    kinds.chars().enumerate().map(pod).collect()
}

/// A sample a pod, in thousandths; -1 for none.
fn samples(values: &[i64]) -> Samples {
    let sample = |(index, value): (usize, &i64)| {
        let sample = Sample { value: *value, at: now(), window: Duration::from_secs(30) };
        (*value >= 0).then(|| (format!("p{index}"), sample))
    };
    values.iter().enumerate().filter_map(sample).collect()
}

fn wanted(current: i32, kinds: &str, values: &[i64], target: Target) -> String {
    let pods = pods(kinds);
    let pods: Vec<&Pod> = pods.iter().collect();
    let about = About { resource: "cpu", container: None };
    match of_pods(current, &pods, samples(values), about, (target, TOLERANCE), now()) {
        Ok(proposal) => match proposal.utilization {
            Some(percent) => format!("{} at {percent}%", proposal.replicas),
            None => format!("{} at {}", proposal.replicas, proposal.average),
        },
        Err(why) => why,
    }
}

#[test]
fn load_calls_for_pods() {
    let half = Target::Utilization(50);
    let rows = [
        ("just right", wanted(2, "++", &[500, 500], half)),
        ("within tolerance", wanted(2, "++", &[540, 540], half)),
        ("twice as much", wanted(2, "++", &[1000, 1000], half)),
        ("half as much", wanted(4, "++++", &[250, 250, 250, 250], half)),
        ("a little more is rounded up", wanted(3, "+++", &[600, 600, 600], half)),
        ("pods that start are left out of less", wanted(3, "++-", &[100, 100, 900], half)),
        ("pods that start count as idle when more is called for", wanted(3, "++-", &[1000, 1000, 1000], half)),
        ("which may make it right as it is", wanted(4, "++--", &[900, 900, -1, -1], half)),
        ("unknown pods count as busy when less is called for", wanted(3, "+++", &[100, 100, -1], half)),
        ("unknown pods count as idle when more is called for", wanted(3, "+++", &[1000, 1000, -1], half)),
        ("pending pods count as idle", wanted(3, "++p", &[1000, 1000, -1], half)),
        ("failed pods do not count", wanted(2, "++f", &[1000, 1000, 9000], half)),
        ("nothing is known", wanted(2, "++", &[-1, -1], half)),
        ("there are no pods", wanted(2, "", &[], half)),
        ("by average value", wanted(2, "++", &[600, 1000], Target::Average(400))),
        ("by average value, one unknown", wanted(2, "++", &[100, -1], Target::Average(400))),
    ];
    let text: Vec<String> = rows.iter().map(|(name, said)| format!("{name}: {said}")).collect();
    expect![[r#"
        just right: 2 at 50%
        within tolerance: 2 at 54%
        twice as much: 4 at 100%
        half as much: 2 at 25%
        a little more is rounded up: 4 at 60%
        pods that start are left out of less: 1 at 10%
        pods that start count as idle when more is called for: 4 at 100%
        which may make it right as it is: 4 at 90%
        unknown pods count as busy when less is called for: 3 at 10%
        unknown pods count as idle when more is called for: 4 at 100%
        pending pods count as idle: 4 at 100%
        failed pods do not count: 4 at 100%
        nothing is known: did not receive metrics for targeted pods (pods might be unready)
        there are no pods: no pods returned by selector while calculating replica count
        by average value: 4 at 800
        by average value, one unknown: 2 at 100"#]]
    .assert_eq(&text.join("\n"));
}

#[test]
fn a_pod_without_a_request_has_no_utilization() {
    let mut all = pods("++");
    all[1].spec.as_mut().expect("a spec").containers[0].resources = None;
    let all: Vec<&Pod> = all.iter().collect();
    let about = About { resource: "cpu", container: None };
    let error = of_pods(2, &all, samples(&[1, 1]), about, (Target::Utilization(50), TOLERANCE), now());
    assert_eq!(error, Err("missing request for cpu in container c of Pod p1".to_owned()));
}

#[test]
fn one_value_for_all_and_one_for_each() {
    let value = |current, ready, value, target| of_value(current, ready, value, target, TOLERANCE).replicas;
    assert_eq!(
        [value(2, 2, 200, 100), value(2, 2, 105, 100), value(4, 4, 50, 100), value(0, 0, 250, 100)],
        [4, 2, 2, 3]
    );
    let share = |there, value, target| of_share(there, value, target, TOLERANCE);
    assert_eq!([share(2, 400, 100).replicas, share(4, 400, 100).replicas, share(0, 250, 100).replicas], [4, 4, 3]);
    assert_eq!(share(3, 400, 100).average, 134);
}

fn autoscaler(spec: Value) -> HorizontalPodAutoscaler {
    let mut object = json!({"metadata": {"name": "web", "generation": 1}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 10,
    }});
    for (field, value) in spec.as_object().expect("fields") {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).expect("an autoscaler")
}

#[test]
fn changes_are_as_fast_as_they_may_be() {
    let ago = |seconds: u64| now() - Duration::from_secs(seconds);
    let look = |spec: Value, current, desired, history: &History| {
        let limited = limit(&autoscaler(spec).spec, current, desired, history, now());
        let (is, reason, _) = limited.limited;
        format!("{} {} {}", limited.replicas, limited.able.0, if is { reason } else { "" })
    };
    let history = |recommendations: &[(u64, i32)], ups: &[(u64, i32)], downs: &[(u64, i32)]| {
        let list = |all: &[(u64, i32)]| all.iter().map(|(seconds, number)| (ago(*seconds), *number)).collect();
        History { recommendations: list(recommendations), ups: list(ups), downs: list(downs) }
    };
    let none = History::default();
    let up = |rules: Value| json!({"behavior": {"scaleUp": rules}, "maxReplicas": 100});
    let down = |rules: Value| json!({"behavior": {"scaleDown": rules}, "maxReplicas": 100});
    let one_a_minute = || json!([{"type": "Pods", "value": 1, "periodSeconds": 60}]);
    let no_window = || json!({"stabilizationWindowSeconds": 0, "policies": one_a_minute()});
    let rows = [
        ("up", look(json!({}), 2, 4, &none)),
        ("four at once at least", look(json!({}), 1, 9, &none)),
        ("twice as many at most", look(json!({"maxReplicas": 100}), 20, 90, &none)),
        ("no more than the maximum", look(json!({}), 8, 20, &none)),
        ("what was added counts", look(json!({"maxReplicas": 100}), 20, 90, &history(&[], &[(5, 10)], &[]))),
        (
            "what was added long ago does not",
            look(json!({"maxReplicas": 100}), 20, 90, &history(&[], &[(16, 10)], &[])),
        ),
        ("down waits", look(json!({}), 8, 2, &history(&[(200, 6)], &[], &[]))),
        ("down after five minutes", look(json!({}), 8, 2, &history(&[(301, 6)], &[], &[]))),
        ("no less than the minimum", look(json!({"minReplicas": 3}), 8, 2, &none)),
        (
            "up waits if it is to",
            look(up(json!({"stabilizationWindowSeconds": 60})), 2, 6, &history(&[(30, 3)], &[], &[])),
        ),
        ("one a minute up", look(up(json!({"policies": one_a_minute()})), 5, 9, &none)),
        (
            "one a minute, and one was",
            look(up(json!({"policies": one_a_minute()})), 5, 9, &history(&[], &[(30, 1)], &[])),
        ),
        ("one a minute down", look(down(no_window()), 5, 1, &none)),
        ("one a minute down, and one was", look(down(no_window()), 5, 1, &history(&[], &[], &[(30, 1)]))),
        ("never up", look(up(json!({"selectPolicy": "Disabled"})), 5, 9, &none)),
        ("never down", look(down(json!({"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0})), 5, 1, &none)),
        ("the least of two", look(up(json!({"selectPolicy": "Min"})), 20, 90, &none)),
        ("as it is", look(json!({}), 5, 5, &none)),
    ];
    let text: Vec<String> = rows.iter().map(|(name, said)| format!("{name}: {said}")).collect();
    expect![[r#"
        up: 4 ReadyForNewScale 
        four at once at least: 5 ReadyForNewScale ScaleUpLimit
        twice as many at most: 40 ReadyForNewScale ScaleUpLimit
        no more than the maximum: 10 ReadyForNewScale TooManyReplicas
        what was added counts: 20 ReadyForNewScale ScaleUpLimit
        what was added long ago does not: 40 ReadyForNewScale ScaleUpLimit
        down waits: 6 ScaleDownStabilized 
        down after five minutes: 2 ReadyForNewScale 
        no less than the minimum: 3 ReadyForNewScale TooFewReplicas
        up waits if it is to: 3 ScaleUpStabilized 
        one a minute up: 6 ReadyForNewScale ScaleUpLimit
        one a minute, and one was: 5 ReadyForNewScale ScaleUpLimit
        one a minute down: 4 ReadyForNewScale ScaleDownLimit
        one a minute down, and one was: 5 ReadyForNewScale ScaleDownLimit
        never up: 5 ReadyForNewScale ScaleUpLimit
        never down: 5 ReadyForNewScale ScaleDownLimit
        the least of two: 24 ReadyForNewScale ScaleUpLimit
        as it is: 5 ReadyForNewScale "#]]
    .assert_eq(&text.join("\n"));
}

#[test]
fn an_autoscaler_says_what_it_does() {
    let reading = |name: &str, replicas| Ok(Reading { replicas, name: name.to_owned(), status: Default::default() });
    let silent = || Err(Failure { reason: "FailedGetResourceMetric", message: "no metrics".to_owned() });
    let look = |spec: Value, current, readings: &[Result<Reading, Failure>]| {
        let plan = plan(&autoscaler(spec), current, readings, &mut History::default(), now());
        let conditions = plan.status.conditions.unwrap_or_default();
        let said = conditions
            .iter()
            .map(|own| format!("{}={}/{}", own.type_, own.status, own.reason.clone().unwrap_or_default()));
        let scale = plan.scale.map_or("-".to_owned(), |(replicas, why)| format!("{replicas} ({why})"));
        let trouble: Vec<&str> = plan.trouble.iter().map(|(reason, _)| *reason).collect();
        format!("{scale} {} {}", said.collect::<Vec<_>>().join(" "), trouble.join(" "))
    };
    let rows = [
        ("most of two", look(json!({}), 2, &[reading("cpu", 3), reading("memory", 4)])),
        ("less", look(json!({}), 4, &[reading("cpu", 2), reading("memory", 3)])),
        ("right", look(json!({}), 4, &[reading("cpu", 4)])),
        ("one silent, more", look(json!({}), 2, &[silent(), reading("memory", 4)])),
        ("one silent, less", look(json!({}), 4, &[silent(), reading("memory", 2)])),
        ("all silent", look(json!({}), 4, &[silent()])),
        ("too many", look(json!({}), 12, &[])),
        ("too few", look(json!({"minReplicas": 3}), 2, &[])),
        ("switched off", look(json!({}), 0, &[])),
    ];
    let text: Vec<String> = rows.iter().map(|(name, said)| format!("{name}: {said}")).collect();
    expect![[r#"
        most of two: 4 (memory above target) AbleToScale=True/SucceededRescale ScalingActive=True/ValidMetricFound ScalingLimited=False/DesiredWithinRange 
        less: 3 (All metrics below target) AbleToScale=True/SucceededRescale ScalingActive=True/ValidMetricFound ScalingLimited=False/DesiredWithinRange 
        right: - AbleToScale=True/ReadyForNewScale ScalingActive=True/ValidMetricFound ScalingLimited=False/DesiredWithinRange 
        one silent, more: 4 (memory above target) AbleToScale=True/SucceededRescale ScalingActive=True/ValidMetricFound ScalingLimited=False/DesiredWithinRange 
        one silent, less: - AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetResourceMetric FailedGetResourceMetric FailedComputeMetricsReplicas
        all silent: - AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetResourceMetric FailedGetResourceMetric FailedComputeMetricsReplicas
        too many: 10 (Current number of replicas above Spec.MaxReplicas) AbleToScale=True/SucceededRescale 
        too few: 3 (Current number of replicas below Spec.MinReplicas) AbleToScale=True/SucceededRescale 
        switched off: - AbleToScale=True/SucceededGetScale ScalingActive=False/ScalingDisabled "#]]
    .assert_eq(&text.join("\n"));
}

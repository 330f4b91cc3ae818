//! What is planned for jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::api::batch::v1::Job;
use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::backoff::Backoff;
use super::members::{FINALIZER, INDEX};
use super::plan::{Plan, plan};
use super::{finished, template};

fn time(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    Timestamp::from_second(start.as_second() + seconds).expect("a time")
}

/// A job that has run for a while; `spec` is merged into its defaults.
fn job(spec: Value, status: Value) -> Job {
    let mut object = json!({
        "metadata": {"name": "work", "namespace": "a", "uid": "job", "generation": 1},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed", "selector": {"matchLabels": {"job": "work"}},
            "template": {"metadata": {"labels": {"job": "work"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}},
        },
        "status": {"startTime": time(0), "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}},
    });
    corten_api::patch::merge_patch(&mut object["spec"], &spec);
    corten_api::patch::merge_patch(&mut object["status"], &status);
    serde_json::from_value(object).expect("a job")
}

fn indexed(completions: i32, spec: Value) -> Value {
    let mut whole = json!({"completionMode": "Indexed", "completions": completions, "parallelism": completions});
    corten_api::patch::merge_patch(&mut whole, &spec);
    whole
}

/// A pod in few words, such as `a Failed index=2 deleted`: its name, its phase and what is special about it. It is held
/// unless it is `free`.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let phase = words.next().unwrap_or_default();
    let mut object = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"job": "work"}, "finalizers": [FINALIZER],
            "creationTimestamp": time(0), "annotations": {}},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": if phase == "Running" { "True" } else { "False" }, "lastTransitionTime": time(10)}]},
    });
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "free" => object["metadata"]["finalizers"] = json!([]),
            "deleted" => object["metadata"]["deletionTimestamp"] = json!(time(10)),
            "index" => object["metadata"]["annotations"][INDEX] = value.into(),
            "failures" => {
                object["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] = value.into();
            }
            "exit" => {
                let code: i32 = value.parse().expect("a code");
                object["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": time(10)}}}]);
            }
            "restarts" => {
                let restarts: i32 = value.parse().expect("a count");
                object["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": restarts, "state": {}}]);
            }
            "disrupted" => {
                let condition = json!({"type": "DisruptionTarget", "status": "True"});
                object["status"]["conditions"].as_array_mut().expect("conditions").push(condition);
            }
            other => panic!("what is {other}?"),
        }
    }
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

fn show(plan: &Plan) -> String {
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(",");
    let mut parts = Vec::new();
    if !plan.delete.is_empty() {
        parts.push(format!("delete {}", names(&plan.delete)));
    }
    if !plan.create.is_empty() {
        let each = plan.create.iter().map(|own| match (own.index, own.failures) {
            (None, _) => "any".to_owned(),
            (Some(index), None) => index.to_string(),
            (Some(index), Some((failures, ignored))) => format!("{index}({failures}/{ignored})"),
        });
        parts.push(format!("create {}", each.collect::<Vec<_>>().join(",")));
    }
    if let Some(status) = &plan.status {
        let mut value = serde_json::to_value(status).expect("a status");
        let mut text = String::new();
        for (field, short) in [
            ("active", "active"),
            ("terminating", "terminating"),
            ("succeeded", "succeeded"),
            ("failed", "failed"),
            ("completedIndexes", "done"),
            ("failedIndexes", "lost"),
        ] {
            let number = value[field].take();
            if !number.is_null() && number != 0 && number != "" {
                text += &format!(" {short}={}", number.to_string().replace('"', ""));
            }
        }
        let uncounted = &value["uncountedTerminatedPods"];
        for (field, sign) in [("succeeded", '+'), ("failed", '-')] {
            for uid in uncounted[field].as_array().into_iter().flatten() {
                text += &format!(" {sign}{}", uid.as_str().unwrap_or_default());
            }
        }
        for condition in value["conditions"].as_array().into_iter().flatten().filter(|own| own["status"] == "True") {
            let text_of = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            text += &format!(" {}({})", text_of("type"), text_of("reason"));
        }
        parts.push(format!("status{text}"));
    }
    if !plan.let_go.is_empty() {
        parts.push(format!("let go {}", names(&plan.let_go)));
    }
    parts.extend(plan.events.iter().map(|event| format!("event {}", event.reason)));
    if let Some(again) = plan.again {
        parts.push(format!("again {}s", again.as_secs()));
    }
    parts.join("; ")
}

fn planned(spec: Value, status: Value, pods: &[&str], seconds: i64) -> String {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|text| pod(text)).collect();
    show(&plan(&job(spec, status), &pods, None, time(seconds)))
}

#[test]
fn pods_are_made_as_they_are_needed() {
    let four = json!({"completions": 4, "parallelism": 2});
    let queue = json!({"completions": null, "parallelism": 3});
    let lines = [
        planned(json!({}), json!({"startTime": null}), &[], 0),
        planned(four.clone(), json!({}), &[], 0),
        planned(four.clone(), json!({"active": 1, "ready": 1}), &["a Running"], 0),
        planned(
            four.clone(),
            json!({"succeeded": 3}),
            &["a Succeeded free", "b Succeeded free", "c Succeeded free"],
            0,
        ),
        planned(json!({"parallelism": 1}), json!({"active": 2, "ready": 1}), &["a Running", "b Pending"], 0),
        planned(queue.clone(), json!({}), &[], 0),
        planned(queue.clone(), json!({"active": 3}), &["a Running", "b Succeeded", "c Running"], 0),
        planned(queue, json!({"succeeded": 1}), &["b Succeeded free"], 0),
        planned(json!({"completions": 0}), json!({}), &[], 0),
        planned(json!({"parallelism": 0}), json!({}), &[], 0),
    ];
    expect_test::expect![[r#"
        create any; status active=1
        create any,any; status active=2
        create any; status active=2
        create any; status active=1 succeeded=3
        delete b; status active=1 terminating=1
        create any,any,any; status active=3
        status active=2 +b; let go b
        status succeeded=1 SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached); event Completed
        status SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached); event Completed
    "#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn every_end_is_written_down_before_it_is_counted() {
    let two = json!({"completions": 2, "parallelism": 2});
    let lines = [
        planned(two.clone(), json!({"active": 2}), &["a Succeeded", "b Running"], 60),
        planned(
            two.clone(),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}),
            &["a Succeeded", "b Running"],
            60,
        ),
        planned(
            two.clone(),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}),
            &["a Succeeded free", "b Running"],
            60,
        ),
        planned(two.clone(), json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}), &["b Running"], 60),
        planned(two.clone(), json!({"active": 1}), &["a Succeeded", "b Succeeded"], 60),
        planned(
            two.clone(),
            json!({"uncountedTerminatedPods": {"succeeded": ["a", "b"]},
                "conditions": [{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}]}),
            &["a Succeeded free", "b Succeeded free"],
            60,
        ),
        planned(two, json!({"uncountedTerminatedPods": {"failed": ["a"]}}), &["a Succeeded deleted", "b Running"], 60),
    ];
    expect_test::expect![[r#"
        status active=1 +a; let go a
        status active=1 +a; let go a
        status active=1 succeeded=1
        status active=1 succeeded=1
        status +a +b SuccessCriteriaMet(CompletionsReached); let go a,b
        status succeeded=2 SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached); event Completed
        create any; status active=2 -a; let go a"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn failures_are_retried_later_each_time_until_they_are_too_many() {
    let lines = [
        planned(json!({}), json!({"active": 1}), &["a Failed"], 12),
        planned(json!({}), json!({"failed": 1}), &["a Failed free"], 20),
        planned(json!({}), json!({"failed": 2}), &["a Failed free", "b Failed free"], 20),
        planned(json!({"backoffLimit": 1}), json!({"failed": 1}), &["a Failed free", "b Failed"], 20),
        planned(
            json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}),
            json!({}),
            &["a Failed", "b Running"],
            20,
        ),
        planned(
            json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}),
            json!({"terminating": 1, "uncountedTerminatedPods": {"failed": ["a", "b"]},
                "conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]}),
            &["a Failed free", "b Running free deleted"],
            20,
        ),
        planned(
            json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}),
            json!({"failed": 2, "conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]}),
            &["a Failed free"],
            20,
        ),
        planned(json!({"activeDeadlineSeconds": 30}), json!({"active": 1, "ready": 1}), &["a Running"], 20),
        planned(json!({"activeDeadlineSeconds": 30}), json!({"active": 1, "ready": 1}), &["a Running"], 30),
        planned(
            json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
            json!({}),
            &["a Running restarts=2"],
            30,
        ),
        // A pod that is lost with its node counts, unless only failed ones are replaced.
        planned(json!({}), json!({"active": 1}), &["a Running deleted"], 30),
        planned(json!({"podReplacementPolicy": "Failed"}), json!({"active": 1}), &["a Running deleted"], 30),
    ];
    expect_test::expect![[r#"
        status -a; let go a; again 8s
        create any; status active=1 failed=1
        again 10s
        status failed=1 -b FailureTarget(BackoffLimitExceeded); let go b
        delete b; status terminating=1 -a -b FailureTarget(BackoffLimitExceeded); let go a,b
        status terminating=1 failed=2 FailureTarget(BackoffLimitExceeded)
        status failed=2 FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded); event BackoffLimitExceeded
        again 10s
        delete a; status terminating=1 -a FailureTarget(DeadlineExceeded); let go a
        delete a; status terminating=1 -a FailureTarget(BackoffLimitExceeded); let go a
        create any; status active=1 terminating=1 -a; let go a
        status terminating=1"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn indexes_each_have_one_pod() {
    let lines = [
        planned(indexed(5, json!({"parallelism": 3})), json!({}), &["a Running index=1"], 30),
        planned(
            indexed(3, json!({})),
            json!({"completedIndexes": "0", "succeeded": 1}),
            &["a Succeeded index=2", "b Running index=1"],
            30,
        ),
        planned(
            indexed(2, json!({})),
            json!({}),
            &["a Running index=0", "b Pending index=0", "c Running index=1", "d Running index=7", "e Running"],
            30,
        ),
        planned(indexed(3, json!({})), json!({}), &["a Failed index=1", "b Running index=0", "c Running index=2"], 12),
        planned(indexed(2, json!({"parallelism": 2})), json!({"completedIndexes": "0-4", "succeeded": 5}), &[], 30),
    ];
    expect_test::expect![[r#"
        create 0,2; status active=3
        status active=1 succeeded=2 done=0,2; let go a
        delete e,d,b; status active=2 terminating=3
        status active=2 -a; let go a; again 8s
        status succeeded=2 done=0,1 SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached); event Completed"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn an_index_with_a_limit_of_its_own_fails_alone() {
    let limited = |limit: i32, more: Value| {
        let mut spec = indexed(3, json!({"backoffLimitPerIndex": limit, "backoffLimit": i32::MAX}));
        corten_api::patch::merge_patch(&mut spec, &more);
        spec
    };
    let others = ["b Running index=1", "c Running index=2"];
    let with = |first: &'static str| [first, others[0], others[1]];
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]}});
    let lines = [
        planned(limited(1, json!({})), json!({}), &with("a Failed index=0 failures=0"), 12),
        planned(limited(1, json!({})), json!({}), &with("a Failed index=0 failures=0"), 25),
        planned(
            limited(1, json!({})),
            json!({}),
            &["a Failed index=0 failures=0", "d Running index=0 failures=1", others[0], others[1]],
            25,
        ),
        planned(limited(1, json!({})), json!({}), &with("a Failed index=0 failures=1"), 25),
        planned(limited(1, policy.clone()), json!({}), &with("a Failed index=0 failures=0 exit=42"), 25),
        planned(limited(0, policy), json!({}), &with("a Failed index=0 failures=0 disrupted"), 25),
        planned(limited(0, json!({"maxFailedIndexes": 0})), json!({}), &with("a Failed index=0 failures=0"), 25),
        planned(
            limited(0, json!({})),
            json!({"completedIndexes": "1,2", "succeeded": 2}),
            &["a Failed index=0 failures=0"],
            25,
        ),
    ];
    expect_test::expect![[r#"
        status active=2; again 8s
        create 0(1/0); status active=3
        status active=3 -a; let go a
        status active=2 lost=0 -a; let go a
        status active=2 lost=0 -a; let go a
        create 0(0/1); status active=3
        delete b,c; status terminating=2 lost=0 -a -b -c FailureTarget(MaxFailedIndexesExceeded); let go a,b,c
        status succeeded=2 done=1,2 lost=0 -a FailureTarget(FailedIndexes); let go a"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn policies_end_a_job_early() {
    let fail = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]}, "parallelism": 2, "completions": 2});
    let enough = json!({"successPolicy": {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}});
    let lines = [
        planned(fail.clone(), json!({}), &["a Failed exit=42", "b Running"], 25),
        planned(fail.clone(), json!({}), &["a Failed exit=1", "b Running"], 25),
        planned(fail, json!({}), &["a Failed exit=1 disrupted", "b Running"], 25),
        planned(
            indexed(3, enough.clone()),
            json!({}),
            &["a Running index=0", "b Succeeded index=1", "c Running index=2"],
            25,
        ),
        planned(indexed(3, enough), json!({}), &["a Running index=0", "b Running index=1", "c Succeeded index=2"], 25),
    ];
    expect_test::expect![[r#"
        delete b; status terminating=1 -a -b FailureTarget(PodFailurePolicy); let go a,b
        create any; status active=2 -a; let go a
        create any; status active=2; let go a
        status active=2 succeeded=1 done=1; let go b
        delete a,b; status terminating=2 succeeded=1 done=2 SuccessCriteriaMet(SuccessPolicy); let go a,b,c"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_job_can_be_suspended_and_goes_on_with_its_whole_time() {
    let suspended = json!([{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]);
    let stopped = job(json!({"suspend": true}), json!({}));
    let now = plan(&stopped, &[pod("a Running")], None, time(60));
    assert_eq!(now.status.as_ref().and_then(|status| status.start_time.clone()), None);
    let resumed = job(json!({"activeDeadlineSeconds": 30}), json!({"conditions": suspended, "startTime": null}));
    let later = plan(&resumed, &[], None, time(90));
    assert_eq!(
        later.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|start| start.0),
        Some(time(90))
    );
    let lines = [
        show(&now),
        show(&later),
        planned(json!({"suspend": true}), json!({"startTime": null}), &[], 0),
        planned(
            json!({"suspend": true, "activeDeadlineSeconds": 1}),
            json!({"startTime": null, "conditions": suspended}),
            &[],
            99,
        ),
    ];
    expect_test::expect![[r#"
        delete a; status terminating=1 Suspended(JobSuspended); event Suspended
        create any; status active=1; event Resumed; again 30s
        status Suspended(JobSuspended); event Suspended
    "#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn jobs_that_are_over_or_managed_by_others_are_left_alone() {
    let over = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    assert_eq!(planned(json!({}), over, &["a Running"], 20), "");
    assert_eq!(planned(json!({"managedBy": "example.com/other"}), json!({}), &["a Succeeded"], 20), "");
    let mut deleted = job(json!({"completions": 3, "parallelism": 3}), json!({"active": 1, "ready": 1}));
    deleted.metadata.deletion_timestamp = Some(corten_api::meta::Time(time(5)));
    let plan = plan(&deleted, &[pod("a Running"), pod("b Succeeded")], None, time(20));
    assert_eq!(show(&plan), "status active=1 +b; let go a,b", "nothing is made, and nothing is held");
}

#[test]
fn pods_of_an_indexed_job_know_their_index() {
    let job = job(indexed(3, json!({})), json!({}));
    let identity = template::Identity { index: Some(2), failures: Some((1, 0)) };
    let pod = template::pod(&job, job.spec.as_ref().expect("a spec"), &identity);
    let text = serde_json::to_value(&pod).expect("a pod");
    assert_eq!(text["metadata"]["generateName"], "work-2-");
    assert_eq!(text["metadata"]["labels"], json!({"job": "work", INDEX: "2"}));
    assert_eq!(
        text["metadata"]["annotations"],
        json!({INDEX: "2", "batch.kubernetes.io/job-index-failure-count": "1"})
    );
    assert_eq!(text["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(text["spec"]["hostname"], "work-2");
    let path = &text["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(path, "metadata.labels['batch.kubernetes.io/job-completion-index']");
}

/// A number from a seed, to replay a failure.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }
}

/// A job whose controller is interrupted at any point, and whose pods end as they like.
struct World {
    job: Job,
    pods: BTreeMap<String, Arc<Pod>>,
    made: u32,
    /// How the pods of the job ended, by UID; each may be counted once.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl World {
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = self.pods.get_mut(name) {
            change(Arc::make_mut(pod));
        }
        self.pods.retain(|_, pod| {
            pod.metadata.deletion_timestamp.is_none() || pod.metadata.finalizers.iter().flatten().next().is_some()
        });
    }

    /// Carries out a plan, or only its beginning.
    fn carry_out(&mut self, plan: Plan, dice: &mut Dice) {
        let stops = dice.roll(3) == 0;
        for pod in &plan.delete {
            self.change(&pod.name_any(), |pod| pod.metadata.deletion_timestamp = Some(corten_api::meta::Time(time(0))));
        }
        for identity in &plan.create {
            self.made += 1;
            let mut pod = template::pod(&self.job, self.job.spec.as_ref().expect("a spec"), identity);
            let name = format!("p{}", self.made);
            (pod.metadata.name, pod.metadata.uid) = (Some(name.clone()), Some(name.clone()));
            self.pods.insert(name, Arc::new(pod));
        }
        if stops && dice.roll(2) == 0 {
            return;
        }
        if let Some(status) = plan.status {
            let before = self.job.status.clone().unwrap_or_default();
            assert!(status.failed >= before.failed && status.succeeded >= before.succeeded, "counts only grow");
            self.job.status = Some(status);
        }
        for pod in plan.let_go {
            if stops && dice.roll(2) == 0 {
                return;
            }
            self.change(&pod.name_any(), |pod| pod.metadata.finalizers = None);
        }
    }

    /// Something happens to a pod.
    fn live(&mut self, dice: &mut Dice) {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        let Some(name) = names.get(dice.roll(names.len().max(1))).cloned() else { return };
        let ended = |pod: &Pod| crate::pods::has_ended(pod);
        let deleted = self.pods[&name].metadata.deletion_timestamp.is_some();
        match dice.roll(4) {
            0 if !ended(&self.pods[&name]) && !deleted => {
                self.succeeded.insert(name.clone());
                self.change(&name, |pod| pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned()));
            }
            1 if !ended(&self.pods[&name]) => {
                self.failed.insert(name.clone());
                self.change(&name, |pod| pod.status.get_or_insert_default().phase = Some("Failed".to_owned()));
            }
            2 if dice.roll(4) == 0 => {
                if !self.succeeded.contains(&name) {
                    self.failed.insert(name.clone());
                }
                self.change(&name, |pod| pod.metadata.deletion_timestamp = Some(corten_api::meta::Time(time(0))));
            }
            _ => {}
        }
    }
}

#[test]
fn whatever_happens_no_end_is_counted_twice_or_lost() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let completions = 1 + i32::try_from(dice.roll(5)).expect("few");
        let base = json!({"completions": completions, "parallelism": 1 + dice.roll(4), "backoffLimit": 1000});
        let spec = if dice.roll(2) == 0 { base } else { indexed(completions, base) };
        let mut world = World {
            job: job(spec.clone(), json!({})),
            pods: BTreeMap::new(),
            made: 0,
            succeeded: BTreeSet::new(),
            failed: BTreeSet::new(),
        };
        let mut steps = 0;
        while finished(&world.job).is_none() {
            let pods: Vec<Arc<Pod>> = world.pods.values().cloned().collect();
            // Long after the last failure: waits are not what is tried here.
            let plan = plan(&world.job, &pods, Some(&Backoff::default()), time(1_000_000));
            world.carry_out(plan, &mut dice);
            if dice.roll(3) > 0 {
                world.live(&mut dice);
            }
            steps += 1;
            assert!(steps < 5000, "seed {seed}: it never ends: {:?}", world.job.status);
        }
        let status = world.job.status.clone().unwrap_or_default();
        assert_eq!(status.succeeded, Some(completions), "seed {seed}");
        let succeeded = i32::try_from(world.succeeded.len()).expect("few");
        assert!(succeeded >= completions, "seed {seed}: {succeeded} ended well");
        if spec["completionMode"].is_null() {
            assert_eq!(succeeded, completions, "seed {seed}: no more than asked for");
        }
        let failed = i32::try_from(world.failed.len()).expect("few");
        assert!(status.failed.unwrap_or(0) <= failed, "seed {seed}: {:?} of {failed}", status.failed);
        let last = &world.pods.values().any(|pod| pod.metadata.finalizers.is_some());
        assert!(!last, "seed {seed}: nothing is held");
        let pods: Vec<Arc<Pod>> = world.pods.values().cloned().collect();
        assert_eq!(show(&super::plan::plan(&world.job, &pods, None, time(1_000_000))), "", "seed {seed}: it is over");
    }
}

//! Kinds that run pods, and kinds that say how many.

use serde_json::{Value, json};

use super::{create, kind, message, process};
use crate::Operation;

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

fn with_template(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": "u-1"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "template": template(),
    }});
    merge(&mut object["spec"], spec);
    object
}

fn job(spec: Value) -> Value {
    let mut object = with_template("j", json!({"selector": null}));
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    merge(&mut object["spec"], spec);
    object
}

fn cron_job(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
        "schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template()}},
    }});
    object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure".into();
    merge(&mut object["spec"], spec);
    object
}

fn autoscaler(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "h", "namespace": "default"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
    }});
    merge(&mut object["spec"], spec);
    object
}

fn budget(spec: Value) -> Value {
    json!({"metadata": {"name": "b", "namespace": "default"}, "spec": spec})
}

/// Puts the fields of one map into another; null removes.
fn merge(into: &mut Value, from: Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { return };
    for (key, value) in from {
        match value {
            Value::Null => drop(into.shift_remove(&key)),
            Value::Object(_) if into.get(&key).is_some_and(Value::is_object) => merge(&mut into[&key], value),
            value => drop(into.insert(key, value)),
        }
    }
}

#[test]
fn templates_are_warned_of_like_pods() {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let told = |name: &str, new: &Value, old: Option<&Value>| {
        let warnings = crate::Warnings::default();
        let cx = crate::WriteContext { now, claims: &super::Free, user: None, warnings: &warnings };
        let operation = old.map_or(Operation::Create, |old| Operation::Update { old });
        let made = kind(name).process(new.clone(), operation, &cx).expect("is fine");
        (made, warnings.take())
    };
    let renamed = json!({"beta.kubernetes.io/os": "linux"});
    let with = |mut object: Value, at: &str| {
        *object.pointer_mut(at).expect("a spec") = json!({"nodeSelector": renamed, "restartPolicy": "Always",
            "containers": [{"name": "c", "image": "web:1"}]});
        object
    };
    let never = |mut object: Value, at: &str| {
        object.pointer_mut(at).expect("a spec")["restartPolicy"] = "Never".into();
        object
    };
    let spec = "/spec/template/spec";
    let of_cron = "/spec/jobTemplate/spec/template/spec";
    let mut controller = with_template("a", json!({"selector": null}));
    controller["spec"]["selector"] = json!({"app": "web"});
    let plain = json!({"metadata": {"name": "a", "namespace": "default"}, "template": template()});
    for (name, object, path) in [
        ("Deployment", with(with_template("a", json!({})), spec), "spec.template"),
        ("ReplicaSet", with(with_template("a", json!({})), spec), "spec.template"),
        ("DaemonSet", with(with_template("a", json!({})), spec), "spec.template"),
        ("StatefulSet", with(with_template("a", json!({"serviceName": "a"})), spec), "spec.template"),
        ("ReplicationController", with(controller, spec), "spec.template"),
        ("Job", never(with(job(json!({})), spec), spec), "spec.template"),
        ("CronJob", never(with(cron_job(json!({})), of_cron), of_cron), "spec.jobTemplate.spec.template"),
        ("PodTemplate", with(plain, "/template/spec"), "template"),
    ] {
        let (made, warnings) = told(name, &object, None);
        let expected = format!(
            r#"{path}.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#
        );
        assert!(warnings.contains(&expected), "{name}: {warnings:?}");
        // What stays was told before.
        assert_eq!(told(name, &made, Some(&made)).1, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_scale_of_none_says_no_number() {
    let scale = |spec: Value| kind("Deployment").scale(&json!({"metadata": {"name": "d"}, "spec": spec})).expect("one");
    let none = scale(json!({"replicas": 0}));
    assert_eq!((&none["spec"], &none["status"]), (&json!({}), &json!({"replicas": 0})));
    let three = scale(json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}));
    assert_eq!((&three["spec"], &three["status"]["selector"]), (&json!({"replicas": 3}), &json!("app=web")));
}

fn update(name: &str, old: &Value, change: Value) -> Result<Value, corten_api::status::Status> {
    let mut new = old.clone();
    merge(&mut new, change);
    process(name, new, Operation::Update { old })
}

fn update_status(name: &str, old: &Value, status: Value) -> Result<Value, corten_api::status::Status> {
    let mut new = old.clone();
    merge(&mut new["status"], status);
    process(name, new, Operation::UpdateStatus { old })
}

/// The message of each mistake, a line each.
fn mistakes(name: &str, objects: impl IntoIterator<Item = Value>) -> String {
    let all = objects.into_iter().map(|object| message(process(name, object, Operation::Create)));
    all.collect::<Vec<_>>().join("\n")
}

/// What the server made of an object, without its pod template.
fn made(name: &str, object: Value) -> String {
    let mut object = create(name, object);
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.shift_remove("template");
    }
    object["spec"].to_string() + "\n" + &object["status"].to_string()
}

#[test]
fn templates_get_what_upstream_gives_them_and_no_more() {
    let mut object = with_template("w", json!({}));
    object["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    object["spec"]["template"]["spec"]["containers"][0] = json!({"name": "c", "image": "web:1",
        "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}});
    let made = create("Deployment", object);
    expect_test::expect![[r#"{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","imagePullPolicy":"IfNotPresent","name":"c","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","hostNetwork":true,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}"#]].assert_eq(&made["spec"]["template"].to_string());
}

#[test]
fn defaults_of_workloads() {
    let mut lines = vec![
        made("StatefulSet", with_template("s", json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}))),
        made("DaemonSet", with_template("d", json!({}))),
        made("ReplicationController", with_template("r", json!({"selector": null}))),
        made("Job", job(json!({}))),
        made(
            "Job",
            job(json!({"parallelism": 2, "completionMode": "Indexed", "completions": 2,
            "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}})),
        ),
        made("PodDisruptionBudget", budget(json!({"minAvailable": 1}))),
        made("HorizontalPodAutoscaler", autoscaler(json!({"behavior": {"scaleUp": {"selectPolicy": "Min"}}}))),
    ];
    let mut cron = create("CronJob", cron_job(json!({})));
    cron["spec"]["jobTemplate"]["spec"].as_object_mut().expect("a map").shift_remove("template");
    lines.push(cron["spec"].to_string());
    expect_test::expect![[r#"
        {"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"},"podManagementPolicy":"OrderedReady","replicas":1,"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"web"}},"updateStrategy":{"rollingUpdate":{"maxUnavailable":1,"partition":0},"type":"RollingUpdate"},"volumeClaimTemplates":[{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"d"},"spec":{"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}]}
        {"availableReplicas":0,"replicas":0}
        {"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"web"}},"updateStrategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1},"type":"RollingUpdate"}}
        {"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":0,"numberReady":0}
        {"replicas":1,"selector":{"app":"web"}}
        {"replicas":0}
        {"backoffLimit":6,"completionMode":"NonIndexed","completions":1,"manualSelector":false,"parallelism":1,"podReplacementPolicy":"TerminatingOrFailed","selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u-1"}},"suspend":false}
        {}
        {"backoffLimit":2147483647,"backoffLimitPerIndex":1,"completionMode":"Indexed","completions":2,"manualSelector":false,"parallelism":2,"podFailurePolicy":{"rules":[{"action":"Ignore","onPodConditions":[{"status":"True","type":"DisruptionTarget"}]}]},"podReplacementPolicy":"Failed","selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u-1"}},"suspend":false}
        {}
        {"minAvailable":1}
        {"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}
        {"behavior":{"scaleDown":{"policies":[{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max"},"scaleUp":{"policies":[{"periodSeconds":15,"type":"Pods","value":4},{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Min","stabilizationWindowSeconds":0}},"maxReplicas":3,"metrics":[{"resource":{"name":"cpu","target":{"averageUtilization":80,"type":"Utilization"}},"type":"Resource"}],"minReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}
        {"desiredReplicas":0}
        {"concurrencyPolicy":"Allow","failedJobsHistoryLimit":1,"jobTemplate":{"spec":{}},"schedule":"*/5 * * * *","successfulJobsHistoryLimit":3,"suspend":false}"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn a_second_pass_changes_nothing() {
    let objects = [
        ("StatefulSet", with_template("s", json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}))),
        ("DaemonSet", with_template("d", json!({}))),
        ("ReplicaSet", with_template("d", json!({}))),
        ("ReplicationController", with_template("r", json!({"selector": null}))),
        ("Job", job(json!({}))),
        ("CronJob", cron_job(json!({}))),
        ("PodDisruptionBudget", budget(json!({"minAvailable": 1}))),
        ("HorizontalPodAutoscaler", autoscaler(json!({"behavior": {}}))),
        ("PodTemplate", json!({"metadata": {"name": "t"}, "template": template()})),
        ("ControllerRevision", json!({"metadata": {"name": "r"}, "data": {"a": 1}, "revision": 1})),
    ];
    for (name, object) in objects {
        let once = create(name, object);
        assert_eq!(update(name, &once, json!({})).expect("is fine"), once, "{name}");
    }
}

#[test]
fn jobs_get_labels_that_no_other_has() {
    let made = create("Job", job(json!({})));
    let own = json!({"app": "web", "job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": "u-1",
        "batch.kubernetes.io/controller-uid": "u-1"});
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], own);
    assert_eq!(made["metadata"]["labels"], own);
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
    let manual = job(json!({"manualSelector": true, "selector": {"matchLabels": {"app": "web"}}}));
    let made = create("Job", manual);
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], json!({"app": "web"}));
    let mut wrong = job(json!({}));
    wrong["spec"]["template"]["metadata"]["labels"]["controller-uid"] = "other".into();
    assert!(message(process("Job", wrong, Operation::Create)).contains("must be 'u-1'"));
}

#[test]
fn mistakes_in_sets() {
    let expected = expect_test::expect![[r#"
        StatefulSet.apps "web.1" is invalid: [metadata.name: Invalid value: "web.1": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.serviceName: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`]
        StatefulSet.apps "w" is invalid: [spec.podManagementPolicy: Invalid value: "Never": must be 'OrderedReady' or 'Parallel', spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate', spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete", spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0]
        StatefulSet.apps "w" is invalid: [spec.updateStrategy.rollingUpdate.partition: Invalid value: -2: must be greater than or equal to 0, spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "0%": cannot be 0]
        StatefulSet.apps "w" is invalid: [spec.updateStrategy: Invalid value: {"type":"Now"}: must be 'RollingUpdate' or 'OnDelete', spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always", spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported]
        DaemonSet.apps "d" is invalid: [spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0, spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "10%": may not be set when maxUnavailable is non-zero]
        DaemonSet.apps "d" is invalid: [spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%'), spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": must not be greater than 100%]
        DaemonSet.apps "d" is invalid: [spec.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator, spec.selector.matchExpressions[0].values[0]: Invalid value: "_": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), spec.updateStrategy: Unsupported value: {"type":"Now"}: supported values: "RollingUpdate", "OnDelete"]
        ReplicationController "r" is invalid: spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`
        ReplicationController "r" is invalid: [spec.selector: Required value, spec.template: Required value]
        ControllerRevision.apps "r" is invalid: [data: Required value: data is mandatory, revision: Invalid value: -1: must be greater than or equal to 0]
        Deployment.apps "w" is invalid: [spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`, spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate']
        Deployment.apps "w" is invalid: [spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0, spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds]"#]];
    let sets = mistakes(
        "StatefulSet",
        [
            with_template("web.1", json!({"replicas": -1, "selector": null, "serviceName": "A_b"})),
            with_template(
                "w",
                json!({"podManagementPolicy": "Never", "updateStrategy": {"type": "OnDelete",
                "rollingUpdate": {}}, "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"},
                "ordinals": {"start": -1}}),
            ),
            with_template("w", json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%", "partition": -2}}})),
            with_template(
                "w",
                json!({"updateStrategy": {"type": "Now"},
                "template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 3}}}),
            ),
        ],
    );
    let daemons = mistakes(
        "DaemonSet",
        [
            with_template(
                "d",
                json!({"updateStrategy": {"rollingUpdate": {"maxSurge": "10%"}}, "minReadySeconds": -1}),
            ),
            with_template(
                "d",
                json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "x", "maxSurge": "101%"}}}),
            ),
            with_template(
                "d",
                json!({"updateStrategy": {"type": "Now"}, "selector": {"matchLabels": {"app": "db"},
                "matchExpressions": [{"key": "a", "operator": "Near", "values": ["_"]}]}}),
            ),
        ],
    );
    let others = [
        mistakes(
            "ReplicationController",
            [
                with_template("r", json!({"selector": {"matchLabels": null, "app": "db"}})),
                with_template("r", json!({"selector": null, "template": null})),
            ],
        ),
        mistakes("ControllerRevision", [json!({"metadata": {"name": "r"}, "revision": -1})]),
        mistakes(
            "Deployment",
            [
                with_template("w", json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}, "selector": null})),
                with_template(
                    "w",
                    json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}},
                "progressDeadlineSeconds": 5, "minReadySeconds": 5}),
                ),
            ],
        ),
    ];
    expected.assert_eq(&[sets, daemons, others.join("\n")].join("\n"));
}

#[test]
fn mistakes_in_jobs() {
    let expected = expect_test::expect![[r#"
        Job.batch "j" is invalid: spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        Job.batch "j" is invalid: [spec.parallelism: Invalid value: -1: must be greater than or equal to 0, spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0, spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never", spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "OnFailure", "Never"]
        Job.batch "j" is invalid: [spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified, spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo"), spec.completionMode: Unsupported value: "Some": supported values: "NonIndexed", "Indexed"]
        Job.batch "j" is invalid: [spec.managedBy: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.completions: Required value: when completion mode is Indexed, spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed]
        Job.batch "j" is invalid: spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions
        Job.batch "j" is invalid: [spec.maxFailedIndexes: Required value: must be specified when completions is above 100000, spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index]
        Job.batch "j" is invalid: [spec.podFailurePolicy.rules[0].action: Unsupported value: "Explode": supported values: "Count", "FailIndex", "FailJob", "Ignore", spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required]
        Job.batch "j" is invalid: [spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set, spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template, spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator, spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2, spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered, spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown", spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported]
        Job.batch "j" is invalid: spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode
        Job.batch "j" is invalid: [spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified, spec.successPolicy.rules[1].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5", spec.successPolicy.rules[2].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)]
        Job.batch "j" is invalid: spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed"
        Job.batch "j" is invalid: spec.selector: Required value
        CronJob.batch "c" is invalid: [spec.schedule: Required value, spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace", spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0]
        CronJob.batch "c" is invalid: [spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *], spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0, spec.timeZone: Invalid value: "Mars/City": unknown time zone Mars/City]
        CronJob.batch "c" is invalid: [spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead, spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones, spec.timeZone: Invalid value: "local": unknown time zone local]
        CronJob.batch "c" is invalid: [spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated, spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"]
        CronJob.batch "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" is invalid: metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters"#]];
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 3});
        merge(&mut spec, more);
        job(spec)
    };
    let jobs = mistakes(
        "Job",
        [
            job(json!({"template": {"spec": {"restartPolicy": null}}})),
            job(json!({"template": {"spec": {"restartPolicy": "Sometimes"}}, "parallelism": -1, "backoffLimit": -1})),
            job(json!({"completionMode": "Some", "managedBy": "me", "maxFailedIndexes": 1})),
            job(json!({"completionMode": "Indexed", "parallelism": 100_001, "managedBy": "A_/x"})),
            indexed(json!({"maxFailedIndexes": 4, "backoffLimitPerIndex": 1})),
            indexed(json!({"completions": 100_001, "parallelism": 10_001, "backoffLimitPerIndex": 1})),
            job(rule(json!({"action": "Explode"}))),
            job(rule(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [2, 0, 2],
                "containerName": "x"}, "onPodConditions": [{"type": "a b", "status": "Maybe"}]}))),
            job(json!({"successPolicy": {"rules": []}})),
            indexed(json!({"successPolicy": {"rules": [{}, {"succeededIndexes": "0-5"},
                {"succeededIndexes": "0-1", "succeededCount": 3}]}})),
            job(json!({"podReplacementPolicy": "Never"})),
            job(json!({"manualSelector": true})),
        ],
    );
    let crons = mistakes(
        "CronJob",
        [
            cron_job(json!({"schedule": "", "concurrencyPolicy": "Maybe", "failedJobsHistoryLimit": -1})),
            cron_job(json!({"schedule": "* * *", "timeZone": "Mars/City", "startingDeadlineSeconds": -1})),
            cron_job(json!({"schedule": "TZ=UTC * * * * *", "timeZone": "local"})),
            cron_job(
                json!({"jobTemplate": {"spec": {"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}}}}),
            ),
            json!({"metadata": {"name": "a".repeat(53)}, "spec": cron_job(json!({}))["spec"]}),
        ],
    );
    expected.assert_eq(&[jobs, crons].join("\n"));
}

#[test]
fn mistakes_in_budgets_and_autoscalers() {
    let expected = expect_test::expect![[r#"
        PodDisruptionBudget.policy "b" is invalid: spec: Invalid value: {"maxUnavailable":1,"minAvailable":1}: minAvailable and maxUnavailable cannot be both set
        PodDisruptionBudget.policy "b" is invalid: [spec.minAvailable: Invalid value: "101%": must not be greater than 100%, spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget"]
        PodDisruptionBudget.policy "b" is invalid: [spec.maxUnavailable: Invalid value: "some": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%'), spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn']
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`, spec.scaleTargetRef.kind: Invalid value: "a/b": may not contain '/', spec.scaleTargetRef.name: Required value]
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.minReplicas: Invalid value: 0: must be greater than or equal to 1, spec.maxReplicas: Invalid value: 0: must be greater than 0, spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas]
        HorizontalPodAutoscaler.autoscaling "h" is invalid: spec.metrics[0].type: Unsupported value: "Weather": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.metrics[0].pods.target.type: Required value: must specify a metric target type, spec.metrics[0].pods.target.type: Invalid value: "": must be either Utilization, Value, or AverageValue, spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue, spec.metrics[0].pods: Forbidden: must populate the given metric source only]
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.metrics[0].pods.metric.name: Invalid value: "a/b": may not contain '/', spec.metrics[0].pods.target.type: Invalid value: "Most": must be either Utilization, Value, or AverageValue, spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue]
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.metrics[0].containerResource.container: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.metrics[0].containerResource.target.averageUtilization: Required value: must set either a target raw value or a target utilization]
        HorizontalPodAutoscaler.autoscaling "h" is invalid: [spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600, spec.behavior.scaleUp.policies: Required value: must specify at least one Policy, spec.behavior.scaleDown.selectPolicy: Unsupported value: "Some": supported values: "Disabled", "Max", "Min", spec.behavior.scaleDown.policies[0].type: Unsupported value: "Pod": supported values: "Percent", "Pods", spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero, spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800, spec.behavior.scaleDown.tolerance: Invalid value: "-1": must be greater than or equal to 0]"#]];
    let budgets = mistakes(
        "PodDisruptionBudget",
        [
            budget(json!({"minAvailable": 1, "maxUnavailable": 1})),
            budget(json!({"minAvailable": "101%", "unhealthyPodEvictionPolicy": "Never"})),
            budget(
                json!({"maxUnavailable": "some", "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            ),
        ],
    );
    let metric = |metric: Value| autoscaler(json!({"metrics": [metric]}));
    let autoscalers = mistakes(
        "HorizontalPodAutoscaler",
        [
            autoscaler(json!({"minReplicas": 5, "scaleTargetRef": {"kind": "a/b", "name": null}})),
            autoscaler(json!({"minReplicas": 0, "maxReplicas": 0})),
            metric(json!({"type": "Weather"})),
            metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                "averageUtilization": 0, "averageValue": "0"}}, "pods": {"metric": {"name": "a"}, "target": {}}})),
            metric(json!({"type": "Pods", "pods": {"metric": {"name": "a/b"}, "target": {"type": "Most"}}})),
            metric(json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "A",
                "target": {"type": "Utilization"}}})),
            autoscaler(json!({"behavior": {"scaleUp": {"policies": [], "stabilizationWindowSeconds": 3601},
                "scaleDown": {"selectPolicy": "Some", "tolerance": "-1",
                    "policies": [{"type": "Pod", "value": 0, "periodSeconds": 1801}]}}})),
        ],
    );
    expected.assert_eq(&[budgets, autoscalers].join("\n"));
}

#[test]
fn what_of_a_set_may_change() {
    let old = create("StatefulSet", with_template("s", json!({"serviceName": "s"})));
    let fine = json!({"spec": {"replicas": 3, "minReadySeconds": 1, "revisionHistoryLimit": 2,
        "ordinals": {"start": 1}, "updateStrategy": {"rollingUpdate": {"partition": 1}},
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    let new = update("StatefulSet", &old, fine).expect("is fine");
    assert_eq!(new["metadata"]["generation"], 2);
    let error = message(update("StatefulSet", &old, json!({"spec": {"serviceName": "t"}})));
    assert_eq!(
        error,
        "StatefulSet.apps \"s\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    );
    let revision = json!({"metadata": {"name": "r"}, "data": {"a": 1}, "revision": 1});
    let old = create("ControllerRevision", revision);
    assert!(update("ControllerRevision", &old, json!({"revision": 2})).is_ok());
    assert_eq!(
        message(update("ControllerRevision", &old, json!({"data": {"a": 2}}))),
        "ControllerRevision.apps \"r\" is invalid: data: Invalid value: {\"a\":2}: field is immutable"
    );
}

#[test]
fn daemon_sets_count_the_changes_of_their_template() {
    const KEY: &str = "deprecated.daemonset.template.generation";
    let old = create("DaemonSet", with_template("d", json!({})));
    assert_eq!(old["metadata"]["annotations"][KEY], "1");
    let set = json!({"metadata": {"annotations": {KEY: "7"}}, "spec": {"minReadySeconds": 3}});
    let same = update("DaemonSet", &old, set).expect("is fine");
    assert_eq!((&same["metadata"]["annotations"][KEY], &same["metadata"]["generation"]), (&json!("1"), &json!(2)));
    let image = json!({"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}});
    let changed = update("DaemonSet", &same, image).expect("is fine");
    assert_eq!(
        (&changed["metadata"]["annotations"][KEY], &changed["metadata"]["generation"]),
        (&json!("2"), &json!(3))
    );
    let wrong = json!({"metadata": {"annotations": {KEY: "x"}}});
    assert_eq!(update("DaemonSet", &old, wrong).expect_err("no number").code, 400);
}

#[test]
fn what_of_a_job_may_change() {
    let old = create("Job", job(json!({"completions": 2})));
    for fine in [json!({"parallelism": 5}), json!({"suspend": true}), json!({"ttlSecondsAfterFinished": 1})] {
        assert!(update("Job", &old, json!({"spec": fine.clone()})).is_ok(), "{fine}");
    }
    assert_eq!(
        message(update("Job", &old, json!({"spec": {"completions": 3}}))),
        "Job.batch \"j\" is invalid: spec.completions: Invalid value: 3: field is immutable"
    );
    let tolerations = json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}});
    assert!(message(update("Job", &old, tolerations.clone())).contains("spec.template: Invalid value"));
    let suspended = create("Job", job(json!({"suspend": true})));
    assert!(update("Job", &suspended, tolerations.clone()).is_ok(), "it waits");
    let started = update_status("Job", &suspended, json!({"startTime": "2026-01-01T00:00:00Z"})).expect("is fine");
    assert!(update("Job", &started, tolerations).is_err(), "it ran");
    let indexed = create("Job", job(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2})));
    assert!(update("Job", &indexed, json!({"spec": {"completions": 3, "parallelism": 3}})).is_ok());
    assert!(
        message(update("Job", &indexed, json!({"spec": {"completions": 3}})))
            .contains("can only be modified in tandem with spec.parallelism")
    );
}

#[test]
fn a_jobs_status_tells_one_story() {
    let old = create("Job", job(json!({"completionMode": "Indexed", "completions": 3})));
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let complete = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z", "succeeded": 3,
        "completedIndexes": "0-2", "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    let done = update_status("Job", &old, complete).expect("is fine");
    let mut lines = Vec::new();
    let mut check = |old: &Value, status: Value| lines.push(message(update_status("Job", old, status)));
    check(&old, json!({"active": -1, "uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}}));
    check(&old, json!({"conditions": [condition("Complete"), condition("Failed")], "active": 1}));
    check(&old, json!({"completedIndexes": "0-3", "failedIndexes": "1"}));
    check(&old, json!({"ready": 2, "active": 1, "completionTime": "2026-01-01T00:00:00Z"}));
    check(&done, json!({"conditions": [], "succeeded": 2, "completionTime": null}));
    check(&done, json!({"completionTime": "2026-01-01T00:02:00Z", "terminating": 1}));
    expect_test::expect![[r#"
        Job.batch "j" is invalid: [status.active: Invalid value: -1: must be greater than or equal to 0, status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty, status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"]
        Job.batch "j" is invalid: [status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions, status.completionTime: Required value: completionTime is required for Complete jobs, status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition, status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition, status.active: Invalid value: 1: active>0 is invalid for finished job, status.startTime: Required value: startTime is required for finished job]
        Job.batch "j" is invalid: [status.completedIndexes: Invalid value: "0-3": error parsing completedIndexes: too large index: "3", status.failedIndexes: Invalid value: "1": cannot set non-null failedIndexes when backoffLimitPerIndex is null]
        Job.batch "j" is invalid: [status.completionTime: Invalid value: "2026-01-01T00:00:00Z": cannot set completionTime when there is no Complete=True condition, status.ready: Invalid value: 2: cannot set more ready pods than active]
        Job.batch "j" is invalid: [status.conditions: Invalid value: cannot disable the terminal Complete=True condition, status.succeeded: Invalid value: 2: cannot decrease the succeeded counter, status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition]
        Job.batch "j" is invalid: [status.terminating: Invalid value: 1: terminating>0 is invalid for finished job, status.completionTime: Invalid value: "2026-01-01T00:02:00Z": completionTime cannot be mutated]"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn statuses_of_sets_add_up() {
    let mut lines = Vec::new();
    let cases = [
        ("Deployment", json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "observedGeneration": -1})),
        ("ReplicaSet", json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2, "fullyLabeledReplicas": 3})),
        ("StatefulSet", json!({"replicas": 1, "currentReplicas": 2, "availableReplicas": 1})),
        ("DaemonSet", json!({"numberReady": -1, "numberAvailable": -1})),
    ];
    for (name, status) in cases {
        let old = create(name, with_template("w", json!({})));
        lines.push(message(update_status(name, &old, status)));
        let counted = update_status(name, &old, json!({"collisionCount": 1}));
        if let (Ok(counted), true) = (counted, name != "ReplicaSet") {
            lines.push(message(update_status(name, &counted, json!({"collisionCount": null}))));
        }
    }
    let old = create("PodDisruptionBudget", budget(json!({})));
    let condition = json!({"type": "A", "status": "Maybe", "reason": "", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"currentHealthy": -1, "conditions": [condition, condition]});
    lines.push(message(update_status("PodDisruptionBudget", &old, status)));
    expect_test::expect![[r#"
        Deployment.apps "w" is invalid: [status.observedGeneration: Invalid value: -1: must be greater than or equal to 0, status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas]
        Deployment.apps "w" is invalid: status.collisionCount: Invalid value: 0: cannot be decremented
        ReplicaSet.apps "w" is invalid: [status.fullyLabeledReplicas: Invalid value: 3: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas]
        StatefulSet.apps "w" is invalid: [status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas]
        StatefulSet.apps "w" is invalid: status.collisionCount: Invalid value: 0: cannot be decremented
        DaemonSet.apps "w" is invalid: [status.numberReady: Invalid value: -1: must be greater than or equal to 0, status.numberAvailable: Invalid value: -1: must be greater than or equal to 0]
        DaemonSet.apps "w" is invalid: status.collisionCount: Invalid value: 0: cannot be decremented
        PodDisruptionBudget.policy "b" is invalid: [status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown", status.conditions[0].reason: Required value, status.conditions[1].type: Duplicate value: "A", status.conditions[1].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown", status.conditions[1].reason: Required value, status.currentHealthy: Invalid value: -1: must be greater than or equal to 0]"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn scales_tell_the_selector_of_either_shape() {
    let scale = |name: &str, object: Value| {
        let scale = kind(name).scale(&create(name, object)).expect("a scale");
        (scale["spec"]["replicas"].clone(), scale["status"]["selector"].clone())
    };
    let replicas = json!({"replicas": 4});
    assert_eq!(scale("StatefulSet", with_template("s", replicas.clone())), (json!(4), json!("app=web")));
    let controller = with_template("r", json!({"selector": null, "replicas": 4}));
    assert_eq!(scale("ReplicationController", controller), (json!(4), json!("app=web")));
}

#[test]
fn tables_show_what_kubectl_shows() {
    let now = "2026-01-01T00:10:00Z".parse().expect("a time");
    let show = |name: &str, mut object: Value, status: Value| {
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let mut object = create(name, object);
        merge(&mut object["status"], status);
        let heads = kind(name).columns().iter().map(|head| head.title).collect::<Vec<_>>().join(" | ");
        let cells = kind(name).cells(object.to_string().as_bytes(), now).expect("cells");
        let plain = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        format!("{heads}\n{}", cells.iter().map(plain).collect::<Vec<_>>().join(" | "))
    };
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true});
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue",
        "averageValue": "1Gi"}}});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
        "averageUtilization": 50}}});
    let current = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12,
        "averageValue": "1"}}});
    let started = json!({"startTime": "2026-01-01T00:00:00Z", "succeeded": 1});
    let lines = [
        show("StatefulSet", with_template("s", json!({"replicas": 2})), json!({"readyReplicas": 1})),
        show(
            "DaemonSet",
            with_template("d", json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}})),
            json!({"desiredNumberScheduled": 3, "numberReady": 2}),
        ),
        show("ReplicationController", with_template("r", json!({"selector": null})), json!({"replicas": 1})),
        show(
            "ControllerRevision",
            json!({"metadata": {"name": "r", "ownerReferences": [owner]}, "data": {"a": 1},
            "revision": 3}),
            json!({}),
        ),
        show("PodTemplate", json!({"metadata": {"name": "t"}, "template": template()}), json!({})),
        show("Job", job(json!({"completions": 2})), started.clone()),
        show("Job", job(json!({"parallelism": 2})), json!({"conditions": [{"type": "Suspended", "status": "True"}]})),
        show("CronJob", cron_job(json!({"timeZone": "UTC"})), json!({"lastScheduleTime": "2026-01-01T00:05:00Z"})),
        show("PodDisruptionBudget", budget(json!({"maxUnavailable": "10%"})), json!({"disruptionsAllowed": 1})),
        show(
            "HorizontalPodAutoscaler",
            autoscaler(json!({"metrics": [cpu, memory, cpu]})),
            json!({"currentReplicas": 2, "currentMetrics": [current]}),
        ),
    ];
    expect_test::expect![[r#"
        Name | Ready | Age | Containers | Images
        s | 1/2 | 10m | c | web:1
        Name | Desired | Current | Ready | Up-to-date | Available | Node Selector | Age | Containers | Images | Selector
        d | 3 | 0 | 2 | 0 | 0 | disk=ssd | 10m | c | web:1 | app=web
        Name | Desired | Current | Ready | Age | Containers | Images | Selector
        r | 1 | 1 | 0 | 10m | c | web:1 | app=web
        Name | Controller | Revision | Age
        r | statefulset.apps/web | 3 | 10m
        Name | Containers | Images | Pod Labels
        t | c | web:1 | app=web
        Name | Status | Completions | Duration | Age | Containers | Images | Selector
        j | Running | 1/2 | 10m | 10m | c | web:1 | batch.kubernetes.io/controller-uid=u-1
        Name | Status | Completions | Duration | Age | Containers | Images | Selector
        j | Suspended | 0/1 of 2 |  | 10m | c | web:1 | batch.kubernetes.io/controller-uid=u-1
        Name | Schedule | Timezone | Suspend | Active | Last Schedule | Age | Containers | Images | Selector
        c | */5 * * * * | UTC | False | 0 | 5m | 10m | c | web:1 | <none>
        Name | Min Available | Max Unavailable | Allowed Disruptions | Age
        b | N/A | 10% | 1 | 10m
        Name | Reference | Targets | MinPods | MaxPods | Replicas | Age
        h | Deployment/web | cpu: 12%/50%, memory: <unknown>/1Gi + 1 more... | 1 | 3 | 2 | 10m"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn autoscalers_of_version_1_lose_nothing() {
    let v1 = crate::KINDS
        .iter()
        .copied()
        .find(|kind| kind.names().kind == "HorizontalPodAutoscaler" && kind.names().version == "v1")
        .expect("version 1");
    let metrics = json!([
        {"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"},
            "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "10"}}},
        {"type": "Pods", "pods": {"metric": {"name": "load"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
        {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 70}}},
        {"type": "External", "external": {"metric": {"name": "queue"},
            "target": {"type": "AverageValue", "averageValue": "30"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
    ]);
    let mut hub = create("HorizontalPodAutoscaler", autoscaler(json!({"metrics": metrics, "behavior": {}})));
    hub["status"] = json!({"currentReplicas": 1, "desiredReplicas": 2,
    "conditions": [{"type": "AbleToScale", "status": "True"}],
    "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "1"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
            "metric": {"name": "hits"}, "current": {"value": "7"}}},
    ]});
    let served = v1.to_served(hub.clone()).expect("is shown");
    expect_test::expect![[r#"
        {
          "apiVersion": "autoscaling/v1",
          "kind": "HorizontalPodAutoscaler",
          "metadata": {
            "annotations": {
              "autoscaling.alpha.kubernetes.io/behavior": "{\"scaleDown\":{\"policies\":[{\"periodSeconds\":15,\"type\":\"Percent\",\"value\":100}],\"selectPolicy\":\"Max\"},\"scaleUp\":{\"policies\":[{\"periodSeconds\":15,\"type\":\"Pods\",\"value\":4},{\"periodSeconds\":15,\"type\":\"Percent\",\"value\":100}],\"selectPolicy\":\"Max\",\"stabilizationWindowSeconds\":0}}",
              "autoscaling.alpha.kubernetes.io/conditions": "[{\"status\":\"True\",\"type\":\"AbleToScale\"}]",
              "autoscaling.alpha.kubernetes.io/current-metrics": "[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"currentAverageUtilization\":12,\"currentAverageValue\":\"1\"}},{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"Service\",\"name\":\"s\"},\"metricName\":\"hits\",\"currentValue\":\"7\"}}]",
              "autoscaling.alpha.kubernetes.io/metrics": "[{\"type\":\"Object\",\"object\":{\"target\":{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"name\":\"s\"},\"metricName\":\"hits\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"targetValue\":\"10\"}},{\"type\":\"Pods\",\"pods\":{\"metricName\":\"load\",\"targetAverageValue\":\"1k\"}},{\"type\":\"ContainerResource\",\"containerResource\":{\"name\":\"memory\",\"container\":\"c\",\"targetAverageUtilization\":70}},{\"type\":\"External\",\"external\":{\"metricName\":\"queue\",\"targetAverageValue\":\"30\"}}]"
            },
            "name": "h",
            "namespace": "default"
          },
          "spec": {
            "maxReplicas": 3,
            "minReplicas": 1,
            "scaleTargetRef": {
              "apiVersion": "apps/v1",
              "kind": "Deployment",
              "name": "web"
            },
            "targetCPUUtilizationPercentage": 50
          },
          "status": {
            "currentCPUUtilizationPercentage": 12,
            "currentReplicas": 1,
            "desiredReplicas": 2
          }
        }"#]].assert_eq(&serde_json::to_string_pretty(&served).expect("JSON"));
    assert_eq!(v1.to_stored(served).expect("is read"), hub);
    let plain = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}, "targetCPUUtilizationPercentage": 60}});
    let stored = v1.to_stored(plain).expect("is read");
    let made = create("HorizontalPodAutoscaler", stored);
    assert_eq!(v1.to_served(made).expect("is shown")["spec"]["targetCPUUtilizationPercentage"], 60);
}

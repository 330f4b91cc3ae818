//! Pods and services: their rules, and what may change.

use expect_test::expect;
use serde_json::{Value, json};

use super::{Free, create, kind, message, pod, process};
use crate::{Operation, Subresource, Warnings, WriteContext};

/// The causes of a refusal, a line each.
fn causes(name: &str, object: Value) -> String {
    let status = process(name, object, Operation::Create).expect_err("is not fine");
    let causes = status.details.expect("details")["causes"].as_array().cloned().unwrap_or_default();
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    causes.iter().map(|cause| format!("{}: {}\n", text(cause, "field"), text(cause, "message"))).collect()
}

fn with(spec: Value) -> Value {
    let mut pod = pod();
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "web:1"});
    for (field, value) in fields.as_object().into_iter().flatten() {
        container[field] = value.clone();
    }
    with(json!({"containers": [container]}))
}

#[test]
fn mistakes_in_containers_are_told() {
    let resources = json!({"limits": {"cpu": "1", "example.com/gpu": "1500m", "power": "1"}, "requests": {"cpu": "2", "hugepages-2Mi": "2Mi"}});
    expect![[r#"
        spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
        spec.containers[0].resources.limits[power]: Invalid value: "power": must be a standard resource for containers
        spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer
        spec.containers[0].resources.requests[power]: Invalid value: "power": must be a standard resource for containers
        spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
        spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
    "#]]
    .assert_eq(&causes("Pod", container(json!({"resources": resources}))));
    let env = json!([{"name": "a=b"}, {"name": "B", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1k"}}}, {"name": "D", "valueFrom": {}}]);
    expect![[r#"
        spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
        spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "status.phase": error converting fieldPath: field label not supported: status.phase
        spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty
        spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "1k": only divisor's values 1m and 1 are supported with the cpu resource
        spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
        spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
    "#]].assert_eq(&causes("Pod", container(json!({"env": env, "envFrom": [{}]}))));
    let probe =
        json!({"exec": {}, "tcpSocket": {"port": 0}, "successThreshold": 2, "terminationGracePeriodSeconds": 0});
    let hook = json!({"preStop": {"sleep": {"seconds": 31}}, "stopSignal": "SIGTERM"});
    expect![[r#"
        spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
        spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`
        spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
        spec.containers[0].livenessProbe.exec.command: Required value
        spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
        spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
    "#]].assert_eq(&causes("Pod", container(json!({"livenessProbe": probe, "lifecycle": hook}))));
    let context = json!({"privileged": true, "allowPrivilegeEscalation": false, "runAsUser": -1, "procMount": "Unmasked",
        "seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}});
    expect![[r#"
        spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
        spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`
        spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
        spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"appArmorProfile":{"localhostProfile":"x","type":"Unconfined"},"privileged":true,"procMount":"Unmasked","runAsUser":-1,"seccompProfile":{"type":"Localhost"}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
        spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: "x": can only be set when AppArmor type is Localhost
    "#]].assert_eq(&causes("Pod", container(json!({"securityContext": context}))));
    let ports = json!([{"containerPort": 1, "hostPort": 2}, {"containerPort": 3, "hostPort": 2, "name": "8080", "hostIP": "x"}]);
    expect![[r#"
        spec.containers[0].ports[1].name: Invalid value: "8080": must contain at least one letter (a-z)
        spec.containers[0].ports[1].hostIP: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used
        spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart"
        spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified
    "#]]
        .assert_eq(&causes("Pod", container(json!({"ports": ports, "restartPolicyRules": [{"action": "Stop"}]}))));
}

#[test]
fn mistakes_in_pods_are_told() {
    let volumes = json!([{"name": "a", "emptyDir": {}, "nfs": {}}, {"name": "b", "hostPath": {"path": "/a/..", "type": "X"}},
        {"name": "c", "projected": {"sources": [{}, {"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}},
        {"name": "d", "ephemeral": {}}, {"name": "e", "fc": {}}, {"name": "e", "secret": {"secretName": "s", "defaultMode": 512}}]);
    expect![[r#"
        spec.volumes[0].nfs: Forbidden: may not specify more than 1 volume type
        spec.volumes[1].hostPath.path: Invalid value: "/a/..": must not contain '..'
        spec.volumes[1].hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
        spec.volumes[2].projected.sources[0]: Required value: must specify one of: secret, configMap, downwardAPI, serviceAccountToken, clusterTrustBundle, podCertificate
        spec.volumes[2].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
        spec.volumes[3].ephemeral.volumeClaimTemplate: Required value
        spec.volumes[4].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both
        spec.volumes[5].name: Duplicate value: "e"
        spec.volumes[5].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
    "#]].assert_eq(&causes("Pod", with(json!({"volumes": volumes}))));
    let term = json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, "topologyKey": ""});
    let affinity = json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": term}]},
    });
    let spread = json!([{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}]);
    let tolerations = json!([{"operator": "Exists", "value": "x"}, {"key": "k", "effect": "No"}]);
    expect![[r#"
        spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
        spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
        spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
        spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value: can not be empty
        spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
        spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
        spec.tolerations[0].operator: Invalid value: "x": value must be empty when `operator` is 'Exists'
        spec.tolerations[1].effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
    "#]].assert_eq(&causes(
        "Pod",
        with(json!({"affinity": affinity, "topologySpreadConstraints": spread, "tolerations": tolerations})),
    ));
    let context = json!({"sysctls": [{"name": "net.a", "value": "1"}, {"name": "A", "value": "1"}], "fsGroup": -1});
    expect![[r#"
        spec.resourceClaims[0]: Invalid value: {"name":"r"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`
        spec.ephemeralContainers[0].targetContainerName: Not found: "z"
        spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
        spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false
        spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
        spec.securityContext.sysctls[0].name: Invalid value: "net.a": may not be specified when 'hostNetwork' is true
        spec.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9](\*)?$
        spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
        spec.schedulingGates[1]: Duplicate value: "a"
        spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.os.name: Unsupported value: "plan9": supported values: "linux", "windows"
        spec.ephemeralContainers: Forbidden: cannot be set on create
        spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
    "#]].assert_eq(&causes("Pod", with(json!({
        "hostNetwork": true, "hostUsers": false, "securityContext": context, "dnsPolicy": "None", "os": {"name": "plan9"},
        "schedulingGates": [{"name": "a"}, {"name": "a"}], "nodeName": "n", "hostAliases": [{"ip": "x"}],
        "resourceClaims": [{"name": "r"}], "ephemeralContainers": [{"name": "e", "image": "i", "ports": [{"containerPort": 1}], "targetContainerName": "z"}],
    }))));
}

#[test]
fn a_running_pod_changes_only_so_far() {
    let old = create(
        "Pod",
        with(json!({"schedulingGates": [{"name": "g"}], "tolerations": [{"key": "k", "operator": "Exists"}]})),
    );
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        edit(&mut new);
        process("Pod", new, Operation::Update { old: &old })
    };
    assert!(change(&|pod| pod["spec"]["schedulingGates"] = json!([])).is_ok());
    assert!(change(&|pod| pod["spec"]["nodeSelector"] = json!({"a": "b"})).is_ok());
    assert!(change(&|pod| pod["spec"]["activeDeadlineSeconds"] = json!(5)).is_ok());
    assert!(
        change(&|pod| pod["spec"]["tolerations"] =
            json!([{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]))
        .is_ok()
    );
    expect![[r#"
        Pod "a" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        + spec.containers[0].command: ["a"]"#]].assert_eq(&message(change(&|pod| pod["spec"]["containers"][0]["command"] = json!(["a"]))));
    expect![[r#"Pod "a" is invalid: spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"#]].assert_eq(&message(change(&|pod| pod["spec"]["tolerations"] = json!([]))));
    expect![[r#"Pod "a" is invalid: spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"#]].assert_eq(&message(change(&|pod| pod["spec"]["schedulingGates"] = json!([{"name": "h"}]))));
}

#[test]
fn resources_change_through_resize_alone() {
    let sized = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
    let old = create("Pod", container(json!({"resources": sized("1", "1Gi")})));
    let cx = WriteContext {
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        claims: &Free,
        user: None,
        warnings: &Warnings::default(),
    };
    let part = |part: Subresource, edit: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        edit(&mut new);
        kind("Pod").process(new, Operation::UpdatePart { old: &old, part }, &cx)
    };
    let resized = part(Subresource::Resize, &|pod| pod["spec"]["containers"][0]["resources"] = sized("2", "2Gi"))
        .expect("is fine");
    assert_eq!(
        (&resized["metadata"]["generation"], &resized["spec"]["containers"][0]["resources"]["limits"]["cpu"]),
        (&json!(2), &json!("2"))
    );
    expect![[
        r#"Pod "a" is invalid: spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing"#
    ]]
    .assert_eq(&message(part(Subresource::Resize, &|pod| {
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("500m");
    })));
    expect![[r#"
        Pod "a" is invalid: spec: Forbidden: only cpu and memory resources are mutable
        - spec.containers[0].image: "web:1"
        + spec.containers[0].image: "web:2""#]]
    .assert_eq(&message(part(Subresource::Resize, &|pod| pod["spec"]["containers"][0]["image"] = json!("web:2"))));
    let debug = json!([{"name": "debug", "image": "sh:1"}]);
    let looked = part(Subresource::EphemeralContainers, &|pod| {
        pod["spec"]["ephemeralContainers"] = debug.clone();
        pod["spec"]["containers"][0]["image"] = json!("ignored");
    })
    .expect("is fine");
    assert_eq!(looked["spec"]["containers"], old["spec"]["containers"]);
    assert_eq!(looked["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    let mut less = looked.clone();
    less["spec"]["ephemeralContainers"] = json!([]);
    let operation = Operation::UpdatePart { old: &looked, part: Subresource::EphemeralContainers };
    expect![[r#"
        Pod "a" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed
    "#]].assert_eq(&message(kind("Pod").process(less, operation, &cx)));
}

#[test]
fn likely_mistakes_are_told_as_warnings() {
    let warnings = Warnings::default();
    let cx = WriteContext {
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        claims: &Free,
        user: None,
        warnings: &warnings,
    };
    let mut pod = container(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "resources": {"limits": {"memory": "100m"}}}));
    pod["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    kind("Pod").process(pod, Operation::Create, &cx).expect("is fine");
    expect![[r#"
        spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer
        spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer
        spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"#]]
    .assert_eq(&warnings.take().join("\n"));
}

#[test]
fn services_are_judged_and_let_go_of_what_they_lose() {
    let service = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let mut lines = String::new();
    for spec in [
        json!({"type": "NodePort", "clusterIP": "None", "ports": ports}),
        json!({"type": "ExternalName"}),
        json!({"ports": [{"port": 80, "nodePort": 30000}], "externalTrafficPolicy": "Local", "loadBalancerClass": "x"}),
        json!({"ports": ports, "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}, "trafficDistribution": "Far"}),
        json!({"ports": ports, "ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack", "externalIPs": ["127.0.0.1"]}),
        json!({"ports": ports, "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.8"]}),
    ] {
        lines.push_str(&causes("Service", service(spec)));
    }
    expect![[r#"
        spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        spec.externalName: Required value
        spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
        spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
        spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        spec.clusterIPs: Invalid value: ["10.43.0.8"]: first value must match `clusterIP`
    "#]].assert_eq(&lines);
    let old = create(
        "Service",
        service(
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "a/b", "ports": ports}),
        ),
    );
    assert!(
        old["spec"]["healthCheckNodePort"].as_i64().is_some_and(|port| port != old["spec"]["ports"][0]["nodePort"])
    );
    let mut new = old.clone();
    new["spec"]["loadBalancerClass"] = "a/c".into();
    expect![[r#"Service "a" is invalid: spec.loadBalancerClass: Invalid value: "a/c": may not change once set"#]]
        .assert_eq(&message(process("Service", new, Operation::Update { old: &old })));
    let mut plain = old.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    let plain = process("Service", plain, Operation::Update { old: &old }).expect("is fine");
    assert_eq!(kind("Service").claims(&plain), ["clusterip/10.43.0.12"]);
    assert_eq!(plain["spec"].get("loadBalancerClass"), None);
    let mut named = plain.clone();
    named["spec"]["type"] = "ExternalName".into();
    named["spec"]["externalName"] = "example.com".into();
    let named = process("Service", named, Operation::Update { old: &plain }).expect("is fine");
    assert_eq!(kind("Service").claims(&named), Vec::<String>::new());
}

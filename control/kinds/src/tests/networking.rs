//! networking, certificates, admissionregistration, apiregistration and flowcontrol.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{create, kind, message, process};
use crate::{Operation, Requester, Subresource, Warnings, WriteContext};

fn refused(name: &str, object: Value, expected: &Expect) {
    expected.assert_eq(&message(process(name, object, Operation::Create)));
}

#[test]
fn mistakes_in_ingresses_are_told() {
    let path = |part: Value| json!({"metadata": {"name": "a"}, "spec": {"rules": [{"host": "1.2.3.4", "http": {"paths": [part]}}]}});
    refused(
        "Ingress",
        json!({"metadata": {"name": "a"}, "spec": {}}),
        &expect![[
            r#"Ingress.networking.k8s.io "a" is invalid: spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"#
        ]],
    );
    let both = json!({"path": "a//b", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"name": "p", "number": 1}}}});
    refused(
        "Ingress",
        path(both),
        &expect![[
            r#"Ingress.networking.k8s.io "a" is invalid: [spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address, spec.rules[0].http.paths[0].path: Invalid value: "a//b": must be an absolute path, spec.rules[0].http.paths[0].path: Invalid value: "a//b": must not contain '//', spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number]"#
        ]],
    );
    refused(
        "Ingress",
        path(json!({"pathType": "Regex", "backend": {}})),
        &expect![[
            r#"Ingress.networking.k8s.io "a" is invalid: [spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address, spec.rules[0].http.paths[0].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix", spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required]"#
        ]],
    );
}

#[test]
fn policies_on_the_network_get_their_defaults() {
    let policy = json!({"metadata": {"name": "a"}, "spec": {
        "podSelector": {}, "egress": [{"ports": [{"port": 53}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    }});
    let policy = create("NetworkPolicy", policy);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let wrong = json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}, "ingress": [{
        "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}],
        "ports": [{"port": 80, "endPort": 70}, {"endPort": 1}],
    }]}});
    refused(
        "NetworkPolicy",
        wrong,
        &expect![[
            r#"NetworkPolicy.networking.k8s.io "a" is invalid: [spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`, spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is not specified, spec.ingress[0].from[0]: Required value: must specify a peer, spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`]"#
        ]],
    );
}

#[test]
fn classes_addresses_and_ranges_stay_what_they_are() {
    let class = create("IngressClass", json!({"metadata": {"name": "a"}, "spec": {"controller": "example.com/x"}}));
    let mut changed = class.clone();
    changed["spec"]["controller"] = "example.com/y".into();
    expect![[r#"IngressClass.networking.k8s.io "a" is invalid: spec.controller: Invalid value: "example.com/y": field is immutable"#]].assert_eq(&message(process("IngressClass", changed, Operation::Update { old: &class })));
    let reference = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    refused(
        "IPAddress",
        json!({"metadata": {"name": "010.0.0.1"}, "spec": {"parentRef": reference}}),
        &expect![[
            r#"IPAddress.networking.k8s.io "010.0.0.1" is invalid: metadata.name: Invalid value: "010.0.0.1": not a valid ip address"#
        ]],
    );
    refused(
        "IPAddress",
        json!({"metadata": {"name": "2001:DB8::1"}, "spec": {"parentRef": {}}}),
        &expect![[
            r#"IPAddress.networking.k8s.io "2001:DB8::1" is invalid: [metadata.name: Invalid value: "2001:DB8::1": must be a canonical format IP address, spec.parentRef.resource: Required value, spec.parentRef.name: Required value]"#
        ]],
    );
    let range = create("ServiceCIDR", json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24"]}}));
    let mut other = range.clone();
    other["spec"]["cidrs"] = json!(["10.0.1.0/24"]);
    expect![[r#"ServiceCIDR.networking.k8s.io "a" is invalid: spec.cidrs: Invalid value: ["10.0.1.0/24"]: field is immutable"#]].assert_eq(&message(process("ServiceCIDR", other, Operation::Update { old: &range })));
    let mut grown = range.clone();
    grown["spec"]["cidrs"] = json!(["10.0.0.0/24", "2001:db8::/64"]);
    assert!(process("ServiceCIDR", grown, Operation::Update { old: &range }).is_ok());
}

#[test]
fn webhooks_and_policies_are_judged() {
    let hook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    let made = create("MutatingWebhookConfiguration", json!({"metadata": {"name": "a"}, "webhooks": [hook]}));
    let own = &made["webhooks"][0];
    for (field, value) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("timeoutSeconds", json!(10)),
        ("reinvocationPolicy", json!("Never")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
    ] {
        assert_eq!(own[field], value, "{field}");
    }
    assert_eq!((&own["clientConfig"]["service"]["port"], &own["rules"][0]["scope"]), (&json!(443), &json!("*")));
    let wrong = json!({"name": "a.b", "sideEffects": "Some", "timeoutSeconds": 31, "admissionReviewVersions": ["v3"],
        "clientConfig": {"url": "http://u@h/p?q#f"},
        "rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*", "a"], "resources": ["pods/*", "pods/status"]}]});
    refused(
        "ValidatingWebhookConfiguration",
        json!({"metadata": {"name": "a"}, "webhooks": [wrong]}),
        &expect![[
            r#"ValidatingWebhookConfiguration.admissionregistration.k8s.io "a" is invalid: [webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots, webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations, webhooks[0].rules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups, webhooks[0].rules[0].apiVersions: Required value, webhooks[0].rules[0].resources[1]: Invalid value: "pods/status": if 'pods/*' is present, must not specify pods/status, webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun", webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds, webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[:port]/path, webhooks[0].clientConfig.url: Invalid value: "u": user information is not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: "f": fragments are not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL, webhooks[0].admissionReviewVersions: Invalid value: ["v3"]: must include at least one of v1, v1beta1]"#
        ]],
    );
    refused(
        "ValidatingAdmissionPolicy",
        json!({"metadata": {"name": "a"}, "spec": {}}),
        &expect![[
            r#"ValidatingAdmissionPolicy.admissionregistration.k8s.io "a" is invalid: [spec.matchConstraints: Required value, spec.validations: Required value: validations or auditAnnotations must contain at least one item, spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item]"#
        ]],
    );
    let binding = json!({"metadata": {"name": "a"}, "spec": {"paramRef": {"name": "p", "selector": {}}, "validationActions": ["Deny", "Warn", "Deny", "Shout"]}});
    refused(
        "ValidatingAdmissionPolicyBinding",
        binding,
        &expect![[
            r#"ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io "a" is invalid: [spec.policyName: Required value, spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: Forbidden: name and selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Required value, spec.validationActions[2]: Duplicate value: "Deny", spec.validationActions[3]: Unsupported value: "Shout": supported values: "Audit", "Deny", "Warn", spec.validationActions: Invalid value: ["Deny","Warn","Deny","Shout"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)]"#
        ]],
    );
    let mutation = json!({"metadata": {"name": "a"}, "spec": {"mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}]}});
    refused(
        "MutatingAdmissionPolicy",
        mutation,
        &expect![[
            r#"MutatingAdmissionPolicy.admissionregistration.k8s.io "a" is invalid: [spec.matchConstraints: Required value, spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch, spec.mutations[0].applyConfiguration: Invalid value: "": must not be specified when patchType is JSONPatch, spec.reinvocationPolicy: Required value]"#
        ]],
    );
}

#[test]
fn local_services_of_the_api_are_available_at_once() {
    let spec = json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15});
    let service = create("APIService", json!({"metadata": {"name": "v1.apps"}, "spec": spec}));
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let cells = kind("APIService").cells(service.to_string().as_bytes(), now).expect("cells");
    assert_eq!(cells[..3], [json!("v1.apps"), json!("Local"), json!("True")]);
    let wrong = json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1001, "insecureSkipTLSVerify": true});
    refused(
        "APIService",
        json!({"metadata": {"name": "apps"}, "spec": wrong}),
        &expect![[
            r#"APIService.apiregistration.k8s.io "apps" is invalid: [metadata.name: Invalid value: "apps": must be `spec.version+"."+spec.group`: "v1.apps", spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000, spec.versionPriority: Invalid value: 1001: must be positive and less than 1000, spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify]"#
        ]],
    );
}

#[test]
fn levels_and_schemas_are_judged() {
    let queuing = json!({"type": "Queue", "queuing": {"queues": 2, "handSize": 8}});
    let level = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"limitResponse": queuing, "lendablePercent": 101}}});
    refused(
        "PriorityLevelConfiguration",
        level,
        &expect![[
            r#"PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io "a" is invalid: [spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive, spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (2)]"#
        ]],
    );
    let rules = json!([{"subjects": [{"kind": "User", "group": {"name": "g"}}], "resourceRules": [{"verbs": ["get", "sing"], "apiGroups": ["*", "a"], "resources": []}]}]);
    let schema = json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": ""}, "rules": rules}});
    refused(
        "FlowSchema",
        schema,
        &expect![[
            r#"FlowSchema.flowcontrol.apiserver.k8s.io "a" is invalid: [spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1, spec.priorityLevelConfiguration.name: Required value: must reference a priority level, spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User', spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group', spec.rules[0].resourceRules[0].verbs: Unsupported value: ["get","sing"]: supported values: "*", "create", "delete", "deletecollection", "get", "list", "patch", "post", "proxy", "update", "watch", spec.rules[0].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups, spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource, spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace]"#
        ]],
    );
}

/// A request of `CN=jane, O=system:masters`, made with openssl and an elliptic key.
const REQUEST: &str = include_str!("request.pem");

fn asked(signer: &str) -> Value {
    let bytes = corten_api::k8s_openapi::ByteString(REQUEST.as_bytes().to_vec());
    json!({"metadata": {"name": "a"}, "spec": {"request": bytes, "signerName": signer, "usages": ["client auth"]}})
}

#[test]
fn requests_for_certificates_are_decided_once() {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let (groups, extra) = (vec!["g".to_owned()], [("k".to_owned(), vec!["v".to_owned()])].into());
    let user = Requester { name: "jane", uid: "1", groups: &groups, extra: &extra };
    let cx = WriteContext { now, claims: &super::Free, user: Some(user), warnings: &Warnings::default() };
    let run = |new: Value, operation: Operation<'_>| kind("CertificateSigningRequest").process(new, operation, &cx);
    let made = run(asked("example.com/s"), Operation::Create).expect("is fine");
    assert_eq!((&made["spec"]["username"], &made["spec"]["extra"]["k"]), (&json!("jane"), &json!(["v"])));
    expect![[r#"certificatesigningrequests.certificates.k8s.io "a" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"#]].assert_eq(&message(run(asked("kubernetes.io/kube-apiserver-client"), Operation::Create)));
    expect![[r#"CertificateSigningRequest.certificates.k8s.io "a" is invalid: [spec.usages[0]: Unsupported value: "x": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping", spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST, spec.signerName: Invalid value: "s": must be a fully qualified domain and path of the form 'example.com/signer-name', spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)]"#]].assert_eq(&message(run(
        json!({"metadata": {"name": "a"}, "spec": {"request": "YQ==", "signerName": "s", "usages": ["x"], "expirationSeconds": 5}}),
        Operation::Create,
    )));
    let mut approved = made.clone();
    approved["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "ok"}]);
    let through_status = run(approved.clone(), Operation::UpdateStatus { old: &made });
    expect![[r#"CertificateSigningRequest.certificates.k8s.io "a" is invalid: status.conditions: Forbidden: updates may not add a condition of type "Approved""#]].assert_eq(&message(through_status));
    let part = |old| Operation::UpdatePart { old, part: Subresource::Approval };
    let approved = run(approved, part(&made)).expect("is fine");
    assert_eq!(approved["status"]["conditions"][0]["lastUpdateTime"], "2026-01-01T00:00:00Z");
    let mut denied = approved.clone();
    denied["status"]["conditions"] = json!([{"type": "Denied", "status": "True"}]);
    expect![[r#"CertificateSigningRequest.certificates.k8s.io "a" is invalid: status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]].assert_eq(&message(run(denied, part(&approved))));
    let mut other = approved.clone();
    other["spec"]["signerName"] = "example.com/other".into();
    let other = run(other, Operation::Update { old: &approved }).expect("is fine");
    assert_eq!(other["spec"], approved["spec"]);
}

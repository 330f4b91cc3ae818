//! Who may do what: roles, bindings, reviews, impersonation and tokens, over HTTP in process.

#[expect(dead_code, reason = "not every suite watches or needs a listening server")]
mod common;

use std::sync::Arc;

use common::Api;
use corten_apiserver::Identity;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CLUSTER_ADMIN: &str = "cluster-admin";

/// Sends a request as somebody: the code and the answer.
async fn send(api: &Api, user: &Identity, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    answer(api, user, request.body(Full::new(body.into())).expect("a request")).await
}

async fn answer(api: &Api, user: &Identity, request: Request<Full<bytes::Bytes>>) -> (u16, Value) {
    let answer = api.raw(user.clone(), request).await;
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn message(answer: &(u16, Value)) -> String {
    format!("{} {}", answer.0, answer.1["message"].as_str().unwrap_or_default())
}

fn object(kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
    });
    for (field, value) in rest.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

fn binding(kind: &str, name: &str, role: (&str, &str), user: &str) -> Value {
    let (role_kind, role) = role;
    object(
        kind,
        name,
        &json!({
            "roleRef": {"kind": role_kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "User", "name": user}],
        }),
    )
}

/// Gives `user` a role of these rules in the whole cluster.
async fn give(api: &Api, user: &str, rules: &[Value]) {
    let name = format!("of-{user}");
    let role = object("ClusterRole", &name, &json!({"rules": rules}));
    let (code, answer) = api.post(&format!("{RBAC}/clusterroles"), &role).await;
    assert_eq!(code, 201, "{answer}");
    let binding = binding("ClusterRoleBinding", &name, ("ClusterRole", &name), user);
    let (code, answer) = api.post(&format!("{RBAC}/clusterrolebindings"), &binding).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io", "a default");
}

#[tokio::test]
async fn a_binding_counts_from_its_commit_to_its_end() {
    let api = Api::new().await;
    let ann = Identity::new("ann", &[]);
    let pods = "/api/v1/namespaces/default/pods";
    let list = async || message(&send(&api, &ann, Method::GET, pods, &Value::Null).await);
    let refused = "403 pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!(list().await, refused);
    let roles = format!("{RBAC}/namespaces/default/rolebindings");
    let (code, answer) = api.post(&roles, &binding("RoleBinding", "b", ("Role", "reader"), "ann")).await;
    assert_eq!(code, 201, "{answer}");
    let missing = "RBAC: role.rbac.authorization.k8s.io \"reader\" not found";
    assert_eq!(list().await, format!("{refused}: {missing}"));
    let role = object("Role", "reader", &json!({"rules": [rule(&["list"], "", &["pods"])]}));
    api.post(&format!("{RBAC}/namespaces/default/roles"), &role).await;
    assert_eq!(list().await, "200 ");
    let elsewhere = send(&api, &ann, Method::GET, "/api/v1/pods", &Value::Null).await;
    assert_eq!(elsewhere.0, 403);
    api.delete(&format!("{roles}/b")).await;
    // What happened in between is forgotten: the policy is read anew.
    api.store.compact(api.store.snapshot().revision()).await.expect("compacts");
    assert_eq!(list().await, refused);
}

#[tokio::test]
async fn refusals_name_what_is_asked() {
    let api = Api::new().await;
    let ann = Identity::new("ann", &[]);
    let ask = async |method: Method, path: &str| message(&send(&api, &ann, method, path, &Value::Null).await);
    let lines = [
        ask(Method::GET, "/api/v1/namespaces/a/pods/b/log").await,
        ask(Method::DELETE, "/apis/apps/v1/namespaces/a/deployments/b").await,
        ask(Method::DELETE, "/apis/apps/v1/namespaces/a/deployments").await,
        ask(Method::GET, "/api/v1/namespaces/a").await,
        ask(Method::GET, "/apis/any.example/v1/things").await,
        ask(Method::GET, "/metrics").await,
        ask(Method::GET, "/api").await,
    ];
    expect_test::expect![[r#"
        403 pods "b" is forbidden: User "ann" cannot get resource "pods/log" in API group "" in the namespace "a"
        403 deployments.apps "b" is forbidden: User "ann" cannot delete resource "deployments" in API group "apps" in the namespace "a"
        403 deployments.apps is forbidden: User "ann" cannot deletecollection resource "deployments" in API group "apps" in the namespace "a"
        403 namespaces "a" is forbidden: User "ann" cannot get resource "namespaces" in API group "" in the namespace "a"
        403 things.any.example is forbidden: User "ann" cannot list resource "things" in API group "any.example" at the cluster scope
        403 forbidden: User "ann" cannot get path "/metrics"
        200 "#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let api = Api::new().await;
    let ann = Identity::new("ann", &[]);
    let all = rule(&["*"], "rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles"]);
    let no_tricks =
        rule(&["create", "update", "patch"], "rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles"]);
    give(&api, "ann", &[no_tricks, rule(&["get"], "", &["pods"])]).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let post = async |path: &str, body: &Value| message(&send(&api, &ann, Method::POST, path, body).await);
    let role = |name: &str, verbs: &[&str]| object("Role", name, &json!({"rules": [rule(verbs, "", &["pods"])]}));
    assert_eq!(post(&roles, &role("own", &["get"])).await, "201 ");
    let refused = "403 roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}";
    assert_eq!(post(&roles, &role("more", &["get", "list"])).await, refused);
    let more = role("own", &["get", "delete"]);
    let changed = send(&api, &ann, Method::PUT, &format!("{roles}/own"), &more).await;
    assert!(message(&changed).contains("Verbs:[\"delete\"]"), "{changed:?}");
    let aggregating = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let answer = post(&format!("{RBAC}/clusterroles"), &object("ClusterRole", "sum", &aggregating)).await;
    assert_eq!(
        answer,
        "403 clusterroles.rbac.authorization.k8s.io \"sum\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );

    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let bind = async |name: &str, role: (&str, &str)| post(&bindings, &binding("RoleBinding", name, role, "bob")).await;
    assert_eq!(bind("a", ("Role", "own")).await, "201 ");
    assert!(
        bind("b", ("ClusterRole", CLUSTER_ADMIN))
            .await
            .contains("is attempting to grant RBAC permissions not currently held")
    );
    assert_eq!(bind("c", ("Role", "gone")).await, "404 role.rbac.authorization.k8s.io \"gone\" not found");

    // The verbs `escalate` and `bind` lift the checks.
    give(&api, "boss", &[all]).await;
    let boss = Identity::new("boss", &[]);
    assert_eq!(send(&api, &boss, Method::POST, &roles, &role("more", &["*"])).await.0, 201);
    let body = binding("RoleBinding", "d", ("ClusterRole", CLUSTER_ADMIN), "bob");
    assert_eq!(send(&api, &boss, Method::POST, &bindings, &body).await.0, 201);
}

#[tokio::test]
async fn roles_and_bindings_are_checked() {
    let api = Api::new().await;
    let post = async |path: &str, body: &Value| message(&api.post(&format!("{RBAC}/{path}"), body).await);
    let url = json!({"rules": [{"verbs": [], "nonResourceURLs": ["/x"]}, {"verbs": ["get"]}]});
    let subject = |subject: Value| json!({"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": [subject]});
    let lines = [
        post("namespaces/default/roles", &object("Role", "a", &url)).await,
        post("clusterroles", &object("ClusterRole", "a%b", &json!({"aggregationRule": {}}))).await,
        post(
            "clusterrolebindings",
            &object("ClusterRoleBinding", "a:B", &json!({"roleRef": {"kind": "Role", "name": ""}})),
        )
        .await,
        post(
            "clusterrolebindings",
            &object("ClusterRoleBinding", "a", &subject(json!({"kind": "ServiceAccount", "name": "x"}))),
        )
        .await,
        post("clusterrolebindings", &object("ClusterRoleBinding", "a", &subject(json!({"kind": "Robot", "name": ""}))))
            .await,
    ];
    expect_test::expect![[r#"
        422 Role.rbac.authorization.k8s.io "a" is invalid: [rules[0].verbs: Required value: verbs must contain at least one value, rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs, rules[1].apiGroups: Required value: resource rules must supply at least one api group, rules[1].resources: Required value: resource rules must supply at least one resource]
        422 ClusterRole.rbac.authorization.k8s.io "a%b" is invalid: [metadata.name: Invalid value: "a%b": may not contain '%', aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil]
        422 ClusterRoleBinding.rbac.authorization.k8s.io "a:B" is invalid: [roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole", roleRef.name: Required value]
        422 ClusterRoleBinding.rbac.authorization.k8s.io "a" is invalid: subjects[0].namespace: Required value
        422 ClusterRoleBinding.rbac.authorization.k8s.io "a" is invalid: [subjects[0].name: Required value, subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"]"#]]
    .assert_eq(&lines.join("\n"));
    give(&api, "ann", &[rule(&["get"], "", &["pods"])]).await;
    let path = format!("{RBAC}/clusterrolebindings/of-ann");
    let other = binding("ClusterRoleBinding", "of-ann", ("ClusterRole", "view"), "ann");
    let answer = api.send(Method::PUT, &path, "application/json", other.to_string()).await;
    assert!(message(&answer).ends_with("cannot change roleRef"), "{answer:?}");
}

async fn review(api: &Api, user: &Identity, kind: &str, spec: &Value) -> (u16, Value) {
    let (group, plural) = match kind {
        "TokenReview" | "SelfSubjectReview" => ("authentication.k8s.io", format!("{}s", kind.to_lowercase())),
        _ => ("authorization.k8s.io", format!("{}s", kind.to_lowercase())),
    };
    let place = if kind.starts_with("Local") { "namespaces/default/" } else { "" };
    let body = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
    send(api, user, Method::POST, &format!("/apis/{group}/v1/{place}{plural}"), &body).await
}

#[tokio::test]
async fn reviews_tell_what_one_may() {
    let api = Api::new().await;
    let (ann, admin) = (Identity::new("ann", &["team"]), Identity::admin());
    give(&api, "ann", &[rule(&["get"], "", &["pods"]), json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]})])
        .await;
    let can = async |user: &Identity, of: Value| {
        let spec = if of["path"].is_string() {
            json!({"nonResourceAttributes": of})
        } else {
            json!({"resourceAttributes": of})
        };
        let (code, answer) = review(&api, user, "SelfSubjectAccessReview", &spec).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"].clone()
    };
    let reason = "RBAC: allowed by ClusterRoleBinding \"of-ann\" of ClusterRole \"of-ann\" to User \"ann\"";
    assert_eq!(
        can(&ann, json!({"verb": "get", "resource": "pods", "namespace": "a"})).await,
        json!({"allowed": true, "reason": reason})
    );
    assert_eq!(
        can(&ann, json!({"verb": "get", "resource": "pods", "subresource": "log"})).await,
        json!({"allowed": false})
    );
    assert_eq!(can(&ann, json!({"verb": "*", "resource": "*", "group": "*"})).await, json!({"allowed": false}));
    assert_eq!(can(&admin, json!({"verb": "*", "resource": "*", "group": "*"})).await, json!({"allowed": true}));
    assert_eq!(can(&ann, json!({"verb": "get", "path": "/logs/x"})).await["allowed"], true);
    assert_eq!(can(&ann, json!({"verb": "get", "resource": "nonsense"})).await["allowed"], false);

    let of = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let spec = json!({"user": "ann", "resourceAttributes": of});
    assert_eq!(review(&api, &admin, "SubjectAccessReview", &spec).await.1["status"]["allowed"], true);
    assert_eq!(review(&api, &admin, "LocalSubjectAccessReview", &spec).await.1["status"]["allowed"], true);
    assert_eq!(review(&api, &ann, "SubjectAccessReview", &spec).await.0, 403);
    let spec = json!({"groups": ["team"], "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "x"}});
    assert_eq!(review(&api, &admin, "SubjectAccessReview", &spec).await.1["status"]["allowed"], false);
    let lines = [
        message(&review(&api, &admin, "LocalSubjectAccessReview", &spec).await),
        message(&review(&api, &admin, "SubjectAccessReview", &json!({})).await),
        message(&review(&api, &ann, "SelfSubjectRulesReview", &json!({})).await),
    ];
    expect_test::expect![[r#"
        422 LocalSubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "x": must match metadata.namespace
        422 SubjectAccessReview.authorization.k8s.io "" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: "": at least one of user or group must be specified]
        400 no namespace on request"#]]
    .assert_eq(&lines.join("\n"));

    let (code, rules) = review(&api, &ann, "SelfSubjectRulesReview", &json!({"namespace": "default"})).await;
    let status = &rules["status"];
    assert_eq!((code, &status["incomplete"]), (201, &json!(false)));
    assert!(status["resourceRules"].as_array().expect("rules").contains(&rule(&["get"], "", &["pods"])), "{status}");
    let paths = status["nonResourceRules"].as_array().expect("rules");
    assert!(paths.contains(&json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]})), "{status}");
    let (code, who) = review(&api, &ann, "SelfSubjectReview", &Value::Null).await;
    let info = json!({"username": "ann", "groups": ["team", "system:authenticated"]});
    assert_eq!((code, &who["status"]["userInfo"]), (201, &info));
}

async fn act_as(api: &Api, user: &Identity, headers: &[(&str, &str)]) -> (u16, Value) {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    answer(api, user, request.body(Full::new(body.into())).expect("a request")).await
}

#[tokio::test]
async fn those_who_may_act_as_others() {
    let api = Api::new().await;
    let ann = Identity::new("ann", &[]);
    let headers = [
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "team"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-acme.com%2Fproject", "x"),
    ];
    let (code, answer) = act_as(&api, &Identity::admin(), &headers).await;
    let info = json!({
        "username": "bob", "uid": "7", "groups": ["team", "system:authenticated"], "extra": {"acme.com/project": ["x"]},
    });
    assert_eq!((code, &answer["status"]["userInfo"]), (201, &info), "{answer}");
    let account = [("Impersonate-User", "system:serviceaccount:a:b")];
    let (_, answer) = act_as(&api, &Identity::admin(), &account).await;
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    assert_eq!(answer["status"]["userInfo"]["groups"], groups);

    let mut lines = vec![message(&act_as(&api, &ann, &headers).await)];
    let users = json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]});
    give(&api, "ann", &[users, json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"]})]).await;
    assert_eq!(act_as(&api, &ann, &headers[..2]).await.0, 201);
    lines.push(message(&act_as(&api, &ann, &headers[..3]).await));
    lines.push(message(&act_as(&api, &ann, &[headers[0], headers[3]]).await));
    lines.push(message(&act_as(&api, &ann, &account).await));
    lines.push(message(&act_as(&api, &ann, &headers[1..2]).await));
    expect_test::expect![[r#"
        403 users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group "" at the cluster scope
        403 uids.authentication.k8s.io "7" is forbidden: User "ann" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope
        403 userextras.authentication.k8s.io "x" is forbidden: User "ann" cannot impersonate resource "userextras/acme.com/project" in API group "authentication.k8s.io" at the cluster scope
        403 serviceaccounts "b" is forbidden: User "ann" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a"
        400 requested [group "team"] without impersonating a user name"#]]
    .assert_eq(&lines.join("\n"));
}

async fn account(api: &Api, name: &str) -> Value {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let (code, answer) = api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    assert_eq!(code, 201, "{answer}");
    answer
}

async fn token(api: &Api, account: &str, spec: Value) -> (u16, Value) {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    api.post(&format!("/api/v1/namespaces/default/serviceaccounts/{account}/token"), &body).await
}

async fn whose(api: &Api, token: &str, audiences: &[&str]) -> Value {
    let spec = json!({"token": token, "audiences": audiences});
    let (code, answer) = review(api, &Identity::admin(), "TokenReview", &spec).await;
    assert_eq!(code, 201, "{answer}");
    answer["status"].clone()
}

#[tokio::test]
async fn tokens_live_as_long_as_what_they_are_bound_to() {
    let api = Api::new().await;
    let own = account(&api, "robot").await;
    account(&api, "other").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "robot", "nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    let (code, pod) = api.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{pod}");
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]});
    let (code, answer) = token(&api, "robot", json!({"expirationSeconds": 3600, "boundObjectRef": reference})).await;
    assert_eq!(code, 201, "{answer}");
    let bound = answer["status"]["token"].as_str().expect("a token").to_owned();
    let status = whose(&api, &bound, &[]).await;
    assert_eq!((&status["authenticated"], &status["user"]["uid"]), (&json!(true), &own["metadata"]["uid"]), "{status}");
    let extra = &status["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([pod["metadata"]["uid"]]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n"]));
    assert!(extra["authentication.kubernetes.io/credential-id"][0].as_str().is_some_and(|id| id.starts_with("JTI=")));
    assert_eq!(whose(&api, &bound, &["vault"]).await["authenticated"], Value::Null, "another audience");

    let (_, answer) = token(&api, "robot", json!({"audiences": ["vault", "x"]})).await;
    let foreign = answer["status"]["token"].as_str().expect("a token").to_owned();
    assert!(whose(&api, &foreign, &[]).await["error"].is_string(), "not for us");
    assert_eq!(whose(&api, &foreign, &["vault", "y"]).await["audiences"], json!(["vault"]));

    let wrong = [
        message(&token(&api, "other", json!({"boundObjectRef": reference})).await),
        message(
            &token(
                &api,
                "robot",
                json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "z"}}),
            )
            .await,
        ),
        message(
            &token(&api, "robot", json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "q"}})).await,
        ),
        message(
            &token(
                &api,
                "robot",
                json!({"boundObjectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "q"}}),
            )
            .await,
        ),
        message(&token(&api, "robot", json!({"expirationSeconds": 599})).await),
        message(&token(&api, "nobody", json!({})).await),
    ];
    expect_test::expect![[r#"
        400 cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.
        409 Operation cannot be fulfilled on pods "p": the UID in the bound object reference (z) does not match the UID in record. The object might have been deleted and then recreated
        404 pods "q" not found
        400 cannot bind token to object of type apps/v1, Kind=Deployment
        422 TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes
        404 serviceaccounts "nobody" not found"#]]
    .assert_eq(&wrong.join("\n"));
    api.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await;
    let status = whose(&api, &bound, &[]).await;
    assert_eq!((&status["authenticated"], &status["user"]), (&Value::Null, &json!({})), "{status}");
}

#[tokio::test]
async fn secrets_hold_tokens_without_end() {
    let api = Api::new().await;
    account(&api, "robot").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "robot"}}});
    let (code, secret) = api.post(secrets, &secret).await;
    assert_eq!(code, 201, "{secret}");
    let text = |key: &str| {
        use base64::Engine;
        let encoded = secret["data"][key].as_str().expect("a value");
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64")).expect("text")
    };
    assert_eq!((text("namespace").as_str(), text("ca.crt").as_str()), ("default", api.pki.ca_pem()));
    assert_eq!(whose(&api, &text("token"), &[]).await["user"]["username"], "system:serviceaccount:default:robot");
    api.delete(&format!("{secrets}/s")).await;
    assert_eq!(whose(&api, &text("token"), &[]).await["authenticated"], Value::Null);
}

#[tokio::test]
async fn tokens_are_published_to_be_checked() {
    let api = Api::new().await;
    let robot = Identity::service_account("default", "robot");
    let get = async |user: &Identity, path: &str| send(&api, user, Method::GET, path, &Value::Null).await;
    let (code, document) = get(&robot, "/.well-known/openid-configuration").await;
    assert_eq!((code, &document["jwks_uri"]), (200, &json!("https://127.0.0.1:6443/openid/v1/jwks")));
    let (_, keys) = get(&robot, "/openid/v1/jwks").await;
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert_eq!(get(&Identity::new("ann", &[]), "/openid/v1/jwks").await.0, 403);
}

#[tokio::test]
async fn the_default_policy_heals_and_keeps_what_was_added() {
    let api = Api::new().await;
    let path = format!("{RBAC}/clusterroles/system:node-proxier");
    let (code, mut role) = api.get(&path).await;
    assert_eq!((code, &role["metadata"]["labels"]["kubernetes.io/bootstrapping"]), (200, &json!("rbac-defaults")));
    let rules = role["rules"].as_array().expect("rules").len();
    role["rules"] = json!([rule(&["get"], "", &["secrets"])]);
    let (code, answer) = api.send(Method::PUT, &path, "application/json", role.to_string()).await;
    assert_eq!(code, 200, "{answer}");
    let frozen = format!("{RBAC}/clusterroles/system:kube-dns");
    let patch = r#"{"metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"false"}},"rules":null}"#;
    assert_eq!(api.send(Method::PATCH, &frozen, "application/merge-patch+json", patch).await.0, 200);
    api.delete(&format!("{RBAC}/clusterrolebindings/system:basic-user")).await;

    let again = Api::with(Some((api.store.clone(), Arc::clone(&api.pki))), common::NoNodes).await;
    let (_, role) = again.get(&path).await;
    assert_eq!(role["rules"].as_array().map(Vec::len), Some(rules + 1), "{role}");
    assert!(again.get(&frozen).await.1["rules"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(again.get(&format!("{RBAC}/clusterrolebindings/system:basic-user")).await.0, 200);
    let revision = again.store.snapshot().revision();
    let third = Api::with(Some((api.store.clone(), Arc::clone(&api.pki))), common::NoNodes).await;
    assert_eq!(third.store.snapshot().revision(), revision, "a start that finds all in place writes nothing");
    let (_, view) = third.get(&format!("{RBAC}/clusterroles/view")).await;
    assert!(view["rules"].as_array().is_some_and(|rules| rules.len() > 5), "aggregated: {view}");
}

#[tokio::test]
async fn reviews_know_what_a_node_may_list_by_its_name() {
    let api = Api::new().await;
    let (admin, node) = (Identity::admin(), Identity::node("n"));
    let fields = |values: Value| {
        let own = json!({"key": "spec.nodeName", "operator": "In", "values": values});
        json!({"fieldSelector": {"requirements": [own]}})
    };
    let labels = |values: Value| {
        let own = json!({"key": "corten.dev/node", "operator": "In", "values": values});
        json!({"labelSelector": {"requirements": [own]}})
    };
    for (resource, selector, allowed) in [
        ("pods", fields(json!(["n"])), true),
        ("pods", fields(json!(["n", "m"])), false),
        ("pods", fields(json!(["m"])), false),
        ("pods", json!({"fieldSelector": {"rawSelector": "spec.nodeName=n"}}), true),
        ("pods", labels(json!(["n"])), false),
        ("persistentvolumes", labels(json!(["n"])), true),
        ("persistentvolumes", labels(json!(["n", "m"])), false),
        ("persistentvolumes", labels(json!(["m"])), false),
        ("persistentvolumes", json!({"labelSelector": {"rawSelector": "corten.dev/node=n"}}), true),
        ("persistentvolumes", fields(json!(["n"])), false),
    ] {
        let mut of = selector.clone();
        of["verb"] = "list".into();
        of["resource"] = resource.into();
        let spec = json!({"user": node.name, "groups": node.groups, "resourceAttributes": of});
        let (code, answer) = review(&api, &admin, "SubjectAccessReview", &spec).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(allowed)), "{resource} {selector}: {answer}");
    }
}

#[tokio::test]
async fn the_clusters_own_parts_may_do_their_work() {
    let api = Api::new().await;
    let admin = Identity::admin();
    let may = async |user: &Identity, question: &str| {
        let mut words = question.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (verb, group, resource) = (word(), word().replace("core", ""), word());
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let of =
            json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": "a"});
        let spec = json!({"user": user.name, "groups": user.groups, "resourceAttributes": of});
        review(&api, &admin, "SubjectAccessReview", &spec).await.1["status"]["allowed"] == true
    };
    let node = Identity::node("n");
    for question in [
        "patch core pods/status",
        "delete core pods",
        "create core nodes",
        "patch core nodes/status",
        "create core events",
        "list core services",
        "watch node.k8s.io runtimeclasses",
    ] {
        assert!(may(&node, question).await, "the node may {question}");
    }
    for question in [
        "update core secrets",
        "list core secrets",
        "list core pods",
        "update coordination.k8s.io leases",
        "create apps deployments",
        "create core pods/exec",
        "delete core nodes",
    ] {
        assert!(!may(&node, question).await, "the node may not {question}");
    }
    let controllers = Identity::controller_manager();
    for question in
        ["create apps replicasets", "delete any.example things", "update rbac.authorization.k8s.io clusterroles"]
    {
        assert!(may(&controllers, question).await, "controllers may {question}");
    }
    for question in ["impersonate core users", "bind rbac.authorization.k8s.io clusterroles", "* * *"] {
        assert!(!may(&controllers, question).await, "controllers may not {question}");
    }
    let scheduler = Identity::scheduler();
    for question in ["create core pods/binding", "patch core pods/status", "list core nodes", "create core events"] {
        assert!(may(&scheduler, question).await, "the scheduler may {question}");
    }
    assert!(!may(&scheduler, "list core secrets").await);
    for question in ["watch core services", "watch discovery.k8s.io endpointslices"] {
        assert!(may(&Identity::proxy(), question).await, "the proxy may {question}");
    }
    assert!(!may(&Identity::proxy(), "list core secrets").await);
}

#[tokio::test]
async fn what_creates_by_another_verb_needs_create() {
    let api = Api::new().await;
    give(&api, "ann", &[rule(&["update", "patch"], "rbac.authorization.k8s.io", &["roles"])]).await;
    let ann = Identity::new("ann", &[]);
    let path = format!("{RBAC}/namespaces/default/roles/r");
    let role = object("Role", "r", &json!({"rules": []}));
    let put = message(&send(&api, &ann, Method::PUT, &path, &role).await);
    let refused = "403 roles.rbac.authorization.k8s.io \"r\" is forbidden: User \"ann\" cannot create resource \"roles\" in API group \"rbac.authorization.k8s.io\" in the namespace \"default\"";
    assert_eq!(put, refused);
    let request =
        Request::patch(format!("{path}?fieldManager=x")).header(header::CONTENT_TYPE, "application/apply-patch+yaml");
    let applied = answer(&api, &ann, request.body(Full::new(role.to_string().into())).expect("a request")).await;
    assert_eq!(message(&applied), refused);
    assert_eq!(send(&api, &Identity::admin(), Method::PUT, &path, &role).await.0, 201);
    assert_eq!(send(&api, &ann, Method::PUT, &path, &role).await.0, 200, "there it is");
}

#[tokio::test]
async fn approving_a_certificate_needs_more_than_writing_the_approval() {
    let api = Api::new().await;
    let ann = Identity::new("ann", &["team"]);
    let (group, requests) = ("certificates.k8s.io", "/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![]).expect("names");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let request = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"},
        "spec": {"request": request, "signerName": "a.example/one", "usages": ["client auth"]}});
    let verbs =
        rule(&["create", "update"], group, &["certificatesigningrequests", "certificatesigningrequests/approval"]);
    give(&api, "ann", &[verbs]).await;
    let (code, mut request) = send(&api, &ann, Method::POST, requests, &request).await;
    assert_eq!((code, &request["spec"]["username"]), (201, &json!("ann")), "{request}");
    request["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Fine"}]});
    let approve = async || send(&api, &ann, Method::PUT, &format!("{requests}/r/approval"), &request).await;
    let refused = "403 certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"a.example/one\"";
    assert_eq!(message(&approve().await), refused);
    let role =
        json!({"verbs": ["approve"], "apiGroups": [group], "resources": ["signers"], "resourceNames": ["a.example/*"]});
    let role = object("ClusterRole", "approver", &json!({"rules": [role]}));
    assert_eq!(api.post(&format!("{RBAC}/clusterroles"), &role).await.0, 201);
    let given = binding("ClusterRoleBinding", "approver", ("ClusterRole", "approver"), "ann");
    assert_eq!(api.post(&format!("{RBAC}/clusterrolebindings"), &given).await.0, 201);
    let (code, approved) = approve().await;
    assert_eq!((code, &approved["status"]["conditions"][0]["type"]), (200, &json!("Approved")), "{approved}");
}

/// Asks for a token as a node.
async fn node_token(api: &Api, node: &str, account: &str, spec: Value) -> String {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    message(&send(api, &Identity::node(node), Method::POST, &path, &body).await)
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_alone() {
    let api = Api::new().await;
    account(&api, "robot").await;
    account(&api, "other").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "robot", "nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    let (code, pod) = api.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{pod}");
    let bound = |kind: &str, uid: &Value| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": "p", "uid": uid}});
    let own = bound("Pod", &pod["metadata"]["uid"]);
    let audiences = |spec: &Value, audiences: &[&str]| {
        let mut spec = spec.clone();
        spec["audiences"] = json!(audiences);
        spec
    };
    let lines = [
        node_token(&api, "n", "robot", own.clone()).await,
        node_token(&api, "m", "robot", own.clone()).await,
        node_token(&api, "n", "robot", json!({})).await,
        node_token(&api, "n", "robot", bound("Secret", &pod["metadata"]["uid"])).await,
        node_token(&api, "n", "robot", bound("Pod", &json!(""))).await,
        node_token(&api, "n", "robot", bound("Pod", &json!("x"))).await,
        node_token(&api, "n", "other", own.clone()).await,
        node_token(&api, "n", "robot", audiences(&own, &["vault"])).await,
        node_token(&api, "n", "robot", audiences(&own, &["a", "b"])).await,
    ];
    expect_test::expect![[r#"
        201 
        403 serviceaccounts "robot" is forbidden: User "system:node:m" cannot create resource "serviceaccounts/token" in API group "" in the namespace "default": no relationship found between node 'm' and this object
        403 serviceaccounts "robot" is forbidden: node requested token not bound to a pod
        403 serviceaccounts "robot" is forbidden: node requested token not bound to a pod
        403 serviceaccounts "robot" is forbidden: node requested token with a pod binding without a uid
        403 serviceaccounts "robot" is forbidden: node requested token bound to a pod scheduled on a different node
        403 serviceaccounts "other" is forbidden: User "system:node:n" cannot create resource "serviceaccounts/token" in API group "" in the namespace "default": no relationship found between node 'n' and this object
        403 serviceaccounts "robot" is forbidden: audience "vault" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience
        403 serviceaccounts "robot" is forbidden: node may only request 0 or 1 audiences"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_request_for_a_token_is_for_the_account_at_its_path() {
    let api = Api::new().await;
    account(&api, "robot").await;
    let ask = async |query: &str, metadata: Value| {
        let body = json!({"metadata": metadata, "spec": {}});
        api.post(&format!("/api/v1/namespaces/default/serviceaccounts/robot/token{query}"), &body).await
    };
    let (code, answer) = ask("?dryRun=All", json!({"name": "robot"})).await;
    assert_eq!((code, &answer["status"]["token"]), (201, &json!("")), "nobody gets a token by a dry run: {answer}");
    assert!(answer["status"]["expirationTimestamp"].is_string(), "{answer}");
    assert_eq!(ask("?dryRun=Some", json!({})).await.0, 400);
    for (metadata, code) in [
        (json!({"name": "other"}), 422),
        (json!({"namespace": "other"}), 422),
        (json!({"uid": "x"}), 409),
        (json!({"name": "robot", "namespace": "default"}), 201),
    ] {
        let (got, answer) = ask("", metadata.clone()).await;
        assert_eq!(got, code, "{metadata}: {answer}");
    }
}

/// Makes a stored object unreadable.
async fn damage(api: &Api, key: &'static str) {
    let (key, value) = (bytes::Bytes::from_static(key.as_bytes()), bytes::Bytes::from_static(b"{"));
    assert!(api.store.snapshot().get(&key).is_some(), "nothing is there");
    let put = corten_store::Op::Put { key, value, stamp: None, lease: 0 };
    api.store.transact(corten_store::Txn { compare: vec![], then: vec![put] }).await.expect("written");
}

#[tokio::test]
async fn deleting_what_cannot_be_read_needs_a_verb_of_its_own() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/services/s";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (_, made) = api.post("/api/v1/namespaces/default/services", &service).await;
    let address = made["spec"]["clusterIP"].clone();
    damage(&api, "/registry/services/specs/default/s").await;
    give(&api, "ann", &[rule(&["delete", "deletecollection"], "", &["services"])]).await;
    let ann = Identity::new("ann", &[]);
    let option = "ignoreStoreReadErrorWithClusterBreakingPotential=true";
    let delete =
        async |query: &str| message(&send(&api, &ann, Method::DELETE, &format!("{path}?{query}"), &Value::Null).await);
    assert!(delete("").await.starts_with("500 "), "it is damaged");
    expect_test::expect![[r#"403 services "s" is forbidden: User "ann" cannot unsafe-delete-ignore-read-errors resource "services" in API group "" in the namespace "default""#]]
        .assert_eq(&delete(option).await);
    let all = format!("/api/v1/namespaces/default/services?{option}");
    assert_eq!(send(&api, &ann, Method::DELETE, &all, &Value::Null).await.0, 422, "one by one");
    let (code, answer) = api.delete(&format!("{path}?{option}")).await;
    assert_eq!(code, 200, "{answer}");
    let mut again = service;
    again["spec"]["clusterIP"] = address;
    let (code, answer) = api.post("/api/v1/namespaces/default/services", &again).await;
    assert_eq!(code, 201, "its address is free again: {answer}");
}

//! Scripts of writes, and who owns what after them.

use std::sync::LazyLock;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);

/// One object and its managers.
#[derive(Clone)]
struct Live {
    kind: (&'static str, &'static str, &'static str),
    object: Option<Value>,
    managers: Managers,
    now: u32,
}

fn live(group: &'static str, version: &'static str, kind: &'static str) -> Live {
    Live { kind: (group, version, kind), object: None, managers: Managers::default(), now: 0 }
}

fn deployment() -> Live {
    live("apps", "v1", "Deployment")
}

fn pod() -> Live {
    live("", "v1", "Pod")
}

fn map() -> Live {
    live("", "v1", "ConfigMap")
}

impl Live {
    fn typed(&self) -> Typed<'static> {
        let root = SCHEMA.find(self.kind.0, self.kind.1, self.kind.2).expect("a kind");
        Typed { schema: &SCHEMA, root, versions: &OneVersion }
    }

    fn author(&self, manager: &str, operation: Operation) -> Author {
        let (group, version, _) = self.kind;
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let time = format!("2026-01-01T00:{:02}:{:02}Z", self.now / 60, self.now % 60);
        Author { manager: manager.to_owned(), operation, api_version, subresource: String::new(), time }
    }

    fn complete(&self, body: Value) -> Value {
        let mut object = json!({
            "apiVersion": self.author("", Operation::Apply).api_version, "kind": self.kind.2,
            "metadata": {"name": "x"},
        });
        crate::patch::merge_patch(&mut object, &body);
        object
    }

    fn apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), String> {
        self.now += 1;
        let mut full = json!({"apiVersion": self.author("", Operation::Apply).api_version, "kind": self.kind.2, "metadata": {"name": "x"}});
        // A merge patch would drop nulls, which mean something here.
        for (key, value) in config.as_object().cloned().unwrap_or_default() {
            match (key.as_str(), value) {
                ("metadata", Value::Object(fields)) => {
                    fields.into_iter().for_each(|(key, value)| full["metadata"][key] = value);
                }
                (_, value) => full[key] = value,
            }
        }
        let author = self.author(manager, Operation::Apply);
        let managers = self.managers.clone();
        match apply(self.typed(), Reset::Status, managers, &author, self.object.as_ref(), &full, force) {
            Ok(Applied { mut object, managers }) => {
                let mut findings = crate::codec::Findings::default();
                crate::codec::conform(&SCHEMA, self.typed().root, &mut object, &mut findings).map_err(|e| e.0)?;
                self.object = Some(object);
                self.managers = Managers::stored(managers.encode());
                Ok(())
            }
            Err(Problem::Invalid(why)) => Err(format!("invalid: {why}")),
            Err(Problem::Conflicts(list)) => Err(conflicts(&list).message),
        }
    }

    fn applied(mut self, manager: &str, config: Value) -> Self {
        self.apply(manager, config, false).expect("is applied");
        self
    }

    fn forced(mut self, manager: &str, config: Value) -> Self {
        self.apply(manager, config, true).expect("is applied");
        self
    }

    fn refused(mut self, manager: &str, config: Value, why: Expect) -> Self {
        let before = (self.object.clone(), self.managers.clone());
        why.assert_eq(&self.apply(manager, config, false).expect_err("is refused"));
        assert_eq!((self.object.clone(), self.managers.clone()), before);
        self
    }

    /// Replaces the object.
    fn updated(mut self, manager: &str, body: Value) -> Self {
        self.now += 1;
        let new = self.complete(body);
        let author = self.author(manager, Operation::Update);
        let managers = std::mem::take(&mut self.managers);
        let managers = update(self.typed(), Reset::Status, managers, &author, self.object.as_ref(), &new);
        self.managers = Managers::stored(managers.encode());
        self.object = Some(new);
        self
    }

    fn is(self, expected: Expect) -> Self {
        let mut lines = Vec::new();
        let mut object = self.object.clone().unwrap_or_default();
        if let Some(map) = object.as_object_mut() {
            map.retain(|key, _| key != "apiVersion" && key != "kind");
            if map["metadata"] == json!({"name": "x"}) {
                map.shift_remove("metadata");
            }
        }
        lines.push(object.to_string());
        for entry in self.managers.clone().encode().iter().flat_map(|list| list.as_array().into_iter().flatten()) {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            let seconds = text("time").rsplit(':').next().unwrap_or_default().trim_end_matches('Z');
            lines.push(format!("{} {} {seconds}: {}", text("manager"), text("operation"), entry["fieldsV1"]));
        }
        expected.assert_eq(&lines.join("\n"));
        self
    }
}

#[test]
fn what_is_applied_is_owned_and_what_is_left_out_goes() {
    deployment()
        .applied("a", json!({"spec": {"replicas": 3, "minReadySeconds": 5}}))
        .is(expect![[r#"
            {"spec":{"replicas":3,"minReadySeconds":5}}
            a Apply 01: {"f:spec":{"f:minReadySeconds":{},"f:replicas":{}}}"#]])
        .applied("a", json!({"spec": {"replicas": 3}}))
        .is(expect![[r#"
            {"spec":{"replicas":3}}
            a Apply 02: {"f:spec":{"f:replicas":{}}}"#]])
        .applied("a", json!({"spec": {"replicas": 3}}))
        .is(expect![[r#"
            {"spec":{"replicas":3}}
            a Apply 02: {"f:spec":{"f:replicas":{}}}"#]]);
}

#[test]
fn others_fields_conflict_are_shared_or_taken() {
    deployment()
        .applied("a", json!({"spec": {"replicas": 3, "paused": true}}))
        .refused(
            "b",
            json!({"spec": {"replicas": 4}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#]],
        )
        .refused(
            "b",
            json!({"spec": {"replicas": 4, "paused": false}}),
            expect![[r#"
                Apply failed with 2 conflicts: conflicts with "a":
                - .spec.paused
                - .spec.replicas"#]],
        )
        // The same value makes both owners.
        .applied("b", json!({"spec": {"replicas": 3}}))
        .is(expect![[r#"
            {"spec":{"replicas":3,"paused":true}}
            a Apply 01: {"f:spec":{"f:paused":{},"f:replicas":{}}}
            b Apply 04: {"f:spec":{"f:replicas":{}}}"#]])
        // What one owner leaves, the other keeps.
        .applied("a", json!({"spec": {"paused": true}}))
        .is(expect![[r#"
            {"spec":{"replicas":3,"paused":true}}
            b Apply 04: {"f:spec":{"f:replicas":{}}}
            a Apply 05: {"f:spec":{"f:paused":{}}}"#]])
        .forced("c", json!({"spec": {"replicas": 9, "paused": false}}))
        .is(expect![[r#"
            {"spec":{"replicas":9,"paused":false}}
            c Apply 06: {"f:spec":{"f:paused":{},"f:replicas":{}}}"#]]);
}

#[test]
fn updates_take_what_they_change_and_conflict_with_the_next_apply() {
    deployment()
        .applied("a", json!({"spec": {"replicas": 3, "paused": true}}))
        .updated("kubectl-scale", json!({"spec": {"replicas": 5, "paused": true}}))
        .is(expect![[r#"
            {"spec":{"replicas":5,"paused":true}}
            a Apply 01: {"f:spec":{"f:paused":{}}}
            kubectl-scale Update 02: {"f:spec":{"f:replicas":{}}}"#]])
        .refused(
            "a",
            json!({"spec": {"replicas": 3, "paused": true}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "kubectl-scale" using apps/v1: .spec.replicas"#]],
        )
        .applied("a", json!({"spec": {"paused": true}}))
        .updated("other", json!({"spec": {"replicas": 5}}))
        .is(expect![[r#"
            {"spec":{"replicas":5}}
            kubectl-scale Update 02: {"f:spec":{"f:replicas":{}}}"#]])
        // No change: no time.
        .updated("other", json!({"spec": {"replicas": 5}}))
        .is(expect![[r#"
            {"spec":{"replicas":5}}
            kubectl-scale Update 02: {"f:spec":{"f:replicas":{}}}"#]]);
}

#[test]
fn a_created_object_is_recorded_as_upstream_does() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{
        "name": "c", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "env": [{"name": "A", "value": "1"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }], "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]}});
    deployment()
        .updated("kubectl-create", json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}, "finalizers": ["x/y"], "uid": "1", "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}},
            "status": {"replicas": 3},
        }))
        .is(expect![[r#"
            {"metadata":{"name":"x","labels":{"app":"web"},"annotations":{"a":"b"},"finalizers":["x/y"],"uid":"1","generation":1},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"web:1","ports":[{"containerPort":80,"protocol":"TCP"}],"env":[{"name":"A","value":"1"}],"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{}}],"tolerations":[{"operator":"Exists"}]}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%"}}},"status":{"replicas":3}}
            kubectl-create Update 01: {"f:metadata":{"f:annotations":{".":{},"f:a":{}},"f:finalizers":{".":{},"v:\"x/y\"":{}},"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{},"f:volumeMounts":{".":{},"k:{\"mountPath\":\"/v\"}":{".":{},"f:mountPath":{},"f:name":{}}}}},"f:tolerations":{},"f:volumes":{".":{},"k:{\"name\":\"v\"}":{".":{},"f:emptyDir":{},"f:name":{}}}}}}}"#]]);
}

#[test]
fn keyed_lists_merge_by_key_with_defaults_and_keep_an_order() {
    let containers = |items: Value| json!({"spec": {"containers": items}});
    pod()
        .applied("a", containers(json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}])))
        .applied("b", containers(json!([{"name": "b", "image": "1"}, {"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}])))
        .is(expect![[r#"
            {"spec":{"containers":[{"name":"b","image":"1"},{"name":"a","image":"1","ports":[{"containerPort":80,"protocol":"TCP","name":"web"}]}]}}
            a Apply 01: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}
            b Apply 02: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}}},"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}}}"#]])
        .applied("b", containers(json!([{"name": "c", "image": "1"}])))
        .is(expect![[r#"
            {"spec":{"containers":[{"name":"a","image":"1","ports":[{"containerPort":80}]},{"name":"c","image":"1"}]}}
            a Apply 01: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}
            b Apply 03: {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}"#]]);
}

#[test]
fn orders_of_lists_meet_as_upstream_has_them() {
    let order = |live: &[&str], config: &[&str]| -> String {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let pod = pod().updated("u", json!({"spec": {"containers": list(live)}}));
        let pod = pod.applied("a", json!({"spec": {"containers": list(config)}}));
        let object = pod.object.expect("there");
        let names = object["spec"]["containers"].as_array().expect("a list").iter();
        names.map(|item| item["name"].as_str().unwrap_or_default()).collect()
    };
    for (live, config, expected) in [
        (&["a", "b", "c"][..], &["b"][..], "abc"),
        (&["a", "b", "c"], &["c", "b"], "acb"),
        (&["a", "b"], &["c"], "abc"),
        (&["a", "b"], &["c", "b"], "acb"),
        (&["a", "b", "c", "d"], &["d", "a"], "bcda"),
        (&["a"], &["b", "a"], "ba"),
        (&["a", "b"], &["b", "x", "a"], "bxa"),
        (&[], &["b", "a"], "ba"),
    ] {
        assert_eq!(order(live, config), expected, "{live:?} and {config:?}");
    }
}

#[test]
fn sets_are_owned_value_by_value_and_atoms_as_a_whole() {
    let finalizers = |values: &[&str]| json!({"metadata": {"finalizers": values}});
    map()
        .applied("a", finalizers(&["x/a", "x/b"]))
        .applied("b", finalizers(&["x/b", "x/c"]))
        .applied("a", finalizers(&["x/d"]))
        .is(expect![[r#"
            {"metadata":{"name":"x","finalizers":["x/b","x/c","x/d"]}}
            b Apply 02: {"f:metadata":{"f:finalizers":{"v:\"x/b\"":{},"v:\"x/c\"":{}}}}
            a Apply 03: {"f:metadata":{"f:finalizers":{"v:\"x/d\"":{}}}}"#]]);
    let selector = |labels: Value| json!({"spec": {"selector": {"matchLabels": labels}}});
    deployment().applied("a", selector(json!({"app": "web"}))).refused(
        "b",
        selector(json!({"tier": "front"})),
        expect![[r#"Apply failed with 1 conflict: conflict with "a": .spec.selector"#]],
    );
}

#[test]
fn maps_are_owned_entry_by_entry() {
    map()
        .applied("a", json!({"data": {"k": "1", "l": "1"}}))
        .applied("b", json!({"data": {"m": "1"}}))
        .applied("a", json!({"data": {"l": "1"}}))
        .is(expect![[r#"
            {"data":{"l":"1","m":"1"}}
            b Apply 02: {"f:data":{"f:m":{}}}
            a Apply 03: {"f:data":{"f:l":{}}}"#]])
        .refused(
            "b",
            json!({"data": {"m": "1", "l": "2"}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "a": .data.l"#]],
        )
        .applied("a", json!({}))
        .is(expect![[r#"
            {"data":{"m":"1"}}
            b Apply 02: {"f:data":{"f:m":{}}}"#]]);
}

#[test]
fn null_takes_a_field_away_and_owns_it() {
    deployment()
        .updated("u", json!({"spec": {"replicas": 3, "paused": true}}))
        .refused(
            "a",
            json!({"spec": {"replicas": null}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "u" using apps/v1: .spec.replicas"#]],
        )
        .forced("a", json!({"spec": {"replicas": null}}))
        .is(expect![[r#"
            {"spec":{"paused":true}}
            a Apply 03: {"f:spec":{"f:replicas":{}}}
            u Update 01: {"f:spec":{"f:paused":{}}}"#]]);
}

#[test]
fn removing_an_item_spares_what_others_own_in_it() {
    let container = |fields: Value| json!({"spec": {"containers": [fields]}});
    pod()
        .applied("a", container(json!({"name": "c", "image": "1"})))
        .applied("b", container(json!({"name": "c", "stdin": true})))
        .applied("a", json!({"spec": {"hostNetwork": true}}))
        .is(expect![[r#"
            {"spec":{"containers":[{"name":"c","stdin":true}],"hostNetwork":true}}
            b Apply 02: {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:stdin":{}}}}}
            a Apply 03: {"f:spec":{"f:hostNetwork":{}}}"#]]);
    // Unowned parts go with their item.
    let mut pod = pod().applied("a", container(json!({"name": "c", "image": "1"})));
    pod.object.as_mut().expect("there")["spec"]["containers"][0]["tty"] = true.into();
    pod.applied("a", json!({"spec": {"hostNetwork": true}})).is(expect![[r#"
        {"spec":{"hostNetwork":true}}
        a Apply 02: {"f:spec":{"f:hostNetwork":{}}}"#]]);
}

#[test]
fn what_was_there_before_the_first_apply_is_owned_by_a_name_of_its_own() {
    let mut object = deployment();
    object.object = Some(object.complete(json!({"spec": {"replicas": 3}})));
    object
        .refused(
            "a",
            json!({"spec": {"replicas": 4}}),
            expect![[
                r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
            ]],
        )
        .applied("a", json!({"spec": {"replicas": 3}}))
        .is(expect![[r#"
            {"spec":{"replicas":3}}
            a Apply 02: {"f:spec":{"f:replicas":{}}}
            before-first-apply Update 02: {"f:spec":{"f:replicas":{}}}"#]]);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let annotated = |replicas: i64, last: i64| {
        let last = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": last}});
        json!({"metadata": {"annotations": {LAST_APPLIED: last.to_string()}}, "spec": {"replicas": replicas, "paused": true}})
    };
    deployment()
        .updated("kubectl-client-side-apply", annotated(3, 3))
        .refused(
            "someone",
            json!({"spec": {"replicas": 4}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#]],
        )
        .refused(
            "kubectl",
            json!({"spec": {"replicas": 4, "paused": false}}),
            expect![[r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.paused"#]],
        )
        .applied("kubectl", json!({"spec": {"replicas": 4}}))
        .is(expect![[r#"
            {"metadata":{"name":"x","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"x\"},\"spec\":{\"replicas\":4}}\n"}},"spec":{"replicas":4,"paused":true}}
            kubectl Apply 04: {"f:spec":{"f:replicas":{}}}
            kubectl-client-side-apply Update 01: {"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}},"f:spec":{"f:paused":{}}}"#]]);
    // What was changed since is not client-side apply's any more.
    deployment().updated("kubectl-client-side-apply", annotated(5, 3)).refused(
        "kubectl",
        json!({"spec": {"replicas": 4}}),
        expect![[
            r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
        ]],
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused_with_their_paths() {
    let containers = |items: Value| json!({"spec": {"containers": items}});
    pod()
        .refused("a", json!({"spec": {"colour": 1}}), expect!["invalid: .spec.colour: field not declared in schema"])
        .refused(
            "a",
            containers(json!([{"name": "c", "env": [{"name": "A"}, {"name": "B"}, {"name": "A"}]}])),
            expect![[r#"invalid: .spec.containers[name="c"].env: duplicate entries for key [name="A"]"#]],
        )
        .refused("a", containers(json!({"name": "c"})), expect!["invalid: .spec.containers: expected list, got map"])
        .refused(
            "a",
            containers(json!([null, "c"])),
            expect![[r#"
                invalid: errors:
                  .spec.containers: element 0: associative list with keys may not have a null element
                  .spec.containers: element 1: associative list with keys may not have non-map elements"#]],
        )
        .refused(
            "a",
            json!({"metadata": {"finalizers": ["x", "x"]}}),
            expect![[r#"invalid: .metadata.finalizers: duplicate entries for key [="x"]"#]],
        )
        .refused(
            "a",
            json!({"spec": {"priority": "high"}}),
            expect!["invalid: .spec.priority: expected numeric (int or float), got string"],
        );
}

#[test]
fn the_status_is_not_owned_through_the_object_nor_the_rest_through_the_status() {
    let deployment = deployment().updated("a", json!({"spec": {"replicas": 1}, "status": {"replicas": 1}}));
    let author = Author { subresource: "status".to_owned(), ..deployment.author("controller", Operation::Update) };
    let mut new = deployment.object.clone().expect("there");
    new["spec"]["replicas"] = 2.into();
    new["status"] = json!({"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]});
    let managers = deployment.managers.clone();
    let managers = update(deployment.typed(), Reset::AllButStatus, managers, &author, deployment.object.as_ref(), &new);
    let after = Live { object: Some(new), managers: Managers::stored(managers.encode()), ..deployment };
    after.is(expect![[r#"
        {"spec":{"replicas":2},"status":{"replicas":2,"conditions":[{"type":"Available","status":"True"}]}}
        a Update 01: {"f:spec":{"f:replicas":{}}}
        controller Update 01: {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#]]);
}

#[test]
fn updates_beyond_the_tenth_are_put_together() {
    let mut object = map();
    for number in 0..14 {
        let mut data = object.object.clone().unwrap_or_default()["data"].as_object().cloned().unwrap_or_default();
        data.insert(format!("k{number:02}"), "v".into());
        object = object.updated(&format!("m{number:02}"), json!({"data": data}));
    }
    let encoded = object.managers.clone().encode().expect("managers");
    let names: Vec<&str> =
        encoded.as_array().expect("a list").iter().map(|entry| entry["manager"].as_str().expect("a name")).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert_eq!((names[0], names[9]), ("ancient-changes", "m13"));
    let ancient = object.managers.set_of("ancient-changes", Operation::Update, "").expect("there");
    assert_eq!(ancient.paths().len(), 6, "the map and five entries");
}

#[test]
fn entries_of_clients_are_checked() {
    let entry = |field: &str, value: Value| {
        let mut entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
        entry[field] = value;
        json!([entry])
    };
    assert!(Managers::parse(&entry("manager", json!("n"))).is_ok());
    for (field, value) in [
        ("operation", json!("Delete")),
        ("fieldsType", json!("FieldsV2")),
        ("fieldsType", json!("")),
        ("fieldsV1", json!({"f:a": 1})),
        ("fieldsV1", json!({"k:[]": {}})),
        ("fieldsV1", json!({"nocolon": {}})),
        ("time", json!("yesterday")),
        ("manager", json!("x".repeat(200))),
    ] {
        assert!(Managers::parse(&entry(field, value.clone())).is_err(), "{field} {value}");
    }
    assert!(Managers::is_reset(&json!([])) && Managers::is_reset(&json!([{}])));
    assert!(!Managers::is_reset(&json!([{"manager": "a"}])));
}

#[test]
fn raw_json_is_owned_part_by_part() {
    let mut value = json!({"a": {"b": 1, "c": [1]}, "d": 1});
    let config = json!({"a": {"b": 2}, "d": {"e": 1}});
    let any = SCHEMA.definition("io.k8s.apimachinery.pkg.runtime.RawExtension").expect("known");
    let node = shape::Node::root(&SCHEMA, any);
    let set = extract::field_set(node, &config);
    assert_eq!(fields_v1::encode(&set).to_string(), r#"{"f:a":{".":{},"f:b":{}},"f:d":{".":{},"f:e":{}}}"#);
    value = merge::merge(node, Some(&value), &config);
    assert_eq!(value, json!({"a": {"b": 2, "c": [1]}, "d": {"e": 1}}));
}

#[test]
fn large_objects_take_no_square_of_time() {
    let data = |from: usize, value: &str| {
        let entries = (from..from + 10_000).map(|n| (format!("k{n}"), json!(value)));
        json!({"data": entries.collect::<serde_json::Map<_, _>>()})
    };
    let object = map()
        .updated("u", data(0, "a"))
        .forced("a", data(5_000, "b"))
        .updated("u", data(5_000, "c"))
        .forced("a", json!({"data": {"k": "v"}}));
    assert_eq!(object.object.expect("there")["data"].as_object().map(serde_json::Map::len), Some(10_001));
    let containers = |from: usize| {
        let containers = (from..from + 2_000).map(|n| json!({"name": format!("c{n}"), "image": "x"}));
        json!({"spec": {"containers": containers.collect::<Vec<_>>()}})
    };
    let object = pod().updated("u", containers(0)).forced("a", containers(1_000)).forced("a", json!({}));
    let left = object.object.expect("there")["spec"]["containers"].as_array().map(Vec::len);
    assert_eq!(left, Some(2_000), "those that somebody else made stay");
}

/// Versions in which one field has another name.
struct Renamed;

impl Versions for Renamed {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef)> {
        let mut object = object.clone();
        let (from, to, version) = match api_version {
            "autoscaling/v1" => ("minReplicas", "minReplicas", "v1"),
            "autoscaling/v2" => ("minReplicas", "minReplicas", "v2"),
            _ => return None,
        };
        if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.shift_remove(from)) {
            object["spec"][to] = value;
        }
        object["apiVersion"] = api_version.into();
        Some((object, SCHEMA.find("autoscaling", version, "HorizontalPodAutoscaler").expect("known")))
    }
}

#[test]
fn ownership_holds_across_versions() {
    let typed = |version| Typed {
        schema: &SCHEMA,
        root: SCHEMA.find("autoscaling", version, "HorizontalPodAutoscaler").expect("known"),
        versions: &Renamed,
    };
    let author = |manager: &str, version: &str| Author {
        manager: manager.to_owned(),
        operation: Operation::Apply,
        api_version: format!("autoscaling/{version}"),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
    };
    let config = |version: &str, least: i64| json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": {"minReplicas": least, "maxReplicas": 9}});
    let run = |managers: Managers, live: Option<&Value>, manager: &str, version: &'static str, config: &Value| {
        apply(typed(version), Reset::Status, managers, &author(manager, version), live, config, false)
    };
    let first = run(Managers::default(), None, "a", "v1", &config("v1", 2)).expect("is applied");
    let (live, _) = Renamed.convert(&first.object, "autoscaling/v2").expect("served");
    let Err(Problem::Conflicts(list)) = run(first.managers.clone(), Some(&live), "b", "v2", &config("v2", 3)) else {
        panic!("the field is owned in another version")
    };
    assert_eq!(conflicts(&list).message, r#"Apply failed with 1 conflict: conflict with "a": .spec.minReplicas"#);
    // The same manager moves to another version, and leaves a field out.
    let mut less = config("v2", 2);
    less["spec"].as_object_mut().expect("a map").shift_remove("minReplicas");
    let second = run(first.managers, Some(&live), "a", "v2", &less).expect("is applied");
    assert_eq!(second.object["spec"], json!({"maxReplicas": 9}));
    let encoded = second.managers.encode().expect("managers");
    assert_eq!(encoded[0]["apiVersion"], "autoscaling/v2");
    assert_eq!(encoded.as_array().expect("a list").len(), 1);
}

/// Image, ports, stdin.
type Parts = (Option<String>, Vec<Value>, Option<bool>);

fn pods() -> impl Strategy<Value = Value> {
    let ports = prop::collection::btree_map(1..4_u16, prop::option::of("[ab]"), 0..3).prop_map(|ports| {
        let port = |(number, name): (u16, Option<String>)| match name {
            Some(name) => json!({"containerPort": number, "name": name}),
            None => json!({"containerPort": number, "protocol": "UDP"}),
        };
        ports.into_iter().map(port).collect::<Vec<Value>>()
    });
    let container = (prop::option::of("[ab]"), ports, prop::option::of(any::<bool>()));
    let containers = prop::collection::btree_map("[a-d]", container, 0..4).prop_map(|containers| {
        let container = |(name, (image, ports, stdin)): (String, Parts)| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = image.into();
            }
            if !ports.is_empty() {
                container["ports"] = ports.into();
            }
            if let Some(stdin) = stdin {
                container["stdin"] = stdin.into();
            }
            container
        };
        containers.into_iter().map(container).collect::<Vec<Value>>()
    });
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    let finalizers = prop::collection::btree_set("[a-c]", 0..3);
    (containers, labels, finalizers, prop::option::of(0..3_i32), any::<bool>()).prop_map(
        |(containers, labels, finalizers, priority, turned)| {
            let mut containers = containers;
            if turned {
                containers.reverse();
            }
            let mut spec = json!({"restartPolicy": "Never"});
            if !containers.is_empty() {
                spec["containers"] = containers.into();
            }
            if let Some(priority) = priority {
                spec["priority"] = priority.into();
                spec["nodeSelector"] = json!({"p": "q"});
            }
            let mut metadata = json!({});
            if !labels.is_empty() {
                metadata["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                metadata["finalizers"] = json!(finalizers);
            }
            json!({"metadata": metadata, "spec": spec})
        },
    )
}

/// All that a manager owns is in the object, and what one just applied is there as applied.
fn holds(live: &Live) -> Result<(), TestCaseError> {
    let node = shape::Node::root(&SCHEMA, live.typed().root);
    let object = live.object.clone().unwrap_or_default();
    let there = extract::field_set(node, &object).with_structs(node);
    for entry in &live.managers.entries {
        let owned = entry.set();
        // A map or list that is empty now is no path of its own; nor is a struct that Go writes unasked.
        let gone: Vec<String> = owned
            .difference(&there)
            .paths()
            .iter()
            .map(|path| set::show(path))
            .filter(|path| !["labels", "finalizers", "ports", "resources"].iter().any(|name| path.ends_with(name)))
            .collect();
        prop_assert!(gone.is_empty(), "{} owns {gone:?}, which are not in {object}", entry.manager);
    }
    Ok(())
}

proptest! {
    #[test]
    fn applying_twice_changes_nothing(first in pods(), second in pods(), third in pods()) {
        let mut live = pod().updated("u", first);
        live.apply("a", second, true).expect("is applied");
        holds(&live)?;
        live.apply("b", third.clone(), true).expect("is applied");
        holds(&live)?;
        let before = live.clone();
        live.apply("b", third, false).expect("is applied");
        prop_assert_eq!(&live.object, &before.object);
        prop_assert_eq!(&live.managers, &before.managers);
        holds(&live)?;
    }

    #[test]
    fn what_is_applied_alone_is_the_object(first in pods(), second in pods()) {
        let mut live = pod();
        live.apply("a", first, false).expect("is applied");
        live.apply("a", second.clone(), false).expect("is applied");
        let mut fresh = pod();
        fresh.apply("a", second, false).expect("is applied");
        let node = shape::Node::root(&SCHEMA, live.typed().root);
        let (one, other) = (live.object.expect("there"), fresh.object.expect("there"));
        prop_assert_eq!(extract::field_set(node, &one), extract::field_set(node, &other));
    }

    #[test]
    fn managers_of_different_fields_commute(left in prop::collection::btree_map("a[a-c]", "[xy]", 0..4), right in prop::collection::btree_map("b[a-c]", "[xy]", 0..4)) {
        let run = |pairs: [(&str, &std::collections::BTreeMap<String, String>); 2]| {
            let mut live = map();
            for (manager, data) in pairs {
                live.apply(manager, json!({"data": data}), false).expect("no conflict");
            }
            let sets = ["a", "b"].map(|manager| live.managers.set_of(manager, Operation::Apply, ""));
            (extract::field_set(shape::Node::root(&SCHEMA, live.typed().root), &live.object.expect("there")), sets)
        };
        prop_assert_eq!(run([("a", &left), ("b", &right)]), run([("b", &right), ("a", &left)]));
    }

    #[test]
    fn an_update_disowns_what_it_writes(first in pods(), second in pods()) {
        let mut live = pod();
        live.apply("a", first, false).expect("is applied");
        let live = live.updated("u", second);
        holds(&live)?;
    }

    #[test]
    fn fields_v1_survive_and_no_text_panics(paths in prop::collection::vec(prop::collection::vec(element(), 1..5), 0..12), text in ".{0,40}") {
        let set: FieldSet = paths.iter().cloned().collect();
        let encoded = fields_v1::encode(&set);
        prop_assert_eq!(fields_v1::decode(&encoded).expect("reads"), set.clone());
        for path in &paths {
            prop_assert!(set.contains(path));
        }
        let half: FieldSet = paths.iter().take(paths.len() / 2).cloned().collect();
        let mut raw = encoded.as_object().cloned().expect("an object");
        fields_v1::subtract(&mut raw, &half);
        prop_assert_eq!(Value::Object(raw).to_string(), fields_v1::encode(&set.difference(&half)).to_string());
        prop_assert_eq!(set.intersection(&half), half.clone());
        prop_assert_eq!(set.difference(&half).union(&half), set);
        let _ = Element::decode(&text);
        let _ = fields_v1::decode(&json!({text: {}}));
    }

    #[test]
    fn no_configuration_panics(config in wild(), live in wild()) {
        let mut object = pod();
        object.object = Some(object.complete(json!({"spec": {"containers": [{"name": "a"}]}})));
        let _ = object.apply("a", config.clone(), true);
        let typed = object.typed();
        let node = shape::Node::root(&SCHEMA, typed.root);
        let set = extract::field_set(node, &config);
        let _ = merge::merge(node, Some(&live), &config);
        let _ = compare::compare(node, Some(&live), Some(&config));
        let _ = remove::remove(node, &live, &set);
    }
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        "[a-c.\"/]{1,3}".prop_map(|name| Element::field(&name)),
        ("[ab]", 0..3_i32).prop_map(|(name, port)| {
            Element::Key([("name".into(), json!(name)), ("port".into(), json!(port))].into())
        }),
        "[ab]".prop_map(|text| Element::Value(json!(text))),
        any::<bool>().prop_map(|value| Element::Value(json!(value))),
        (0..3_i64).prop_map(Element::Index),
    ]
}

/// Values that have the right names and the wrong everything else.
fn wild() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "containers",
        "name",
        "ports",
        "containerPort",
        "labels",
        "finalizers",
        "env",
        "volumes",
        "ownerReferences",
        "uid",
        "resources",
        "limits",
        "x",
    ]);
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(names.clone(), inner, 0..5)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

//! Paths of a kind: its objects, its subresources, and the old form of watches.

use serde_json::{Map, Value};

use super::definitions::Form;
use super::operations::{
    Answer, CREATED, DELETE_OPTIONS, DELETED, Gvk, OK, Operation, PATCH, REPLACED, STATUS, WATCH_EVENT, item,
};
use super::parameters::{self, BELOW, NAME, NAMESPACE, PRETTY, Parameter};
use super::{Served, ServedPart};
use crate::names::Scope;

/// Finds the definition of a group, version and kind.
pub(super) type Find<'a> = &'a dyn Fn(Gvk) -> String;

/// Adds the paths of a kind and its subresources.
pub(super) fn add(paths: &mut Map<String, Value>, kind: &Served, form: Form, find: Find<'_>) {
    let writer = Writer { kind, find, namespaced: kind.scope == Scope::Namespaced };
    let names = kind.names;
    let root = match names.group {
        "" => format!("/api/{}", names.version),
        group => format!("/apis/{group}/{}", names.version),
    };
    let place = if writer.namespaced { "/namespaces/{namespace}" } else { "" };
    let mut put = |path: String, operations: &[Operation]| {
        if !operations.is_empty() {
            paths.insert(path, item(operations, form));
        }
    };
    put(format!("{root}{place}/{}", names.plural), &writer.collection());
    put(format!("{root}{place}/{}/{{name}}", names.plural), &writer.object());
    for part in kind.subresources {
        let path = format!("{root}{place}/{}/{{name}}/{}", names.plural, part.name);
        put(path.clone(), &writer.part(part));
        if part.name == "proxy" {
            put(format!("{path}/{{path}}"), &writer.connections(part, true));
        }
    }
    if writer.namespaced && writer.can("list") {
        put(format!("{root}/{}", names.plural), &[writer.list(true)]);
    }
    if writer.can("watch") {
        put(format!("{root}/watch{place}/{}", names.plural), &[writer.watch_list(false)]);
        put(format!("{root}/watch{place}/{}/{{name}}", names.plural), &[writer.watch()]);
        if writer.namespaced {
            put(format!("{root}/watch/{}", names.plural), &[writer.watch_list(true)]);
        }
    }
}

struct Writer<'a> {
    kind: &'a Served,
    find: Find<'a>,
    namespaced: bool,
}

impl Writer<'_> {
    fn can(&self, verb: &str) -> bool {
        self.kind.verbs.contains(&verb)
    }

    fn own(&self) -> Gvk {
        let names = self.kind.names;
        (names.group, names.version, names.kind)
    }

    /// `AppsV1`, what ids have after their verb.
    fn stem(&self) -> String {
        format!("{}{}", group_word(self.kind.names.group, true), capital(self.kind.names.version))
    }

    /// `NamespacedDeployment`.
    fn subject(&self) -> String {
        format!("{}{}", if self.namespaced { "Namespaced" } else { "" }, self.kind.names.kind)
    }

    fn base(&self, method: &'static str, action: &'static str) -> Operation {
        let mut parameters = Vec::new();
        if self.namespaced {
            parameters.push(NAMESPACE);
        }
        if action != "connect" {
            parameters.push(PRETTY);
        }
        Operation {
            method,
            action,
            id: String::new(),
            tag: format!("{}_{}", group_word(self.kind.names.group, false), self.kind.names.version),
            description: String::new(),
            parameters,
            body: None,
            answer: Answer::Object((self.find)(self.own())),
            codes: OK,
            gvk: Some(self.own()),
        }
    }

    fn named(&self, method: &'static str, action: &'static str, parameters: &[Parameter]) -> Operation {
        let mut operation = self.base(method, action);
        operation.parameters.insert(0, NAME);
        operation.parameters.extend_from_slice(parameters);
        operation
    }

    /// A list, of one place or of all namespaces.
    fn list(&self, everywhere: bool) -> Operation {
        let names = self.kind.names;
        let list = (self.find)((names.group, names.version, self.kind.list_kind));
        let mut operation = self.base("get", "list");
        operation.parameters.extend_from_slice(parameters::LIST);
        operation.answer = Answer::Object(list);
        operation.description = format!("List objects of kind {}, or watch them.", names.kind);
        operation.id = self.listed("list", "", everywhere, &mut operation.parameters);
        operation
    }

    /// The id of an operation on many objects.
    fn listed(&self, verb: &str, suffix: &str, everywhere: bool, parameters: &mut Vec<Parameter>) -> String {
        if everywhere {
            parameters.retain(|one| *one != NAMESPACE);
            format!("{verb}{}{}{suffix}ForAllNamespaces", self.stem(), self.kind.names.kind)
        } else {
            format!("{verb}{}{}{suffix}", self.stem(), self.subject())
        }
    }

    fn watch_list(&self, everywhere: bool) -> Operation {
        let mut operation = self.base("get", "watchlist");
        operation.parameters.extend_from_slice(parameters::LIST);
        operation.answer = Answer::Object(WATCH_EVENT.to_owned());
        operation.description =
            format!("Deprecated: list with the parameter watch. Watch objects of kind {}.", self.kind.names.kind);
        operation.id = self.listed("watch", "List", everywhere, &mut operation.parameters);
        operation
    }

    fn watch(&self) -> Operation {
        let mut operation = self.named("get", "watch", parameters::LIST);
        operation.answer = Answer::Object(WATCH_EVENT.to_owned());
        operation.description = format!(
            "Deprecated: list with the parameter watch and a field selector. Watch an object of kind {}.",
            self.kind.names.kind
        );
        operation.id = format!("watch{}{}", self.stem(), self.subject());
        operation
    }

    fn collection(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let kind = self.kind.names.kind;
        if self.can("list") {
            operations.push(self.list(false));
        }
        if self.can("create") {
            let mut operation = self.base("post", "post");
            operation.parameters.extend_from_slice(parameters::WRITE);
            operations.push(Operation {
                id: format!("create{}{}", self.stem(), self.subject()),
                description: format!("Create an object of kind {kind}."),
                body: Some(((self.find)(self.own()), true)),
                codes: CREATED,
                ..operation
            });
        }
        if self.can("deletecollection") {
            let mut operation = self.base("delete", "deletecollection");
            operation.parameters.extend_from_slice(parameters::DELETE_COLLECTION);
            operations.push(Operation {
                id: format!("delete{}Collection{}", self.stem(), self.subject()),
                description: format!("Delete all selected objects of kind {kind}."),
                body: Some((DELETE_OPTIONS.to_owned(), false)),
                answer: Answer::Object(STATUS.to_owned()),
                ..operation
            });
        }
        operations
    }

    fn object(&self) -> Vec<Operation> {
        let own = self.own();
        let mut operations = self.like_object("", own, self.kind.verbs);
        if self.can("delete") {
            let answer = if self.kind.shows_deleted { (self.find)(own) } else { STATUS.to_owned() };
            operations.push(Operation {
                id: format!("delete{}{}", self.stem(), self.subject()),
                description: format!("Delete an object of kind {}.", self.kind.names.kind),
                body: Some((DELETE_OPTIONS.to_owned(), false)),
                answer: Answer::Object(answer),
                codes: DELETED,
                ..self.named("delete", "delete", parameters::DELETE)
            });
        }
        operations
    }

    /// What is read and written whole: an object, or a part of it.
    fn like_object(&self, suffix: &str, gvk: Gvk, verbs: &[&str]) -> Vec<Operation> {
        let kind = self.kind.names.kind;
        let definition = (self.find)(gvk);
        let of =
            if suffix.is_empty() { String::new() } else { format!("{} of an object of kind ", suffix.to_lowercase()) };
        let what = if suffix.is_empty() { format!("an object of kind {kind}") } else { format!("the {of}{kind}") };
        let id = |verb: &str| format!("{verb}{}{}{suffix}", self.stem(), self.subject());
        let mut operations = Vec::new();
        if verbs.contains(&"get") {
            operations.push(Operation {
                id: id("read"),
                description: format!("Read {what}."),
                ..self.named("get", "get", &[])
            });
        }
        if verbs.contains(&"update") {
            operations.push(Operation {
                id: id("replace"),
                description: format!("Replace {what}."),
                body: Some((definition.clone(), true)),
                codes: REPLACED,
                ..self.named("put", "put", parameters::WRITE)
            });
        }
        if verbs.contains(&"patch") {
            operations.push(Operation {
                id: id("patch"),
                description: format!("Change {what} in part."),
                body: Some((PATCH.to_owned(), true)),
                codes: REPLACED,
                ..self.named("patch", "patch", parameters::PATCH)
            });
        }
        for operation in &mut operations {
            operation.answer = Answer::Object(definition.clone());
            operation.gvk = Some(gvk);
        }
        operations
    }

    fn part(&self, part: &ServedPart) -> Vec<Operation> {
        let suffix = capital(part.name);
        match part.name {
            "attach" | "exec" | "portforward" | "proxy" => self.connections(part, false),
            "log" => vec![Operation {
                id: format!("read{}{}{suffix}", self.stem(), self.subject()),
                description: format!("Read the log of an object of kind {}.", self.kind.names.kind),
                answer: Answer::Text,
                ..self.named("get", "get", parameters::LOG)
            }],
            _ if part.verbs.contains(&"create") => {
                let definition = (self.find)(part.gvk);
                vec![Operation {
                    id: format!("create{}{}{suffix}", self.stem(), self.subject()),
                    description: format!("Create the {} of an object of kind {}.", part.name, self.kind.names.kind),
                    body: Some((definition.clone(), true)),
                    answer: Answer::Object(definition),
                    codes: CREATED,
                    gvk: Some(part.gvk),
                    ..self.named("post", "post", parameters::WRITE)
                }]
            }
            _ => self.like_object(&suffix, part.gvk, part.verbs),
        }
    }

    /// Operations that become streams, or requests to somebody else.
    fn connections(&self, part: &ServedPart, below: bool) -> Vec<Operation> {
        const STREAM: &[&str] = &["get", "post"];
        const PROXY: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];
        let (methods, own) = match part.name {
            "attach" => (STREAM, parameters::ATTACH),
            "exec" => (STREAM, parameters::EXEC),
            "portforward" => (STREAM, parameters::PORT_FORWARD),
            _ => (PROXY, parameters::PROXY),
        };
        let one = |method: &&'static str| {
            let mut operation = self.named(method, "connect", own);
            if below {
                operation.parameters.push(BELOW);
            }
            let with = if below { "WithPath" } else { "" };
            Operation {
                id: format!("connect{}{}{}{}{with}", self.stem(), capital(method), self.subject(), capital(part.name)),
                description: format!(
                    "Connect {} requests to the {} of an object of kind {}.",
                    method.to_uppercase(),
                    part.name,
                    self.kind.names.kind
                ),
                answer: Answer::Text,
                gvk: Some(part.gvk),
                ..operation
            }
        };
        methods.iter().map(one).collect()
    }
}

/// `RbacAuthorization` or `rbacAuthorization` for `rbac.authorization.k8s.io`; `Core` for the core group.
pub(super) fn group_word(group: &str, capitalised: bool) -> String {
    let stem = match group {
        "" => "core",
        group => group.strip_suffix(".k8s.io").unwrap_or(group),
    };
    let mut words = stem.split('.');
    let first = words.next().unwrap_or_default();
    let first = if capitalised { capital(first) } else { first.to_owned() };
    words.fold(first, |all, word| all + &capital(word))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

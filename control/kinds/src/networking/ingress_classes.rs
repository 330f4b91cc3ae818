//! IngressClasses: which controller serves an ingress.

use corten_api::api::networking::v1::{IngressClass, IngressClassParametersReference};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::segment_problems;
use crate::net;
use crate::table::{NAME, age, column};

const CONTROLLER_BYTES: usize = 250;

pub(crate) struct IngressClasses;

impl Kind for IngressClasses {
    type Object = IngressClass;

    const NAMES: Names = Names {
        group: "networking.k8s.io",
        version: "v1",
        kind: "IngressClass",
        plural: "ingressclasses",
        singular: "ingressclass",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Controller"), column("Parameters"), column("Age")];
    const GENERATION: bool = true;

    fn cells(class: &IngressClass, now: Timestamp) -> Vec<Value> {
        let spec = class.spec.clone().unwrap_or_default();
        let parameters = spec.parameters.map_or_else(
            || "<none>".to_owned(),
            |parameters| match parameters.api_group {
                Some(group) => format!("{}.{group}/{}", parameters.kind, parameters.name),
                None => format!("{}/{}", parameters.kind, parameters.name),
            },
        );
        vec![
            json!(class.metadata.name),
            json!(spec.controller.unwrap_or_default()),
            parameters.into(),
            age(class.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(class: &IngressClass, old: Option<&IngressClass>, errs: &mut FieldErrors) {
        let controller_of = |class: &IngressClass| class.spec.as_ref().and_then(|spec| spec.controller.clone());
        let controller = controller_of(class).unwrap_or_default();
        if controller.len() > CONTROLLER_BYTES {
            errs.push("spec.controller", Problem::TooLong(CONTROLLER_BYTES));
        }
        net::domain_path(&controller, "spec.controller", errs);
        if let Some(parameters) = class.spec.as_ref().and_then(|spec| spec.parameters.as_ref()) {
            self::parameters(parameters, errs);
        }
        if old.is_some_and(|old| controller_of(old).unwrap_or_default() != controller) {
            errs.invalid("spec.controller", &controller, "field is immutable");
        }
    }
}

fn parameters(parameters: &IngressClassParametersReference, errs: &mut FieldErrors) {
    const PATH: &str = "spec.parameters";
    if let Some(group) = &parameters.api_group {
        label::subdomain_problems(group)
            .into_iter()
            .for_each(|why| errs.invalid(format!("{PATH}.apiGroup"), group, why));
    }
    for (field, value) in [("kind", &parameters.kind), ("name", &parameters.name)] {
        if value.is_empty() {
            errs.required(format!("{PATH}.{field}"), "");
        }
        segment_problems(value).into_iter().for_each(|why| errs.invalid(format!("{PATH}.{field}"), value, why));
    }
    let namespace = parameters.namespace.as_deref();
    if let Some(namespace) = namespace {
        let problems = crate::meta::label_problems(namespace);
        problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.namespace"), namespace, why));
    }
    match parameters.scope.as_deref() {
        None => errs.required(format!("{PATH}.scope"), ""),
        Some("Namespace") if namespace.is_none_or(str::is_empty) => {
            errs.required(format!("{PATH}.namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        Some("Cluster") if namespace.is_some() => {
            errs.forbidden(format!("{PATH}.namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        Some("Namespace" | "Cluster") => {}
        Some(other) => errs.not_supported(format!("{PATH}.scope"), other, &["Cluster", "Namespace"]),
    }
}

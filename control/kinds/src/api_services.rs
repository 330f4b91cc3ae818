//! APIServices: who serves which group and version. All of them are local so far; those of others are kept as objects.
//!
//! Wording: staging/src/k8s.io/kube-aggregator/pkg/apis/apiregistration/validation of Kubernetes v1.36.

use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
};
use corten_api::label;
use corten_api::meta::Time;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::{NameRule, rfc_1035_problems, segment_problems};
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext, net};

pub(crate) struct ApiServices;

impl Kind for ApiServices {
    type Object = APIService;

    const NAMES: Names = Names {
        group: "apiregistration.k8s.io",
        version: "v1",
        kind: "APIService",
        plural: "apiservices",
        singular: "apiservice",
        short: &[],
        categories: &["api-extensions"],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: &'static str = "apiregistration.k8s.io/apiservices";
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Service"), column("Available"), column("Age")];
    const NAME_RULE: NameRule = NameRule::By(segment_problems);

    fn cells(service: &APIService, now: Timestamp) -> Vec<Value> {
        let reference = service.spec.as_ref().and_then(|spec| spec.service.clone());
        let place = reference.map_or_else(
            || "Local".to_owned(),
            |service| format!("{}/{}", service.namespace.unwrap_or_default(), service.name.unwrap_or_default()),
        );
        let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let available = match conditions.into_iter().find(|condition| condition.type_ == "Available") {
            None => "Unknown".to_owned(),
            Some(condition) if condition.status == "True" => condition.status.clone(),
            Some(condition) => format!("{} ({})", condition.status, condition.reason.as_deref().unwrap_or_default()),
        };
        let age = age(service.metadata.creation_timestamp.as_ref(), now);
        vec![json!(service.metadata.name), place.into(), available.into(), age.into()]
    }

    fn default(service: &mut APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(443);
        }
    }

    fn prepare(new: &mut APIService, old: Option<&APIService>, cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            let local = new.spec.as_ref().is_none_or(|spec| spec.service.is_none());
            let conditions = local.then(|| {
                vec![APIServiceCondition {
                    last_transition_time: Some(Time(Timestamp::from_second(cx.now.as_second()).unwrap_or(cx.now))),
                    message: Some("Local APIServices are always available".to_owned()),
                    reason: Some("Local".to_owned()),
                    status: "True".to_owned(),
                    type_: "Available".to_owned(),
                }]
            });
            new.status = Some(APIServiceStatus { conditions });
        }
        Ok(())
    }

    fn validate(service: &APIService, _old: Option<&APIService>, errs: &mut FieldErrors) {
        let empty = APIServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let (group, version) = (spec.group.as_deref().unwrap_or_default(), spec.version.as_deref().unwrap_or_default());
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let wanted = format!("{version}.{group}");
        if name != wanted {
            errs.invalid("metadata.name", name, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
        }
        if group.is_empty() && version != "v1" {
            errs.required("spec.group", "only v1 may have an empty group and it better be legacy kube");
        } else if !group.is_empty() {
            label::subdomain_problems(group).into_iter().for_each(|why| errs.invalid("spec.group", group, why));
        }
        rfc_1035_problems(version).into_iter().for_each(|why| errs.invalid("spec.version", version, why));
        if !(1..=20_000).contains(&spec.group_priority_minimum) {
            let why = "must be positive and less than 20000";
            errs.invalid("spec.groupPriorityMinimum", spec.group_priority_minimum, why);
        }
        if !(1..=1000).contains(&spec.version_priority) {
            errs.invalid("spec.versionPriority", spec.version_priority, "must be positive and less than 1000");
        }
        let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
        let insecure = spec.insecure_skip_tls_verify == Some(true);
        let Some(reference) = &spec.service else {
            if bundle > 0 {
                errs.invalid("spec.caBundle", format!("{bundle} bytes"), "local APIServices may not have a caBundle");
            }
            if insecure {
                let why = "local APIServices may not have insecureSkipTLSVerify";
                errs.invalid("spec.insecureSkipTLSVerify", true, why);
            }
            return;
        };
        for (field, value) in [("namespace", &reference.namespace), ("name", &reference.name)] {
            if value.as_deref().is_none_or(str::is_empty) {
                errs.required(format!("spec.service.{field}"), "");
            }
        }
        if let Some(port) = reference.port.filter(|port| !(1..=65_535).contains(port)) {
            errs.invalid("spec.service.port", port, format!("port is not valid: {}", net::PORT_RANGE));
        }
        if insecure && bundle > 0 {
            errs.invalid("spec.insecureSkipTLSVerify", true, "may not be true if caBundle is present");
        }
    }

    fn validate_status(new: &APIService, _old: &APIService, errs: &mut FieldErrors) {
        let known = ["False", "True", "Unknown"];
        for (index, condition) in new.status.iter().flat_map(|status| status.conditions.iter().flatten()).enumerate() {
            if !known.contains(&condition.status.as_str()) {
                errs.not_supported(format!("status.conditions[{index}].status"), &condition.status, &known);
            }
        }
    }
}

//! DefaultIngressClass: ingresses that name no class get the default one, if there is one.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::Value;

use super::{Attempt, Plugin, is};

const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// How ingresses named their class before there was a field.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn changes(&self, names: &Names) -> bool {
        is(names, "networking.k8s.io", "Ingress")
    }

    fn admit(&self, write: &Attempt<'_>, ingress: &mut Value) -> Result<(), Status> {
        let named = !ingress["spec"]["ingressClassName"].is_null();
        if write.old.is_some() || named || ingress["metadata"]["annotations"].get(ANNOTATION).is_some() {
            return Ok(());
        }
        if let Some(class) = write.default_class("ingressclasses", &[MARK]) {
            ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
        }
        Ok(())
    }
}

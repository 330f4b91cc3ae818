//! LimitRanges: how much one pod, container or claim of a namespace may ask for.

use std::collections::BTreeSet;

use corten_api::api::core::v1::{LimitRange, LimitRangeItem};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::quantity::Quantity;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::amounts::{self, Amounts};
use crate::kind::Kind;
use crate::table::{CREATED_AT, NAME};
use crate::{ColumnHead, text};

const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

pub(crate) struct LimitRanges;

impl Kind for LimitRanges {
    type Object = LimitRange;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short: &["limits"],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, CREATED_AT];

    fn cells(range: &LimitRange, _now: Timestamp) -> Vec<Value> {
        vec![json!(range.metadata.name), json!(range.metadata.creation_timestamp)]
    }

    fn default(range: &mut LimitRange) {
        for item in range.spec.iter_mut().flat_map(|spec| &mut spec.limits).filter(|item| item.type_ == "Container") {
            let fill = |to: &mut Amounts, from: &Amounts| {
                for (name, amount) in from {
                    to.entry(name.clone()).or_insert_with(|| amount.clone());
                }
            };
            let default = item.default.get_or_insert_default();
            fill(default, item.max.as_ref().unwrap_or(&Amounts::new()));
            let request = item.default_request.get_or_insert_default();
            fill(request, default);
            fill(request, item.min.as_ref().unwrap_or(&Amounts::new()));
            // An empty map is as good as none, and is not written.
            item.default = item.default.take().filter(|amounts| !amounts.is_empty());
            item.default_request = item.default_request.take().filter(|amounts| !amounts.is_empty());
        }
    }

    fn validate(range: &LimitRange, _old: Option<&LimitRange>, errs: &mut FieldErrors) {
        let mut types = BTreeSet::new();
        for (index, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let path = format!("spec.limits[{index}]");
            text::key(&item.type_, &format!("{path}.type"), errs);
            if !item.type_.contains('/') && !TYPES.contains(&item.type_.as_str()) {
                let why = "must be a standard limit type or fully qualified";
                errs.invalid(format!("{path}.type"), &item.type_, why);
            }
            if !types.insert(&item.type_) {
                errs.duplicate(format!("{path}.type"), &item.type_);
            }
            names(item, &path, errs);
            bounds(item, &path, errs);
        }
    }
}

fn names(item: &LimitRangeItem, path: &str, errs: &mut FieldErrors) {
    let mut all = |field: &str, amounts: &Option<Amounts>| {
        for (name, amount) in amounts.iter().flatten() {
            let path = format!("{path}.{field}[{name}]");
            match item.type_.as_str() {
                "Pod" | "Container" => amounts::container_resource(name, &path, errs),
                _ => text::key(name, &path, errs),
            }
            if let Err(error) = Quantity::of(amount) {
                errs.invalid(path, &amount.0, error.to_string());
            }
        }
    };
    all("max", &item.max);
    all("min", &item.min);
    all("maxLimitRequestRatio", &item.max_limit_request_ratio);
    if item.type_ != "Pod" {
        all("default", &item.default);
        all("defaultRequest", &item.default_request);
        let storage = |amounts: &Option<Amounts>| amounts.as_ref().is_some_and(|all| all.contains_key("storage"));
        if item.type_ == "PersistentVolumeClaim" && !storage(&item.min) && !storage(&item.max) {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errs.required(format!("{path}.limits"), why);
        }
        return;
    }
    for (field, amounts) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
        if amounts.as_ref().is_some_and(|amounts| !amounts.is_empty()) {
            errs.forbidden(format!("{path}.{field}"), "may not be specified when `type` is 'Pod'");
        }
    }
}

/// Holds the amounts of each resource against each other.
fn bounds(item: &LimitRangeItem, path: &str, errs: &mut FieldErrors) {
    let maps = [&item.max, &item.min, &item.default, &item.default_request, &item.max_limit_request_ratio];
    let resources: BTreeSet<&String> = maps.into_iter().flatten().flat_map(Amounts::keys).collect();
    let get = |map: &Option<Amounts>, name: &String| map.as_ref().and_then(|map| map.get(name)).map(amounts::read);
    for name in resources {
        let (max, min, default) = (get(&item.max, name), get(&item.min, name), get(&item.default, name));
        let (request, ratio) = (get(&item.default_request, name), get(&item.max_limit_request_ratio, name));
        let mut less = |smaller: Option<Quantity>,
                        larger: Option<Quantity>,
                        field: &str,
                        shown: Option<Quantity>,
                        words: [&str; 2]| {
            if let (Some(smaller), Some(larger), Some(shown)) = (smaller, larger, shown)
                && smaller > larger
            {
                let why = format!("{} {smaller} is greater than {} {larger}", words[0], words[1]);
                errs.invalid(format!("{path}.{field}[{name}]"), shown.to_string(), why);
            }
        };
        less(min, max, "min", min, ["min value", "max value"]);
        less(min, request, "defaultRequest", request, ["min value", "default request value"]);
        less(request, max, "defaultRequest", request, ["default request value", "max value"]);
        less(request, default, "defaultRequest", request, ["default request value", "default limit value"]);
        less(min, default, "default", min, ["min value", "default value"]);
        less(default, max, "default", max, ["default value", "max value"]);
        let Some(ratio) = ratio else { continue };
        let path = format!("{path}.maxLimitRequestRatio[{name}]");
        if ratio < Quantity::from_units(1) {
            errs.invalid(path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        } else if let (Some(max), Some(min)) = (max, min)
            && let (most, least) = (max.millis(), min.millis())
            && least > 0
            && i128::from(ratio.millis()) * i128::from(least) > i128::from(most) * 1000
        {
            let limit = approximate(most) / approximate(least);
            errs.invalid(path, ratio.to_string(), format!("ratio {ratio} is greater than max/min = {limit:.6}"));
        }
    }
}

/// For messages.
#[expect(clippy::cast_precision_loss, reason = "only shown")]
fn approximate(millis: i64) -> f64 {
    millis as f64
}

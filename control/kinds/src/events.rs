//! Events: what happened to an object, for people. They end after an hour.

use std::time::Duration;

use corten_api::api::core::v1::Event;
use corten_api::field::FieldErrors;
use corten_api::meta::Time;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::{Kind, at, plain};
use crate::table::{age, column, wide};

pub(crate) struct Events;

impl Kind for Events {
    type Object = Event;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        categories: &[],
    };
    const CREATE_ON_UPDATE: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        wide("Subobject"),
        wide("Source"),
        column("Message"),
        wide("First Seen"),
        wide("Count"),
        ColumnHead { title: "Name", kind: "string", format: "name", wide: true },
    ];
    const FIELDS: &'static [&'static str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];
    const TIME_TO_LIVE: Option<Duration> = Some(Duration::from_secs(3600));

    fn cells(event: &Event, now: Timestamp) -> Vec<Value> {
        let micro = event.event_time.as_ref().map(|time| Time(time.0));
        let first = event.first_timestamp.clone().or_else(|| micro.clone());
        let series = event.series.as_ref();
        let last = series
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| Time(time.0))
            .or_else(|| event.last_timestamp.clone())
            .or_else(|| first.clone());
        let count = series.and_then(|series| series.count).or(event.count).unwrap_or(1);
        let object = &event.involved_object;
        let target = format!(
            "{}/{}",
            object.kind.as_deref().unwrap_or_default().to_lowercase(),
            object.name.as_deref().unwrap_or_default()
        );
        let source = event.source.as_ref();
        let component =
            source.and_then(|source| source.component.clone()).or_else(|| event.reporting_component.clone());
        let host = source.and_then(|source| source.host.clone()).filter(|host| !host.is_empty());
        let from = [component, host].into_iter().flatten().collect::<Vec<_>>().join(", ");
        vec![
            age(last.as_ref(), now).into(),
            json!(event.type_),
            json!(event.reason),
            target.into(),
            json!(object.field_path.as_deref().unwrap_or_default()),
            from.into(),
            json!(event.message.as_deref().unwrap_or_default().trim()),
            age(first.as_ref(), now).into(),
            json!(count),
            json!(event.metadata.name),
        ]
    }

    fn validate(event: &Event, _old: Option<&Event>, errs: &mut FieldErrors) {
        let involved = event.involved_object.namespace.as_deref().unwrap_or_default();
        let own = event.metadata.namespace.as_deref().unwrap_or_default();
        if involved != own && !(involved.is_empty() && own == "default") {
            errs.invalid("involvedObject.namespace", involved, "does not match event.namespace");
        }
        // Events of today have a time of their own, and say who reports what was done.
        if event.event_time.is_some() {
            reported(event, errs);
        }
    }

    fn field(object: &Value, name: &str) -> String {
        match name {
            "source" => {
                let component = plain(at(object, "source.component"));
                if component.is_empty() { plain(at(object, "reportingComponent")) } else { component }
            }
            path => plain(at(object, path)),
        }
    }
}

fn reported(event: &Event, errs: &mut FieldErrors) {
    const SHORT: usize = 128;
    const NOTE: usize = 1024;
    let controller = event.reporting_component.as_deref().unwrap_or_default();
    if controller.is_empty() {
        errs.required("reportingController", "");
    } else {
        let problems = corten_api::label::key_problems(controller);
        problems.into_iter().for_each(|why| errs.invalid("reportingController", controller, why));
    }
    for (field, text) in
        [("reportingInstance", &event.reporting_instance), ("action", &event.action), ("reason", &event.reason)]
    {
        match text.as_deref().unwrap_or_default() {
            "" => errs.required(field, ""),
            text if text.len() > SHORT => errs.invalid(field, "", format!("can have at most {SHORT} characters")),
            _ => {}
        }
    }
    if event.message.as_ref().is_some_and(|message| message.len() > NOTE) {
        errs.invalid("message", "", format!("can have at most {NOTE} characters"));
    }
}

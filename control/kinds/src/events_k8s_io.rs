//! Events as the group events.k8s.io shows them: other names for the fields of the core group's events.

use corten_api::api::{core, events};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;

use crate::events::Events;
use crate::kind::Erased;
use crate::view::View;

pub(crate) struct GroupedEvents;

impl View for GroupedEvents {
    type Object = events::v1::Event;
    type Hub = Events;

    const HUB: &'static Erased<Events> = &Erased(Events);
    const NAMES: Names = Names {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        categories: &[],
    };
    const FIELDS: Option<&'static [&'static str]> = Some(&[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ]);

    fn hub_field(name: &'static str) -> &'static str {
        match name {
            "regarding.kind" => "involvedObject.kind",
            "regarding.namespace" => "involvedObject.namespace",
            "regarding.name" => "involvedObject.name",
            "regarding.uid" => "involvedObject.uid",
            "regarding.apiVersion" => "involvedObject.apiVersion",
            "regarding.resourceVersion" => "involvedObject.resourceVersion",
            "regarding.fieldPath" => "involvedObject.fieldPath",
            "reportingController" => "reportingComponent",
            same => same,
        }
    }

    fn validate(event: &events::v1::Event, errs: &mut FieldErrors) {
        // One that was made through the core group may have its older times instead.
        if event.event_time.is_none() && event.deprecated_first_timestamp.is_none() {
            errs.required("eventTime", "");
        }
        let kind = event.type_.as_deref().unwrap_or_default();
        if event.event_time.is_some() && !["Normal", "Warning"].contains(&kind) {
            errs.invalid("type", "", format!("has invalid value: {kind}"));
        }
        if let Some(series) = &event.series
            && series.count < 2
        {
            errs.invalid("series.count", "", "should be at least 2");
        }
    }

    fn to_hub(event: events::v1::Event) -> Result<core::v1::Event, Status> {
        Ok(core::v1::Event {
            action: event.action,
            count: event.deprecated_count,
            event_time: event.event_time,
            first_timestamp: event.deprecated_first_timestamp,
            involved_object: event.regarding.unwrap_or_default(),
            last_timestamp: event.deprecated_last_timestamp,
            message: event.note,
            metadata: event.metadata,
            reason: event.reason,
            related: event.related,
            reporting_component: event.reporting_controller,
            reporting_instance: event.reporting_instance,
            series: event.series.map(|series| core::v1::EventSeries {
                count: Some(series.count),
                last_observed_time: Some(series.last_observed_time),
            }),
            source: event.deprecated_source,
            type_: event.type_,
        })
    }

    fn of_hub(event: core::v1::Event) -> Result<events::v1::Event, Status> {
        // A series without a time is one that the core group allows and this one does not.
        let series = event.series.and_then(|series| {
            Some(events::v1::EventSeries {
                count: series.count.unwrap_or(0),
                last_observed_time: series.last_observed_time?,
            })
        });
        Ok(events::v1::Event {
            action: event.action,
            deprecated_count: event.count,
            deprecated_first_timestamp: event.first_timestamp,
            deprecated_last_timestamp: event.last_timestamp,
            deprecated_source: event.source,
            event_time: event.event_time,
            metadata: event.metadata,
            note: event.message,
            reason: event.reason,
            regarding: Some(event.involved_object),
            related: event.related,
            reporting_controller: event.reporting_component,
            reporting_instance: event.reporting_instance,
            series,
            type_: event.type_,
        })
    }
}

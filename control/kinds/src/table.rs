//! What cells of tables are made of.

use std::collections::BTreeMap;
use std::fmt::Write;

use corten_api::api::core::v1::PodSpec;
use corten_api::meta::{LabelSelector, Time};
use corten_base::Timestamp;

use crate::ColumnHead;

/// A column that is always shown.
pub(crate) const fn column(title: &'static str) -> ColumnHead {
    ColumnHead { title, kind: "string", format: "", wide: false }
}

/// A column of numbers that is always shown.
pub(crate) const fn number(title: &'static str) -> ColumnHead {
    ColumnHead { title, kind: "integer", format: "", wide: false }
}

/// A column of yes and no that is always shown.
pub(crate) const fn boolean(title: &'static str) -> ColumnHead {
    ColumnHead { title, kind: "boolean", format: "", wide: false }
}

/// The second column of kinds for which upstream has no columns of their own; its cell is the moment itself.
pub(crate) const CREATED_AT: ColumnHead = ColumnHead { title: "Created At", kind: "date", format: "", wide: false };

/// The first column.
pub(crate) const NAME: ColumnHead = ColumnHead { title: "Name", kind: "string", format: "name", wide: false };

/// A column that is shown with `-o wide`.
pub(crate) const fn wide(title: &'static str) -> ColumnHead {
    ColumnHead { title, kind: "string", format: "", wide: true }
}

/// Time since a moment as `kubectl` shows it: `5m20s`, `3d4h`; `<unknown>` without a moment.
pub(crate) fn age(since: Option<&Time>, now: Timestamp) -> String {
    since.map_or_else(|| "<unknown>".to_owned(), |since| human((now.as_second()) - since.0.as_second()))
}

/// A moment in full.
pub(crate) fn moment(at: Option<&Time>) -> String {
    at.map_or_else(|| "<unknown>".to_owned(), |at| at.0.to_string())
}

/// Seconds as people read them, at most two units. Behaviour: k8s.io/apimachinery/pkg/util/duration.
pub(crate) fn human(seconds: i64) -> String {
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if minutes < 2 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// `<none>` for what is empty.
pub(crate) fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// `a=b,c=d`.
pub(crate) fn labels(map: Option<&BTreeMap<String, String>>) -> String {
    let pairs = map.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    or_none(pairs.collect::<Vec<_>>().join(","))
}

/// A label selector as `kubectl` shows it.
pub(crate) fn selector(selector: &LabelSelector) -> String {
    or_none(
        corten_api::selector::Labels::from_selector(selector)
            .map_or_else(|_| "<error>".to_owned(), |labels| labels.to_string()),
    )
}

/// Names and images of containers.
pub(crate) fn containers(spec: Option<&PodSpec>) -> (String, String) {
    let containers = spec.map_or(&[][..], |spec| &spec.containers);
    let join = |texts: Vec<&str>| texts.join(",");
    (
        join(containers.iter().map(|container| container.name.as_str()).collect()),
        join(containers.iter().map(|container| container.image.as_deref().unwrap_or_default()).collect()),
    )
}

/// The first `most` of them, and how many more there are: `a,b,c + 2 more...`.
pub(crate) fn first(items: &[String], most: usize) -> String {
    let mut text = items.iter().take(most).cloned().collect::<Vec<_>>().join(",");
    if items.len() > most {
        let _ = write!(text, " + {} more...", items.len() - most);
    }
    or_none(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_as_kubectl_shows_them() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(super::human(seconds), text);
        }
    }
}

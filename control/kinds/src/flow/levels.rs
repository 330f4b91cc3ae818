//! PriorityLevelConfigurations: how many requests of a level run at once, and which wait.
//!
//! Wording: pkg/apis/flowcontrol/validation of Kubernetes v1.36.

use corten_api::api::flowcontrol::v1::{
    LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    PriorityLevelConfigurationStatus, QueuingConfiguration,
};
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::keep_for_status;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext};

const MOST_QUEUES: i32 = 10_000_000;
/// Bits of a hash that dealing a hand of queues may use up.
const MOST_BITS: f64 = 60.0;

pub(crate) struct PriorityLevels;

impl Kind for PriorityLevels {
    type Object = PriorityLevelConfiguration;

    const NAMES: Names = Names {
        group: "flowcontrol.apiserver.k8s.io",
        version: "v1",
        kind: "PriorityLevelConfiguration",
        plural: "prioritylevelconfigurations",
        singular: "prioritylevelconfiguration",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Type"),
        column("NominalConcurrencyShares"),
        column("Queues"),
        column("HandSize"),
        column("QueueLengthLimit"),
        column("Age"),
    ];
    const GENERATION: bool = true;

    fn cells(level: &PriorityLevelConfiguration, now: Timestamp) -> Vec<Value> {
        let spec = level.spec.clone().unwrap_or_default();
        let limited = spec.limited.as_ref();
        let queuing = limited.and_then(|limited| limited.limit_response.as_ref()?.queuing.as_ref());
        let shown = |number: Option<i32>| number.map_or_else(|| json!("<none>"), |number| json!(number));
        vec![
            json!(level.metadata.name),
            json!(spec.type_),
            shown(limited.and_then(|limited| limited.nominal_concurrency_shares)),
            shown(queuing.and_then(|queuing| queuing.queues)),
            shown(queuing.and_then(|queuing| queuing.hand_size)),
            shown(queuing.and_then(|queuing| queuing.queue_length_limit)),
            age(level.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(level: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut level.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(30);
        limited.lendable_percent.get_or_insert(0);
        if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
            for (field, default) in
                [(&mut queuing.hand_size, 8), (&mut queuing.queues, 64), (&mut queuing.queue_length_limit, 50)]
            {
                if field.is_none_or(|value| value == 0) {
                    *field = Some(default);
                }
            }
        }
    }

    fn prepare(
        new: &mut PriorityLevelConfiguration,
        old: Option<&PriorityLevelConfiguration>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(PriorityLevelConfigurationStatus::default());
        }
        Ok(())
    }

    fn prepare_status(
        new: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        keep_for_status(&mut new.metadata, &old.metadata);
        Ok(())
    }

    fn validate(level: &PriorityLevelConfiguration, _old: Option<&PriorityLevelConfiguration>, errs: &mut FieldErrors) {
        let name = level.metadata.name.as_deref().unwrap_or_default();
        let empty = PriorityLevelConfigurationSpec::default();
        let spec = level.spec.as_ref().unwrap_or(&empty);
        if (name == "exempt") != (spec.type_ == "Exempt") {
            errs.invalid("spec.type", &spec.type_, "type must be 'Exempt' if and only if `name` is 'exempt'");
        }
        match spec.type_.as_str() {
            "Exempt" => {
                if spec.limited.is_some() {
                    errs.forbidden("spec.limited", "must be nil if the type is not Limited");
                }
                if let Some(exempt) = &spec.exempt {
                    let (shares, lendable) = (exempt.nominal_concurrency_shares, exempt.lendable_percent);
                    shares_and_lendable(shares, lendable, "spec.exempt", errs);
                }
            }
            "Limited" => {
                if spec.exempt.is_some() {
                    errs.forbidden("spec.exempt", "must be nil if the type is Limited");
                }
                match &spec.limited {
                    None => errs.required("spec.limited", "must not be empty when type is Limited"),
                    Some(limited) => self::limited(limited, errs),
                }
            }
            other => errs.not_supported("spec.type", other, &["Exempt", "Limited"]),
        }
    }
}

fn shares_and_lendable(shares: Option<i32>, lendable: Option<i32>, path: &str, errs: &mut FieldErrors) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        errs.invalid(format!("{path}.nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    if let Some(percent) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        errs.invalid(format!("{path}.lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &LimitedPriorityLevelConfiguration, errs: &mut FieldErrors) {
    const PATH: &str = "spec.limited";
    shares_and_lendable(limited.nominal_concurrency_shares, limited.lendable_percent, PATH, errs);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let why = "if specified, must be a non-negative integer";
        errs.invalid(format!("{PATH}.borrowingLimitPercent"), percent, why);
    }
    const RESPONSE: &str = "spec.limited.limitResponse";
    let response = limited.limit_response.clone().unwrap_or_default();
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            errs.forbidden(format!("{RESPONSE}.queuing"), "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errs.required(format!("{RESPONSE}.queuing"), why);
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &format!("{RESPONSE}.queuing"), errs),
        ("Reject", None) => {}
        (other, _) => errs.not_supported(format!("{RESPONSE}.type"), other, &["Queue", "Reject"]),
    }
}

fn queuing(queuing: &QueuingConfiguration, path: &str, errs: &mut FieldErrors) {
    let (length, queues, hand) =
        (queuing.queue_length_limit.unwrap_or(0), queuing.queues.unwrap_or(0), queuing.hand_size.unwrap_or(0));
    if length <= 0 {
        errs.invalid(format!("{path}.queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errs.invalid(format!("{path}.queues"), queues, "must be positive");
    }
    if queues > MOST_QUEUES {
        errs.invalid(format!("{path}.queues"), queues, format!("must not be greater than {MOST_QUEUES}"));
    }
    let path = format!("{path}.handSize");
    if hand <= 0 {
        errs.invalid(path, hand, "must be positive");
    } else if hand > queues {
        errs.invalid(path, hand, format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > MOST_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MOST_BITS}"
        );
        errs.invalid(path, hand, why);
    }
}

/// Bits that dealing a hand out of a deck takes, rounded up; stops where it is too many anyway.
fn entropy(deck: i32, hand: i32) -> f64 {
    let mut bits = 0.0_f64;
    for step in 0..hand {
        bits += f64::from(deck - step).log2();
        if bits > MOST_BITS {
            break;
        }
    }
    bits.ceil()
}

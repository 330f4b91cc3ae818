//! ServiceAccounts: who a pod is.

use corten_api::api::core::v1::ServiceAccount;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column, number};
use crate::{ColumnHead, Subresource};

pub(crate) struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short: &["sa"],
        categories: &[],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Secrets"), column("Age")];

    fn cells(account: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        let secrets = account.secrets.as_ref().map_or(0, Vec::len);
        let age = age(account.metadata.creation_timestamp.as_ref(), now);
        vec![json!(account.metadata.name), json!(secrets), age.into()]
    }
}

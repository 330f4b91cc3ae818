//! CSIStorageCapacities: how much of a class there is, and where.

use corten_api::api::storage::v1::CSIStorageCapacity;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::selector::Labels;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, column};
use crate::{ColumnHead, amounts, text};

pub(crate) struct CsiStorageCapacities;

impl Kind for CsiStorageCapacities {
    type Object = CSIStorageCapacity;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("StorageClassName"), column("Capacity")];

    fn cells(capacity: &CSIStorageCapacity, _now: Timestamp) -> Vec<Value> {
        vec![
            json!(capacity.metadata.name),
            capacity.storage_class_name.clone().into(),
            capacity.capacity.as_ref().map_or_else(|| "<unset>".to_owned(), amounts::shown).into(),
        ]
    }

    fn validate(capacity: &CSIStorageCapacity, old: Option<&CSIStorageCapacity>, errs: &mut FieldErrors) {
        if let Some(selector) = &capacity.node_topology
            && let Err(error) = Labels::from_selector(selector)
        {
            errs.invalid("nodeTopology", error.0, "invalid label selector");
        }
        text::subdomain(&capacity.storage_class_name, "storageClassName", errs);
        for (field, amount) in [("capacity", &capacity.capacity), ("maximumVolumeSize", &capacity.maximum_volume_size)]
        {
            if let Some(amount) = amount {
                amounts::amount("storage", amount, field, errs);
            }
        }
        let Some(old) = old else { return };
        text::unchanged(&capacity.node_topology, &old.node_topology, "nodeTopology", errs);
        text::unchanged(&capacity.storage_class_name, &old.storage_class_name, "storageClassName", errs);
    }
}

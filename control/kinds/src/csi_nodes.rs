//! CSINodes: the storage drivers of a node.

use corten_api::api::storage::v1::{CSINode, CSINodeDriver};
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column, number};
use crate::{ColumnHead, text};

/// Most bytes of the name that a driver has for a node.
const LONGEST_ID: usize = 192;

pub(crate) struct CsiNodes;

impl Kind for CsiNodes {
    type Object = CSINode;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "CSINode",
        plural: "csinodes",
        singular: "csinode",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Drivers"), column("Age")];

    fn cells(node: &CSINode, now: Timestamp) -> Vec<Value> {
        vec![
            json!(node.metadata.name),
            node.spec.drivers.len().into(),
            age(node.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn validate(node: &CSINode, old: Option<&CSINode>, errs: &mut FieldErrors) {
        let drivers = &node.spec.drivers;
        for (index, driver) in drivers.iter().enumerate() {
            let path = format!("spec.drivers[{index}]");
            self::driver(driver, &path, errs);
            if drivers[..index].iter().any(|other| other.name == driver.name) {
                errs.duplicate(format!("{path}.name"), &driver.name);
            }
        }
        let Some(old) = old else { return };
        // A driver may come and go; one that stays may change what it can carry, and nothing else.
        for (index, driver) in drivers.iter().enumerate() {
            let Some(before) = old.spec.drivers.iter().find(|before| before.name == driver.name) else { continue };
            let mut same = before.clone();
            same.allocatable.clone_from(&driver.allocatable);
            if same != *driver {
                text::invalid_value(driver, text::IMMUTABLE, &format!("spec.drivers[{index}]"), errs);
            }
        }
    }
}

fn driver(driver: &CSINodeDriver, path: &str, errs: &mut FieldErrors) {
    text::driver(&driver.name, &format!("{path}.name"), errs);
    text::required(&driver.node_id, &format!("{path}.nodeID"), errs);
    if driver.node_id.len() > LONGEST_ID {
        errs.invalid(format!("{path}.nodeID"), &driver.node_id, format!("must be {LONGEST_ID} characters or less"));
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    if let Some(count) = count.filter(|&count| count < 0) {
        errs.invalid(format!("{path}.allocatable.count"), count, "must be greater than or equal to 0");
    }
    let keys = driver.topology_keys.as_deref().unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        let path = format!("{path}.topologyKeys");
        text::required(key, &path, errs);
        if !key.is_empty() {
            text::key(key, &path, errs);
        }
        if keys[..index].contains(key) {
            errs.duplicate(format!("{path}[{index}]"), key);
        }
    }
}

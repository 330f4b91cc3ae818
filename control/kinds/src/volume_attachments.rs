//! VolumeAttachments: a volume that is to be attached to a node.

use corten_api::api::storage::v1::{VolumeAttachment, VolumeAttachmentStatus};
use corten_api::field::{FieldErrors, Problem};
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, boolean, column};
use crate::{ColumnHead, Subresource, WriteContext, text};

/// Most bytes of what a driver says about a failure.
const LONGEST_ERROR: usize = 1024;

pub(crate) struct VolumeAttachments;

impl Kind for VolumeAttachments {
    type Object = VolumeAttachment;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        singular: "volumeattachment",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        ColumnHead { title: "Attacher", kind: "string", format: "name", wide: false },
        column("PV"),
        column("Node"),
        boolean("Attached"),
        column("Age"),
    ];

    fn cells(attachment: &VolumeAttachment, now: Timestamp) -> Vec<Value> {
        let spec = &attachment.spec;
        vec![
            json!(attachment.metadata.name),
            spec.attacher.clone().into(),
            spec.source.persistent_volume_name.clone().unwrap_or_default().into(),
            spec.node_name.clone().into(),
            attachment.status.as_ref().is_some_and(|status| status.attached).into(),
            age(attachment.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(attachment: &mut VolumeAttachment) {
        attachment.status.get_or_insert_default();
        if let Some(spec) = &mut attachment.spec.source.inline_volume_spec {
            crate::persistent_volumes::default_source(spec);
        }
    }

    fn prepare(
        new: &mut VolumeAttachment,
        old: Option<&VolumeAttachment>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(VolumeAttachmentStatus::default());
        }
        Ok(())
    }

    fn validate(attachment: &VolumeAttachment, old: Option<&VolumeAttachment>, errs: &mut FieldErrors) {
        let spec = &attachment.spec;
        text::driver(&spec.attacher, "spec.attacher", errs);
        match (&spec.source.inline_volume_spec, spec.source.persistent_volume_name.as_deref()) {
            (None, None) => {
                errs.required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
            }
            (Some(_), Some(_)) => {
                errs.forbidden("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
            }
            (None, Some("")) => {
                errs.required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName");
            }
            (None, Some(_)) => {}
            (Some(volume), None) => {
                crate::persistent_volumes::validate_spec(volume, "spec.source.inlineVolumeSpec", errs);
            }
        }
        text::subdomain(&spec.node_name, "spec.nodeName", errs);
        if let Some(old) = old {
            text::unchanged(spec, &old.spec, "spec", errs);
        }
    }

    fn validate_status(attachment: &VolumeAttachment, _old: &VolumeAttachment, errs: &mut FieldErrors) {
        let Some(status) = &attachment.status else { return };
        let bytes: usize =
            status.attachment_metadata.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > 256 << 10 {
            errs.push("status.attachmentMetadata", Problem::TooLong(256 << 10));
        }
        for (field, error) in [("attachError", &status.attach_error), ("detachError", &status.detach_error)] {
            let length = error.as_ref().and_then(|error| error.message.as_ref()).map_or(0, String::len);
            if length > LONGEST_ERROR {
                errs.push(format!("status.{field}.message"), Problem::TooLong(LONGEST_ERROR));
            }
        }
    }
}

//! Which bits a pod's `fsGroup` adds, as upstream has them.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files that are only read.
pub(super) const READ: u32 = 0o440;
/// Folders of files that are only read; new files in a folder get its group.
pub(super) const READ_FOLDER: u32 = 0o2550;
/// Folders that are written to.
const WRITE_FOLDER: u32 = 0o2770;

/// Gives a folder that was just made to the group.
pub(super) fn give(folder: &Path, mode: u32, read_only: bool, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else {
        return std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode));
    };
    std::os::unix::fs::chown(folder, None, Some(group))?;
    let bits = if read_only { READ_FOLDER } else { WRITE_FOLDER };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | bits))
}

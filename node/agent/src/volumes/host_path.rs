//! Paths of the node, and what they must be.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Makes sure that a path is what the pod says it is.
pub(crate) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let failed = |what: &str| format!("hostPath type check failed: {} is not {what}", path.display());
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let is = |right: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(right);
    match kind {
        // The container runtimes under upstream make a folder of what is missing, too.
        "" if found.is_none() => made(make_folder(path), path),
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => made(make_folder(path), path),
        "FileOrCreate" if found.is_none() => made(make_file(path), path),
        "Directory" | "DirectoryOrCreate" if is(fs::FileType::is_dir) => Ok(()),
        "Directory" | "DirectoryOrCreate" => Err(failed("a directory")),
        "File" | "FileOrCreate" if is(fs::FileType::is_file) => Ok(()),
        "File" | "FileOrCreate" => Err(failed("a file")),
        "Socket" if is(FileTypeExt::is_socket) => Ok(()),
        "Socket" => Err(failed("a socket file")),
        "CharDevice" if is(FileTypeExt::is_char_device) => Ok(()),
        "CharDevice" => Err(failed("a character device")),
        "BlockDevice" if is(FileTypeExt::is_block_device) => Ok(()),
        "BlockDevice" => Err(failed("a block device")),
        other => Err(format!("{other} is an invalid hostPath type")),
    }
}

fn made(result: io::Result<()>, path: &Path) -> Result<(), String> {
    result.map_err(|error| format!("cannot make {}: {error}", path.display()))
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn make_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn each_kind_is_checked() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path();
        fs::write(root.join("file"), "").expect("written");
        let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("bound");
        let kinds =
            ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
        let mut lines = String::new();
        for name in ["folder", "file", "socket", "none"] {
            fs::create_dir_all(root.join("folder")).expect("made");
            for kind in kinds {
                let said = match check(&root.join(name), kind) {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => error.replace(&root.display().to_string(), ""),
                };
                if name == "none" {
                    let _ = fs::remove_dir(root.join(name)).or_else(|_| fs::remove_file(root.join(name)));
                }
                lines += &format!("{name} {kind}: {said}\n");
            }
        }
        assert_eq!(check(Path::new("/dev/null"), "CharDevice"), Ok(()));
        expect![[r"
            folder : ok
            folder DirectoryOrCreate: ok
            folder Directory: ok
            folder FileOrCreate: hostPath type check failed: /folder is not a file
            folder File: hostPath type check failed: /folder is not a file
            folder Socket: hostPath type check failed: /folder is not a socket file
            folder CharDevice: hostPath type check failed: /folder is not a character device
            folder BlockDevice: hostPath type check failed: /folder is not a block device
            file : ok
            file DirectoryOrCreate: hostPath type check failed: /file is not a directory
            file Directory: hostPath type check failed: /file is not a directory
            file FileOrCreate: ok
            file File: ok
            file Socket: hostPath type check failed: /file is not a socket file
            file CharDevice: hostPath type check failed: /file is not a character device
            file BlockDevice: hostPath type check failed: /file is not a block device
            socket : ok
            socket DirectoryOrCreate: hostPath type check failed: /socket is not a directory
            socket Directory: hostPath type check failed: /socket is not a directory
            socket FileOrCreate: hostPath type check failed: /socket is not a file
            socket File: hostPath type check failed: /socket is not a file
            socket Socket: ok
            socket CharDevice: hostPath type check failed: /socket is not a character device
            socket BlockDevice: hostPath type check failed: /socket is not a block device
            none : ok
            none DirectoryOrCreate: ok
            none Directory: hostPath type check failed: /none is not a directory
            none FileOrCreate: ok
            none File: hostPath type check failed: /none is not a file
            none Socket: hostPath type check failed: /none is not a socket file
            none CharDevice: hostPath type check failed: /none is not a character device
            none BlockDevice: hostPath type check failed: /none is not a block device
        "]]
        .assert_eq(&lines);
    }
}

//! As much of tar as `kubectl cp` needs of a container: files and folders, over standard input and output.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::Result;

const BLOCK: usize = 512;
/// Longest name that a header has room for without a prefix.
const LONGEST_NAME: usize = 100;

/// `tar cf - PATH` and `tar xf - [-C FOLDER]`, with whatever other letters.
pub(crate) fn run(words: &[String]) -> Result<u8> {
    let letters = words.iter().find(|word| !word.starts_with("--")).map(String::as_str).unwrap_or_default();
    let after = |option: &str| words.iter().skip_while(|word| *word != option).nth(1);
    if letters.contains('x') {
        let into = after("-C").map_or(".", String::as_str);
        return extract(&mut io::stdin().lock(), Path::new(into)).map(|()| 0);
    }
    if !letters.contains('c') {
        return Err("tar: it takes `cf - PATH` or `xf - -C FOLDER`".into());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    for path in words.iter().skip_while(|word| *word != "-").skip(1) {
        add(&mut out, Path::new(path))?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()?;
    Ok(0)
}

/// Writes a file, or a folder with all that is in it.
fn add(out: &mut impl Write, path: &Path) -> Result<()> {
    let data = fs::metadata(path).map_err(|error| format!("tar: {}: {error}", path.display()))?;
    let name = path.to_string_lossy().trim_start_matches('/').to_owned();
    if data.is_dir() {
        out.write_all(&header(&format!("{name}/"), 0, b'5')?)?;
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| add(out, entry));
    }
    let bytes = fs::read(path)?;
    out.write_all(&header(&name, bytes.len(), b'0')?)?;
    out.write_all(&bytes)?;
    out.write_all(&[0; BLOCK][..padding(bytes.len())])?;
    Ok(())
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(BLOCK) - length
}

fn header(name: &str, size: usize, kind: u8) -> Result<[u8; BLOCK]> {
    if name.len() > LONGEST_NAME {
        return Err(format!("tar: {name}: the name is too long").into());
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, if kind == b'5' { "0000755" } else { "0000644" });
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\u{0}00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
    Ok(header)
}

fn extract(input: &mut impl Read, into: &Path) -> Result<()> {
    let mut header = [0; BLOCK];
    loop {
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        if header.iter().all(|byte| *byte == 0) {
            // Whoever writes must not be cut off before the end.
            io::copy(input, &mut io::sink())?;
            return Ok(());
        }
        let text = |from: usize, length: usize| {
            let field = &header[from..from + length];
            String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap_or_default()).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124, 12), 8).map_err(|_| "tar: a size is no number")?;
        let mut bytes = vec![0; size + padding(size)];
        input.read_exact(&mut bytes)?;
        let prefix = if header[257..262] == *b"ustar" { text(345, 155) } else { String::new() };
        let name = if prefix.is_empty() { text(0, 100) } else { format!("{prefix}/{}", text(0, 100)) };
        let inside: PathBuf =
            Path::new(&name).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let path = into.join(inside);
        match header[156] {
            b'5' => fs::create_dir_all(&path)?,
            0 | b'0' => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&path, &bytes[..size])?;
            }
            // Times, owners and longer names of other formats; links are not followed.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again_and_stays_inside() {
        let folder = std::env::temp_dir().join(format!("testbox-tar-{}", std::process::id()));
        let from = folder.join("from");
        fs::create_dir_all(from.join("deep")).expect("a folder");
        fs::write(from.join("deep/note"), vec![7; 1000]).expect("a file");
        fs::write(from.join("empty"), "").expect("a file");
        let mut packed = Vec::new();
        std::env::set_current_dir(&folder).expect("there");
        add(&mut packed, Path::new("from")).expect("packed");
        packed.extend(header("../../escape", 0, b'0').expect("short"));
        packed.extend([0; 2 * BLOCK]);
        extract(&mut packed.as_slice(), Path::new("to")).expect("unpacked");
        assert_eq!(fs::read("to/from/deep/note").expect("a file"), vec![7; 1000]);
        assert_eq!(fs::read("to/from/empty").expect("a file"), b"");
        assert!(Path::new("to/escape").exists(), "what points outside comes in");
        fs::remove_dir_all(&folder).expect("gone");
    }
}

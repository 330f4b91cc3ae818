//! Which devices a container may use: those that belong to no machine (null, zero, random, terminals), and to make nodes.
//!
//! Version 1 has a controller for it. In version 2 a program decides, which is attached to the container's cgroup and
//! lives as long as that.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Type, numbers, access; `*` is any number. Making a node is no use of it.
pub(crate) const ALLOWED: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// An instruction of eBPF: operation, registers (destination low, source high), distance, constant.
#[repr(C)]
struct Step(u8, u8, i16, i32);

const LOAD: u8 = 0x61;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const JUMP: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
const UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The list above. The kernel gives access and type in one word (character is 2, making a node is 1), then the numbers.
const PROGRAM: [Step; 23] = [
    Step(LOAD, 0x12, 0, 0),
    Step(LOAD, 0x14, 4, 0),
    Step(LOAD, 0x15, 8, 0),
    Step(COPY, 0x23, 0, 0),
    Step(SHIFT_RIGHT, 0x03, 0, 16),
    Step(AND, 0x02, 0, 0xffff),
    Step(IF_EQUAL, 0x03, 14, 1),
    Step(UNLESS_EQUAL, 0x02, 11, 2),
    Step(IF_EQUAL, 0x04, 12, 136),
    Step(IF_EQUAL, 0x04, 7, 5),
    Step(UNLESS_EQUAL, 0x04, 8, 1),
    Step(IF_EQUAL, 0x05, 9, 3),
    Step(IF_EQUAL, 0x05, 8, 5),
    Step(IF_EQUAL, 0x05, 7, 7),
    Step(IF_EQUAL, 0x05, 6, 8),
    Step(IF_EQUAL, 0x05, 5, 9),
    Step(JUMP, 0, 2, 0),
    Step(IF_EQUAL, 0x05, 3, 0),
    Step(IF_EQUAL, 0x05, 2, 2),
    // Refused.
    Step(SET, 0x00, 0, 0),
    Step(EXIT, 0, 0, 0),
    // Allowed.
    Step(SET, 0x00, 0, 1),
    Step(EXIT, 0, 0, 0),
];

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_HOOK: u32 = 6;

/// Attaches the program to a version-2 cgroup. Programs of the groups above decide as well.
pub(crate) fn restrict(dir: &Path) -> io::Result<()> {
    let group = std::fs::File::open(dir)?;
    let program = load()?;
    let number = |fd: libc::c_int| u32::try_from(fd).map_err(io::Error::other);
    let attach = [number(group.as_raw_fd())?, number(program.as_raw_fd())?, CGROUP_DEVICE_HOOK, 0];
    bpf(PROG_ATTACH, attach.as_ptr().cast(), size_of_val(&attach)).map(drop)
}

fn load() -> io::Result<OwnedFd> {
    /// The first fields of `union bpf_attr` for this command; the kernel takes the others for zero.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        steps: u64,
        license: u64,
    }
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(PROGRAM.len()).map_err(io::Error::other)?,
        steps: PROGRAM.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    let fd = bpf(PROG_LOAD, (&raw const load).cast(), size_of::<Load>())?;
    // SAFETY: the call made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: libc::c_int, attributes: *const libc::c_void, size: usize) -> io::Result<libc::c_int> {
    // SAFETY: the attributes have the given size, and what they point to lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    let fd = i32::try_from(result).unwrap_or(-1);
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers: this runs it as the kernel does.
    fn allows(kind: i64, access: i64, major: i64, minor: i64) -> bool {
        let mut registers = [0_i64; 11];
        let mut at: usize = 0;
        loop {
            let Step(code, names, distance, constant) = PROGRAM[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let constant = i64::from(constant);
            let mut jump = false;
            match code {
                LOAD => {
                    registers[to] = [(access << 16) | kind, major, minor][usize::try_from(distance / 4).expect("few")];
                }
                COPY => registers[to] = registers[from],
                SET => registers[to] = constant,
                SHIFT_RIGHT => registers[to] >>= constant,
                AND => registers[to] &= constant,
                JUMP => jump = true,
                IF_EQUAL => jump = registers[to] == constant,
                UNLESS_EQUAL => jump = registers[to] != constant,
                EXIT => return registers[0] == 1,
                other => panic!("no such operation: {other:#x}"),
            }
            at += 1;
            if jump {
                at += usize::try_from(distance).expect("forward");
            }
        }
    }

    #[test]
    fn the_program_says_what_the_list_says() {
        const CHARACTER: i64 = 2;
        const BLOCK: i64 = 1;
        for kind in [CHARACTER, BLOCK] {
            assert!(allows(kind, 1, 8, 0), "nodes may be made");
            for (major, minor) in [
                (1, 1),
                (1, 3),
                (1, 4),
                (1, 5),
                (1, 7),
                (1, 8),
                (1, 9),
                (1, 11),
                (5, 0),
                (5, 1),
                (5, 2),
                (8, 0),
                (10, 200),
                (136, 7),
            ] {
                let listed = ALLOWED
                    .iter()
                    .any(|line| *line == format!("c {major}:{minor} rwm") || *line == format!("c {major}:* rwm"));
                for access in [2, 4, 6] {
                    assert_eq!(
                        allows(kind, access, major, minor),
                        kind == CHARACTER && listed,
                        "{kind} {major}:{minor}"
                    );
                }
            }
        }
    }

    /// Runs where root may make a version-2 cgroup, which mixed machines allow as well.
    #[test]
    fn the_kernel_holds_processes_to_the_program() {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let place = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let Some(dir) = place.map(|place| Path::new(place).join(format!("corten-test-devices-{}", std::process::id())))
        else {
            eprintln!("skipped: no version-2 cgroups");
            return;
        };
        if let Err(error) = std::fs::create_dir(&dir) {
            eprintln!("skipped: needs root: {error}");
            return;
        }
        let restricted = restrict(&dir);
        let script = format!("echo $$ > {}/cgroup.procs; head -c1 /dev/zero; head -c1 /dev/net/tun", dir.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).output();
        let removed = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            std::fs::remove_dir(&dir).is_ok()
        });
        restricted.expect("the kernel takes the program");
        let output = output.expect("sh runs");
        assert_eq!(output.stdout, [0], "zero may be read");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Operation not permitted") || said.contains("No such file"), "{said}");
        assert!(removed);
    }
}

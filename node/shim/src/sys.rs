//! System calls in Rust's clothes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An error from a call's result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A C string; a zero byte inside ends it.
pub(crate) fn c_string(text: impl AsRef<[u8]>) -> CString {
    let bytes = text.as_ref();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// A pipe that is closed on exec: the end to read, the end to write.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for the two descriptors that the call makes, which nobody else owns.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Forks, with new namespaces: the child's pid in the parent, `None` in the child.
pub(crate) fn clone(flags: libc::c_int) -> io::Result<Option<i32>> {
    let flags = libc::c_ulong::try_from(flags | libc::SIGCHLD).unwrap_or(0);
    // SAFETY: without CLONE_VM this is a fork; this program has one thread, so the child may go on with anything.
    forked(unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) })
}

/// As `clone`; the child is in this version-2 cgroup from the beginning.
pub(crate) fn clone_into(flags: libc::c_int, cgroup: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: a structure of numbers, for which zero means nothing.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::try_from(flags).unwrap_or(0) | INTO_CGROUP;
    arguments.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(0);
    // SAFETY: as `clone`; the structure lives through the call, and its size goes with it.
    forked(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) })
}

fn forked(result: libc::c_long) -> io::Result<Option<i32>> {
    match i32::try_from(result) {
        Ok(0) => Ok(None),
        Ok(pid @ 1..) => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

pub(crate) fn setns(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }).map(drop)
}

pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A child that ended, and its wait status; `None` if none has.
pub(crate) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the call writes one integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Closes all descriptors but the standard ones: what the daemon's parent left open must not live as long as a pod.
pub(crate) fn close_inherited() {
    // SAFETY: called first of all, when nothing in this program owns a descriptor yet.
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Makes a descriptor standard input, output or error.
pub(crate) fn become_fd(fd: BorrowedFd<'_>, number: libc::c_int) -> io::Result<()> {
    // SAFETY: both numbers are descriptors; dup2 also clears the close-on-exec flag.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Ends a forked child without running what the parent registered.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: a socket for ioctl alone; the request is zeroed and lives through the calls.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = libc::c_char::try_from(*from).unwrap_or(0);
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)).map(drop)
    }
}

pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

pub(crate) fn set_window(fd: BorrowedFd<'_>, columns: u16, rows: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives through the call. A terminal that is gone has no size to set.
    let _ = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// A pseudo terminal: the end of the one who looks on, and the path of the other end.
pub(crate) fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: the call makes two descriptors, which nobody else owns; the other arguments may be null.
    unsafe {
        let null = std::ptr::null_mut();
        check(libc::openpty(&raw mut master, &raw mut slave, null, std::ptr::null(), std::ptr::null()))?;
        for fd in [master, slave] {
            check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
        }
        Ok((OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)))
    }
}

/// Makes standard input the terminal of this (new) session.
pub(crate) fn take_terminal() {
    // SAFETY: no memory is involved. Without a terminal the call does nothing.
    let _ = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: flags of an open descriptor.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}

/// Replaces this process; returns only if that fails.
pub(crate) fn exec(program: &str, args: &[String], env: &[String]) -> io::Error {
    let program = c_string(program);
    let args: Vec<CString> = args.iter().map(c_string).collect();
    let env: Vec<CString> = env.iter().map(c_string).collect();
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: null-terminated arrays of C strings that live through the call.
    unsafe {
        libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr());
    }
    io::Error::last_os_error()
}

/// Lets all signals through and gives them their usual meaning, as a new program expects.
pub(crate) fn reset_signals() {
    // SAFETY: the set lives through the call.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        // Rust ignores SIGPIPE, `nohup` ignores SIGHUP, and that is inherited. Two cannot be set: that is no matter.
        for signal in 1..=LAST_SIGNAL {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

const LAST_SIGNAL: libc::c_int = 64;

/// Keeps processes of a container from looking into this one (and from opening its program by /proc/<pid>/exe) while it
/// is on its way into the container. The next exec undoes it.
pub(crate) fn hide() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Marks all descriptors but the standard ones to be closed by exec.
pub(crate) fn close_on_exec() -> io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or(0);
    // SAFETY: the descriptors stay open as long as their owners are here.
    check(unsafe { libc::close_range(3, libc::c_uint::MAX, flags) }).map(drop)
}

/// Gives standard input, output and error to a user, so that the program may open /dev/stdout anew. What cannot be given
/// (a device, a read-only file) stays as it is.
pub(crate) fn give_streams(uid: u32) {
    for number in 0..=2 {
        // SAFETY: the structure lives through the calls; the numbers are descriptors of this process.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let is_null =
                |stat: &libc::stat| stat.st_mode & libc::S_IFMT == libc::S_IFCHR && libc::major(stat.st_rdev) == 1;
            if libc::fstat(number, &raw mut stat) == 0 && stat.st_uid != uid && !is_null(&stat) {
                libc::fchown(number, uid, libc::gid_t::MAX);
            }
        }
    }
}

/// Makes a mount read-only, by a descriptor of it; what is mounted below stays as it is.
pub(crate) fn read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the structure's size goes with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// Nanoseconds of Unix time.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

//! The default seccomp profile: the list of system calls that containerd and Docker allow, and what they answer for others.
//!
//! A call that is not on the list is refused with EPERM. One that is newer than this list gets ENOSYS, and so does
//! clone3, whose flags no filter can see: programs then fall back to what there was before. So do calls by another
//! architecture's numbers. The filter is made of ranges, because the kernel goes through all of it at every start.

use std::io;

use crate::sys::check;

const ALWAYS: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_adjtimex,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fanotify_mark,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    IO_PGETEVENTS,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioctl,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_mremap,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_prlimit64,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pselect6,
    libc::SYS_ptrace,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_remap_file_pages,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
    // Too new for every C library, the same on all architectures.
    CACHESTAT,
    FCHMODAT2,
    MAP_SHADOW_STACK,
    FUTEX_WAKE,
    FUTEX_WAIT,
    FUTEX_REQUEUE,
    STATMOUNT,
    LISTMOUNT,
    MSEAL,
    SETXATTRAT,
    GETXATTRAT,
    LISTXATTRAT,
    REMOVEXATTRAT,
];

#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: libc::c_long = 333;
#[cfg(not(target_arch = "x86_64"))]
const IO_PGETEVENTS: libc::c_long = 292;
const CACHESTAT: libc::c_long = 451;
const FCHMODAT2: libc::c_long = 452;
const MAP_SHADOW_STACK: libc::c_long = 453;
const FUTEX_WAKE: libc::c_long = 454;
const FUTEX_WAIT: libc::c_long = 455;
const FUTEX_REQUEUE: libc::c_long = 456;
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const MSEAL: libc::c_long = 462;
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
const REMOVEXATTRAT: libc::c_long = 466;
/// The newest call that this list knows of.
const NEWEST: libc::c_long = REMOVEXATTRAT;

/// Calls that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_ctl_old,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_wait_old,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_get_thread_area,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_set_thread_area,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
    335, // uretprobe
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// Calls that need a capability, by its number: who has it may try.
const BY_CAPABILITY: &[(u32, &[libc::c_long])] = &[
    (2, &[libc::SYS_open_by_handle_at]),
    (16, &[libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_init_module]),
    #[cfg(target_arch = "x86_64")]
    (17, &[libc::SYS_ioperm, libc::SYS_iopl]),
    (18, &[libc::SYS_chroot]),
    (19, &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    (20, &[libc::SYS_acct]),
    (
        SYS_ADMIN,
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (22, &[libc::SYS_reboot]),
    (23, &[libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy, 450]),
    (25, &[libc::SYS_clock_settime, libc::SYS_settimeofday]),
    (26, &[libc::SYS_vhangup]),
    (34, &[libc::SYS_syslog]),
    (38, &[libc::SYS_perf_event_open]),
    (39, &[libc::SYS_bpf]),
];

const SYS_ADMIN: u32 = 21;

/// Flags of clone(2) that make namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// Kinds of process that personality(2) may ask for.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
const AF_VSOCK: u32 = 40;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// Parts of `struct seccomp_data`: offsets of the number, the architecture, the low half of the first argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

// Codes of classic BPF.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | 1; // EPERM
const UNKNOWN: u32 = 0x0005_0000 | 38; // ENOSYS

/// Applies the profile to this process and all that come from it.
pub(crate) fn apply(capabilities: &[u32]) -> io::Result<()> {
    let filter = profile(capabilities);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program during the call; length and pointer belong together.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// The numbers of all calls that are allowed whatever their arguments are, as ranges in order.
fn ranges(capabilities: &[u32]) -> Vec<(u32, u32)> {
    let granted = BY_CAPABILITY.iter().filter(|(own, _)| capabilities.contains(own)).flat_map(|(_, calls)| *calls);
    let mut numbers: Vec<u32> =
        ALWAYS.iter().chain(OLD).chain(granted).filter_map(|call| u32::try_from(*call).ok()).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

fn profile(capabilities: &[u32]) -> Vec<libc::sock_filter> {
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let call = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    let mut filter = vec![
        step(LOAD, ARCH, 0, 0),
        step(IF_EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, UNKNOWN, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    if !capabilities.contains(&SYS_ADMIN) {
        filter.extend([
            step(IF_EQUAL, call(libc::SYS_clone3), 0, 1),
            step(RETURN, UNKNOWN, 0, 0),
            step(IF_EQUAL, call(libc::SYS_clone), 0, 5),
            step(LOAD, FIRST_ARGUMENT, 0, 0),
            step(AND, NEW_NAMESPACES, 0, 0),
            step(IF_EQUAL, 0, 0, 1),
            step(RETURN, ALLOW, 0, 0),
            step(RETURN, REFUSE, 0, 0),
        ]);
    }
    filter.extend([
        step(IF_EQUAL, call(libc::SYS_socket), 0, 4),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(IF_EQUAL, AF_VSOCK, 0, 1),
        step(RETURN, REFUSE, 0, 0),
        step(RETURN, ALLOW, 0, 0),
        step(IF_EQUAL, call(libc::SYS_personality), 0, 8),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
    ]);
    for (personality, ahead) in PERSONALITIES.iter().zip([5, 4, 3, 2, 1]) {
        filter.push(step(IF_EQUAL, *personality, ahead, 0));
    }
    filter.extend([step(RETURN, REFUSE, 0, 0), step(RETURN, ALLOW, 0, 0)]);
    for (first, last) in ranges(capabilities) {
        filter.extend([
            step(IF_AT_LEAST, last + 1, 3, 0),
            step(IF_AT_LEAST, first, 0, 1),
            step(RETURN, ALLOW, 0, 0),
            step(RETURN, REFUSE, 0, 0),
        ]);
    }
    // Numbers with a high bit are another calling convention's (x32), not newer ones.
    filter.extend([
        step(IF_AT_LEAST, 0x4000_0000, 2, 0),
        step(IF_AT_LEAST, call(NEWEST) + 1, 0, 1),
        step(RETURN, UNKNOWN, 0, 0),
        step(RETURN, REFUSE, 0, 0),
    ]);
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer to a call: it runs the filter as this does.
    fn answer(capabilities: &[u32], arch: u32, number: libc::c_long, argument: u32) -> u32 {
        let filter = profile(capabilities);
        let (mut at, mut value) = (0, 0);
        loop {
            let own = &filter[at];
            at += 1;
            match own.code {
                LOAD => {
                    value = match own.k {
                        NUMBER => u32::try_from(number).expect("a number"),
                        ARCH => arch,
                        FIRST_ARGUMENT => argument,
                        other => panic!("loads {other}"),
                    }
                }
                AND => value &= own.k,
                RETURN => return own.k,
                code => {
                    let holds = if code == IF_EQUAL { value == own.k } else { value >= own.k };
                    at += usize::from(if holds { own.jt } else { own.jf });
                }
            }
        }
    }

    fn check(capabilities: &[u32], number: libc::c_long, argument: u32, wanted: u32) {
        assert_eq!(answer(capabilities, ARCHITECTURE, number, argument), wanted, "call {number}, {argument:#x}");
    }

    #[test]
    fn ordinary_programs_find_all_they_need() {
        for number in ALWAYS.iter().chain(OLD) {
            check(&[], *number, 0, ALLOW);
        }
        check(&[], libc::SYS_clone, 0x003d_0f00, ALLOW);
        check(&[], libc::SYS_socket, 2, ALLOW);
        for personality in PERSONALITIES {
            check(&[], libc::SYS_personality, personality, ALLOW);
        }
        check(&[18], libc::SYS_chroot, 0, ALLOW);
    }

    #[test]
    fn what_reaches_the_machine_is_refused() {
        for number in [
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_pivot_root,
            libc::SYS_swapon,
            libc::SYS_chroot,
        ] {
            check(&[], number, 0, REFUSE);
        }
        check(&[], libc::SYS_clone, 0x1000_0000 | 17, REFUSE);
        check(&[], libc::SYS_personality, 0x4_0000, REFUSE);
        check(&[], libc::SYS_socket, AF_VSOCK, REFUSE);
    }

    #[test]
    fn capabilities_open_what_they_are_about() {
        check(&[SYS_ADMIN], libc::SYS_mount, 0, ALLOW);
        check(&[SYS_ADMIN], libc::SYS_clone3, 0, ALLOW);
        check(&[SYS_ADMIN], libc::SYS_clone, 0x1000_0000, ALLOW);
        check(&[25], libc::SYS_clock_settime, 0, ALLOW);
        check(&[25], libc::SYS_mount, 0, REFUSE);
    }

    #[test]
    fn programs_fall_back_from_what_is_unknown() {
        check(&[], libc::SYS_clone3, 0, UNKNOWN);
        check(&[], NEWEST + 1, 0, UNKNOWN);
        assert_eq!(answer(&[], 0x4000_0003, 1, 0), UNKNOWN, "by 32-bit numbers");
        check(&[], 0x4000_0000 + libc::SYS_mount, 0, REFUSE);
    }
}

//! Which system calls the daemon, and `nft` under it, may make (seccomp). Learned with strace(1) from the daemons of the
//! test-suite.
//!
//! Any other call fails with ENOSYS and ends nothing. A C library that tries a newer call first then takes the older one,
//! as it does on an older kernel; and the filter's keeper must not die of a call that nobody thought of: it could not
//! renew anything then, though the filter itself would stay. What an attacker wants (ptrace, mount, setns, kexec, modules,
//! keys, user namespaces, packet sockets) is refused all the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET,
    CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Families of sockets: control and logs, packets' addresses for webhooks and resolvers, the kernel's tables.
const FAMILIES: [i32; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
/// No new namespaces. clone3(2) is not on the list, since its flags cannot be seen here: libraries fall back to clone(2).
const NAMESPACES: i32 = CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET;

// One line a purpose, to be read as a table.
#[rustfmt::skip]
const CALLS: &[i64] = &[
    // the filter
    libc::SYS_bpf, libc::SYS_membarrier, libc::SYS_perf_event_open,
    // files
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_read, libc::SYS_readv,
    libc::SYS_pread64, libc::SYS_preadv, libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64, libc::SYS_pwritev,
    libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getcwd,
    libc::SYS_ftruncate, libc::SYS_truncate, libc::SYS_fallocate, libc::SYS_fsync, libc::SYS_fdatasync,
    libc::SYS_sync_file_range, libc::SYS_fadvise64, libc::SYS_flock, libc::SYS_fcntl, libc::SYS_ioctl,
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat,
    libc::SYS_symlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_umask, libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // memory
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_msync, libc::SYS_mlock, libc::SYS_munlock, libc::SYS_memfd_create,
    // sockets; which ones: see `FAMILIES`
    libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect, libc::SYS_shutdown,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom, libc::SYS_recvmsg,
    libc::SYS_recvmmsg, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt,
    // waiting
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll,
    libc::SYS_pselect6, libc::SYS_eventfd2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_pipe2, libc::SYS_dup, libc::SYS_dup3, libc::SYS_futex,
    libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime, libc::SYS_clock_getres,
    libc::SYS_gettimeofday, libc::SYS_restart_syscall,
    // threads, signals, and the start of `nft`
    libc::SYS_set_tid_address, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq,
    libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_getpgid,
    libc::SYS_getsid, libc::SYS_setsid, libc::SYS_setpgid, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_getcpu, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack, libc::SYS_signalfd4, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill,
    libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_execve, libc::SYS_wait4, libc::SYS_waitid,
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_capget, libc::SYS_capset,
    libc::SYS_seccomp, libc::SYS_chdir, libc::SYS_getrusage, libc::SYS_times,
    // what else they ask
    libc::SYS_getrandom, libc::SYS_uname, libc::SYS_sysinfo,
];

/// Calls of this architecture alone: older forms of those above, which C libraries and interpreters still make.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_arch_prctl, libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link, libc::SYS_symlink,
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pipe,
    libc::SYS_dup2, libc::SYS_getpgrp, libc::SYS_vfork, libc::SYS_fork, libc::SYS_time, libc::SYS_getrlimit,
];
/// See above.
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// The filter, compiled for this processor.
pub(super) fn program() -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in CALLS.iter().chain(OLDER) {
        rules.insert(*call, Vec::new());
    }
    let family = |family: i32| only(0, SeccompCmpOp::Eq, family as u64);
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let families = FAMILIES.into_iter().map(family);
        rules.insert(call, families.collect::<Result<_>>()?);
    }
    let same = only(0, SeccompCmpOp::MaskedEq(NAMESPACES as u64), 0)?;
    rules.insert(libc::SYS_clone, vec![same]);
    let machine: TargetArch = std::env::consts::ARCH
        .try_into()
        .context("no list of system calls for this processor")?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::Allow,
        machine,
    )
    .context("the list of system calls cannot be made a filter")?;
    filter.try_into().context("the filter cannot be compiled")
}

/// An argument has to be such.
fn only(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// Puts the filter on this thread and those that it starts.
pub(super) fn apply(program: &BpfProgram) -> Result<()> {
    seccompiler::apply_filter(program).context("the kernel does not take the filter")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// On a thread of its own, which is confined for good.
    #[test]
    fn what_is_refused() {
        let confined = std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            apply(&program().unwrap()).unwrap();
            let error = |result: libc::c_long| {
                (result < 0)
                    .then(io::Error::last_os_error)
                    .map(|e| e.raw_os_error())
            };
            // SAFETY: calls that take numbers or null pointers only.
            unsafe {
                [
                    error(libc::syscall(libc::SYS_getpid)),
                    error(libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0)),
                    error(libc::syscall(libc::SYS_unshare, CLONE_NEWUSER)),
                    error(libc::syscall(libc::SYS_clone, CLONE_NEWNET, 0, 0, 0, 0)),
                    error(libc::syscall(
                        libc::SYS_socket,
                        libc::AF_PACKET,
                        libc::SOCK_RAW,
                        0,
                    )),
                    error(libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0)),
                ]
            }
        });
        let refused = Some(Some(libc::ENOSYS));
        assert_eq!(
            confined.join().unwrap(),
            [None, refused, refused, refused, refused, refused]
        );
    }
}

//! The errors that a system call may return at any time although its arguments are valid.
#![allow(non_upper_case_globals, reason = "the libc crate spells the numbers of system calls this way")]

use parlour::Transport;

use crate::by_hand::trace::Call;

/// Returns the name of this call and the errors that are plausible for it. The list is empty for a call that cannot
/// fail, and for one whose failure does not concern the library: allocation of small objects, threads, the clock.
pub fn errors(transport: Transport, call: &Call) -> (&'static str, &'static [i32]) {
    #[allow(clippy::wildcard_imports, reason = "dozens of names of system calls and errors")]
    use libc::*;
    // A mapping without a file is memory of the allocator.
    let maps_nothing = call.arguments[4] as i32 == -1;
    match call.number {
        SYS_openat if call.arguments[2] as i32 & libc::O_CREAT != 0 => ("create", &[ENOSPC, EDQUOT, EROFS, EMFILE]),
        SYS_openat | SYS_open => ("open", &[EMFILE, ENFILE, ENOMEM, EACCES, EINTR, EIO]),
        SYS_openat2 => ("openat2", &[EMFILE, ENFILE, ENOMEM, EACCES, EAGAIN, ENOSYS]),
        SYS_mkdirat | SYS_mkdir => ("mkdir", &[ENOSPC, EROFS, EACCES, EDQUOT]),
        SYS_mknodat | SYS_mknod => ("mknod", &[ENOSPC, EROFS, EACCES, EDQUOT]),
        SYS_renameat | SYS_renameat2 | SYS_rename => ("rename", &[ENOSPC, EDQUOT, EROFS, EIO]),
        SYS_unlinkat | SYS_unlink => ("unlink", &[EROFS, EIO, EACCES]),
        SYS_fstat | SYS_newfstatat | SYS_statx | SYS_stat | SYS_lstat => ("stat", &[ENOMEM, EIO]),
        SYS_readlink | SYS_readlinkat => ("readlink", &[ENOMEM, EACCES]),
        SYS_getdents64 => ("getdents", &[EIO]),
        SYS_fchmod | SYS_fchmodat | SYS_chmod => ("chmod", &[EROFS, EPERM]),
        SYS_fchown | SYS_fchownat => ("chown", &[EROFS, EPERM]),
        SYS_ftruncate => ("ftruncate", &[ENOSPC, EIO]),
        SYS_fallocate => ("fallocate", &[ENOSPC, ENOMEM, EINTR]),
        SYS_fcntl => match call.arguments[1] as i32 {
            F_OFD_SETLK | F_OFD_GETLK => ("lock", &[ENOLCK, EINTR]),
            F_DUPFD_CLOEXEC => ("dup", &[EMFILE]),
            F_ADD_SEALS => ("seal", &[EBUSY]),
            F_SETPIPE_SZ => ("pipe_size", &[EPERM, EBUSY, ENOMEM]),
            _ => ("fcntl", &[]),
        },
        SYS_flock => ("flock", &[ENOLCK, EINTR]),
        SYS_memfd_create => ("memfd_create", &[EMFILE, ENFILE, ENOMEM]),
        SYS_mmap if maps_nothing => ("mmap", &[]),
        SYS_mmap => ("mmap", &[ENOMEM, EAGAIN]),
        SYS_pipe2 => ("pipe", &[EMFILE, ENFILE]),
        SYS_socket => ("socket", &[EMFILE, ENFILE, ENOMEM]),
        SYS_socketpair => ("socketpair", &[EMFILE, ENFILE, ENOMEM]),
        SYS_bind => ("bind", &[ENOSPC, EDQUOT, ENOMEM, EROFS, EACCES]),
        SYS_listen => ("listen", &[ENOMEM]),
        SYS_connect => ("connect", &[EAGAIN, ECONNREFUSED, ENOMEM, EINTR]),
        // EAGAIN: another process that listens on the same socket has accepted the client.
        SYS_accept4 | SYS_accept => ("accept", &[EMFILE, ENFILE, ENOMEM, ECONNABORTED, EINTR, EPERM, EAGAIN]),
        SYS_getsockopt => match call.arguments[2] as i32 {
            // These options always exist, or are never requested.
            SO_PEERCRED | SO_TYPE | SO_ERROR | SO_SNDBUF => ("getsockopt", &[]),
            _ => ("getsockopt", &[ENOBUFS, EMFILE, ENOPROTOOPT]),
        },
        SYS_setsockopt => ("setsockopt", &[ENOBUFS, ENOPROTOOPT]),
        SYS_getsockname | SYS_getpeername => ("getsockname", &[ENOBUFS]),
        SYS_shutdown => ("shutdown", &[ENOTCONN]),
        // The kernel returns EAGAIN only for a full socket, and a peer that has a full socket to read from is awake.
        // The shared memory transport relies on that.
        SYS_sendmsg | SYS_sendto if transport == Transport::Shm => {
            ("send", &[EINTR, ENOMEM, ENOBUFS, ETOOMANYREFS, EPIPE, ECONNRESET])
        }
        SYS_sendmsg | SYS_sendto => ("send", &[EINTR, EAGAIN, ENOMEM, ENOBUFS, ETOOMANYREFS, EPIPE, ECONNRESET]),
        SYS_recvmsg | SYS_recvfrom => ("receive", &[EINTR, EAGAIN, ENOMEM, ECONNRESET]),
        SYS_read | SYS_readv | SYS_pread64 => ("read", &[EINTR, EAGAIN, EIO]),
        SYS_write | SYS_writev | SYS_pwrite64 => ("write", &[EINTR, EAGAIN, ENOSPC, EDQUOT, ENOMEM, EPIPE]),
        SYS_vmsplice => ("vmsplice", &[EINTR, EAGAIN, ENOMEM, EPIPE, ENOSYS, EPERM]),
        SYS_ioctl if call.arguments[1] == FIONREAD => ("unread", &[ENOTTY, EPERM]),
        SYS_pwritev2 => ("pwritev2", &[EINTR, EAGAIN, ENOMEM, EPIPE, EOPNOTSUPP]),
        SYS_epoll_create1 => ("epoll_create", &[EMFILE, ENFILE, ENOMEM]),
        SYS_epoll_ctl => ("epoll_ctl", &[ENOMEM, ENOSPC]),
        SYS_epoll_wait | SYS_epoll_pwait | SYS_epoll_pwait2 => ("epoll_wait", &[EINTR]),
        SYS_poll | SYS_ppoll => ("poll", &[EINTR, ENOMEM]),
        SYS_eventfd2 => ("eventfd", &[EMFILE, ENFILE, ENOMEM]),
        SYS_timerfd_create => ("timerfd_create", &[EMFILE, ENFILE, ENOMEM]),
        SYS_timerfd_settime => ("timerfd_settime", &[ENOMEM]),
        SYS_inotify_init1 => ("inotify_init", &[EMFILE, ENFILE, ENOMEM]),
        SYS_inotify_add_watch => ("inotify_add_watch", &[ENOSPC, ENOMEM]),
        SYS_pidfd_open => ("pidfd_open", &[EMFILE, ENFILE, ENOMEM, ENOSYS]),
        SYS_getrandom => ("getrandom", &[EINTR]),
        // The kernel closes the descriptor nevertheless.
        SYS_close => ("close", &[EINTR]),
        _ => ("another", &[]),
    }
}

/// Returns true if this call has its effect although it fails.
pub fn is_made(call: &Call) -> bool {
    call.number == libc::SYS_close
}

/// Returns true if this call transfers bytes or clients through the descriptor that is its first argument. EAGAIN then
/// means that the descriptor is not ready now, and will be later.
pub fn transfers(call: &Call) -> bool {
    #[allow(clippy::wildcard_imports, reason = "as above")]
    use libc::*;
    let receives = matches!(call.number, SYS_recvmsg | SYS_recvfrom | SYS_read | SYS_readv | SYS_accept4 | SYS_accept);
    receives || sends(call)
}

/// Returns true if this call sends bytes through the descriptor that is its first argument.
pub fn sends(call: &Call) -> bool {
    #[allow(clippy::wildcard_imports, reason = "as above")]
    use libc::*;
    matches!(call.number, SYS_sendmsg | SYS_sendto | SYS_write | SYS_writev | SYS_vmsplice | SYS_pwritev2)
}

/// Returns true if this error of this call is transient: the next try succeeds.
pub fn passes(call: &Call, error: i32) -> bool {
    let looks = matches!(
        call.number,
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 | libc::SYS_poll | libc::SYS_ppoll
    );
    match error {
        libc::EAGAIN => transfers(call),
        libc::EINTR => transfers(call) || looks,
        // Such a call is made again for a while.
        libc::ENOMEM | libc::ENOBUFS => {
            transfers(call) || matches!(call.number, libc::SYS_socket | libc::SYS_socketpair | libc::SYS_connect)
        }
        _ => false,
    }
}

/// Returns true if a file may remain when this call fails.
pub fn removes(call: &Call) -> bool {
    matches!(call.number, libc::SYS_unlinkat | libc::SYS_unlink)
}

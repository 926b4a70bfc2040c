//! The system calls of the harness that the standard library has not. The only unsafe code of the tests.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Past the capture of the test runner.
pub fn tell(line: &str) {
    // Nobody listens: then there is nobody to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}

pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn set_attribute(path: &std::path::Path, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path of ours");
    let (at, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: setxattr reads two strings with their NULs, and `length` bytes at `at`; all three outlive the call.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), at, length, 0) })
}

/// The command's process moves itself into the groups before it executes anything.
pub fn join_before_exec(command: &mut Command, procs: Vec<File>) {
    let join = move || {
        for file in &procs {
            (&*file).write_all(b"0")?;
        }
        Ok(())
    };
    // SAFETY: the closure makes write(2) calls on files that were opened before the fork, nothing else.
    unsafe { command.pre_exec(join) };
}

/// The command's process has a mount namespace of its own, in which these mounts are gone.
pub fn without_mounts(command: &mut Command, mount_points: Vec<std::ffi::CString>) {
    let hide = move || {
        // SAFETY: unshare takes a number.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        let (nothing, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        // SAFETY: mount(2) looks at the target alone when propagation is changed; a constant with its NUL.
        check(unsafe { libc::mount(nothing, c"/".as_ptr(), nothing, flags, std::ptr::null()) })?;
        for mount_point in &mount_points {
            // SAFETY: a string with its NUL that was made before the fork.
            check(unsafe { libc::umount2(mount_point.as_ptr(), libc::MNT_DETACH) })?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls on memory that was allocated before the fork, nothing else.
    unsafe { command.pre_exec(hide) };
}

/// The command's process has a mount namespace of its own, in which a tmpfs with these options lies over a directory.
pub fn over_tmpfs(command: &mut Command, directory: &std::path::Path, options: &'static std::ffi::CStr) {
    let directory = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes()).expect("a path of ours");
    let cover = move || {
        // SAFETY: unshare takes a number.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        let (nothing, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        // SAFETY: mount(2) looks at the target alone when propagation is changed; a constant with its NUL.
        check(unsafe { libc::mount(nothing, c"/".as_ptr(), nothing, flags, std::ptr::null()) })?;
        let kind = c"tmpfs".as_ptr();
        // SAFETY: four strings with their NULs, constants or made before the fork.
        check(unsafe { libc::mount(kind, directory.as_ptr(), kind, 0, options.as_ptr().cast()) })
    };
    // SAFETY: the closure makes system calls on memory that was allocated before the fork, nothing else.
    unsafe { command.pre_exec(cover) };
}

/// The command's process has these supplementary groups.
pub fn with_groups(command: &mut Command, groups: Vec<libc::gid_t>) {
    // SAFETY: setgroups reads as many ids as it is told, from memory that was allocated before the fork.
    let set = move || check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) });
    // SAFETY: the closure makes one system call, nothing else.
    unsafe { command.pre_exec(set) };
}

/// Both ends of a new pseudo terminal: the one that is a window, the one that programs see.
pub fn open_terminal() -> (OwnedFd, OwnedFd) {
    let (mut window, mut inside) = (-1, -1);
    let (none, nothing, no_size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: openpty writes two descriptors to this stack; name, attributes and size may be null.
    let result = unsafe { libc::openpty(&raw mut window, &raw mut inside, none, nothing, no_size) };
    assert_eq!(result, 0, "openpty: {}", io::Error::last_os_error());
    // SAFETY: openpty has just made this descriptor for us, and nobody else knows of it.
    let window = unsafe { OwnedFd::from_raw_fd(window) };
    // SAFETY: as above.
    let inside = unsafe { OwnedFd::from_raw_fd(inside) };
    // SAFETY: fcntl takes numbers; a copy of the window in the child would keep the terminal alive.
    check(unsafe { libc::fcntl(window.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).expect("fcntl");
    (window, inside)
}

/// The command leads a session of its own, whose terminal is this one and its standard input.
pub fn lead_session_on(command: &mut Command, terminal: OwnedFd) {
    let lead = move || {
        // SAFETY: setsid takes nothing.
        check(unsafe { libc::setsid() })?;
        // SAFETY: dup2 takes two numbers.
        check(unsafe { libc::dup2(terminal.as_raw_fd(), 0) })?;
        // SAFETY: TIOCSCTTY takes a number.
        check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
    };
    // SAFETY: the closure makes system calls on numbers alone.
    unsafe { command.pre_exec(lead) };
}

/// So many descriptors of `/` that the command inherits.
pub fn leak_descriptors(command: &mut Command, count: usize) {
    let root = File::open("/").expect("the root directory");
    let leak = move || {
        for _ in 0..count {
            // SAFETY: dup takes a number; the copy has no close-on-exec flag, which is the point.
            check(unsafe { libc::dup(root.as_raw_fd()) })?;
        }
        Ok(())
    };
    // SAFETY: the closure makes dup(2) calls alone.
    unsafe { command.pre_exec(leak) };
}

/// SIGINT does to the command what it does by default.
pub fn listen_to_interrupts(command: &mut Command) {
    let listen = || {
        // SAFETY: signal(2) with the default action reads no memory of ours; nothing but this child's own action changes.
        let before = unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: only signal(2) is called between fork and exec, which is async-signal-safe.
    unsafe { command.pre_exec(listen) };
}

pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    check(i32::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// True when the process behind the pidfd has ended in time.
pub fn ends_within(pidfd: &OwnedFd, time: Duration) -> bool {
    let begin = std::time::Instant::now();
    loop {
        let left = time.saturating_sub(begin.elapsed());
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // SAFETY: ppoll reads and writes one pollfd and reads one timespec, both on this stack; no mask is given.
        let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
        if ready == 1 || left.is_zero() {
            return ready == 1;
        }
    }
}

pub fn kill_pidfd(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: pidfd_send_signal takes a descriptor, a number, and no siginfo.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    check(i32::try_from(result).unwrap_or(-1))
}

/// By number: the process is a child that has not been waited for, or one that only tests can have made.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    assert!(pid > 1, "not a process of a test: {pid}");
    // SAFETY: kill takes two numbers.
    check(unsafe { libc::kill(pid, signal) })
}

/// The shell's code of an end: the code itself, or 128 plus the signal.
pub fn shell_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

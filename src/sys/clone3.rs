//! Clone stage1 into its namespaces and its cgroup, and execute it, with nothing in between that can fail in a
//! way that needs Rust: every pointer exists before the clone, the child makes plain system calls only.
//!
//! The child joins what CLONE_INTO_CGROUP could not reach, attaches the program's detached mount in its own mount
//! namespace (so that it goes with the host's tree when stage1 leaves that, and needs no unmount of its own, for
//! which the kernel waits for all its readers), leaves the launcher's session (so that a Ctrl-C
//! reaches the launcher alone), closes the launcher's end of the socket (or stage1 would never see its end of
//! file) and executes the passed descriptor.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// CLONE_INTO_CGROUP of `linux/sched.h`. Not libc's: its `c_int` constant has overflowed to 0 in releases,
/// which silently starts the child in the parent's cgroup.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The namespaces of a pod that does not ask otherwise.
const POD_NAMESPACES: u64 =
    (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC) as u64;

/// Everything the child needs, made before it exists.
pub struct PreparedExec<'a> {
    /// What is executed: the root of a detached mount.
    pub program: BorrowedFd<'a>,
    /// An existing file over which the child attaches that mount, where nobody else sees it.
    pub program_place: CString,
    /// Its argument vector. Its environment is empty.
    pub argv: Vec<CString>,
    /// Inherited by the program under the same numbers.
    pub keep: Vec<RawFd>,
    /// Closed in the child before anything else.
    pub close: Vec<RawFd>,
    /// A cgroup2 directory for CLONE_INTO_CGROUP.
    pub into: Option<BorrowedFd<'a>>,
    /// `cgroup.procs` or v1's `tasks` files that the child joins by writing `0`; the first belongs to `into` and
    /// is used when the kernel refuses CLONE_INTO_CGROUP.
    pub procs: Vec<BorrowedFd<'a>>,
}

/// A child of ours.
pub struct Child {
    /// Its pid in our namespace.
    pub pid: i32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// A child on its way to the program.
pub struct Cloned {
    /// The child.
    pub child: Child,
    /// Tells a failure, or ends with the execve.
    errors: File,
}

impl Cloned {
    /// Waits until the program is executed.
    ///
    /// # Errors
    /// The errno of the child's write to a `cgroup.procs` or of its execveat(2), with words.
    pub fn executed(&self) -> anyhow::Result<()> {
        let mut told = [0; 8];
        let length = (&self.errors).read(&mut told)?;
        let [step, code @ ..] = &told[..length] else { return Ok(()) };
        let errno = code.try_into().map_or(libc::EIO, i32::from_ne_bytes);
        Err(anyhow::Error::new(io::Error::from_raw_os_error(errno)).context(ChildStep::words(*step)))
    }
}

/// What the child was doing when it failed; the first byte on the error pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ChildStep {
    Join = 1,
    Attach = 2,
    Exec = 3,
}

impl ChildStep {
    fn words(code: u8) -> &'static str {
        match code {
            c if c == Self::Join as u8 => "cannot move stage1 into its cgroup",
            c if c == Self::Attach as u8 => "cannot attach stage1's file in its mount namespace",
            _ => "cannot execute stage1",
        }
    }
}

/// Clones a child that executes the program, without waiting for that. All signals are blocked from before the clone
/// until the program has its own handlers; the caller's mask is restored in the caller.
///
/// # Errors
/// The errno of clone3(2).
pub fn spawn(exec: &PreparedExec<'_>) -> anyhow::Result<Cloned> {
    anyhow::ensure!(
        super::tasks::count()? == 1,
        "cannot clone stage1: the launcher has more than one thread"
    );
    let argv: Vec<*const c_char> =
        exec.argv.iter().map(|a| a.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
    let (errors, error_writer) = super::detach::pipe()?;
    let mut old_mask = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut old_mask))?;
    let cloned = clone_or_fall_back(exec, &argv, error_writer.as_raw_fd());
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old_mask), None)?;
    drop(error_writer);
    Ok(Cloned { child: cloned?, errors: errors.into() })
}

/// Tries CLONE_INTO_CGROUP first; where the kernel or a seccomp filter of an outer container refuses it, the
/// child joins by its own write.
fn clone_or_fall_back(exec: &PreparedExec<'_>, argv: &[*const c_char], errors: RawFd) -> io::Result<Child> {
    const REFUSALS: [i32; 5] = [libc::ENOSYS, libc::EACCES, libc::ENOENT, libc::EBUSY, libc::EOPNOTSUPP];
    let Some(into) = exec.into else { return clone_and_exec(exec, argv, errors, None) };
    match clone_and_exec(exec, argv, errors, Some(into)) {
        Err(e) if e.raw_os_error().is_some_and(|n| REFUSALS.contains(&n)) => {
            clone_and_exec(exec, argv, errors, None)
        }
        done => done,
    }
}

fn clone_and_exec(
    exec: &PreparedExec<'_>,
    argv: &[*const c_char],
    errors: RawFd,
    into: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let joined = usize::from(into.is_some());
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is a plain struct of u64; all zero is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags =
        POD_NAMESPACES | libc::CLONE_PIDFD as u64 | if into.is_some() { CLONE_INTO_CGROUP } else { 0 };
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = into.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: clone3 reads `size_of::<clone_args>()` bytes at `args` and writes one i32 at `args.pidfd`; both
    // live on this stack until the call returns. There is no CLONE_VM, so the child works on its own copy of
    // this memory, and the caller has asserted that no other thread exists whose locks it could inherit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => become_program(exec, argv, errors, joined),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor here, which nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// The child's whole life in this program: system calls only, no allocation, no return.
fn become_program(exec: &PreparedExec<'_>, argv: &[*const c_char], errors: RawFd, joined: usize) -> ! {
    for &fd in &exec.close {
        // SAFETY: closing a number is memory-safe; these belong to the parent's side and are not used here.
        unsafe { libc::close(fd) };
    }
    for procs in exec.procs.iter().skip(joined) {
        // SAFETY: one byte of static memory.
        if unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) } != 1 {
            fail(errors, ChildStep::Join);
        }
    }
    attach_program(exec, errors);
    // SAFETY: no pointer is passed. It cannot fail: a fresh child never leads a process group.
    unsafe { libc::setsid() };
    // SAFETY: no handler is installed. The Rust runtime ignores SIGPIPE, and ignored signals survive execve(2).
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for &fd in &exec.keep {
        // SAFETY: F_SETFD takes an integer.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    let environment: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: `argv` and `environment` are null-terminated arrays of pointers to C strings that live in the
    // copy of the parent's memory; the path is the empty C string that AT_EMPTY_PATH asks for.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            exec.program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    fail(errors, ChildStep::Exec)
}

/// Private first: on a shared `/` the mount would be the host's too (mount_namespaces(7)).
fn attach_program(exec: &PreparedExec<'_>, errors: RawFd) {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: a change of propagation takes no source, type or data (mount(2)); the target is a C string.
    if unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) } != 0 {
        fail(errors, ChildStep::Attach);
    }
    // SAFETY: both paths are C strings in the copy of the parent's memory; the empty one means the descriptor.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            exec.program.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            exec.program_place.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if moved != 0 {
        fail(errors, ChildStep::Attach);
    }
}

/// Tells the parent the step and the errno, and ends.
fn fail(errors: RawFd, step: ChildStep) -> ! {
    let errno = nix::errno::Errno::last_raw();
    let mut words = [step as u8; 5];
    words[1..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: five bytes of this stack; less than PIPE_BUF, so it is written whole or not at all.
    unsafe { libc::write(errors, words.as_ptr().cast(), words.len()) };
    // SAFETY: ends this process without running anything of the parent's copy.
    unsafe { libc::_exit(125) }
}

//! Making, signalling and reaping processes.
#![deny(deprecated)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU8;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use podrun_abi::control::Signal;
use podrun_abi::event::End;

/// From linux/sched.h. libc's constant of this name is an `i32` and became 0 in some of its versions, which would
/// silently start the app in stage1's own cgroup.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// Which side of [`fork_into`] we are on.
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's pid and a handle for it.
    Parent {
        /// As this process's pid namespace numbers it.
        pid: i32,
        /// For signalling.
        pidfd: OwnedFd,
    },
}

/// clone3(2) with a copy of this process, born in `cgroup` when there is one.
pub fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: all zero is a valid `clone_args`: every field is a number, and 0 means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_PIDFD;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: clone3 reads `size_of::<clone_args>()` bytes at `args` and writes one i32 at `args.pidfd`; both live
    // on this stack until the call returns. Without CLONE_VM the child has its own copy of the memory, and stage1
    // has one thread, so no lock is held by a thread that the copy lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match Errno::result(pid)? {
        0 => Ok(Forked::Child),
        // SAFETY: with CLONE_PIDFD a successful clone3 has put a fresh descriptor into `pidfd`, owned by nobody.
        pid => Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// pidfd_open(2) for a pid of this pid namespace.
pub fn open_pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// pidfd_send_signal(2).
pub fn signal(pidfd: &impl AsFd, signal: Signal) -> Result<(), Errno> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo asks the kernel to fill in that of kill(2); the rest are numbers.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, no_info, 0) };
    Errno::result(done).map(drop)
}

/// Reaps one child that has ended; `None` when there is none. Never blocks; stopped children are not reported.
///
/// nix's waitid cannot tell of a death by a real-time signal: it answers EINVAL after the child is gone.
pub fn reap_any() -> Result<Option<(i32, End)>, Errno> {
    // SAFETY: all zero is a valid `siginfo_t`, and waitid leaves it so when it finds no child.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: waitid writes one `siginfo_t` at `info`, which lives until the call returns.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    Errno::result(done)?;
    // SAFETY: these fields are set for the SIGCHLD that waitid reports, and zero when there was no child.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => End::Exited { code: (status & 0xff) as u8 },
        code => End::Signaled { signal: status, core: code == libc::CLD_DUMPED },
    };
    Ok(Some((pid, end)))
}

/// Whether the child behind `pidfd` has ended; it stays to be reaped.
pub fn has_ended(pidfd: &impl AsFd) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // An error is that of a status which nix has no word for, or of a child that was reaped.
    !matches!(waitid(Id::PIDFd(pidfd.as_fd()), flags), Ok(WaitStatus::StillAlive))
}

/// Ends this process without running anything that was registered for its end: for a forked child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default disposition. An ignored one would stay ignored in the apps, across execve.
pub fn reset_dispositions() {
    // The kernel's struct sigaction of all zeros: SIG_DFL, no flags, no restorer, an empty mask. The C library's
    // own call refuses the two signals that it keeps for itself, 32 and 33, and those can be inherited as ignored too.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        let nothing = std::ptr::null_mut::<u64>();
        // SAFETY: rt_sigaction reads one struct sigaction, 32 bytes on this architecture, from a constant, and
        // writes nothing. SIG_DFL installs no code. SIGKILL and SIGSTOP answer EINVAL and stay at their default.
        // The handlers that go are Rust's own for SIGSEGV and SIGBUS, which only print a message before the
        // default takes place.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), nothing, MASK_BYTES) };
    }
}

/// prctl(PR_SET_DUMPABLE, 0): other processes of the same user cannot trace it or look into its `/proc/PID`.
pub fn forbid_tracing() -> Result<(), Errno> {
    // SAFETY: this prctl takes numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Whether capability `number` is in the bounding set; EINVAL for one that the kernel does not know.
pub fn is_bounding(number: u32) -> Result<bool, Errno> {
    // SAFETY: this prctl takes numbers.
    let set = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) };
    Errno::result(set).map(|set| set == 1)
}

/// Drops capability `number` from the bounding set. The crate caps knows names, so it would leave out those of a
/// kernel that is newer than itself.
pub fn drop_bounding(number: u32) -> Result<(), Errno> {
    // SAFETY: this prctl takes numbers.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    Errno::result(done).map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING) with a fresh, unnamed keyring.
pub fn join_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let no_name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an unnamed keyring; nothing is read or written through it.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    Errno::result(done).map(drop)
}

/// setrlimit(2) by number, with `u64::MAX` for unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit64 reads one `rlimit64` at `limit`, which lives until the call returns, and writes nothing
    // since the last pointer is null. RLIM_INFINITY is all ones there.
    let done = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<libc::rlimit64>())
    };
    Errno::result(done).map(drop)
}

/// One byte per app that stays shared between stage1 and its forked children: how far a child has come.
///
/// A child that is killed before its execve leaves no message; its byte tells what it was doing.
pub struct SharedBytes(&'static [AtomicU8]);

impl SharedBytes {
    /// Maps `length` zero bytes, at least one.
    pub fn new(length: usize) -> Result<Self, Errno> {
        let length = length.max(1);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the mapping has `length` zeroed bytes, is never unmapped, and is reached through this slice
        // only. `AtomicU8` has the layout of `u8`, any value is valid, and other processes that map it, the
        // forked children, access it as `AtomicU8` too.
        Ok(Self(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>(), length) }))
    }

    /// The byte of app `index`.
    pub fn get(&self, index: usize) -> Option<&'static AtomicU8> {
        self.0.get(index)
    }
}

/// A signal set; nix's own cannot hold a real-time signal.
pub fn signal_set(signals: &[Signal]) -> SigSet {
    // SAFETY: sigemptyset below makes this a valid set before anything reads it; all zero is one too on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: sigemptyset writes one `sigset_t` at `set`, which lives until the call returns.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: sigaddset changes the initialised `set`; a number that is no signal leaves it as it is.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: `set` was initialised by sigemptyset and changed by sigaddset only.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

//! The system calls of the probe that the standard library has not. The only unsafe code of the probe.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A path from the command line: it holds no NUL, since it came through execve(2).
fn path_text(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

pub fn groups() -> Vec<libc::gid_t> {
    let mut list = vec![0; 65536];
    // SAFETY: getgroups writes at most 65536 ids, the length of `list`, which lives over the call.
    let count = unsafe { libc::getgroups(65536, list.as_mut_ptr()) };
    list.truncate(usize::try_from(count).unwrap_or(0));
    list
}

/// Parent, process group and session.
pub fn relatives() -> (i32, i32, i32) {
    // SAFETY: getppid takes nothing and cannot fail.
    let parent = unsafe { libc::getppid() };
    // SAFETY: getpgrp takes nothing and cannot fail.
    let group = unsafe { libc::getpgrp() };
    // SAFETY: getsid takes a number; 0 is the caller, for whom it cannot fail.
    let session = unsafe { libc::getsid(0) };
    (parent, group, session)
}

/// CPU time of this process.
pub fn cpu_used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which lives on this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Lets this process run on one CPU alone.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a set of zeros is one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET changes a bit of the set, or none when there is no such bit.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: sched_setaffinity reads as many bytes as the set has.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
}

/// Memory that a disk can be written from, or read to, past the cache: it begins at a page.
pub struct Block {
    at: *mut libc::c_void,
    length: usize,
}

impl Block {
    pub fn new(length: usize) -> Self {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self { at, length }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has so many bytes, all of them set, is never unmapped, and nobody else knows of it: the slice
        // borrows its only owner.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.length) }
    }
}

/// The next connection at any of these sockets, and at which.
pub fn accept_any(sockets: &[i32]) -> Result<(usize, File), i32> {
    let wanted = |&fd: &i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut ready: Vec<libc::pollfd> = sockets.iter().map(wanted).collect();
    let count = libc::nfds_t::try_from(ready.len()).unwrap_or(0);
    // SAFETY: poll writes to `count` entries, the length of `ready`, which lives over the call.
    if unsafe { libc::poll(ready.as_mut_ptr(), count, -1) } < 1 {
        return Err(last_errno());
    }
    let index = ready.iter().position(|one| one.revents != 0).unwrap_or_default();
    let socket = sockets.get(index).copied().unwrap_or(-1);
    // SAFETY: accept may be given no place for the address.
    let connection = unsafe { libc::accept(socket, std::ptr::null_mut(), std::ptr::null_mut()) };
    if connection == -1 {
        return Err(last_errno());
    }
    // SAFETY: accept has just made this descriptor, and nobody else knows it.
    Ok((index, unsafe { File::from_raw_fd(connection) }))
}

/// SO_LINGER with so many seconds.
pub fn linger(socket: &impl AsRawFd, seconds: i32) -> io::Result<()> {
    let value = libc::linger { l_onoff: 1, l_linger: seconds };
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    let (socket, value) = (socket.as_raw_fd(), (&raw const value).cast());
    // SAFETY: setsockopt reads `length` bytes at `value`, which lives over the call.
    check(unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_LINGER, value, length) })
}

/// The one descriptor that goes with a message (cmsg(3)).
#[repr(C, align(8))]
struct Attached {
    header: libc::cmsghdr,
    number: i32,
}

/// Sends a datagram with a copy of a descriptor to a path.
pub fn send_with(socket: &UnixDatagram, to: &str, text: &[u8], number: i32) -> io::Result<()> {
    // SAFETY: an address of zeros is one.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(0);
    for (to, from) in address.sun_path.iter_mut().zip(to.as_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: a header of zeros is one.
    let mut attached = Attached { header: unsafe { std::mem::zeroed() }, number };
    attached.header.cmsg_level = libc::SOL_SOCKET;
    attached.header.cmsg_type = libc::SCM_RIGHTS;
    attached.header.cmsg_len = std::mem::offset_of!(Attached, number) + size_of::<i32>();
    let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    // SAFETY: a message of zeros is one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut attached).cast();
    message.msg_controllen = size_of_val(&attached);
    // SAFETY: everything that `message` points to lives over the call, and has the length that it says.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// 0 in the child.
pub fn fork() -> Result<i32, i32> {
    // SAFETY: the probe has one thread, so the child may do what the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        pid => Ok(pid),
    }
}

/// Without the exit handlers: those are the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

pub fn pause_for_ever() -> ! {
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

/// Waits for the end of a child of this process.
pub fn wait_for(child: i32) {
    // SAFETY: waitpid accepts a null status.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

pub fn new_session() {
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
}

pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition for any signal that can be ignored.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

pub fn set_default(signal: i32) {
    // SAFETY: SIG_DFL is a valid disposition for any signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

static CODE_ON_TERM: AtomicI32 = AtomicI32::new(0);

extern "C" fn print_and_exit(_signal: libc::c_int) {
    const WORDS: &[u8] = b"got TERM\n";
    // SAFETY: write and the bytes of a constant; write(2) is async-signal-safe.
    unsafe { libc::write(1, WORDS.as_ptr().cast(), WORDS.len()) };
    exit_now(CODE_ON_TERM.load(Ordering::Relaxed));
}

/// Installs the handler for SIGTERM that prints and exits.
pub fn on_term(code: i32) {
    CODE_ON_TERM.store(code, Ordering::Relaxed);
    // SAFETY: the handler has the signature that signal(2) asks for and makes async-signal-safe calls alone.
    unsafe { libc::signal(libc::SIGTERM, print_and_exit as *const () as libc::sighandler_t) };
}

pub fn kill(pid: i32, signal: i32) -> Result<(), i32> {
    // SAFETY: kill takes two numbers.
    if unsafe { libc::kill(pid, signal) } == -1 { Err(last_errno()) } else { Ok(()) }
}

pub fn umount(path: &str) -> io::Result<()> {
    let path = path_text(path);
    // SAFETY: `path` ends in NUL and lives over the call.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })
}

pub fn remount_rw(path: &str) -> io::Result<()> {
    let path = path_text(path);
    let (nothing, flags) = (std::ptr::null(), libc::MS_REMOUNT | libc::MS_BIND);
    // SAFETY: mount(2) does not look at source, type and data of a bind remount; `path` lives over the call.
    check(unsafe { libc::mount(nothing, path.as_ptr(), nothing, flags, std::ptr::null()) })
}

/// `kind` is `S_IFBLK` or `S_IFCHR`.
pub fn mknod(path: &str, kind: libc::mode_t, major: u64, minor: u64) -> io::Result<()> {
    let path = path_text(path);
    let device = libc::makedev(u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0));
    // SAFETY: `path` ends in NUL and lives over the call.
    check(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) })
}

//! Whether the kernel takes a directory as the lower layer of an overlay. The rules are its own (depth of the stack,
//! kinds of file systems, user namespaces) and differ from release to release, so that it is asked.

use std::ffi::CStr;
use std::io;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, fork, mkdir};

/// The code of a child that could not come to the question. No errno is as large.
const NO_ANSWER: i32 = 255;

/// Mounts an overlay over the directory as stage1 does, in a mount namespace of a child that ends at once. `None`: we
/// may not do that, and there is no answer.
///
/// # Errors
/// Out of processes.
pub fn lower_layer(root: &CStr) -> io::Result<Option<Result<(), Errno>>> {
    // SAFETY: the child makes system calls only, with arguments that exist already, and then ends; so it touches no
    // lock of another thread and no state that it shares with us.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = match prepare(root).map(|()| over_here()) {
                Err(_) => NO_ANSWER,
                Ok(Ok(())) => 0,
                Ok(Err(errno)) => errno as i32,
            };
            // SAFETY: ends the process without running anything of the parent's copy.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => Ok(match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Some(Ok(())),
            WaitStatus::Exited(_, NO_ANSWER) => None,
            WaitStatus::Exited(_, code) => Some(Err(Errno::from_raw(code))),
            _ => None,
        }),
    }
}

const NOTHING: Option<&CStr> = None;

/// The directory is where we are, and a file system of our own stands where `/proc` was.
fn prepare(root: &CStr) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, c"/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    // By its name: a descriptor of ours is of a mount in the namespace that was left.
    chdir(root)?;
    mount(Some(c"tmpfs"), c"/proc", Some(c"tmpfs"), MsFlags::empty(), NOTHING)?;
    [c"/proc/upper", c"/proc/work", c"/proc/merged"].into_iter().try_for_each(|dir| mkdir(dir, Mode::S_IRWXU))
}

fn over_here() -> Result<(), Errno> {
    let options = c"lowerdir=.,upperdir=/proc/upper,workdir=/proc/work";
    mount(Some(c"overlay"), c"/proc/merged", Some(c"overlay"), MsFlags::MS_NODEV, Some(options))
}

//! Programs of BPF that decide about devices: load, attach to a group, list (bpf(2)).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const OF_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const AT_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: groups below may have programs of their own, which are asked as well.
const ALLOW_MULTI: u32 = 2;
/// `BPF_CGROUP_MAX_PROGS`: so many a group has at most.
const PROGRAMS_MAX: u32 = 64;
const LICENSE: &CStr = c"Apache-2.0 OR MIT";

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that the first kernel with this type of program has; what follows
/// counts as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// The same for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// The kernel answers in fields behind these too, whatever length it is told (Linux 6.17 writes `revision`, which
    /// ends at byte 64); there is room for more of them than there are.
    rest: [u32; 25],
}

/// Loads a program; each number is one instruction in the layout of a little-endian machine.
///
/// # Errors
/// The kernel's: EPERM without CAP_BPF, EINVAL when it has no such programs or does not take this one.
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    // The layout differs where bytes do: bit fields of one byte change their order too.
    if cfg!(target_endian = "big") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut attributes = Load {
        kind: OF_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `size_of::<Load>()` bytes at `attributes`, all of them set; `instruction_count`
    // instructions of 8 bytes at `instructions`; and a C string at `license`. All three live until the call returns,
    // and no log is asked for, so that it writes nowhere.
    let made = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut attributes, size_of::<Load>()) };
    let made = i32::try_from(made).map_err(io::Error::other)?;
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so that this is a new descriptor, close-on-exec, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Attaches a program to a group of the cgroup2 tree; it goes with the group.
///
/// # Errors
/// The kernel's: EPERM also when a group above forbids programs below it.
pub fn attach(group: BorrowedFd<'_>, program: &OwnedFd) -> io::Result<()> {
    let mut attributes = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        kind: AT_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `size_of::<Attach>()` bytes at `attributes`, which live until it returns and hold no
    // pointer; both descriptors are open, as they are borrowed.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw mut attributes, size_of::<Attach>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The numbers of the programs of this kind that the group has itself.
///
/// # Errors
/// The kernel's.
pub fn attached(group: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS_MAX as usize];
    let mut attributes = Query {
        target: group.as_raw_fd().cast_unsigned(),
        kind: AT_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: PROGRAMS_MAX,
        rest: [0; 25],
    };
    // SAFETY: the kernel reads `size_of::<Query>()` bytes at `attributes`, which live until it returns, and writes into
    // fields of that part of `union bpf_attr`, 64 of those 128 bytes; and, as `count` says, at most `PROGRAMS_MAX` numbers
    // of 4 bytes to `ids`, which is an exclusively owned array of that length that lives until it returns.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attributes, size_of::<Query>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.into_iter().take(attributes.count as usize).collect())
}

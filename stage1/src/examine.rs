//! Why execve(2) refused a file: looks at it afterwards, with the identity that was refused.
//!
//! The kernel says ENOENT for a missing file, a missing interpreter and a missing loader alike, and EACCES or
//! ENOEXEC for several things each. Invariant: it only reads, a bounded number of bytes, and its answer may be
//! "unknown"; then the errno stands alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use podrun_abi::executable::{SCRIPT_DEPTH, bad_format, elf_loader, script_interpreter};
use podrun_abi::failure::ExecFault;

use crate::execute::read_head;

/// What was wrong with `path` when its execve failed with `errno`.
pub fn examine(path: &str, errno: Errno) -> Option<ExecFault> {
    if errno == Errno::ELOOP {
        return None;
    }
    match Path::new(path).metadata() {
        Err(error) => match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOENT | Errno::ENOTDIR => Some(ExecFault::Missing),
            Errno::EACCES => Some(ExecFault::NotExecutable),
            _ => None,
        },
        Ok(data) if data.is_dir() => Some(ExecFault::Directory),
        Ok(_) => examine_file(path, errno),
    }
}

fn examine_file(path: &str, errno: Errno) -> Option<ExecFault> {
    match errno {
        Errno::EACCES => denied(path),
        Errno::ENOENT => missing_part(path),
        Errno::ENOEXEC | Errno::EINVAL | Errno::ELIBBAD => Some(bad_format(&read_head(path))),
        _ => None,
    }
}

fn denied(path: &str) -> Option<ExecFault> {
    if statvfs(path).is_ok_and(|file_system| file_system.flags().contains(FsFlags::ST_NOEXEC)) {
        return Some(ExecFault::NoExecMount);
    }
    // When the file itself may be executed it is the interpreter or loader that may not.
    access(path, AccessFlags::X_OK).is_err().then_some(ExecFault::NotExecutable)
}

/// The file is there, so what is missing is named in it.
fn missing_part(path: &str) -> Option<ExecFault> {
    let mut script = path.to_owned();
    for _ in 0..SCRIPT_DEPTH {
        let Some(interpreter) = script_interpreter(&read_head(&script)) else { break };
        if !Path::new(&interpreter).exists() {
            return Some(ExecFault::InterpreterMissing { interpreter });
        }
        script = interpreter;
    }
    let file = File::open(script).ok()?;
    let loader = elf_loader(|buffer, offset| file.read_at(buffer, offset).ok())?;
    (!Path::new(&loader).exists()).then_some(ExecFault::LoaderMissing { loader })
}

#[cfg(test)]
mod tests;

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
use podrun_abi::failure::ExecFault;

use crate::execute::read_head;

/// A script may name a script; the kernel follows five.
pub const SCRIPT_DEPTH: usize = 5;
const PT_INTERP: u32 = 3;
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u16 = 183;

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
    let loader = elf_loader(&File::open(script).ok()?)?;
    (!Path::new(&loader).exists()).then_some(ExecFault::LoaderMissing { loader })
}

fn bad_format(head: &[u8]) -> ExecFault {
    match Elf::parse(head) {
        Some(elf) if elf.machine != OWN_MACHINE || !elf.is_64 => {
            ExecFault::WrongArchitecture { machine: elf.machine }
        }
        _ => ExecFault::BadFormat,
    }
}

/// The path behind `#!`, without its argument.
pub fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    let path = text.trim_start_matches([' ', '\t']).split([' ', '\t', '\0']).next()?;
    (!path.is_empty()).then(|| path.to_owned())
}

/// The fields of an ELF header that matter here: elf(5).
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    is_64: bool,
    big_endian: bool,
    machine: u16,
}

impl Elf {
    fn parse(head: &[u8]) -> Option<Self> {
        let ident = head.strip_prefix(b"\x7fELF")?;
        let (is_64, big_endian) = (*ident.first()? == 2, *ident.get(1)? == 2);
        let mut elf = Self { is_64, big_endian, machine: 0 };
        elf.machine = u16::try_from(elf.number(head, 18, 2)?).ok()?;
        Some(elf)
    }

    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        Some(if self.big_endian { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) })
    }
}

/// The path in PT_INTERP.
fn elf_loader(file: &File) -> Option<String> {
    let mut head = [0; 64];
    let length = file.read_at(&mut head, 0).ok()?;
    let head = head.get(..length)?;
    let elf = Elf::parse(head)?;
    let (table, size, count) = if elf.is_64 {
        (elf.number(head, 32, 8)?, elf.number(head, 54, 2)?, elf.number(head, 56, 2)?)
    } else {
        (elf.number(head, 28, 4)?, elf.number(head, 42, 2)?, elf.number(head, 44, 2)?)
    };
    // Real programs have about a dozen entries.
    (0..count.min(128)).find_map(|index| {
        let mut entry = [0; 56];
        let start = table.checked_add(index * size)?;
        let length = file.read_at(&mut entry, start).ok()?;
        interp_of(&elf, entry.get(..length)?, file)
    })
}

/// The text that one program header points to, when it is PT_INTERP.
fn interp_of(elf: &Elf, entry: &[u8], file: &File) -> Option<String> {
    if elf.number(entry, 0, 4)? != u64::from(PT_INTERP) {
        return None;
    }
    let (offset, length) = if elf.is_64 {
        (elf.number(entry, 8, 8)?, elf.number(entry, 32, 8)?)
    } else {
        (elf.number(entry, 4, 4)?, elf.number(entry, 16, 4)?)
    };
    let mut text = vec![0; usize::try_from(length).ok()?.min(4096)];
    let length = file.read_at(&mut text, offset).ok()?;
    let path = text.get(..length)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(path.to_vec()).ok()
}

#[cfg(test)]
mod tests;

//! What the first bytes of a program say about the files that the kernel needs beside it: `#!` and elf(5).
//!
//! stage1 asks when execve(2) has failed, `podrun check --host` before anything starts; both must judge alike. Only
//! bytes are looked at, a bounded number, and no file is opened here.

use crate::failure::ExecFault;

/// A script may name a script; the kernel follows five.
pub const SCRIPT_DEPTH: usize = 5;
/// As much of a file as the kernel looks at to find `#!`, in bytes.
pub const HEAD_BYTES: usize = 256;
const PT_INTERP: u64 = 3;
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u16 = 183;

/// The path behind `#!`, without its argument.
#[must_use]
pub fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    let path = text.trim_start_matches([' ', '\t']).split([' ', '\t', '\0']).next()?;
    (!path.is_empty()).then(|| path.to_owned())
}

/// Why a file that is no script cannot be executed, going by its head: [`ExecFault::WrongArchitecture`] or
/// [`ExecFault::BadFormat`].
#[must_use]
pub fn bad_format(head: &[u8]) -> ExecFault {
    match Elf::parse(head) {
        Some(elf) if elf.machine != OWN_MACHINE || !elf.is_64 => {
            ExecFault::WrongArchitecture { machine: elf.machine }
        }
        _ => ExecFault::BadFormat,
    }
}

/// Whether the head is that of a 64-bit ELF file for this machine.
#[must_use]
pub fn is_native(head: &[u8]) -> bool {
    Elf::parse(head).is_some_and(|elf| elf.machine == OWN_MACHINE && elf.is_64)
}

/// The fields of an ELF header that matter here.
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

/// The path in PT_INTERP. `read_at` fills a part of a buffer from an offset of the file, and gives how many bytes.
pub fn elf_loader(read_at: impl Fn(&mut [u8], u64) -> Option<usize>) -> Option<String> {
    let mut head = [0; 64];
    let length = read_at(&mut head, 0)?;
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
        let length = read_at(&mut entry, start)?;
        interp_of(&elf, entry.get(..length)?, &read_at)
    })
}

/// The text that one program header points to, when it is PT_INTERP.
fn interp_of(elf: &Elf, entry: &[u8], read_at: &impl Fn(&mut [u8], u64) -> Option<usize>) -> Option<String> {
    if elf.number(entry, 0, 4)? != PT_INTERP {
        return None;
    }
    let (offset, length) = if elf.is_64 {
        (elf.number(entry, 8, 8)?, elf.number(entry, 32, 8)?)
    } else {
        (elf.number(entry, 4, 4)?, elf.number(entry, 16, 4)?)
    };
    let mut text = vec![0; usize::try_from(length).ok()?.min(4096)];
    let length = read_at(&mut text, offset)?;
    let path = text.get(..length)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(path.to_vec()).ok()
}

//! Tables over real and made files, whole and broken.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u16 = 183;

/// A directory of its own that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podrun-examine-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, mode: u32, content: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A 64-bit little-endian ELF file with one program header, PT_INTERP.
fn elf(machine: u16, loader: &str) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&1_u16.to_le_bytes());
    file[64..68].copy_from_slice(&3_u32.to_le_bytes());
    file[72..80].copy_from_slice(&120_u64.to_le_bytes());
    file[96..104].copy_from_slice(&(loader.len() as u64 + 1).to_le_bytes());
    file.extend_from_slice(loader.as_bytes());
    file.push(0);
    file
}

#[test]
fn interpreter_is_the_first_word_behind_the_mark() {
    let cases: [(&[u8], Option<&str>); 8] = [
        (b"#!/bin/sh\necho", Some("/bin/sh")),
        (b"#! \t/usr/bin/env python3\n", Some("/usr/bin/env")),
        (b"#!/bin/sh", Some("/bin/sh")),
        (b"#!\n/bin/sh", None),
        (b"#!", None),
        (b"", None),
        (b"\x7fELF", None),
        (b" #!/bin/sh", None),
    ];
    for (head, expected) in cases {
        assert_eq!(script_interpreter(head).as_deref(), expected, "{head:?}");
    }
}

#[test]
fn missing_parts_are_named() {
    let scratch = Scratch::new("parts");
    let script = scratch.file("script", 0o755, b"#!/no/such/shell -e\n");
    let nested = scratch.file("nested", 0o755, format!("#!{script}\n").as_bytes());
    let program = scratch.file("program", 0o755, &elf(OWN_MACHINE, "/no/such/ld.so"));
    let behind = scratch.file("behind", 0o755, format!("#!{program}\n").as_bytes());
    let interpreter = Some(ExecFault::InterpreterMissing { interpreter: "/no/such/shell".into() });
    let loader = Some(ExecFault::LoaderMissing { loader: "/no/such/ld.so".into() });
    for (path, expected) in
        [(script, &interpreter), (nested, &interpreter), (program, &loader), (behind, &loader)]
    {
        assert_eq!(&examine(&path, Errno::ENOENT), expected, "{path}");
    }
}

#[test]
fn faults_of_the_file_itself_are_told_apart() {
    let scratch = Scratch::new("faults");
    let plain = scratch.file("plain", 0o644, b"text");
    let foreign = scratch.file("foreign", 0o755, &elf(22, "/lib/ld.so"));
    let directory = scratch.0.to_str().unwrap();
    let below = format!("{plain}/below");
    let cases = [
        ("/no/such/file", Errno::ENOENT, Some(ExecFault::Missing)),
        (below.as_str(), Errno::ENOTDIR, Some(ExecFault::Missing)),
        (directory, Errno::EACCES, Some(ExecFault::Directory)),
        (plain.as_str(), Errno::EACCES, Some(ExecFault::NotExecutable)),
        (plain.as_str(), Errno::ENOEXEC, Some(ExecFault::BadFormat)),
        (foreign.as_str(), Errno::ENOEXEC, Some(ExecFault::WrongArchitecture { machine: 22 })),
        (plain.as_str(), Errno::E2BIG, None),
        (plain.as_str(), Errno::ELOOP, None),
    ];
    for (path, errno, expected) in cases {
        assert_eq!(examine(path, errno), expected, "{path} {errno}");
    }
}

#[test]
fn broken_elf_files_are_bad_format_at_every_length() {
    let whole = elf(OWN_MACHINE, "/lib/ld.so");
    for length in 0..whole.len() {
        assert_eq!(bad_format(&whole[..length.min(256)]), ExecFault::BadFormat, "{length} bytes");
    }
}

//! Whether an app's command can be executed in its root: found, executable for its user, with its interpreter and
//! its loader.
//!
//! For `podrun check --host`; a start does not look, it executes and examines what fails. Other than that
//! examination this one is from outside: the root's links are followed within it, and what is mounted below it is
//! not there, as for the app. Where this cannot know (`/proc`, `/dev` and `/sys`, which each app gets anew; files
//! that we may not read) nothing is found fault with.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use podrun_abi::boot::Identity;
use podrun_abi::executable::{
    HEAD_BYTES, SCRIPT_DEPTH, bad_format, elf_loader, is_native, script_interpreter,
};
use podrun_abi::failure::ExecFault;

/// CAP_DAC_OVERRIDE as a bit.
const DAC_OVERRIDE: u64 = 1 << 1;

/// What is wrong with a command, and with which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path in the app's root, or the name that was looked for.
    pub file: String,
    /// What is wrong with it.
    pub fault: ExecFault,
}

/// What will keep `program` from being executed in this root; nothing when it will run, as far as can be seen.
#[must_use]
pub fn look(rootfs: &Path, program: &str, path: &str, who: &Identity) -> Option<Fault> {
    let root = open_directory(rootfs)?;
    let root = Root { fd: root.as_fd(), who };
    if program.contains('/') {
        return root.fault(program).map(|fault| Fault { file: program.to_owned(), fault });
    }
    let mut denied = None;
    for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
        let file = format!("{}/{program}", directory.trim_end_matches('/'));
        match root.fault(&file) {
            Some(ExecFault::Missing) => {}
            Some(ExecFault::NotExecutable) => {
                denied.get_or_insert(Fault { file, fault: ExecFault::NotExecutable });
            }
            fault => return fault.map(|fault| Fault { file, fault }),
        }
    }
    Some(denied.unwrap_or_else(|| Fault { file: program.to_owned(), fault: ExecFault::NotInPath }))
}

/// Whether a directory is in the root; `None`: that cannot be known.
#[must_use]
pub fn has_directory(rootfs: &Path, directory: &str, who: &Identity) -> Option<bool> {
    let root = open_directory(rootfs)?;
    match (Root { fd: root.as_fd(), who }).open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(_) => Some(true),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) => Some(false),
        Err(_) => None,
    }
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).ok()
}

struct Root<'a> {
    fd: BorrowedFd<'a>,
    who: &'a Identity,
}

impl Root<'_> {
    fn fault(&self, path: &str) -> Option<ExecFault> {
        if ["/proc/", "/dev/", "/sys/"].iter().any(|own| path.starts_with(own)) {
            return None;
        }
        let mut script = path.to_owned();
        for depth in 0..=SCRIPT_DEPTH {
            let file = match self.open(&script, OFlag::O_PATH) {
                Ok(file) => File::from(file),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) if depth == 0 => {
                    return Some(ExecFault::Missing);
                }
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) => {
                    return Some(ExecFault::InterpreterMissing { interpreter: script });
                }
                Err(_) => return None,
            };
            let metadata = file.metadata().ok()?;
            if metadata.is_dir() {
                return Some(ExecFault::Directory);
            }
            if !self.may_execute(metadata.mode(), metadata.uid(), metadata.gid()) {
                return Some(ExecFault::NotExecutable);
            }
            let readable =
                File::from(self.open(&script, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).ok()?);
            let mut head = vec![0; HEAD_BYTES];
            let length = readable.read_at(&mut head, 0).ok()?;
            head.truncate(length);
            match script_interpreter(&head) {
                // A relative one depends on the working directory.
                Some(next) if next.starts_with('/') => script = next,
                Some(_) => return None,
                None if !is_native(&head) => return Some(bad_format(&head)),
                None => return self.missing_loader(&readable),
            }
        }
        None
    }

    fn missing_loader(&self, file: &File) -> Option<ExecFault> {
        let loader = elf_loader(|buffer, offset| file.read_at(buffer, offset).ok())?;
        match self.open(&loader, OFlag::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) => Some(ExecFault::LoaderMissing { loader }),
            _ => None,
        }
    }

    /// As execve(2) judges by the mode; access control lists are not looked at.
    fn may_execute(&self, mode: u32, uid: u32, gid: u32) -> bool {
        let who = self.who;
        if who.uid == 0 && who.bounding & DAC_OVERRIDE != 0 {
            return mode & 0o111 != 0;
        }
        let bit = if who.uid == uid {
            0o100
        } else if who.gid == gid || who.groups.contains(&gid) {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }

    /// The links of the root are its author's: they stay within it. What is mounted below is not part of it.
    fn open(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
        openat2(self.fd, path, how)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, mode: u32, content: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let own = fs::read("/proc/self/exe").unwrap();
        let mut foreign = own[..64].to_vec();
        foreign[18..20].copy_from_slice(&22_u16.to_le_bytes());
        put("bin/native", 0o755, &own);
        put("bin/foreign", 0o755, &foreign);
        put("bin/plain", 0o644, b"x");
        put("bin/text", 0o755, b"no program");
        put("bin/mine", 0o700, b"#!/bin/foreign\n");
        put("bin/script", 0o755, b"#!/no/such/shell -e\n");
        put("opt/plain", 0o755, b"#!/proc/self/exe\n");
        symlink("/bin/plain", root.path().join("bin/link")).unwrap();
        symlink("/etc/passwd", root.path().join("bin/out")).unwrap();
        root
    }

    fn identity(uid: u32) -> Identity {
        Identity {
            uid,
            gid: uid,
            groups: Vec::new(),
            bounding: u64::MAX,
            ambient: 0,
            no_new_privileges: true,
        }
    }

    #[test]
    fn commands_are_judged_as_execve_would() {
        let root = root();
        let loader = fs::File::open("/proc/self/exe").unwrap();
        let loader = elf_loader(|buffer, offset| loader.read_at(buffer, offset).ok());
        let native = loader.map(|loader| ExecFault::LoaderMissing { loader });
        let cases = [
            ("/bin/native", 0, native),
            ("/bin/foreign", 0, Some(ExecFault::WrongArchitecture { machine: 22 })),
            ("/bin/plain", 0, Some(ExecFault::NotExecutable)),
            ("/bin/link", 0, Some(ExecFault::NotExecutable)),
            ("/bin/out", 0, Some(ExecFault::Missing)),
            ("/bin/text", 0, Some(ExecFault::BadFormat)),
            ("/bin/mine", 1000, Some(ExecFault::NotExecutable)),
            ("/bin/mine", 0, Some(ExecFault::WrongArchitecture { machine: 22 })),
            ("/bin/script", 0, Some(ExecFault::InterpreterMissing { interpreter: "/no/such/shell".into() })),
            ("/bin", 0, Some(ExecFault::Directory)),
            ("/bin/none", 0, Some(ExecFault::Missing)),
            ("/bin/plain/below", 0, Some(ExecFault::Missing)),
            ("/proc/self/exe", 0, None),
        ];
        for (program, uid, expected) in cases {
            let found = look(root.path(), program, "", &identity(uid)).map(|fault| fault.fault);
            assert_eq!(found, expected, "{program} for {uid}");
        }
    }

    #[test]
    fn names_are_looked_for_in_the_path_of_the_app() {
        let root = root();
        let fault = |program: &str, path: &str| look(root.path(), program, path, &identity(0));
        assert_eq!(fault("none", "/bin:/opt").map(|f| f.fault), Some(ExecFault::NotInPath));
        let denied = fault("plain", "/none:/bin").unwrap();
        assert_eq!((denied.file.as_str(), denied.fault), ("/bin/plain", ExecFault::NotExecutable));
        assert_ne!(fault("plain", "/bin:/opt").map(|f| f.file).as_deref(), Some("/bin/plain"), "goes on");
    }

    #[test]
    fn working_directories_are_looked_for_in_the_root() {
        let root = root();
        let has = |directory: &str| has_directory(root.path(), directory, &identity(0));
        assert_eq!((has("/opt"), has("/srv"), has("/bin/plain")), (Some(true), Some(false), Some(false)));
    }
}

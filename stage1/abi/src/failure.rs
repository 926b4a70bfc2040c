//! [`StartFailure`]: why a process of the pod did not come to life, precise enough to be mended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The step that failed, what it worked on, and the kernel's word for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// What was being done.
    pub step: Step,
    /// The path, name or number it was done to; empty when there is none. The reason, where neither `errno` nor `fault`
    /// says one.
    pub subject: String,
    /// The errno of the failed call; 0 when no call failed.
    pub errno: i32,
    /// For [`Step::Exec`]: what was found out about the file afterwards.
    pub fault: Option<ExecFault>,
}

/// What was being done when it failed. Each has its words in [`Step::words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "`Step::words` says each one in a sentence's worth")]
pub enum Step {
    ReadBoot,
    SetHostname,
    MountScratch,
    BindRoot,
    MountProc,
    PivotRoot,
    Clone,
    JoinCgroup,
    VerifyCgroup,
    NewSession,
    Unshare,
    MountRoot,
    MountDev,
    MountSys,
    MountCgroup,
    MaskPath,
    SetStdio,
    SetRlimit,
    SetOomScore,
    SetGroups,
    SetGid,
    SetUid,
    SetCapabilities,
    SetNoNewPrivileges,
    Chdir,
    CloseFds,
    Exec,
}

impl Step {
    /// `cannot …` continues with these words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadBoot => "read its boot record",
            Self::SetHostname => "set hostname",
            Self::MountScratch => "mount the pod's own tmpfs",
            Self::BindRoot => "bind rootfs",
            Self::MountProc => "mount /proc",
            Self::PivotRoot => "pivot into",
            Self::Clone => "create a process",
            Self::JoinCgroup => "join the app's cgroup",
            Self::VerifyCgroup => "find the process in the app's cgroup",
            Self::NewSession => "make a session",
            Self::Unshare => "unshare namespaces",
            Self::MountRoot => "mount root",
            Self::MountDev => "mount /dev",
            Self::MountSys => "mount /sys",
            Self::MountCgroup => "mount /sys/fs/cgroup",
            Self::MaskPath => "mask",
            Self::SetStdio => "set standard streams",
            Self::SetRlimit => "set rlimit",
            Self::SetOomScore => "set oom-score-adjust",
            Self::SetGroups => "set groups",
            Self::SetGid => "set group",
            Self::SetUid => "set user",
            Self::SetCapabilities => "set capabilities",
            Self::SetNoNewPrivileges => "set no-new-privileges",
            Self::Chdir => "enter workdir",
            Self::CloseFds => "close descriptors",
            Self::Exec => "execute",
        }
    }
}

/// Why execve(2) refused a file, found out by looking at it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum ExecFault {
    /// No such file.
    Missing,
    /// Not found in any directory of PATH.
    NotInPath,
    /// A script whose `#!` names a file that is not there.
    InterpreterMissing {
        /// The path behind `#!`.
        interpreter: String,
    },
    /// A dynamic binary whose PT_INTERP is not there.
    LoaderMissing {
        /// The path in PT_INTERP.
        loader: String,
    },
    /// No x bit for this user, or a directory on the way cannot be searched.
    NotExecutable,
    /// A directory.
    Directory,
    /// An ELF file for another machine.
    WrongArchitecture {
        /// The ELF e_machine number.
        machine: u16,
    },
    /// Neither ELF nor `#!`.
    BadFormat,
    /// A file system mounted noexec.
    NoExecMount,
}

impl StartFailure {
    /// 127 when the command was not found, 126 when it was found but cannot be executed, else 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        const ENOENT: i32 = 2;
        match (self.step, &self.fault, self.errno) {
            (Step::Exec, Some(ExecFault::Missing | ExecFault::NotInPath), _) => 127,
            (Step::Exec, Some(ExecFault::InterpreterMissing { .. } | ExecFault::LoaderMissing { .. }), _) => {
                127
            }
            (Step::Exec, None, ENOENT) => 127,
            (Step::Exec, _, _) => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step.words())?;
        match self.subject.as_str() {
            "" => {}
            reason if self.errno == 0 && self.fault.is_none() => return write!(f, ": {reason}"),
            subject => write!(f, " `{subject}`")?,
        }
        if let Some(fault) = &self.fault {
            return write!(f, ": {fault}");
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl fmt::Display for ExecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "no such file in the app's root"),
            Self::NotInPath => write!(f, "not found in any directory of the app's PATH"),
            Self::InterpreterMissing { interpreter } => {
                write!(f, "its interpreter `{interpreter}` is not in the app's root")
            }
            Self::LoaderMissing { loader } => write!(f, "its loader `{loader}` is not in the app's root"),
            Self::NotExecutable => write!(f, "not executable for the app's user"),
            Self::Directory => write!(f, "is a directory"),
            Self::WrongArchitecture { machine } => {
                write!(f, "built for another architecture ({})", machine_name(*machine))
            }
            Self::BadFormat => write!(f, "neither an ELF binary nor a script with `#!`"),
            Self::NoExecMount => write!(f, "its file system is mounted noexec"),
        }
    }
}

/// The common values of e_machine (elf(5)).
fn machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".into(),
        20 => "ppc".into(),
        21 => "ppc64".into(),
        22 => "s390x".into(),
        40 => "arm".into(),
        62 => "x86_64".into(),
        183 => "aarch64".into(),
        243 => "riscv".into(),
        258 => "loongarch".into(),
        other => format!("ELF machine {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_tells_what_to_what_and_why() {
        let missing = Some(ExecFault::Missing);
        let cases = [
            (Step::Exec, "/bin/x", 0, missing, "cannot execute `/bin/x`: no such file in the app's root"),
            (Step::Chdir, "/x", 13, None, "cannot enter workdir `/x`: Permission denied (os error 13)"),
            (
                Step::ReadBoot,
                "the launcher is gone",
                0,
                None,
                "cannot read its boot record: the launcher is gone",
            ),
            (
                Step::ReadBoot,
                "",
                12,
                None,
                "cannot read its boot record: Cannot allocate memory (os error 12)",
            ),
        ];
        for (step, subject, errno, fault, words) in cases {
            let failure = StartFailure { step, subject: subject.to_owned(), errno, fault };
            assert_eq!(failure.to_string(), words);
        }
    }
}

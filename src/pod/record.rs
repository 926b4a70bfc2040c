//! The files of a pod directory, as files: written whole or not at all, read with a bound and with suspicion.
//!
//! A writer makes a temporary file beside the target and renames it over it, so a reader sees the old text or
//! the new one. `/run` is a tmpfs, so nothing is synced: what must hold is a SIGKILL at any moment, not a
//! power cut. A reader takes whatever it finds (nothing, half a record, garbage, a directory, a gigabyte)
//! as [`Unreadable`], and says why; it never panics, never blocks on a FIFO and never follows a link.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use podrun_abi::VERSION;
use serde::{Deserialize, Serialize};

/// No record is longer, in bytes; a plan of a thousand apps has a few megabytes.
pub const RECORD_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What is known of a pod from its first moment on: the file `pod.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// [`podrun_abi::VERSION`].
    pub version: u32,
    /// Eight hexadecimal digits.
    pub id: String,
    /// The pod's name; another pod may have taken it over since.
    pub name: String,
    /// `/proc/sys/kernel/random/boot_id`: a record of another boot is of a dead pod.
    pub boot_id: String,
    /// CLOCK_REALTIME in milliseconds since 1970.
    pub created_ms: u64,
    /// The launcher.
    pub launcher: Process,
}

/// One process of one boot, told from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in its own pid namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: when it was started, in clock ticks since the boot.
    pub start_ticks: u64,
    /// The pid namespace in which the number means something, as `/proc/self/ns/pid` names it.
    pub pid_namespace: String,
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn this() -> Result<Self> {
        let pid = std::process::id();
        let life = life(pid).context("cannot read `/proc/self/stat`")?;
        Ok(Self { pid, start_ticks: life.start_ticks, pid_namespace: pid_namespace()? })
    }

    /// Whether it still runs. A number of another pid namespace cannot be looked at and counts as running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        if !self.is_numbered_here() {
            return true;
        }
        life(self.pid).is_some_and(|life| life.start_ticks == self.start_ticks && !life.is_over)
    }

    /// Whether its number means something in our own pid namespace.
    #[must_use]
    pub fn is_numbered_here(&self) -> bool {
        pid_namespace().ok().as_ref() == Some(&self.pid_namespace)
    }
}

fn pid_namespace() -> Result<String> {
    const FILE: &str = "/proc/self/ns/pid";
    let name = std::fs::read_link(FILE).with_context(|| format!("cannot read `{FILE}`"))?;
    Ok(name.to_string_lossy().into_owned())
}

struct Life {
    start_ticks: u64,
    is_over: bool,
}

fn life(pid: u32) -> Option<Life> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5). The second field is the name in parentheses, and a name may hold anything: what counts
/// stands behind the last closing one.
fn parse_stat(stat: &[u8]) -> Option<Life> {
    let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(stat.get(behind..)?).ok()?.split_ascii_whitespace().collect();
    // The third field is the first here. A zombie and a dead process hold nothing any more.
    let is_over = matches!(*fields.first()?, "Z" | "X" | "x");
    Some(Life { start_ticks: fields.get(19)?.parse().ok()?, is_over })
}

/// Why a record says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no such file.
    Missing,
    /// It could not be read, is too long, or is not what it should be.
    Damaged(String),
    /// Written by a later podrun.
    Newer(u32),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::Damaged(why) => f.write_str(why),
            Self::Newer(version) => write!(f, "it has version {version}, this podrun reads {VERSION}"),
        }
    }
}

/// Reads a whole file of at most [`RECORD_BYTES_MAX`] bytes.
///
/// # Errors
/// When there is none, or it is no regular file of that size.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Unreadable::Damaged(e.to_string()))?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(Unreadable::Damaged(format!("it is longer than {RECORD_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Opens a file that must be a regular one. O_NONBLOCK, since opening a FIFO would wait for a writer.
pub(super) fn open_regular(path: &Path) -> Result<File, Unreadable> {
    let flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Missing,
            _ => Unreadable::Damaged(error.to_string()),
        })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(Unreadable::Damaged("it is not a regular file".into())),
        Err(error) => Err(Unreadable::Damaged(error.to_string())),
    }
}

/// Parses a JSON record. The version is looked at first and alone, since a later version may have any fields.
///
/// # Errors
/// When it is not JSON of this shape, or of a later version.
pub fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(alias = "schema")]
        version: u32,
    }
    let damaged = |error: serde_json::Error| Unreadable::Damaged(format!("it is not a record: {error}"));
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(Unreadable::Newer(version));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Replaces the file `name` in `directory` in one step, mode 0600.
///
/// # Errors
/// When the disk is full or the directory is gone; the old file is as it was.
pub fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let target = directory.join(name);
    // Only the pod's one launcher, whoever holds the lock of its changes, and `gc` under the directory's lock write here, so
    // a pid is unique enough.
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    write_new(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, &target))
        .inspect_err(|_| {
            // The error that counts is the one above; the left-over goes with the directory.
            let _ = std::fs::remove_file(&temporary);
        })
        .with_context(|| format!("cannot write `{}`", target.display()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match create_new(path) {
        // A writer of the same pid was killed between its write and its rename.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            create_new(path)
        }
        other => other,
    }?
    .write_all(bytes)
}

/// Makes a file that must not exist, mode 0600.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).read(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    options.open(path)
}

/// The boot this process lives in.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> Result<String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(FILE).with_context(|| format!("cannot read `{FILE}`"))?;
    Ok(text.trim_end().to_owned())
}

/// CLOCK_REALTIME in milliseconds since 1970; 0 for a clock that stands before it.
#[must_use]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PodRecord {
        PodRecord {
            version: VERSION,
            id: "0badcafe".into(),
            name: "shop".into(),
            boot_id: "1f0c9ee4-5e9c-4f4e-a4a8-5bb4a9c9d111".into(),
            created_ms: 1_790_000_000_000,
            launcher: Process { pid: 7, start_ticks: 12, pid_namespace: "pid:[4026531836]".into() },
        }
    }

    #[test]
    fn a_record_survives_the_round_trip_and_every_truncation_is_an_error() {
        let bytes = serde_json::to_vec(&record()).unwrap();
        assert_eq!(parse::<PodRecord>(&bytes), Ok(record()));
        for end in 0..bytes.len() {
            assert!(matches!(parse::<PodRecord>(&bytes[..end]), Err(Unreadable::Damaged(_))), "{end}");
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_told_from_garbage() {
        let bytes = br#"{"version": 7, "pods": []}"#;
        assert_eq!(parse::<PodRecord>(bytes), Err(Unreadable::Newer(7)));
        for garbage in [&b"\xff\xfe"[..], b"null", b"[]", b"{}", br#"{"version":-1}"#, &[0; 4096]] {
            assert!(matches!(parse::<PodRecord>(garbage), Err(Unreadable::Damaged(_))));
        }
    }

    #[test]
    fn what_is_no_regular_file_is_unreadable_and_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("dir")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
        for name in ["dir", "fifo", "link", "huge"] {
            assert!(matches!(read_bytes(&at(name)), Err(Unreadable::Damaged(_))), "{name}");
        }
        assert_eq!(read_bytes(&at("none")), Err(Unreadable::Missing));
        File::create(at("empty")).unwrap();
        assert_eq!(read_bytes(&at("empty")), Ok(Vec::new()));
    }

    #[test]
    fn a_file_is_replaced_whole_and_the_left_over_of_a_dead_writer_does_not_hurt() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let stale = directory.path().join(format!(".a.{}", std::process::id()));
        std::fs::write(stale, "half").unwrap();
        write_whole(directory.path(), "a", b"one").unwrap();
        write_whole(directory.path(), "a", b"two").unwrap();
        let path = directory.path().join("a");
        assert_eq!(read_bytes(&path), Ok(b"two".to_vec()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let this = Process::this().unwrap();
        assert!(this.is_running());
        let earlier = Process { start_ticks: this.start_ticks - 1, ..this.clone() };
        assert!(!earlier.is_running());
        let elsewhere = Process { pid_namespace: "pid:[1]".into(), ..earlier };
        assert!(elsewhere.is_running(), "what cannot be looked at is not called dead");
    }

    #[test]
    fn a_zombie_does_not_run() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while life(pid).is_some_and(|life| !life.is_over) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(life(pid).unwrap().is_over);
        child.wait().unwrap();
    }

    #[test]
    fn the_name_of_a_process_does_not_hide_its_start() {
        let tail = "S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2 3";
        for name in ["sh", "a) R 1 (b", "", "(((", ") ) )"] {
            let stat = format!("7 ({name}) {tail}");
            assert_eq!(parse_stat(stat.as_bytes()).unwrap().start_ticks, 4711, "{name}");
        }
        for stat in [
            &b""[..],
            b"7 (sh",
            b"7 (sh) S 1",
            b"7 (sh) \xff",
            b"7 (sh) S 1 7 7 0 -1 1 1 0 0 0 0 0 0 0 20 0 1 0 x",
        ] {
            assert!(parse_stat(stat).is_none());
        }
    }

    #[test]
    fn an_error_of_writing_names_the_file() {
        let error = write_whole(Path::new("/nonexistent"), "plan.json", b"").unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot write `/nonexistent/plan.json`: No such file"));
    }
}

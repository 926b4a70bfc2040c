//! [`PodDir`]: a pod's directory in the hands of the launcher that made it.
//!
//! Its `lock` is the pod's life: whoever holds the open file description keeps the pod alive, so the launcher
//! gives the descriptor to stage1 and nobody ever unlocks it, the last close does. `pod.json` says which process
//! the launcher is, and tells `gc` an orphaned pod from a running one. Reading a pod is [`super::Pod`]'s.
//!
//! Never `LOCK_EX` anywhere else on `lock`: readers probe with `LOCK_SH`, which only a living pod refuses, so two
//! readers never take each other for a pod.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use podrun_abi::event::{Event, Record};

use super::plan::PlanRecord;
use super::record::{self, PodRecord, Process};
use super::root::EMBRYO;
pub use super::root::Root;
use super::status::Status;
use super::status::json::Identity;
use super::{PodId, gc};
use crate::cgroup::plan::CgroupPlan;

/// The pod's life.
pub(super) const LOCK: &str = "lock";
/// The first record.
pub(super) const POD: &str = "pod.json";
/// What was typed.
pub(super) const MANIFEST: &str = "manifest.toml";
/// What was decided.
pub(super) const PLAN: &str = "plan.json";
/// What happened.
pub(crate) const EVENTS: &str = "events.jsonl";
/// What was last known, for scripts.
pub(super) const STATUS: &str = "status.json";
/// The listening socket.
pub(super) const CONTROL: &str = "control";
/// Who changes limits holds it; made by the first of them.
pub(super) const CHANGE: &str = "change.lock";
/// What the apps wrote, when nobody was there to read it.
pub(super) const LOG: &str = "log";

/// A pod's directory in the hands of its launcher. The pod is alive as long as this is not dropped.
#[derive(Debug)]
pub struct PodDir {
    /// Eight hexadecimal digits.
    pub id: PodId,
    /// Absolute.
    pub path: PathBuf,
    /// The pod's life: stage1 must inherit it. Dropping the launcher's copy unlocks nothing.
    pub lock: OwnedFd,
    directory: File,
    record: PodRecord,
}

impl PodDir {
    /// `None`: the id is taken. The caller holds the lock of the names.
    pub(super) fn make_embryo(root: &Root, name: &str) -> Result<Option<Self>> {
        let id = PodId::random()?;
        let path = root.pods().join(format!("{EMBRYO}{id}"));
        if root.pods().join(id.as_str()).exists() {
            return Ok(None);
        }
        match Self::fill_embryo(id, path.clone(), name) {
            Ok(embryo) => Ok(Some(embryo)),
            Err(error) if is_taken(&error) => Ok(None),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&path); // It is ours and was never seen.
                Err(error)
            }
        }
    }

    fn fill_embryo(id: PodId, path: PathBuf, name: &str) -> Result<Self> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make directory `{}`", path.display()))?;
        let directory = File::open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let lock = new_lock(&path.join(LOCK))?;
        let record = PodRecord {
            version: podrun_abi::VERSION,
            id: id.to_string(),
            name: name.to_owned(),
            boot_id: record::boot_id()?,
            created_ms: record::now_ms(),
            launcher: Process::this()?,
        };
        // Nobody sees half of it: the directory is not a pod's yet.
        record::create_new(&path.join(POD))
            .and_then(|mut file| file.write_all(&serde_json::to_vec(&record)?))
            .with_context(|| format!("cannot write `{}`", path.join(POD).display()))?;
        // Whoever follows the pod opens it as soon as there is one: it may not live for long.
        open_events(&path)?;
        Ok(Self { id, path, lock: lock.into(), directory, record })
    }

    pub(super) fn published_in(self, pods: &Path) -> Self {
        Self { path: pods.join(self.id.as_str()), ..self }
    }

    pub(super) fn discard_embryo(self) {
        // What stays is soon unlocked and named as an embryo: the next `gc` takes it.
        let _ = std::fs::remove_dir_all(&self.path);
    }

    /// Makes the directory for the output of the apps when nobody is there to read it.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn log_dir(&self) -> Result<PathBuf> {
        let path = self.path.join(LOG);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make directory `{}`", path.display()))?;
        Ok(path)
    }

    /// Records the manifest as it was typed.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_manifest(&self, text: &str) -> Result<()> {
        record::write_whole(&self.path, MANIFEST, text.as_bytes())
    }

    /// Records the plan, *before* anything of it is done: `gc` undoes from it. A JSON object with at least
    /// what [`super::plan::PlanRecord`] reads.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_plan(&self, json: &[u8]) -> Result<()> {
        record::write_whole(&self.path, PLAN, json)
    }

    /// The groups as they are recorded by now; `None`: that cannot be read.
    #[must_use]
    pub fn recorded_groups(&self) -> Option<CgroupPlan> {
        let bytes = record::read_bytes(&self.path.join(PLAN)).ok()?;
        record::parse::<PlanRecord>(&bytes).ok().map(|plan| plan.cgroup)
    }

    /// Replaces `status.json`, a convenience for scripts: podrun itself reads `events.jsonl`.
    ///
    /// # Errors
    /// When the disk is full; the old one stays.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        let PodRecord { id, name, created_ms, .. } = &self.record;
        let json = status.to_json(Identity { id, name, created_ms: Some(*created_ms) });
        record::write_whole(&self.path, STATUS, &serde_json::to_vec(&json)?)
    }

    /// `events.jsonl` for appending, as launcher and stage1 do, a whole line with each write(2).
    ///
    /// # Errors
    /// When the disk is full.
    pub fn events(&self) -> Result<OwnedFd> {
        open_events(&self.path).map(OwnedFd::from)
    }

    /// Appends an event of the launcher's own, what stage1 cannot say any more, and returns its record. A full
    /// disk loses it: the account is then incomplete, which is better than a launcher that fails for it.
    pub fn append(&self, event: Event) -> Record {
        let record = super::events::stamp(event);
        if let Ok(mut line) = serde_json::to_vec(&record) {
            line.push(b'\n');
            let _ = open_events(&self.path).map(|mut file| file.write_all(&line));
        }
        record
    }

    /// Removes the directory and lets the name go: of a pod that never ran, or of which nothing is to stay.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn discard(self, root: &Root) -> Result<()> {
        let remains = gc::retire(root, Some(&self.record.name), &self.id, &self.path)?;
        // Nobody sees it any more. A file that is open when it is removed costs a disk more than one that is not.
        drop(self.lock);
        gc::remove_remains(&remains)
    }

    /// Makes the control socket and listens on it; non-blocking.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn control(&self) -> Result<OwnedFd> {
        const BACKLOG: i32 = 32;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
            .context("cannot make a control socket")?;
        let path = self.path.join(CONTROL);
        let bound = UnixAddr::new(&short_path(&self.directory)).and_then(|address| {
            socket::bind(socket.as_raw_fd(), &address)?;
            // Nobody can connect before listen(2), so there is no moment with a wider mode.
            nix::sys::stat::fchmodat(
                self.directory.as_fd(),
                CONTROL,
                nix::sys::stat::Mode::from_bits_truncate(0o600),
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
            socket::listen(&socket, Backlog::new(BACKLOG)?)
        });
        bound.with_context(|| format!("cannot listen on `{}`", path.display()))?;
        Ok(socket)
    }
}

/// The control socket's path by way of a descriptor: an address of a socket has at most 108 bytes (unix(7)),
/// a root may be any length.
pub(super) fn short_path(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{CONTROL}", directory.as_raw_fd()))
}

/// `events.jsonl` of the pod at `path`, for appending.
pub(super) fn open_events(path: &Path) -> Result<File> {
    let path = path.join(EVENTS);
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
    options.open(&path).with_context(|| format!("cannot open `{}`", path.display()))
}

/// A reader may be probing in this very moment, so this waits instead of trying; a probe holds nothing for
/// longer than two system calls.
fn new_lock(path: &Path) -> Result<File> {
    let locked = record::create_new(path).and_then(|file| file.lock().map(|()| file));
    locked.with_context(|| format!("cannot lock `{}`", path.display()))
}

/// An embryo of the same id is there already.
fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

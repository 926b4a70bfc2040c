//! Pods on disk: their directories, names, life, status and removal.
//!
//! A pod is alive as long as somebody holds the lock of its directory; nothing that is written there can say
//! so. [`dir::PodDir`] is the launcher's side, [`Pod`] everybody else's. What a record says is believed only
//! as far as it can be read, and never makes a living pod dead.

pub mod arrivals;
pub mod change;
pub mod client;
pub mod dir;
pub mod events;
pub mod gc;
pub mod journal;
pub mod log;
pub mod plan;
pub mod record;
pub mod root;
pub mod status;
pub mod told;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use serde::Deserialize;

use plan::PlanRecord;
use record::{PodRecord, Unreadable};
use status::json::Identity;
use status::{Liveness, Status};

use crate::output::printable;
use crate::value::Refusal;

/// Eight hexadecimal digits, random: whatever the host sees of a pod is named by them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId(String);

impl PodId {
    const DIGITS: usize = 8;

    fn random() -> Result<Self> {
        // The kernel's version-4 UUID; its first eight digits are all random.
        const FILE: &str = "/proc/sys/kernel/random/uuid";
        let text = std::fs::read_to_string(FILE).with_context(|| format!("cannot read `{FILE}`"))?;
        let digits = text.get(..Self::DIGITS).and_then(Self::parse);
        digits.with_context(|| format!("cannot read `{FILE}`: it is no UUID"))
    }

    /// `None`: not eight lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == Self::DIGITS && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A pod as its directory shows it, living or ended.
#[derive(Debug, Clone)]
pub struct Pod {
    id: PodId,
    path: PathBuf,
    record: Result<PodRecord, Unreadable>,
}

impl Pod {
    fn at(id: PodId, path: PathBuf) -> Self {
        let record = record::read_bytes(&path.join(dir::POD)).and_then(|bytes| record::parse(&bytes));
        Self { id, path, record }
    }

    /// Eight hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &PodId {
        &self.id
    }

    /// Absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name it was made with, or its id when that cannot be read.
    #[must_use]
    pub fn name(&self) -> &str {
        self.recorded_name().unwrap_or(self.id.as_str())
    }

    fn recorded_name(&self) -> Option<&str> {
        // A name is used as a path, and the record may be damaged.
        self.record.as_ref().ok().map(|record| record.name.as_str()).filter(|name| root::is_name(name))
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn created_ms(&self) -> Option<u64> {
        self.record.as_ref().ok().map(|record| record.created_ms)
    }

    /// Whether launcher or stage1 lives. Once false it stays false. What cannot be probed counts as alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_held(&self.path.join(dir::LOCK))
    }

    /// Whether the launcher lives; a living pod without one is in its ordered stop. This is not a lock: the
    /// child that becomes stage1 has copies of all the launcher's descriptors before it is exec'ed. Without a
    /// record nobody can know, and the launcher counts as alive.
    #[must_use]
    pub fn has_launcher(&self) -> bool {
        self.record.as_ref().map_or(true, |record| record.launcher.is_running())
    }

    /// The part of the plan that outlives the launcher.
    ///
    /// # Errors
    /// When it is not there or says nothing.
    pub fn plan(&self) -> Result<PlanRecord, Unreadable> {
        record::read_bytes(&self.path.join(dir::PLAN)).and_then(|bytes| record::parse(&bytes))
    }

    /// The whole plan, as the launcher wrote it.
    ///
    /// # Errors
    /// As [`Pod::plan`].
    pub fn plan_json(&self) -> Result<serde_json::Value, Unreadable> {
        record::read_bytes(&self.path.join(dir::PLAN)).and_then(|bytes| record::parse(&bytes))
    }

    /// Where the output of its apps is; it is there for pods that were started with `-d`.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.path.join(dir::LOG)
    }

    /// The manifest as it was run.
    ///
    /// # Errors
    /// When it is not there or is no text.
    pub fn manifest(&self) -> Result<String, Unreadable> {
        let bytes = record::read_bytes(&self.path.join(dir::MANIFEST))?;
        String::from_utf8(bytes).map_err(|_| Unreadable::Damaged("it is not UTF-8".into()))
    }

    /// Where it is.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join(dir::MANIFEST)
    }

    /// Whose status it is.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity { id: self.id.as_str(), name: self.name(), created_ms: self.created_ms() }
    }

    fn liveness(&self) -> Liveness {
        if self.is_alive() {
            return Liveness::Alive;
        }
        match (&self.record, record::boot_id()) {
            (Ok(record), Ok(boot_id)) if record.boot_id != boot_id => Liveness::OtherBoot,
            _ => Liveness::Dead,
        }
    }

    /// What is known of it. The lock is probed before the events are read: a pod that ends in between has
    /// written its last words by then, so it is never called lost.
    #[must_use]
    pub fn status(&self) -> Status {
        let liveness = self.liveness();
        let apps = self.plan().map(|plan| plan.apps.into_iter().map(|app| app.name).collect());
        let mut status = Status::new(apps.unwrap_or_default());
        let unread = events::each(&self.path.join(dir::EVENTS), |record| status.apply(&record));
        if status.apps.iter().any(|app| app.ready.is_some()) {
            self.read_words(&mut status);
        }
        status.conclude(liveness, &unread);
        status
    }
}

impl Pod {
    /// What the apps say of themselves, which is no part of the account; the launcher keeps the last of it.
    fn read_words(&self, status: &mut Status) {
        let Ok(bytes) = record::read_bytes(&self.path.join(dir::STATUS)) else { return };
        let Ok(kept) = serde_json::from_slice::<Kept>(&bytes) else { return };
        for app in &mut status.apps {
            let words = kept.apps.iter().find(|kept| kept.name == app.name);
            app.says = words.and_then(|kept| kept.status_text.as_deref()).map(printable);
        }
    }
}

/// What `status.json` has that the account has not.
#[derive(Deserialize)]
struct Kept {
    apps: Vec<KeptApp>,
}

#[derive(Deserialize)]
struct KeptApp {
    name: String,
    status_text: Option<String>,
}

/// Whether somebody holds the lock exclusively. The probe is a shared lock on an open file description of its
/// own, so probes do not see each other.
fn is_held(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    match options.open(path).and_then(|file| probe(&file)) {
        Ok(held) => held,
        // No lock, no life; a link or a socket in its place was never made by podrun.
        Err(error) => !matches!(
            error.raw_os_error(),
            Some(nix::libc::ENOENT | nix::libc::ELOOP | nix::libc::ENXIO | nix::libc::ENOTDIR)
        ),
    }
}

fn probe(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// `POD` or `POD/APP`, as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an id or the beginning of one.
    pub pod: String,
    /// `None`: the pod as a whole.
    pub app: Option<String>,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pod, app) = match text.split_once('/') {
            Some((pod, app)) => (pod, Some(app)),
            None => (text, None),
        };
        let is_app = |name: &str| root::is_app_name(name);
        if !root::is_name(pod) || !app.is_none_or(is_app) {
            return Err("expected POD or POD/APP, with names of lower-case letters, digits and `-`".into());
        }
        Ok(Self { pod: pod.to_owned(), app: app.map(str::to_owned) })
    }
}

impl Address {
    /// The same with an app that was typed apart from the pod.
    ///
    /// # Errors
    /// When it names an app already.
    pub fn with_app(&self, app: &str) -> Result<Self, Refusal> {
        match &self.app {
            None => Ok(Self { pod: self.pod.clone(), app: Some(app.to_owned()) }),
            Some(own) => {
                let refusal = Refusal::form(format!("`{}/{own}` names an app already", self.pod));
                Err(refusal.help(format!("write `{0}/{own}`, or `-c {app} {0}`", self.pod)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_pod_and_maybe_an_app() {
        let address = |pod: &str, app: Option<&str>| Address { pod: pod.into(), app: app.map(Into::into) };
        let table = [
            ("shop", Some(address("shop", None))),
            ("0badcafe", Some(address("0badcafe", None))),
            ("shop/api", Some(address("shop", Some("api")))),
            ("", None),
            ("/", None),
            ("shop/", None),
            ("/api", None),
            ("shop/api/x", None),
            ("../../etc", None),
            ("Shop", None),
            ("shop\n", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Address>().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_app_is_named_once() {
        let with_api = |text: &str| text.parse::<Address>().unwrap().with_app("api");
        assert_eq!(with_api("shop").unwrap(), "shop/api".parse().unwrap());
        assert_eq!(with_api("shop/db").unwrap_err().message, "`shop/db` names an app already");
    }

    #[test]
    fn an_id_is_eight_lower_case_hexadecimal_digits_and_random() {
        for (text, valid) in [
            ("0badcafe", true),
            ("0BADCAFE", false),
            ("badcafe", false),
            ("0badcafeX", false),
            ("../0bad1", false),
        ] {
            assert_eq!(PodId::parse(text).is_some(), valid, "{text}");
        }
        assert_ne!(PodId::random().unwrap(), PodId::random().unwrap());
    }
}

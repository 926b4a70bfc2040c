//! [`Root`]: the directory below which all pods are recorded, and the only door to a new pod's directory.
//!
//! `pods/<id>` holds a pod; `names/<name>` is a link to the pod that has the name; `lock` is held while names
//! change. A pod's directory is made as `pods/.new-<id>`, locked, and only then renamed: nobody ever sees a
//! pod that is not locked and not dead. `gc` removes a directory as `pods/.old-<id>`, so a pod that is half
//! gone is not seen either.
//!
//! Nothing here starts, signals or removes a pod.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};

use super::dir::PodDir;
use super::{Pod, PodId};
use crate::error::{EXIT_NOT_FOUND, Note};

/// Where pods are recorded when nobody says otherwise.
pub const DEFAULT_ROOT: &str = "/run/podrun";

/// The prefix of a directory that is not a pod yet.
pub(super) const EMBRYO: &str = ".new-";
/// The prefix of a directory that is a pod no more.
pub(super) const REMAINS: &str = ".old-";

/// Names change under a lock that is held for microseconds; only a stopped process makes anybody wait.
const NAMES_LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// Random ids that are all taken are a defect.
const ATTEMPTS: u32 = 64;

/// The directory below which all pods are recorded.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// A root at `path`, which need not exist: then there are no pods.
    ///
    /// # Errors
    /// When it exists and others could write to it.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("cannot use `{}`", path.display()))?;
        let root = Self { path };
        root.check_owner(&root.path)?;
        root.check_owner(&root.pods())?;
        root.check_owner(&root.names())?;
        Ok(root)
    }

    /// The path, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn pods(&self) -> PathBuf {
        self.path.join("pods")
    }

    pub(super) fn names(&self) -> PathBuf {
        self.path.join("names")
    }

    /// Whoever can write here can say where cgroups are removed.
    fn check_owner(&self, path: &Path) -> Result<()> {
        let metadata = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("cannot use `{}`", path.display()))?,
        };
        let user = nix::unistd::geteuid().as_raw();
        let problem = if !metadata.is_dir() {
            "it is not a directory".to_owned()
        } else if metadata.uid() != user && metadata.uid() != 0 {
            format!("it belongs to uid {}, not to uid {user}", metadata.uid())
        } else if metadata.permissions().mode() & 0o022 != 0 {
            format!("others may write to it (mode {:04o})", metadata.permissions().mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(anyhow!("cannot use `{}`: {problem}", path.display()))
            .hint("give another directory with `--root`")
    }

    fn make_directories(&self) -> Result<()> {
        for path in [self.path.clone(), self.pods(), self.names()].into_iter().filter(|path| !path.is_dir()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.with_context(|| format!("cannot make directory `{}`", path.display()))?;
        }
        Ok(())
    }

    /// Whether a pod may have this name now. Only [`Root::create`] can keep it so.
    ///
    /// # Errors
    /// The pod that has it.
    pub fn check_free(&self, name: &str) -> Result<()> {
        self.named(name).filter(Pod::is_alive).map_or(Ok(()), |holder| refuse_name(name, &holder))
    }

    /// Makes the directory of a pod with a fresh id and gives it the name, in one step for everybody else.
    /// The record of an ended pod of the same name stays, under its id; see [`super::gc::settle_name`] for
    /// what else it may have left.
    ///
    /// # Errors
    /// When a pod of this name is alive, or the disk is full.
    pub fn create(&self, name: &str) -> Result<PodDir> {
        self.make_directories()?;
        // Held from the first mkdir on, so that an embryo found by somebody who holds it has no maker any more.
        let _names = self.lock_names()?;
        self.check_free(name)?;
        for _ in 0..ATTEMPTS {
            let Some(embryo) = PodDir::make_embryo(self, name)? else { continue };
            return match self.publish(&embryo, name) {
                Ok(()) => Ok(embryo.published_in(&self.pods())),
                Err(error) => {
                    embryo.discard_embryo();
                    Err(error)
                }
            };
        }
        bail!("cannot make a directory in `{}`: each id is taken", self.pods().display())
    }

    fn publish(&self, embryo: &PodDir, name: &str) -> Result<()> {
        // The link first: a link to nothing is a free name, a pod that no name leads to would be a surprise.
        self.point(name, &embryo.id)?;
        let target = self.pods().join(embryo.id.as_str());
        std::fs::rename(&embryo.path, &target).with_context(|| format!("cannot make `{}`", target.display()))
    }

    fn point(&self, name: &str, id: &PodId) -> Result<()> {
        let link = self.names().join(name);
        let temporary = self.names().join(format!(".{id}"));
        std::os::unix::fs::symlink(format!("../pods/{id}"), &temporary)
            .and_then(|()| std::fs::rename(&temporary, &link))
            .with_context(|| format!("cannot write `{}`", link.display()))
    }

    /// Takes the name away from a pod, unless another pod has it by now.
    pub(super) fn release_name(&self, name: &str, id: &PodId) -> Result<()> {
        let _names = self.lock_names()?;
        if self.holder(name).as_ref() == Some(id) {
            let link = self.names().join(name);
            std::fs::remove_file(&link).with_context(|| format!("cannot remove `{}`", link.display()))?;
        }
        Ok(())
    }

    /// Takes away what launchers and `gc`s have left that died in the middle: embryos become remains, and links
    /// that are unfinished or lead to pods that are not there go. Nobody makes a pod or changes a name
    /// meanwhile, so what looks like that is that.
    pub(super) fn sweep_unfinished(&self) -> Result<()> {
        if !self.names().exists() {
            return Ok(());
        }
        let _names = self.lock_names()?;
        self.retire_embryos()?;
        let path = self.names();
        for entry in std::fs::read_dir(&path).with_context(|| format!("cannot read `{}`", path.display()))? {
            let link = entry.with_context(|| format!("cannot read `{}`", path.display()))?.path();
            // `exists` follows the link.
            if link.is_symlink() && (!link.exists() || is_unfinished(&link)) {
                std::fs::remove_file(&link).with_context(|| format!("cannot remove `{}`", link.display()))?;
            }
        }
        Ok(())
    }

    /// Renamed, so that half a directory is never taken for an embryo that may be finished.
    fn retire_embryos(&self) -> Result<()> {
        for entry in self.entries()? {
            let Some(id) = entry.strip_prefix(EMBRYO) else { continue };
            let (embryo, remains) = (self.pods().join(&entry), self.pods().join(format!("{REMAINS}{id}")));
            std::fs::rename(&embryo, &remains)
                .with_context(|| format!("cannot take `{}` away", embryo.display()))?;
        }
        Ok(())
    }

    fn lock_names(&self) -> Result<File> {
        let path = self.path.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
        let file = options.open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let deadline = Instant::now() + NAMES_LOCK_DEADLINE;
        if !lock_before(&file, deadline).with_context(|| format!("cannot lock `{}`", path.display()))? {
            bail!("cannot lock `{}`: another podrun has held it for 10 s", path.display());
        }
        Ok(file)
    }

    fn holder(&self, name: &str) -> Option<PodId> {
        let target = std::fs::read_link(self.names().join(name)).ok()?;
        PodId::parse(target.file_name()?.to_str()?)
    }

    pub(super) fn named(&self, name: &str) -> Option<Pod> {
        self.holder(name).and_then(|id| self.pod(id))
    }

    fn pod(&self, id: PodId) -> Option<Pod> {
        let path = self.pods().join(id.as_str());
        path.is_dir().then(|| Pod::at(id, path))
    }

    /// Every pod, living and ended, the oldest first.
    ///
    /// # Errors
    /// When the directory exists and cannot be read.
    pub fn list(&self) -> Result<Vec<Pod>> {
        let mut pods: Vec<Pod> = self
            .entries()?
            .iter()
            .filter_map(|name| PodId::parse(name))
            .filter_map(|id| self.pod(id))
            .collect();
        pods.sort_by_key(|pod| (pod.created_ms(), pod.id().clone()));
        Ok(pods)
    }

    /// The names of all entries of `pods/`.
    pub(super) fn entries(&self) -> Result<Vec<String>> {
        let path = self.pods();
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// The pod that `word` means: the one that has this name, else the one whose id begins with it, else the
    /// latest of the ended ones that once had this name.
    ///
    /// # Errors
    /// When there is none (exit code 4), or the beginning of an id fits several.
    pub fn find(&self, word: &str) -> Result<Pod> {
        if is_name(word)
            && let Some(pod) = self.named(word)
        {
            return Ok(pod);
        }
        let pods = self.list()?;
        let mut by_id = pods.iter().filter(|pod| !word.is_empty() && pod.id().as_str().starts_with(word));
        match (by_id.next(), by_id.next()) {
            (Some(pod), None) => return Ok(pod.clone()),
            (Some(one), Some(other)) => {
                return Err(anyhow!(
                    "pod `{word}` is ambiguous: {}, {} and maybe more",
                    one.id(),
                    other.id()
                ))
                .hint("give more digits of the id");
            }
            (None, _) => {}
        }
        let once = pods.into_iter().rev().find(|pod| pod.recorded_name() == Some(word));
        once.ok_or_else(|| anyhow!("no such pod `{word}`"))
            .code(EXIT_NOT_FOUND)
            .hint("`podrun ps -a` lists the pods")
    }
}

fn is_unfinished(link: &Path) -> bool {
    link.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn refuse_name<T>(name: &str, holder: &Pod) -> Result<T> {
    let id = holder.id();
    let (message, command) = if holder.has_launcher() {
        (format!("a pod of this name is running (id {id})"), format!("podrun stop {name}"))
    } else {
        (
            format!("a pod of this name has lost its launcher and has not ended yet (id {id})"),
            format!("podrun rm -f {id}"),
        )
    };
    Err(anyhow!(message)).hint(format!("`{command}`, or give another name with `--name`"))
}

/// Whether `word` can be the name of a pod: a DNS label (RFC 1123), so never a path.
#[must_use]
pub fn is_name(word: &str) -> bool {
    let bytes = word.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| inner(byte) && *byte != b'-');
    bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// Whether `word` can be the name of an app: `[a-z0-9-]{1,32}`.
#[must_use]
pub fn is_app_name(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&word.len()) && word.bytes().all(allowed)
}

/// Waits for an exclusive flock until the deadline; `false`: somebody else still has it.
pub(crate) fn lock_before(file: &File, deadline: Instant) -> io::Result<bool> {
    let mut pause = Duration::from_millis(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
#[path = "root_tests.rs"]
pub(super) mod tests;

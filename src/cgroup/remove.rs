//! Killing what is in a pod's groups and removing them, from open groups or from the record alone.
//!
//! cgroup2's `cgroup.kill` is complete against forks; without it every process is signalled by pidfd, frozen
//! before where there is a v1 freezer, and thawed after, since a frozen process of v1 does not die. Everything
//! here may run twice, and what is not there is fine. The process that removes is never in the groups: that is
//! refused. A name from a record is a name, never a path.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::cgroup::events::wait_until_empty;
use crate::cgroup::files;
use crate::cgroup::hierarchy::{Hierarchies, Hierarchy, exists, membership};
use crate::cgroup::limits::launcher_leaf;
use crate::cgroup::plan::{CgroupPlan, Group, Joined, Version};
use crate::error::Note;
use crate::sys::pidfd;
use crate::systemd::units::PAYLOAD;

/// Groups in groups; an app that makes more is stopped by the kernel's own path length before.
const DEPTH_MAX: usize = 64;
/// Groups that a search for leftovers looks at in one hierarchy.
const SEARCH_MAX: usize = 65_536;
/// Rounds of signalling where forks can run away and nothing can freeze them.
const ROUNDS_MAX: usize = 1000;

/// The pod's own group in one hierarchy, open.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) version: Version,
    controllers: Vec<String>,
    /// The directory, for messages.
    pub(super) path: PathBuf,
    parent: OwnedFd,
    pub(super) pod: OwnedFd,
    pod_group: String,
    /// The group as `/proc/PID/cgroup` shows it.
    pub(super) expected: String,
}

impl Tree {
    pub(super) fn new(joined: &Joined, parent: OwnedFd, pod: OwnedFd, path: PathBuf) -> Self {
        let pod_group = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let parts = [&joined.mount_root, &joined.parent, &pod_group];
        let expected =
            parts.into_iter().filter(|p| !p.is_empty()).fold(String::new(), |all, p| all + "/" + p);
        let controllers = joined.controllers.clone();
        Self { version: joined.version, controllers, path, parent, pod, pod_group, expected }
    }

    pub(super) fn open(&self, path: &str, access: OFlag) -> anyhow::Result<OwnedFd> {
        files::open_file(&self.pod, path, access)
            .with_context(|| format!("cannot open `{}`", self.path.join(path).display()))
    }

    pub(super) fn open_if_there(&self, path: &str, access: OFlag) -> anyhow::Result<Option<OwnedFd>> {
        match files::open_file(&self.pod, path, access) {
            Err(Errno::ENOENT) => Ok(None),
            Ok(file) => Ok(Some(file)),
            Err(errno) => {
                Err(anyhow!(errno).context(format!("cannot open `{}`", self.path.join(path).display())))
            }
        }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Whether the process of this membership text is in the group or below it.
    pub(super) fn holds(&self, cgroup: &[u8]) -> bool {
        membership(cgroup, self.version, &self.controllers)
            .and_then(|path| path.strip_prefix(self.expected.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The pod's group and everything below it, parents before children.
    fn walk(&self) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
        let mut groups = vec![(self.path.clone(), self.pod.try_clone()?)];
        let mut next = 0;
        while let Some((path, dir)) = groups.get(next) {
            let (path, mut found) = (path.clone(), Vec::new());
            for name in gone_is_empty(files::children(dir.as_fd()))? {
                match files::open_group_at(dir, &name.to_string_lossy()) {
                    Ok(child) => found.push((path.join(&name), child)),
                    Err(Errno::ENOENT | Errno::ENODEV) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            groups.extend(found);
            next += 1;
        }
        Ok(groups)
    }
}

fn gone_is_empty<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if is_gone(&error) => Ok(T::default()),
        other => other,
    }
}

/// ENODEV is what the files of a removed group say.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Kills every process in the groups.
pub(super) fn kill(trees: &[Tree]) -> anyhow::Result<()> {
    if let Some(tree) = trees.iter().find(|tree| tree.version == Version::V2) {
        match files::write(&tree.pod, "cgroup.kill", "1") {
            Ok(()) => return Ok(()),
            // Before Linux 5.14 there is no such file, and a threaded group refuses it.
            Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot kill group `{}`", tree.path.display()));
            }
        }
    }
    kill_each(trees)
}

/// Signals process by process until a round finds none that was not signalled before.
fn kill_each(trees: &[Tree]) -> anyhow::Result<()> {
    let freezer = trees.iter().find(|tree| tree.version == Version::V1 && tree.has("freezer"));
    if let Some(tree) = freezer {
        freeze(tree).with_context(|| format!("cannot freeze group `{}`", tree.path.display()))?;
    }
    let signalled = signal_rounds(trees);
    if let Some(tree) = freezer {
        thaw(tree).with_context(|| format!("cannot thaw group `{}`", tree.path.display()))?;
    }
    signalled.context("cannot kill the processes of the pod")
}

fn signal_rounds(trees: &[Tree]) -> io::Result<()> {
    let mut signalled = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let before = signalled.len();
        for tree in trees {
            for (_, dir) in tree.walk()? {
                for pid in gone_is_empty(files::processes(dir.as_fd()))? {
                    if pid > 0 && signalled.insert(pid) {
                        signal(tree, pid)?;
                    }
                }
            }
        }
        if signalled.len() == before {
            break;
        }
    }
    Ok(())
}

/// The number may have a new owner by now; the descriptor cannot, so it is opened first and the membership looked
/// at after.
fn signal(tree: &Tree, pid: i32) -> io::Result<()> {
    let gone = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT));
    let process = match pidfd::open(pid) {
        Err(error) if gone(&error) => return Ok(()),
        process => process?,
    };
    let cgroup = match std::fs::read(format!("/proc/{pid}/cgroup")) {
        Err(error) if gone(&error) => return Ok(()),
        cgroup => cgroup?,
    };
    if !tree.holds(&cgroup) {
        return Ok(());
    }
    match pidfd::send_signal(process.as_fd(), libc::SIGKILL) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// v1's freezer may need several attempts when processes fork meanwhile (freezer-subsystem.rst); one that never
/// comes to rest is killed unfrozen.
fn freeze(tree: &Tree) -> io::Result<()> {
    for _ in 0..100 {
        gone_is_empty(files::write(&tree.pod, "freezer.state", "FROZEN"))?;
        if gone_is_empty(files::read(&tree.pod, "freezer.state"))?.trim_end() != "FREEZING" {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn thaw(tree: &Tree) -> io::Result<()> {
    for (_, dir) in tree.walk()? {
        gone_is_empty(files::write(&dir, "freezer.state", "THAWED"))?;
    }
    Ok(())
}

/// What happens to processes that are still in a group.
#[derive(Clone, Copy, PartialEq)]
enum Stragglers {
    /// They are ending already.
    Wait,
    /// They are killed again in every round.
    Kill,
}

/// Removes the groups of every tree. The usual end is that nothing is in them and each goes at the first try.
pub(super) fn trees(trees: &[Tree], groups: &[Group], deadline: Instant) -> anyhow::Result<()> {
    remove_all(trees, groups, deadline, Stragglers::Wait)
}

/// Removes those of the named groups that nothing is in; the rest is left for [`trees`]. Says whether all are gone.
pub(super) fn empty_groups<'g>(trees: &[Tree], groups: impl Iterator<Item = &'g Group> + Clone) -> bool {
    let mut gone = true;
    for (tree, group) in trees.iter().flat_map(|tree| groups.clone().map(move |group| (tree, group))) {
        // EBUSY: somebody is in it still, which is no fault at this point.
        gone &= files::remove_group(&tree.pod, group.name.as_ref()).is_ok();
    }
    gone
}

fn remove_all(
    trees: &[Tree],
    groups: &[Group],
    deadline: Instant,
    stragglers: Stragglers,
) -> anyhow::Result<()> {
    let mut busy = Vec::new();
    for tree in trees {
        if let Err(errno) = remove_known(tree, groups) {
            match errno {
                Errno::EBUSY => busy.push(tree),
                other => return Err(anyhow!(other).context(cannot_remove(tree))),
            }
        }
    }
    busy.into_iter().try_for_each(|tree| clear(tree, deadline, stragglers))
}

fn cannot_remove(tree: &Tree) -> String {
    format!("cannot remove group `{}`", tree.path.display())
}

/// A group that holds something is passed over, so that as much as can be is gone at the first try.
fn remove_known(tree: &Tree, groups: &[Group]) -> nix::Result<()> {
    for group in groups.iter().rev().filter(|group| !group.name.is_empty()) {
        match files::remove_group(&tree.pod, group.name.as_ref()) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
    files::remove_group(&tree.parent, tree.pod_group.as_ref())
}

/// Removes a tree whatever groups are in it, bottom-up, and tries again until the deadline.
fn clear(tree: &Tree, deadline: Instant, stragglers: Stragglers) -> anyhow::Result<()> {
    let mut pause = Duration::from_micros(100);
    loop {
        let below = remove_below(tree.pod.as_fd(), DEPTH_MAX);
        match below.and_then(|()| files::remove_group(&tree.parent, tree.pod_group.as_ref())) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => {}
            Err(Errno::EBUSY) => bail!("{}: {}", cannot_remove(tree), left(tree)),
            Err(errno) => return Err(anyhow!(errno).context(cannot_remove(tree))),
        }
        if stragglers == Stragglers::Kill {
            kill(std::slice::from_ref(tree))?;
        }
        if tree.version == Version::V2
            && let Ok(events) = files::open_file(&tree.pod, "cgroup.events", OFlag::O_RDONLY)
        {
            // Whether it became empty or not, the next round tells.
            wait_until_empty(&File::from(events), deadline.min(Instant::now() + Duration::from_millis(200)))?;
        }
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_below(dir: BorrowedFd<'_>, depth: usize) -> nix::Result<()> {
    let names = gone_is_empty(files::children(dir))
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let mut first_busy = Ok(());
    for name in names {
        let below = match files::open_group_at(dir, &name.to_string_lossy()) {
            Ok(_) if depth == 0 => Err(Errno::ELOOP),
            Ok(child) => remove_below(child.as_fd(), depth - 1),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno),
        };
        match below.and_then(|()| files::remove_group(dir, name.as_ref())) {
            Err(Errno::EBUSY) => first_busy = Err(Errno::EBUSY),
            other => other?,
        }
    }
    first_busy
}

/// Which groups are left and who is in them, for people.
fn left(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, dir) in tree.walk().unwrap_or_default() {
        for pid in files::processes(dir.as_fd()).unwrap_or_default().into_iter().take(8) {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}process {pid} ({}) is in `{}`", comm.trim_end(), path.display());
        }
    }
    if text.is_empty() { "it stays busy though no process is to be seen in it".to_owned() } else { text }
}

/// Undoes a pod's groups from its record alone: kills what is in them, waits until it is gone, removes them with
/// everything that apps made below, in every hierarchy. A hierarchy that the kernel has no more took its groups
/// along.
///
/// # Errors
/// What is left at the deadline and who is in it; a hierarchy that is not where it was, while the kernel still has
/// it; a record that names what no record of ours can name; and that the caller itself is in one of the groups.
pub fn remove_recorded(plan: &CgroupPlan, deadline: Instant) -> anyhow::Result<()> {
    check_names(plan)?;
    let (here, hidden): (Vec<&Joined>, Vec<&Joined>) = plan.hierarchies.iter().partition(|j| is_mounted(j));
    let mut trees = Vec::new();
    for joined in &here {
        let parent = joined.mount_point.join(&joined.parent);
        trees.extend(open_tree(joined, &parent, &plan.pod_group)?);
    }
    destroy(&trees, &plan.groups, deadline)?;
    here.into_iter().try_for_each(remove_leaf)?;
    hidden.into_iter().try_for_each(|joined| refuse_hidden(joined, &plan.pod_group))
}

/// Other failures than that it is not mounted are told by whoever opens the group.
fn is_mounted(joined: &Joined) -> bool {
    let opened = files::open_group(&joined.mount_point, joined.version);
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::Other];
    !opened.is_err_and(|error| absent.contains(&error.kind()))
}

/// The group may be in a hierarchy that the kernel still has, where nobody can see it from here.
fn refuse_hidden(joined: &Joined, pod_group: &str) -> anyhow::Result<()> {
    if !exists(&own_cgroup()?, joined.version, &joined.controllers) {
        return Ok(());
    }
    let group = joined.mount_point.join(&joined.parent).join(pod_group);
    Err(anyhow!("its hierarchy is not mounted there any more, and the kernel still has it"))
        .with_context(|| format!("cannot remove group `{}`", group.display()))
        .hint("mount it there again, or run gc where it is mounted")
}

fn own_cgroup() -> anyhow::Result<Vec<u8>> {
    std::fs::read("/proc/self/cgroup").context("cannot read `/proc/self/cgroup`")
}

fn destroy(trees: &[Tree], groups: &[Group], deadline: Instant) -> anyhow::Result<()> {
    if trees.is_empty() {
        return Ok(());
    }
    let own = own_cgroup()?;
    if let Some(tree) = trees.iter().find(|tree| tree.holds(&own)) {
        bail!("{}: this process is in it", cannot_remove(tree));
    }
    kill(trees)?;
    remove_all(trees, groups, deadline, Stragglers::Kill)
}

/// A record is a file, and files can be wrong: what would lead out of the pod's own group is refused.
fn check_names(plan: &CgroupPlan) -> anyhow::Result<()> {
    let plain = |name: &str| !name.contains('/') && name != "." && name != "..";
    let leaf = launcher_leaf(&plan.pod_group);
    let in_scope = |joined: &Joined| {
        let scope = joined.parent.rsplit('/').next().unwrap_or_default();
        scope.starts_with("podrun-") && scope.ends_with(".scope")
    };
    let own = match plan.pod_group.as_str() {
        PAYLOAD => plan.hierarchies.iter().all(in_scope),
        group => group.starts_with("podrun-") && plain(group),
    };
    let groups = plan.groups.iter().all(|group| plain(&group.name));
    let leaves =
        plan.hierarchies.iter().filter_map(|joined| joined.launcher_leaf.as_ref()).all(|l| *l == leaf);
    if own && groups && leaves {
        return Ok(());
    }
    bail!(
        "cannot use the record of the groups of `{}`: it holds a name that podrun does not give",
        plan.pod_group
    )
}

/// `None`: the group is not there.
fn open_tree(joined: &Joined, parent_path: &Path, pod_group: &str) -> anyhow::Result<Option<Tree>> {
    let path = parent_path.join(pod_group);
    let parent = match files::open_group(parent_path, joined.version) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        parent => parent.with_context(|| format!("cannot open group `{}`", parent_path.display()))?,
    };
    match files::open_group_at(&parent, pod_group) {
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(anyhow!(errno).context(format!("cannot open group `{}`", path.display()))),
        Ok(pod) => Ok(Some(Tree::new(joined, parent, pod, path))),
    }
}

/// The launcher that was in it is gone.
fn remove_leaf(joined: &Joined) -> anyhow::Result<()> {
    let Some(leaf) = &joined.launcher_leaf else { return Ok(()) };
    let parent_path = joined.mount_point.join(&joined.parent);
    let removed = match files::open_group(&parent_path, joined.version) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(parent) => files::remove_group(&parent, leaf.as_ref()).map_err(io::Error::from),
    };
    removed.with_context(|| format!("cannot remove group `{}`", parent_path.join(leaf).display()))
}

/// The groups of a pod whose record is lost: every group of this name in every hierarchy, and the leaf of its
/// launcher. The search is bounded; groups that cannot be read are passed over.
#[must_use]
pub fn find_leftovers(hierarchies: &Hierarchies, pod_group: &str) -> Vec<PathBuf> {
    let leaf = launcher_leaf(pod_group);
    // systemd's, without its units: it notices that they are empty.
    let scope = format!("{pod_group}.scope");
    let wanted = |name: &OsStr| name == pod_group || name == leaf.as_str() || name == scope.as_str();
    hierarchies.v2.iter().chain(&hierarchies.v1).flat_map(|h| search(&h.mount_point, &wanted)).collect()
}

fn search(mount_point: &Path, wanted: &dyn Fn(&OsStr) -> bool) -> Vec<PathBuf> {
    let (mut found, mut looked_at) = (Vec::new(), vec![mount_point.to_owned()]);
    let mut next = 0;
    while let Some(dir) = looked_at.get(next).filter(|_| next < SEARCH_MAX) {
        next += 1;
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let list = if wanted(&entry.file_name()) { &mut found } else { &mut looked_at };
            list.push(entry.path());
        }
    }
    found
}

/// [`remove_recorded`] without a record: for everything that [`find_leftovers`] finds.
///
/// # Errors
/// As there.
pub fn remove_leftovers(hierarchies: &Hierarchies, pod_group: &str, deadline: Instant) -> anyhow::Result<()> {
    if !pod_group.starts_with("podrun-") || pod_group.contains('/') {
        bail!("cannot remove groups named `{pod_group}`: that is no name of a pod's group");
    }
    let mut trees = Vec::new();
    for path in find_leftovers(hierarchies, pod_group) {
        let all = hierarchies.v2.iter().chain(&hierarchies.v1);
        let hierarchy =
            all.filter(|h| path.starts_with(&h.mount_point)).max_by_key(|h| h.mount_point.as_os_str().len());
        let parts = hierarchy.zip(path.parent()).zip(path.file_name().and_then(OsStr::to_str));
        if let Some(((hierarchy, parent), name)) = parts {
            trees.extend(open_tree(&joined_at(hierarchy, parent), parent, name)?);
        }
    }
    destroy(&trees, &[], deadline)
}

fn joined_at(hierarchy: &Hierarchy, parent: &Path) -> Joined {
    let relative = parent.strip_prefix(&hierarchy.mount_point).ok().and_then(Path::to_str);
    Joined {
        version: hierarchy.version,
        mount_point: hierarchy.mount_point.clone(),
        parent: relative.unwrap_or_default().to_owned(),
        controllers: hierarchy.controllers.clone(),
        mount_root: hierarchy.mount_root.clone(),
        enable_in_parent: Vec::new(),
        gifts: Vec::new(),
        launcher_leaf: None,
        view: hierarchy.view.clone(),
    }
}

//! The driver that makes a pod's groups as directories, and the descriptors that lead into them.
//!
//! [`create`] makes the pod's own group of a [`CgroupPlan`] and stage1's, [`PodCgroup::add_apps`] those of the apps, for
//! which stage1 need not wait; both write every setting and read it back. On an error `create` undoes what it made. It decides nothing: what is written where stands in the plan. Removal is in
//! [`super::remove`], and needs the plan alone. The launcher is moved only when the plan says so
//! (`launcher_leaf`), and only out of a group of its own that could hand down no controller otherwise.
//!
//! This is on the way of every start: paths are relative to open directories, a setting is one open, one write
//! and one read, and files are opened when somebody asks for them.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use podrun_abi::handover::AppCgroup;

use crate::cgroup::hierarchy::membership;
use crate::cgroup::limits::{SUPERVISOR, app_group};
use crate::cgroup::plan::{CgroupPlan, Group, Joined, Setting, Version};
use crate::cgroup::remove::{self, Tree};
pub use crate::cgroup::remove::{find_leftovers, remove_leftovers, remove_recorded};
use crate::cgroup::{cpuset, devices, files};
use crate::sys::detach;

mod watched;

use watched::Attachments;

/// How long the undo of a failed [`create`] may take; nothing runs in the groups then.
const UNDO_TIME: Duration = Duration::from_secs(2);
/// Who is in a group, and where one moves oneself.
const PROCS: &str = "cgroup.procs";
/// How long a group may stay busy while processes that have left it or ended are taken out of it.
const ENABLE_TIME: Duration = Duration::from_secs(1);

/// The groups of a pod that exist.
#[derive(Debug)]
pub struct PodCgroup {
    plan: CgroupPlan,
    /// One for each of the plan's hierarchies, in the same order.
    trees: Vec<Tree>,
    /// The cgroup2 directory of `supervisor`.
    supervisor: Option<OwnedFd>,
    /// [`PodCgroup::remove_apps`] has left nothing.
    apps_are_gone: Cell<bool>,
}

/// Makes the pod's own group and stage1's in every hierarchy of the plan and writes their settings.
///
/// # Errors
/// The file, what was wanted and what the kernel said or shows. Nothing that was made is left then; if something
/// is, the error says that too.
pub fn create(plan: &CgroupPlan) -> anyhow::Result<PodCgroup> {
    let mut pod =
        PodCgroup { plan: plan.clone(), trees: Vec::new(), supervisor: None, apps_are_gone: Cell::default() };
    match pod.build() {
        Ok(()) => Ok(pod),
        Err(error) => match pod.remove(Instant::now() + UNDO_TIME) {
            Ok(()) => Err(error),
            Err(left) => Err(error.context(format!("cannot undo ({left:#}) after"))),
        },
    }
}

/// In [`CgroupPlan::groups`], behind the pod's own and `supervisor`.
const FIRST_APP: usize = 2;

impl PodCgroup {
    fn build(&mut self) -> anyhow::Result<()> {
        for joined in &self.plan.hierarchies {
            self.trees.push(make_tree(joined, &self.plan.pod_group)?);
        }
        // The pod's own settings come before the groups below it exist: where a parent clones its cpuset into new
        // groups (`cgroup.clone_children`, cpusets(7)), theirs begin with all of its CPUs, and then the pod's
        // could not shrink below them any more.
        let first = &self.plan.groups[..FIRST_APP.min(self.plan.groups.len())];
        let (pod, below): (Vec<&Group>, Vec<&Group>) = first.iter().partition(|group| group.name.is_empty());
        self.apply_all(&pod)?;
        for (joined, tree) in self.plan.hierarchies.iter().zip(&self.trees) {
            hand_down(joined, tree)?;
            make_groups(tree, &below)?;
        }
        self.apply_all(&below)?;
        self.supervisor = match self.v2() {
            Some((_, tree)) => Some(files::open_group_at(&tree.pod, SUPERVISOR)?),
            None => None,
        };
        Ok(())
    }

    /// Makes the groups of the apps and writes their settings.
    ///
    /// # Errors
    /// The file, what was wanted and what the kernel said or shows. What was made stays until [`PodCgroup::remove`].
    pub fn add_apps(&self) -> anyhow::Result<()> {
        let apps: Vec<&Group> = self.plan.groups.iter().skip(FIRST_APP).collect();
        self.trees.iter().try_for_each(|tree| make_groups(tree, &apps))?;
        self.apply_all(&apps)
    }

    /// A filter of v1 is written before there are groups below it: afterwards the kernel takes none that begins with
    /// nothing (devcgroup_update_access).
    fn apply_all(&self, groups: &[&Group]) -> anyhow::Result<()> {
        for group in groups {
            group.settings.iter().try_for_each(|setting| self.apply(group, setting))?;
            if let Some(rules) = &group.devices {
                self.filter(group, rules)
                    .with_context(|| format!("cannot filter the devices of {}", whose(group)))?;
            }
        }
        Ok(())
    }

    /// By a program in the cgroup2 tree, else by v1's list.
    fn filter(&self, group: &Group, rules: &[devices::Rule]) -> anyhow::Result<()> {
        let v2 = self.v2();
        let (_, tree) =
            v2.or_else(|| self.with("devices")).context("no hierarchy has a filter of devices")?;
        let place = if group.name.is_empty() { "." } else { &group.name };
        let dir = files::open_group_to_read(&tree.pod, place)
            .with_context(|| format!("cannot open `{}`", tree.path.join(&group.name).display()))?;
        match v2 {
            Some(_) => devices::attach(dir.as_fd(), rules),
            None => devices::list(dir.as_fd(), rules),
        }
        .with_context(|| format!("`{}`", tree.path.join(&group.name).display()))
    }

    fn apply(&self, group: &Group, setting: &Setting) -> anyhow::Result<()> {
        let tree =
            self.trees.get(setting.hierarchy).context("the plan names a hierarchy that it does not join")?;
        let path = below(&group.name, &setting.file);
        let joined = self.plan.hierarchies.get(setting.hierarchy);
        let written = files::write_and_verify(&tree.pod, &path, setting);
        let proved = written.and_then(|()| {
            joined.map_or(Ok(()), |joined| cpuset::prove(joined, &tree.path.join(&group.name), setting))
        });
        proved.with_context(|| {
            format!("cannot set {} of {}: `{}`", setting.key, whose(group), tree.path.join(&path).display())
        })
    }

    fn v2(&self) -> Option<(&Joined, &Tree)> {
        self.plan.hierarchies.iter().zip(&self.trees).find(|(joined, _)| joined.version == Version::V2)
    }

    /// The hierarchy that has a controller.
    fn with(&self, controller: &str) -> Option<(&Joined, &Tree)> {
        let has = |joined: &Joined| joined.controllers.iter().any(|c| c == controller);
        self.plan.hierarchies.iter().zip(&self.trees).find(|(joined, _)| has(joined))
    }

    /// The cgroup2 directory for CLONE_INTO_CGROUP of stage1; `None` where there is no cgroup2 tree.
    #[must_use]
    pub fn supervisor_into(&self) -> Option<BorrowedFd<'_>> {
        self.supervisor.as_ref().map(AsFd::as_fd)
    }

    /// What a process of one thread writes `0` to, to join stage1's group in every joined hierarchy; cgroup2's
    /// first.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn supervisor_procs(&self) -> anyhow::Result<Vec<OwnedFd>> {
        self.procs(SUPERVISOR, OFlag::O_WRONLY, "tasks")
    }

    /// `cgroup.procs` of cgroup2, `v1_file` of the others.
    ///
    /// v1's `tasks` moves the writing thread alone, which is the whole of a process that has just been cloned.
    /// A write to `cgroup.procs` waits until no process on the machine is forking or ending, for some
    /// milliseconds and in each hierarchy (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
    fn procs(&self, group: &str, access: OFlag, v1_file: &str) -> anyhow::Result<Vec<OwnedFd>> {
        let open = |(joined, tree): (&Joined, &Tree)| {
            let file = if joined.version == Version::V1 { v1_file } else { "cgroup.procs" };
            tree.open(&below(group, file), access)
        };
        self.plan.hierarchies.iter().zip(&self.trees).map(open).collect()
    }

    /// Proves that a process is in a group (`""` the pod's own, `supervisor`, `app-<name>`) in every joined
    /// hierarchy. `pid` is a number of this pid namespace.
    ///
    /// # Errors
    /// The hierarchy in which it is elsewhere, and where.
    pub fn verify_member(&self, group: &str, pid: i32) -> anyhow::Result<()> {
        let path = format!("/proc/{pid}/cgroup");
        let text = std::fs::read(&path).with_context(|| format!("cannot read `{path}`"))?;
        for (joined, tree) in self.plan.hierarchies.iter().zip(&self.trees) {
            let expected = below(&tree.expected, group);
            let shown = membership(&text, joined.version, &joined.controllers).unwrap_or("nowhere");
            if shown != expected {
                let mount = joined.mount_point.display();
                bail!("process {pid} is in `{shown}` of the hierarchy at `{mount}`, expected `{expected}`");
            }
        }
        Ok(())
    }

    /// The descriptors that stage1 needs to start, watch and kill an app, and which of them is which.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn app(&self, name: &str) -> anyhow::Result<(AppCgroup, Vec<OwnedFd>)> {
        let group = app_group(name);
        // Without cgroup2 stage1 lists and kills by the first of them, and `tasks` does not list processes.
        let v1_file = if self.v2().is_some() { "tasks" } else { "cgroup.procs" };
        let mut files = self.procs(&group, OFlag::O_RDWR, v1_file)?;
        let procs = (0..files.len()).collect();
        let mut to = Attachments::new(&mut files);
        let (mut into, mut kill, mut events, mut freezer) = (None, None, None, None);
        if let Some((_, tree)) = self.v2() {
            into = Some(to.group(tree, &group)?);
            let file = tree.open_if_there(&below(&group, "cgroup.kill"), OFlag::O_WRONLY)?;
            kill = file.map(|file| to.keep(file));
            events = Some(to.keep(tree.open(&below(&group, "cgroup.events"), OFlag::O_RDONLY)?));
        }
        if kill.is_none()
            && let Some((_, tree)) = self.with("freezer")
        {
            freezer = Some(to.keep(tree.open(&below(&group, "freezer.state"), OFlag::O_RDWR)?));
        }
        let watched = self.watch_app(&group, &mut to)?;
        Ok((AppCgroup { into, procs, kill, freezer, events, watched }, files))
    }

    /// Kills every process in the pod's groups, stage1 too.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&self) -> anyhow::Result<()> {
        remove::kill(&self.trees)
    }

    /// A change of limits may have enabled more in the group above than this pod has begun with: the launcher cannot leave
    /// its leaf before all of it is taken back. `recorded` is asked where there is a leaf.
    pub fn learn(&mut self, recorded: impl FnOnce() -> Option<CgroupPlan>) {
        if !self.plan.hierarchies.iter().any(|joined| joined.launcher_leaf.is_some()) {
            return;
        }
        let Some(recorded) = recorded() else { return };
        for (joined, recorded) in self.plan.hierarchies.iter_mut().zip(recorded.hierarchies) {
            joined.enable_in_parent = recorded.enable_in_parent;
        }
    }

    /// Removes the apps' groups as far as nothing is in them: while stage1 is ending there is time for it.
    pub fn remove_apps(&self) {
        let gone = remove::empty_groups(&self.trees, self.plan.groups.iter().skip(FIRST_APP));
        self.apps_are_gone.set(gone);
    }

    /// Removes every group. Nothing may run in them any more, or be about to end; the deadline bounds the wait
    /// for that. May be called twice.
    ///
    /// # Errors
    /// What is left and who is in it.
    pub fn remove(&self, deadline: Instant) -> anyhow::Result<()> {
        let count = if self.apps_are_gone.get() { FIRST_APP } else { self.plan.groups.len() };
        let groups = self.plan.groups.get(..count).unwrap_or(&self.plan.groups);
        remove::trees(&self.trees, groups, deadline)?;
        self.plan.hierarchies.iter().try_for_each(leave_leaf)
    }
}

fn whose(group: &Group) -> String {
    group.name.strip_prefix("app-").map_or("the pod".to_owned(), |app| format!("app `{app}`"))
}

/// A name below a group; the pod's own group has the empty name.
fn below(group: &str, name: &str) -> String {
    match (group.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => group.to_owned(),
        (false, false) => format!("{group}/{name}"),
    }
}

/// Makes the pod's own group in one hierarchy. Nothing is left in it on an error.
fn make_tree(joined: &Joined, pod_group: &str) -> anyhow::Result<Tree> {
    let parent_path = joined.mount_point.join(&joined.parent);
    let parent = files::open_group(&parent_path, joined.version)
        .with_context(|| format!("cannot open group `{}`", parent_path.display()))?;
    enter_leaf(joined, &parent, &parent_path)?;
    enable(&parent, &parent_path, &joined.enable_in_parent)?;
    let path = parent_path.join(pod_group);
    match files::make_group(&parent, pod_group) {
        Ok(()) => {}
        Err(Errno::EEXIST) => bail!("cannot create group `{}`: it exists already", path.display()),
        Err(errno) => return Err(cannot_create(&path, errno)),
    }
    let pod = match files::open_group_at(&parent, pod_group) {
        Ok(pod) => pod,
        Err(errno) => {
            files::remove_group(&parent, pod_group.as_ref())?;
            return Err(anyhow!(errno)).with_context(|| format!("cannot open group `{}`", path.display()));
        }
    };
    Ok(Tree::new(joined, parent, pod, path))
}

fn cannot_create(path: &std::path::Path, errno: Errno) -> anyhow::Error {
    anyhow!(errno).context(format!("cannot create group `{}`", path.display()))
}

/// Lets the groups below the pod's own have its controllers; v1 knows no such thing.
fn hand_down(joined: &Joined, tree: &Tree) -> anyhow::Result<()> {
    if joined.version == Version::V2 && !joined.controllers.is_empty() {
        // Enabling a controller beside processes makes a parent threaded without an error, and then nothing can
        // be put below it (cgroup-v2.rst, "Threads").
        let kind = files::read(&tree.pod, "cgroup.type").context("cannot read `cgroup.type`")?;
        if kind.trim_end() != "domain" {
            bail!(
                "group `{}` is `{}`, expected `domain`: a group above is threaded",
                tree.path.display(),
                kind.trim_end()
            );
        }
        enable(&tree.pod, &tree.path, &joined.controllers)?;
    }
    Ok(())
}

/// Makes groups below the pod's own.
fn make_groups(tree: &Tree, groups: &[&Group]) -> anyhow::Result<()> {
    for group in groups {
        files::make_group(&tree.pod, &group.name)
            .map_err(|errno| cannot_create(&tree.path.join(&group.name), errno))?;
    }
    Ok(())
}

/// Hands controllers down to the groups below, all in one write, and proves it.
pub(super) fn enable(dir: &OwnedFd, path: &std::path::Path, controllers: &[String]) -> anyhow::Result<()> {
    const FILE: &str = "cgroup.subtree_control";
    if controllers.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = controllers.iter().map(|c| format!("+{c}")).collect();
    let words = words.join(" ");
    let shown = path.join(FILE);
    let deadline = Instant::now() + ENABLE_TIME;
    while let Err(error) = files::write(dir, FILE, &words) {
        if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline {
            return Err(error).with_context(|| format!("cannot write `{words}` to `{}`", shown.display()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = files::read(dir, FILE).with_context(|| format!("cannot read `{}`", shown.display()))?;
    match controllers.iter().find(|c| !text.split_whitespace().any(|enabled| enabled == c.as_str())) {
        Some(c) => bail!(
            "`{}` shows `{}` after `{words}` was written: `{c}` is missing",
            shown.display(),
            text.trim_end()
        ),
        None => Ok(()),
    }
}

/// Moves the launcher out of its own group, which could not hand down a controller while it holds a process.
fn enter_leaf(joined: &Joined, parent: &OwnedFd, parent_path: &std::path::Path) -> anyhow::Result<()> {
    let Some(leaf) = &joined.launcher_leaf else { return Ok(()) };
    let path: PathBuf = parent_path.join(leaf);
    match files::make_group(parent, leaf) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(cannot_create(&path, errno)),
    }
    move_ours(parent, "", leaf).with_context(|| format!("cannot move the launcher into `{}`", path.display()))
}

/// Moves the launcher, and the caller that waits for it where one does, between a parent and its leaf. Whoever is not
/// found in the one is not moved: the caller may be gone, and its number another's.
fn move_ours(parent: &OwnedFd, from: &str, to: &str) -> std::io::Result<()> {
    let (there, to) = (files::read(parent, &below(from, PROCS))?, below(to, PROCS));
    let caller = detach::caller().map(|pid| pid.to_string());
    if let Some(caller) = caller.filter(|caller| there.lines().any(|pid| pid == caller)) {
        match files::write(parent, &to, &caller) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            _ => {}
        }
    }
    files::write(parent, &to, "0")
}

/// Takes the launcher back to where it was and removes its leaf. A parent that hands controllers down can hold
/// no process, so they are taken back first; when that does not go, another pod uses them and the leaf stays with
/// the launcher in it, for the owner of the parent to remove.
fn leave_leaf(joined: &Joined) -> anyhow::Result<()> {
    let Some(leaf) = &joined.launcher_leaf else { return Ok(()) };
    let parent_path = joined.mount_point.join(&joined.parent);
    let parent = files::open_group(&parent_path, joined.version)
        .with_context(|| format!("cannot open group `{}`", parent_path.display()))?;
    let words: Vec<String> = joined.enable_in_parent.iter().map(|c| format!("-{c}")).collect();
    if files::write(&parent, "cgroup.subtree_control", &words.join(" ")).is_err() {
        return Ok(());
    }
    if move_ours(&parent, leaf, "").is_err() {
        return Ok(());
    }
    files::remove_group(&parent, leaf.as_ref())
        .with_context(|| format!("cannot remove group `{}`", parent_path.join(leaf).display()))
}

#[cfg(test)]
mod tests;

//! Which control-group hierarchies there are, and where this process stands in each.
//!
//! Pure: the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` go in, [`Hierarchies`] come out. No file is
//! opened here; in particular the controllers of cgroup2 are not known from these texts.
//!
//! The hierarchy is found for each controller on its own, since hosts differ: a controller is on v1, on v2 or
//! nowhere, and a process may stand in another group in every hierarchy. Work and memory are bounded: only lines
//! of control-group mounts allocate, and at most [`HIERARCHIES_MAX`] hierarchies are kept.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use podrun_abi::boot::CgroupView;

use crate::cgroup::plan::Version;

/// The kernel has 14 controllers and an administrator a few named hierarchies; more than this is not sane.
pub const HIERARCHIES_MAX: usize = 64;

/// Where hierarchies are mounted by convention; only the names of the apps' views depend on it.
const CONVENTION: &str = "/sys/fs/cgroup";

/// Every hierarchy that is mounted and that this process has a place in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    /// In the order of their mounts.
    pub v1: Vec<Hierarchy>,
    /// The one unified hierarchy.
    pub v2: Option<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Version of the interface.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The group that the mount shows at its root, without a leading `/`; empty: the root of the hierarchy (or
    /// of our cgroup namespace). It stands before every path that `/proc/PID/cgroup` gives.
    pub mount_root: String,
    /// v1: its controllers, or `name=…` for one without. v2: empty, see `cgroup.controllers`.
    pub controllers: Vec<String>,
    /// Our own group below the mount point, without a leading `/`; empty: the root of the mount. `None`: the
    /// mount shows a part of the tree that we are not in.
    pub own: Option<String>,
    /// How the apps see it.
    pub view: CgroupView,
    /// The files of v1's cpuset have no `cpuset.` before their names (mount option `noprefix`).
    pub noprefix: bool,
}

/// What kind of host this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup2 holds every controller.
    Unified,
    /// v1 holds controllers, and there is a cgroup2 tree beside it.
    Hybrid,
    /// Only v1.
    Legacy,
    /// Nothing is mounted.
    None,
}

impl Hierarchies {
    /// Reads the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// Lines that are not understood are passed over: both files are the kernel's, and what is missed here is
    /// reported as a missing controller by whoever needs it.
    #[must_use]
    pub fn parse(mountinfo: &[u8], cgroup: &[u8]) -> Self {
        let memberships: Vec<Membership<'_>> =
            lines(cgroup).filter_map(Membership::parse).take(HIERARCHIES_MAX + 1).collect();
        let mut found = Self::default();
        for mount in lines(mountinfo).filter_map(Mount::parse) {
            if let Some(hierarchy) = mount.hierarchy(&memberships) {
                found.add(hierarchy);
            }
        }
        let unified_name = if found.mode() == Mode::Unified { "" } else { "unified" };
        if let Some(v2) = &mut found.v2 {
            v2.view.name = unified_name.to_owned();
        }
        found
    }

    /// What kind of host this is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let controllers_on_v1 = self.v1.iter().any(|h| h.controllers.iter().any(|c| !c.starts_with("name=")));
        match (controllers_on_v1, self.v2.is_some()) {
            (false, true) => Mode::Unified,
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::Legacy,
            (false, false) => Mode::None,
        }
    }

    /// The v1 hierarchy that has this controller.
    #[must_use]
    pub fn v1_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// The first mount of a hierarchy wins, later ones are bind copies; but a mount that does not show our own
    /// group gives way to one that does.
    fn add(&mut self, hierarchy: Hierarchy) {
        let room = self.v1.len() < HIERARCHIES_MAX;
        let known = match hierarchy.version {
            Version::V2 => self.v2.as_mut(),
            Version::V1 => self.v1.iter_mut().find(|h| same_set(&h.controllers, &hierarchy.controllers)),
        };
        match known {
            Some(first) if first.own.is_none() && hierarchy.own.is_some() => *first = hierarchy,
            Some(_) => {}
            None if hierarchy.version == Version::V2 => self.v2 = Some(hierarchy),
            None if room => self.v1.push(hierarchy),
            None => {}
        }
    }
}

impl Hierarchy {
    /// The directory of our own group.
    #[must_use]
    pub fn own_dir(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|own| self.mount_point.join(own))
    }

    /// A group that is named from the root of the hierarchy, without a leading `/`, as a path below the mount point;
    /// `None`: the mount does not show it.
    #[must_use]
    pub fn below_mount<'g>(&self, group: &'g str) -> Option<&'g str> {
        match self.mount_root.as_str() {
            "" => Some(group),
            root if group == root => Some(""),
            root => group.strip_prefix(root)?.strip_prefix('/'),
        }
    }

    /// The name of one of cpuset's files here: `cpuset.cpus`, or `cpus` under `noprefix`.
    #[must_use]
    pub fn cpuset_file(&self, name: &str) -> String {
        if self.noprefix { name.to_owned() } else { format!("cpuset.{name}") }
    }
}

/// The group that the text of a `/proc/PID/cgroup` names for the hierarchy with these controllers, as it stands
/// there; cgroup2's line has none.
#[must_use]
pub fn membership<'a>(cgroup: &'a [u8], version: Version, controllers: &[String]) -> Option<&'a str> {
    lines(cgroup).filter_map(Membership::parse).find_map(|line| {
        let matches = match version {
            Version::V2 => line.controllers.is_empty(),
            Version::V1 => controllers.first().is_some_and(|c| line.controllers.contains(&c.as_str())),
        };
        matches.then_some(line.path)
    })
}

/// Whether the kernel has this very hierarchy, mounted or not, by the text of a `/proc/PID/cgroup`. One of v1 stays
/// after its last unmount as long as a group is left in it (cgroups(7)), with just the controllers it had.
#[must_use]
pub fn exists(cgroup: &[u8], version: Version, controllers: &[String]) -> bool {
    lines(cgroup).filter_map(Membership::parse).any(|line| match version {
        Version::V2 => line.controllers.is_empty(),
        Version::V1 => {
            line.controllers.len() == controllers.len()
                && controllers.iter().all(|c| line.controllers.contains(&c.as_str()))
        }
    })
}

/// One line of `/proc/self/cgroup` (cgroups(7)): `hierarchy-ID:controller-list:cgroup-path`.
struct Membership<'a> {
    controllers: Vec<&'a str>,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(line).ok()?.splitn(3, ':');
        let _id = fields.next()?;
        let controllers = fields.next()?.split(',').filter(|c| !c.is_empty()).collect();
        Some(Self { controllers, path: fields.next()? })
    }
}

/// One control-group line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: String,
    mount_point: PathBuf,
    fstype: &'a [u8],
    options: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let separator = line.windows(3).position(|w| w == b" - ")?;
        let mut after = line.get(separator + 3..)?.split(|b| *b == b' ');
        let fstype = after.next().filter(|t| *t == b"cgroup" || *t == b"cgroup2")?;
        let options = std::str::from_utf8(after.nth(1).unwrap_or_default()).ok()?.split(',').collect();
        let mut before = line.get(..separator)?.split(|b| *b == b' ').skip(3);
        let root = String::from_utf8(unescape(before.next()?)).ok()?;
        let mount_point = PathBuf::from(OsString::from_vec(unescape(before.next()?)));
        Some(Self { root, mount_point, fstype, options })
    }

    fn hierarchy(self, memberships: &[Membership<'_>]) -> Option<Hierarchy> {
        if self.fstype == b"cgroup2" { self.v2(memberships) } else { self.v1(memberships) }
    }

    fn v2(self, memberships: &[Membership<'_>]) -> Option<Hierarchy> {
        let membership = memberships.iter().find(|m| m.controllers.is_empty())?;
        let view = CgroupView { name: String::new(), fstype: "cgroup2".into(), options: String::new() };
        Some(self.place(Version::V2, Vec::new(), membership.path, view))
    }

    /// The controllers are those of the membership line that the mount's options contain, in any order: the
    /// options hold much else (`xattr`, `release_agent=…`, a security module's words).
    fn v1(self, memberships: &[Membership<'_>]) -> Option<Hierarchy> {
        let membership = memberships
            .iter()
            .find(|m| !m.controllers.is_empty() && m.controllers.iter().all(|c| self.options.contains(c)))?;
        let controllers: Vec<String> = self
            .options
            .iter()
            .filter(|o| membership.controllers.contains(o))
            .map(|&o| o.to_owned())
            .collect();
        let view = CgroupView {
            name: view_name(&self.mount_point, &controllers),
            fstype: "cgroup".into(),
            options: view_options(&controllers),
        };
        Some(self.place(Version::V1, controllers, membership.path, view))
    }

    fn place(self, version: Version, controllers: Vec<String>, path: &str, view: CgroupView) -> Hierarchy {
        Hierarchy {
            version,
            own: below(&self.root, path),
            mount_root: self.root.trim_start_matches('/').to_owned(),
            controllers,
            view,
            noprefix: self.options.contains(&"noprefix"),
            mount_point: self.mount_point,
        }
    }
}

/// Where `path` is below the mount's root. Nested containers without a cgroup namespace mount a part of the tree
/// (`/docker/ID`) and are told their path from the real root; in a namespace that did not mount for itself the
/// root begins with `/..`, and our own name is not known.
fn below(root: &str, path: &str) -> Option<String> {
    if root.split('/').chain(path.split('/')).any(|part| part == "..") {
        return None;
    }
    let relative = path.strip_prefix(root.trim_end_matches('/'))?;
    if !relative.is_empty() && !relative.starts_with('/') {
        return None;
    }
    Some(relative.trim_matches('/').to_owned())
}

fn view_name(mount_point: &Path, controllers: &[String]) -> String {
    match mount_point.strip_prefix(CONVENTION).ok().and_then(Path::to_str) {
        Some(name) if !name.is_empty() && !name.contains('/') => name.to_owned(),
        _ => controllers.join(",").trim_start_matches("name=").to_owned(),
    }
}

/// A hierarchy without controllers is selected with `none` and its name (cgroups(7)).
fn view_options(controllers: &[String]) -> String {
    let list = controllers.join(",");
    if controllers.iter().all(|c| c.starts_with("name=")) { format!("none,{list}") } else { list }
}

fn same_set(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|c| b.contains(c))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// Space, tab, newline and backslash stand as `\ooo` in mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text =
        std::str::from_utf8(digits.get(..3)?).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests;

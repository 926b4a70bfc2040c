//! CPUs and memory nodes: what a pod may choose from and whose they are, and whether a group has got what it was given.
//!
//! A file of the kernel's holds a list of numbers ([`parse`]). On cgroup2 `cpuset.cpus` shows what was asked, whatever
//! the group above has; only `cpuset.cpus.effective` says on which CPUs the processes run (cgroup-v2.rst). [`prove`]
//! reads it, for groups that podrun writes and for those that systemd does; nobody writes it. On v1 the kernel refuses
//! what the group above does not have, so that there is nothing to prove.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::cgroup::plan::{Joined, Setting, Version};
use crate::error::Note;
use crate::value::NumberSet;

/// What a pod may choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpusetFacts {
    /// CPUs.
    pub cpus: Choice,
    /// Memory nodes.
    pub mems: Choice,
}

/// CPUs or memory nodes, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// All of them.
    pub set: NumberSet,
    /// Who has no more.
    pub giver: Giver,
}

/// Who has no more to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Giver {
    /// The group that the launcher is in.
    Launcher,
    /// The root of what is mounted here.
    Host,
    /// A group that the pod's will be below.
    Group {
        /// Below the root of the mount, without a leading `/`.
        path: String,
        /// What the group above it has.
        above: NumberSet,
    },
}

impl From<NumberSet> for Choice {
    fn from(set: NumberSet) -> Self {
        Self { set, giver: Giver::Launcher }
    }
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launcher => f.write_str("the launcher's group"),
            Self::Host => f.write_str("this host"),
            Self::Group { path, .. } => write!(f, "group `/{path}`"),
        }
    }
}

impl Choice {
    /// How the giver gets what it lacks of `wanted`; `None`: it cannot, or nobody here knows how.
    #[must_use]
    pub fn remedy(&self, wanted: &NumberSet, file: &str, joined: &Joined) -> Option<String> {
        let Giver::Group { path, above } = &self.giver else { return None };
        if !wanted.0.is_subset(&above.0) {
            return None;
        }
        let both = NumberSet(self.set.0.union(&wanted.0).copied().collect());
        if joined.version == Version::V1 {
            return Some(format!(
                "write `{both}` to `{}`",
                joined.mount_point.join(path).join(file).display()
            ));
        }
        let property = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
        // What is above systemd's own root is no unit of this systemd.
        let unit = path.rsplit('/').next().filter(|unit| *unit == "machine.slice")?;
        Some(format!("systemctl set-property {unit} {property}={both}"))
    }
}

/// The kernel's list format: `0-2,5`. Bounded, since a set is kept number by number.
#[must_use]
pub fn parse(text: &str) -> Option<NumberSet> {
    const NUMBERS_MAX: u32 = 65_536;
    let mut numbers = BTreeSet::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last >= NUMBERS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(NumberSet(numbers))
}

/// Whether a group has just the CPUs or memory nodes that were written into it. Another setting, or one of v1, passes.
///
/// # Errors
/// What it has instead, and the group above that has no more.
pub fn prove(joined: &Joined, group: &Path, setting: &Setting) -> anyhow::Result<()> {
    if joined.version == Version::V1 || !matches!(setting.key.as_str(), "cpuset" | "cpuset-mems") {
        return Ok(());
    }
    let file = format!("{}.effective", setting.file);
    let read = |group: &Path| {
        let path = group.join(&file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        parse(text.trim()).with_context(|| format!("`{}` holds no list: `{}`", path.display(), text.trim()))
    };
    let wanted = parse(&setting.value).with_context(|| format!("`{}` is no list", setting.value))?;
    let has = read(group)?;
    if has == wanted {
        return Ok(());
    }
    let above = group.ancestors().skip(1).take_while(|above| above.starts_with(&joined.mount_point));
    let (holder, held) =
        holder(above.map(|above| (above, read(above).ok())), &wanted).unwrap_or((group, has.clone()));
    let (file, holder) = (group.join(&file), holder.display());
    Err(anyhow!("`{}` shows `{has}`, expected `{wanted}`: group `{holder}` has `{held}`", file.display()))
        .hint(format!("choose from `{held}`, or let `{holder}` have more"))
}

/// The outermost of the groups above, from the inner to the outer ones, that lacks what is wanted, with what it has.
fn holder<G>(
    above: impl Iterator<Item = (G, Option<NumberSet>)>,
    wanted: &NumberSet,
) -> Option<(G, NumberSet)> {
    let lacks = |(group, set): (G, Option<NumberSet>)| {
        let set = set.filter(|set| !wanted.0.is_subset(&set.0))?;
        Some((group, set))
    };
    above.map_while(lacks).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchy::Hierarchies;
    use crate::cgroup::plan::Shows;

    fn set(text: &str) -> NumberSet {
        parse(text).unwrap()
    }

    fn joined(version: Version, mount_point: &Path) -> Joined {
        let mounts = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let v2 = Hierarchies::parse(mounts, b"0::/\n").v2.unwrap();
        Joined {
            version,
            mount_point: mount_point.to_owned(),
            parent: String::new(),
            controllers: vec!["cpuset".to_owned()],
            mount_root: String::new(),
            enable_in_parent: Vec::new(),
            gifts: Vec::new(),
            launcher_leaf: None,
            view: v2.view,
        }
    }

    fn setting(key: &str, file: &str, value: &str) -> Setting {
        let [key, file, value] = [key, file, value].map(str::to_owned);
        Setting { key, hierarchy: 0, file, reads_back: value.clone(), value, shows: Shows::Whole }
    }

    #[test]
    fn lists_of_the_kernel_are_parsed() {
        let cases = [("0-2,5", Some("0-2,5")), ("", Some("")), ("0,1", Some("0-1")), ("7", Some("7"))];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|set| set.to_string()).as_deref(), expected, "{text}");
        }
        for bad in ["a", "3-1", "0-99999999", "-1", "1-", "0 1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn remedy_is_told_where_there_is_one() {
        let group = |path: &str, above: &str| {
            let giver = Giver::Group { path: path.to_owned(), above: set(above) };
            Choice { set: set("0"), giver }
        };
        let (v1, v2) = (Version::V1, Version::V2);
        let cpus = "systemctl set-property machine.slice AllowedCPUs=0-1";
        let mems = "systemctl set-property machine.slice AllowedMemoryNodes=0-1";
        let on_v1 = "write `0-1` to `/sys/fs/cgroup/machine.slice/cpuset.cpus`";
        let cases = [
            (group("machine.slice", "0-3"), "1", "cpuset.cpus", v2, Some(cpus)),
            (group("a/b/machine.slice", "0-3"), "0-1", "cpuset.cpus", v2, Some(cpus)),
            (group("machine.slice", "0-1"), "1", "cpuset.mems", v2, Some(mems)),
            (group("machine.slice", "0-3"), "1", "cpuset.cpus", v1, Some(on_v1)),
            // Not even the group above has it.
            (group("machine.slice", "0-3"), "1,4", "cpuset.cpus", v2, None),
            (group("docker/1", "0-3"), "1", "cpuset.cpus", v2, None),
            (Choice { set: set("0"), giver: Giver::Host }, "1", "cpuset.cpus", v2, None),
            (set("0").into(), "1", "cpuset.cpus", v2, None),
        ];
        for (choice, wanted, file, version, expected) in cases {
            let joined = joined(version, Path::new("/sys/fs/cgroup"));
            assert_eq!(
                choice.remedy(&set(wanted), file, &joined).as_deref(),
                expected,
                "{choice:?} {wanted}"
            );
        }
    }

    /// A tree with the files that the kernel would show.
    fn tree(groups: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (group, cpus) in groups {
            let dir = mount.path().join(group);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cpuset.cpus.effective"), format!("{cpus}\n")).unwrap();
        }
        mount
    }

    #[test]
    fn group_that_has_other_cpus_than_it_was_given_is_told_with_the_group_that_holds_them() {
        type Case = (
            &'static [(&'static str, &'static str)],
            &'static str,
            &'static str,
            Option<(&'static str, &'static str)>,
        );
        // Groups from the root inwards, whose set was written, and which of them is to blame.
        let cases: [Case; 6] = [
            (&[("", "0-3"), ("m", "0-3"), ("m/p", "1")], "m/p", "1", None),
            (&[("", "0-3"), ("m", "0-1,3"), ("m/p", "0-1,3")], "m/p", "3,0,1", None),
            (&[("", "0-3"), ("m", "0"), ("m/p", "0")], "m/p", "1", Some(("/m", "0"))),
            (
                &[("", "0-3"), ("m", "0-1"), ("m/s", "0-1"), ("m/s/p", "1")],
                "m/s/p",
                "1-2",
                Some(("/m", "0-1")),
            ),
            (&[("", "0-2"), ("m", "0-2"), ("m/p", "2")], "m/p", "2-3", Some(("", "0-2"))),
            (&[("", "0-3"), ("m", "0-3"), ("m/p", "0-3")], "m/p", "1", Some(("/m/p", "0-3"))),
        ];
        for (groups, own, wanted, blamed) in cases {
            let mount = tree(groups);
            let (joined, group) = (joined(Version::V2, mount.path()), mount.path().join(own));
            let proved = prove(&joined, &group, &setting("cpuset", "cpuset.cpus", wanted));
            let told = proved.as_ref().err().map(ToString::to_string);
            let expected = blamed.map(|(path, has)| {
                let mount = mount.path().display();
                let shown = fs::read_to_string(group.join("cpuset.cpus.effective")).unwrap();
                format!(
                    "`{}/cpuset.cpus.effective` shows `{}`, expected `{}`: group `{mount}{path}` has `{has}`",
                    group.display(),
                    shown.trim(),
                    set(wanted)
                )
            });
            assert_eq!(told, expected, "{groups:?} {wanted}");
        }
    }

    #[test]
    fn nothing_is_read_for_what_is_no_cpuset_of_cgroup2() {
        let nowhere = Path::new("/nowhere");
        let cases =
            [(Version::V1, "cpuset", true), (Version::V2, "cpus", true), (Version::V2, "cpuset-mems", false)];
        for (version, key, is_proved) in cases {
            let proved = prove(&joined(version, nowhere), nowhere, &setting(key, "cpuset.mems", "0"));
            assert_eq!(proved.is_ok(), is_proved, "{version:?} {key}");
        }
    }
}

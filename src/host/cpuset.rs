//! The CPUs and memory nodes that a pod may choose from, and the group that has no more.
//!
//! With podrun's own driver, and in a service, they are those of the launcher's group. systemd makes a pod's slice in
//! another part of the tree, where that group says nothing: there the group that the slice will be in counts, or the
//! nearest one above it that is there. Groups come and go while this looks; one that is gone is passed over.

use std::io;
use std::path::Path;

use super::read_bounded;
use crate::cgroup::cpuset::{Choice, CpusetFacts, Giver, parse};
use crate::cgroup::hierarchy::{Hierarchies, Hierarchy};
use crate::cgroup::plan::Version;
use crate::value::NumberSet;

/// `above`: the group that systemd makes the slice in, named from the root of the hierarchy; `None`: the launcher's own
/// group counts.
pub(super) fn look(hierarchies: &Hierarchies, above: Option<&str>) -> Result<CpusetFacts, String> {
    let hierarchy = hierarchies.v1_with("cpuset").or(hierarchies.v2.as_ref());
    let hierarchy = hierarchy.ok_or("there is no cpuset controller on this host")?;
    let choose = |name| choose(hierarchy, above, name, &|path| read_bounded(path));
    Ok(CpusetFacts { cpus: choose("cpus")?, mems: choose("mems")? })
}

/// The bytes of a file.
type Read<'r> = &'r dyn Fn(&Path) -> io::Result<Vec<u8>>;

fn choose(hierarchy: &Hierarchy, above: Option<&str>, name: &str, read: Read<'_>) -> Result<Choice, String> {
    let start = match above {
        Some(group) if hierarchy.own.is_some() => hierarchy.below_mount(group),
        Some(_) => None,
        None => hierarchy.own.as_deref(),
    };
    let start = start.ok_or_else(|| {
        format!("the mount at `{}` does not show the group that we are in", hierarchy.mount_point.display())
    })?;
    let file = match hierarchy.version {
        Version::V1 => hierarchy.cpuset_file(name),
        Version::V2 => format!("cpuset.{name}.effective"),
    };
    let mut upwards = Upwards { hierarchy, next: Some(start), file: &file, read };
    let (group, set) = upwards.next_set()?;
    if above.is_none() {
        return Ok(Choice { set, giver: Giver::Launcher });
    }
    let mut path = group;
    // Whoever has just what the one above it has keeps nothing back.
    while let Ok((group, has)) = upwards.next_set() {
        if has != set {
            return Ok(Choice { set, giver: Giver::Group { path: path.to_owned(), above: has } });
        }
        path = group;
    }
    Ok(Choice { set, giver: Giver::Host })
}

/// The groups that have a set, from one to the root of the mount.
struct Upwards<'a> {
    hierarchy: &'a Hierarchy,
    next: Option<&'a str>,
    file: &'a str,
    read: Read<'a>,
}

impl<'a> Upwards<'a> {
    /// The nearest group with its set. On v2 a group without the controller has what the one above it has. On v1 one
    /// that another launcher has just made is empty for a moment, and gets what the one above it has.
    fn next_set(&mut self) -> Result<(&'a str, NumberSet), String> {
        let mut lacking = "no group is above the root".to_owned();
        while let Some(group) = self.next {
            self.next = (!group.is_empty()).then(|| group.rsplit_once('/').map_or("", |(above, _)| above));
            let path = self.hierarchy.mount_point.join(group).join(self.file);
            let shown = path.display();
            let text = match (self.read)(&path) {
                Ok(text) => text,
                Err(error) => {
                    lacking = format!("cannot read `{shown}`: {error}");
                    if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) {
                        continue;
                    }
                    return Err(lacking);
                }
            };
            let text = String::from_utf8_lossy(&text);
            let text = text.trim();
            if text.is_empty() && self.hierarchy.version == Version::V1 {
                lacking = format!("`{shown}` is empty");
                continue;
            }
            let set = parse(text).ok_or_else(|| format!("`{shown}` holds `{text}`, which is not a list"))?;
            return Ok((group, set));
        }
        Err(lacking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 28 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 28 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    const NESTED: &str = "30 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    const GONE: i32 = libc::ENODEV;
    const DENIED: i32 = libc::EACCES;

    /// What is in the file of each group; what is not named is not there.
    type Tree<'t> = &'t [(&'t str, Result<&'t str, i32>)];

    fn chosen(
        mounts: &str,
        own: &str,
        above: Option<&str>,
        tree: Tree<'_>,
    ) -> Result<(String, String), String> {
        let hierarchies =
            Hierarchies::parse(mounts.as_bytes(), format!("3:cpuset:{own}\n0::{own}\n").as_bytes());
        let hierarchy = hierarchies.v1_with("cpuset").or(hierarchies.v2.as_ref()).unwrap();
        let file = if hierarchy.version == Version::V1 { "cpuset.cpus" } else { "cpuset.cpus.effective" };
        let read = |path: &Path| {
            let group = path.strip_prefix(&hierarchy.mount_point).unwrap();
            assert!(group.ends_with(file), "{}", path.display());
            let found = tree.iter().find(|(name, _)| Path::new(name) == group.parent().unwrap());
            let text = found.map_or(Err(libc::ENOENT), |(_, text)| *text);
            text.map(|text| format!("{text}\n").into_bytes()).map_err(io::Error::from_raw_os_error)
        };
        let choice = choose(hierarchy, above, "cpus", &read)?;
        let more = match &choice.giver {
            Giver::Group { above, .. } => format!(" of {above}"),
            _ => String::new(),
        };
        Ok((choice.set.to_string(), format!("{}{more}", choice.giver)))
    }

    #[test]
    fn launchers_group_counts_where_podrun_makes_the_pods() {
        let cases: [(&str, Tree<'_>, &str); 4] = [
            (UNIFIED, &[("", Ok("0-3")), ("a.slice", Ok("0-1")), ("a.slice/b.scope", Ok("1"))], "1"),
            // Without the controller it has what is above it.
            (UNIFIED, &[("", Ok("0-3")), ("a.slice", Ok("0-1"))], "0-1"),
            (UNIFIED, &[("", Ok("0-3"))], "0-3"),
            (HYBRID, &[("", Ok("0-3")), ("a.slice", Ok("0-1")), ("a.slice/b.scope", Ok("1"))], "1"),
        ];
        for (mounts, tree, set) in cases {
            let found = chosen(mounts, "/a.slice/b.scope", None, tree);
            assert_eq!(found, Ok((set.to_owned(), "the launcher's group".to_owned())), "{tree:?}");
        }
    }

    #[test]
    fn group_that_the_slice_will_be_in_counts_below_systemd() {
        const SLICE: &str = "machine.slice";
        let cases: [(&str, Tree<'_>, &str, &str); 9] = [
            (UNIFIED, &[("", Ok("0-3")), (SLICE, Ok("0"))], "0", "group `/machine.slice` of 0-3"),
            // It keeps nothing back: who wants more finds it nowhere.
            (UNIFIED, &[("", Ok("0-3")), (SLICE, Ok("0-3"))], "0-3", "this host"),
            (UNIFIED, &[("", Ok("0-3"))], "0-3", "this host"),
            (UNIFIED, &[("", Ok("0-3")), (SLICE, Err(GONE))], "0-3", "this host"),
            // A partition may have taken all of it.
            (UNIFIED, &[("", Ok("0-3")), (SLICE, Ok(""))], "", "group `/machine.slice` of 0-3"),
            (HYBRID, &[("", Ok("0-3")), (SLICE, Ok("0,2"))], "0,2", "group `/machine.slice` of 0-3"),
            // Another launcher has just made it.
            (HYBRID, &[("", Ok("0-3")), (SLICE, Ok(""))], "0-3", "this host"),
            (HYBRID, &[("", Ok("0-3")), (SLICE, Err(GONE))], "0-3", "this host"),
            (HYBRID, &[("", Ok("0-3")), ("a.slice", Ok("1"))], "0-3", "this host"),
        ];
        for (mounts, tree, set, giver) in cases {
            let found = chosen(mounts, "/a.slice/b.scope", Some(SLICE), tree);
            assert_eq!(found, Ok((set.to_owned(), giver.to_owned())), "{mounts} {tree:?}");
        }
    }

    #[test]
    fn systemd_in_a_container_has_its_slices_further_below() {
        let slice = Some("docker/1/machine.slice");
        let cases: [(&str, Tree<'_>, &str, &str); 4] = [
            (NESTED, &[("", Ok("0-1")), ("machine.slice", Ok("0"))], "0", "group `/machine.slice` of 0-1"),
            (NESTED, &[("", Ok("0-1"))], "0-1", "this host"),
            (UNIFIED, &[("", Ok("0-3")), ("docker/1", Ok("0-1"))], "0-1", "group `/docker/1` of 0-3"),
            (
                UNIFIED,
                &[
                    ("", Ok("0-3")),
                    ("docker", Ok("0-1")),
                    ("docker/1", Ok("0-1")),
                    ("docker/1/machine.slice", Ok("0-1")),
                ],
                "0-1",
                "group `/docker` of 0-3",
            ),
        ];
        for (mounts, tree, set, giver) in cases {
            let found = chosen(mounts, "/docker/1/a.scope", slice, tree);
            assert_eq!(found, Ok((set.to_owned(), giver.to_owned())), "{mounts} {tree:?}");
        }
        let unseen = chosen(NESTED, "/docker/1/a.scope", Some("machine.slice"), &[]);
        let expected = "the mount at `/sys/fs/cgroup` does not show the group that we are in";
        assert_eq!(unseen, Err(expected.to_owned()));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let cases: [(Tree<'_>, &str); 3] = [
            (
                &[("", Ok("0-3")), ("machine.slice", Err(DENIED))],
                "cannot read `/sys/fs/cgroup/machine.slice/cpuset.cpus.effective`: Permission denied (os error 13)",
            ),
            (
                &[],
                "cannot read `/sys/fs/cgroup/cpuset.cpus.effective`: No such file or directory (os error 2)",
            ),
            (
                &[("machine.slice", Ok("none"))],
                "`/sys/fs/cgroup/machine.slice/cpuset.cpus.effective` holds `none`, which is not a list",
            ),
        ];
        for (tree, expected) in cases {
            let found = chosen(UNIFIED, "/", Some("machine.slice"), tree);
            assert_eq!(found, Err(expected.to_owned()), "{tree:?}");
        }
    }
}

//! What a test needs of the machine. A test that cannot run says `SKIP` and why, and fails with
//! `PODRUN_TEST_STRICT=1`.

use super::groups::{Hierarchy, hierarchies};

/// Whether the test may go on; says why when not. Panics instead when skips count as failures.
fn met(condition: bool, reason: &str) -> bool {
    if !condition {
        super::sys::tell(&format!("SKIP {reason}\n"));
        assert!(std::env::var_os("PODRUN_TEST_STRICT").is_none_or(|word| word != "1"), "SKIP {reason}");
    }
    condition
}

/// Namespaces, mounts and cgroups are root's.
pub fn root() -> bool {
    met(super::sys::is_root(), "this test needs root")
}

/// The test is about v1. Elsewhere there is nothing to test, which is no skip: another lane does.
pub fn v1() -> bool {
    let there = hierarchies().iter().any(|hierarchy| hierarchy.has("memory"));
    if !there {
        super::sys::tell("not here: this test is about cgroup v1\n");
    }
    there
}

/// There is a cgroup2 tree, with controllers or without.
pub fn cgroup2_is_there() -> bool {
    hierarchies().iter().any(Hierarchy::is_v2)
}

/// The test is about groups of the cgroup2 tree, with controllers or without.
pub fn cgroup2() -> bool {
    let there = cgroup2_is_there();
    if !there {
        super::sys::tell("not here: this test is about a host with cgroup2\n");
    }
    there
}

/// The test is about cgroup2 with controllers, in a group that hands them down.
pub fn unified() -> bool {
    let there = hierarchies().iter().any(Hierarchy::is_unified);
    if !there {
        super::sys::tell("not here: this test is about a unified host\n");
    }
    there
}

/// Who can limit huge pages here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// A hierarchy of v1.
    V1,
    /// The root of the cgroup2 tree, on unified hosts as on hybrid ones. Nobody hands it down.
    RootOfV2,
    Nobody,
}

/// Where the cgroup2 tree is mounted.
pub fn cgroup2_mount() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    mount.split(' ').nth(4).map(std::path::PathBuf::from)
}

pub fn huge_pages() -> HugePages {
    if hierarchies().iter().any(|hierarchy| hierarchy.has("hugetlb")) {
        return HugePages::V1;
    }
    let is_root = |dir: &std::path::PathBuf| !dir.join("cgroup.type").exists();
    let offers = |dir: &std::path::Path| {
        let text = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().any(|word| word == "hugetlb")
    };
    if cgroup2_mount().filter(is_root).is_some_and(|dir| offers(&dir)) {
        HugePages::RootOfV2
    } else {
        HugePages::Nobody
    }
}

/// The test is about a host whose PID 1 is systemd.
pub fn systemd() -> bool {
    let there = std::path::Path::new("/run/systemd/system").exists();
    if !there {
        super::sys::tell("not here: this test is about a host with systemd\n");
    }
    there
}

/// A machine that is thrown away afterwards: the test changes what others would use too.
pub fn throwaway() -> bool {
    let there = std::env::var_os("PODRUN_TEST_MACHINE").is_some();
    if !there {
        super::sys::tell("not here: this test is for a machine that is thrown away\n");
    }
    there
}

/// A machine that is not many times slower than usual: the test is long, and about the same everywhere.
pub fn quick() -> bool {
    let quick = super::slowness() == 1;
    if !quick {
        super::sys::tell("not here: this test is for a quick machine\n");
    }
    quick
}

/// Two CPUs, for two processes that do not disturb each other.
pub fn cpus(count: usize) -> bool {
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    met(there >= count, &format!("this test needs {count} CPUs"))
}

/// A program of the host that `tests/install-deps test` installs. The lanes with a systemd do not have it, and need not:
/// what it judges is the same text everywhere.
pub fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    if !there && std::path::Path::new("/run/systemd/system").exists() {
        super::sys::tell(&format!("not here: there is no {name}\n"));
        return false;
    }
    met(there, &format!("this test needs {name}"))
}

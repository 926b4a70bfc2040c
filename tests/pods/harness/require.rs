//! What a test needs of the machine. A test that cannot run says `SKIP` and why, and fails with
//! `PODRUN_TEST_STRICT=1`.

use super::groups::hierarchies;

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

/// The controller has a v1 hierarchy.
pub fn cgroup_v1(controller: &str) -> bool {
    let there = hierarchies().iter().any(|hierarchy| hierarchy.has(controller));
    met(there, &format!("this test needs the v1 controller `{controller}`"))
}

/// Two CPUs, for two processes that do not disturb each other.
pub fn cpus(count: usize) -> bool {
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    met(there >= count, &format!("this test needs {count} CPUs"))
}

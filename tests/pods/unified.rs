//! What only a unified host has: limits that v1 lacks, and the places where the pod's group may be made.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Lab, Running, app, bin_dir, pod, require, wait_until};

const LIMITED: &str = "isolators.memory-max = \"32MiB\"\nisolators.pids-max = 20";
const APP: &str = "limit memory-max ; say up ; on-term 0 ; pause";

#[test]
fn memory_high_low_and_min_are_the_kernels() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let keys = "[app.a.isolators]\nmemory-high = \"32MiB\"\nmemory-low = \"16MiB\"\nmemory-min = \"8MiB\"\n";
    let running = lab.start(&pod("one", "", &[app("a", "say up ; on-term 0 ; pause", keys)]));
    running.wait_for("up");
    for (file, bytes) in [("memory.high", 32 << 20), ("memory.low", 16 << 20), ("memory.min", 8 << 20)] {
        assert_eq!(lab.group_file("memory", "app-a", file), bytes.to_string(), "{file}");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// CLONE_INTO_CGROUP: whoever was forked elsewhere and moved would have been counted there for a moment.
#[test]
fn stage1_and_apps_are_born_in_their_groups() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let apps = [app("a", APP, LIMITED), app("b", "on-term 0 ; pause", "depends-on = [\"a\"]")];
    let running = lab.start(&pod("one", "", &apps));
    wait_until("both apps run", || lab.events_so_far().contains("\"up\""));
    let groups = lab.groups_left();
    let of =
        |name: &str| groups.iter().find(|group| group.to_string_lossy().contains(name)).expect("a group");
    for group in [of("/supervisor"), of("/podrun-launcher-"), of("/app-a"), of("/app-b")] {
        let peak = std::fs::read_to_string(group.join("pids.peak")).unwrap();
        assert_eq!(peak.trim(), "1", "{}", group.display());
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// nsdelegate (cgroups(7)): the limits of a cgroup namespace's root are out of reach from inside. An app that may mount
/// makes its view writable, and still lifts none of its own.
#[test]
fn app_that_may_mount_cannot_lift_its_own_limits() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let words = "remount-rw /sys/fs/cgroup ; write /sys/fs/cgroup/memory.max max ; \
                 write /sys/fs/cgroup/pids.max max ; mkdir /sys/fs/cgroup/own ; limit memory-max ; exit 0";
    let keys = format!("capabilities = [\"SYS_ADMIN\"]\n{LIMITED}");
    let ended = lab.run(&pod("one", "", &[app("a", words, &keys)])).expect_code(0);
    for wanted in [
        "remount-rw /sys/fs/cgroup ok",
        "write /sys/fs/cgroup/memory.max EPERM",
        "write /sys/fs/cgroup/pids.max EPERM",
        "mkdir /sys/fs/cgroup/own ok",
    ] {
        assert!(ended.stdout.lines().any(|line| line == wanted), "no `{wanted}`\n{ended}");
    }
    assert_eq!(ended.value("memory-max"), (32 << 20).to_string());
}

/// `podrun run` as a unit of systemd, outside of the lab's groups.
fn systemd_run(lab: &Lab, flags: &[&str], words: &[&str]) -> Command {
    // The main process of a service would leave its apps' output to the journal.
    let output = if flags.contains(&"--pipe") { "log.driver = \"inherit\"" } else { "" };
    let path = lab.manifest(&pod("one", "", &[app("a", APP, &format!("{output}\n{LIMITED}"))]));
    let mut command = Command::new("systemd-run");
    command.arg("--quiet").args(flags).arg(format!("--setenv=PODRUN_ROOT={}", lab.root().display()));
    command.arg("--").arg(bin_dir().join("podrun")).arg("run").args(words).arg(path);
    command
}

/// The group of the only pod, wherever it is in the tree.
#[track_caller]
fn pods_group(lab: &Lab) -> PathBuf {
    let dirs = lab.pod_dirs();
    assert_eq!(dirs.len(), 1, "one pod has a directory");
    let name = format!("podrun-{}", dirs[0].file_name().unwrap().to_string_lossy());
    find(Path::new("/sys/fs/cgroup"), &name).unwrap_or_else(|| panic!("no group `{name}`"))
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path()).find_map(|path| {
        if path.file_name().is_some_and(|last| last == name) { Some(path) } else { find(&path, name) }
    })
}

#[track_caller]
fn expect_enforced(group: &Path) {
    let read = |file: &str| std::fs::read_to_string(group.join("app-a").join(file)).unwrap();
    assert_eq!(read("memory.max").trim(), (32 << 20).to_string());
    assert_eq!(read("pids.max").trim(), "20");
    assert_eq!(read("cgroup.procs").lines().count(), 1);
}

/// A scope that systemd has not delegated is systemd's: the pod is made at the root of the hierarchy.
#[test]
fn launcher_in_a_group_that_is_not_its_own_makes_the_pod_at_the_root() {
    if !require::unified() || !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    // systemd would be asked to make it otherwise.
    let flags = ["--scope", "--setenv=PODRUN_DRIVER=cgroupfs"];
    let running = Running::spawn(&mut systemd_run(&lab, &flags, &["--no-log-prefix"]));
    running.wait_for("up");
    let group = pods_group(&lab);
    assert_eq!(group.parent(), Some(Path::new("/sys/fs/cgroup")));
    expect_enforced(&group);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().expect_code(0).value("memory-max"), (32 << 20).to_string());
    assert!(!group.exists(), "{} is left", group.display());
}

#[test]
fn pod_in_a_delegated_scope_stays_in_it() {
    if !require::unified() || !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let unit = format!("{}.scope", lab.name());
    let flags = ["--scope", "--property=Delegate=yes", "--unit", &unit];
    let running = Running::spawn(&mut systemd_run(&lab, &flags, &["--no-log-prefix"]));
    running.wait_for("up");
    let group = pods_group(&lab);
    assert!(group.parent().is_some_and(|scope| scope.ends_with(&unit)), "{}", group.display());
    expect_enforced(&group);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    assert!(!group.exists(), "{} is left", group.display());
    let scope = group.parent().unwrap().to_owned();
    wait_until("systemd removes the scope", || !scope.exists());
}

/// `systemctl stop` ends in the ordered stop, and systemd sees a service that ended well.
#[test]
fn pod_in_a_delegated_service_stays_in_it_and_stops_with_it() {
    if !require::unified() || !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let unit = format!("{}.service", lab.name());
    let flags = ["--pipe", "--wait", "--property=Delegate=yes", "--property=KillMode=mixed", "--unit", &unit];
    let running = Running::spawn(&mut systemd_run(&lab, &flags, &["--no-log-prefix"]));
    running.wait_for("up");
    let group = pods_group(&lab);
    assert!(group.parent().is_some_and(|service| service.ends_with(&unit)), "{}", group.display());
    expect_enforced(&group);
    Running::spawn(Command::new("systemctl").args(["stop", &unit])).wait().expect_code(0);
    running.wait().expect_code(0);
    assert!(lab.outcome("a").stopped);
    assert!(!group.exists(), "{} is left", group.display());
}

/// What apps leave to the kernel when they die is found by one `gc`, the launcher's leaf too.
#[test]
fn launcher_killed_in_its_leaf_leaves_what_gc_removes() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", APP, LIMITED)]));
    running.wait_for("up");
    assert!(lab.groups_left().iter().any(|group| group.to_string_lossy().contains("/podrun-launcher-")));
    running.signal(libc::SIGKILL);
    running.wait();
    lab.wait_until_empty();
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(lab.groups_left(), Vec::<PathBuf>::new());
}

/// The caller of `run -d` is in the scope too when the launcher looks for a place, and gone afterwards.
#[test]
fn detached_pod_in_a_delegated_scope_stays_in_it() {
    if !require::unified() || !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let unit = format!("{}.scope", lab.name());
    let flags = ["--scope", "--property=Delegate=yes", "--unit", &unit];
    Running::spawn(&mut systemd_run(&lab, &flags, &["-d"])).wait().expect_code(0);
    let group = pods_group(&lab);
    assert!(group.parent().is_some_and(|scope| scope.ends_with(&unit)), "{}", group.display());
    expect_enforced(&group);
    Running::spawn(&mut lab.podrun(&["stop", "one"])).wait().expect_code(0);
    let scope = group.parent().unwrap().to_owned();
    wait_until("systemd removes the scope", || !scope.exists());
}

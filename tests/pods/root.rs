//! The root of an app: what it may write, what it sees of the kernel, and that the directory stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Lab, app, pod};

/// Path, kind and mode, size, time of change and content of everything below.
fn photograph(dir: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            found.extend(photograph(&entry.path()));
        }
        found.insert(entry.path(), (meta.mode(), meta.size(), meta.mtime_nsec(), content));
    }
    found
}

/// CASES 8.
#[test]
fn read_only_root_refuses_a_write_with_erofs() {
    let Some(lab) = Lab::open() else { return };
    let manifest = pod("one", "", &[app("a", "write /x hello", "rootfs-mode = \"read-only\"")]);
    let ended = lab.run(&manifest).expect_code(libc::EROFS);
    assert_eq!(ended.value("write"), "/x EROFS");
}

/// CASES 9.
#[test]
fn overlay_is_fresh_for_every_run_and_leaves_the_directory_alone() {
    let Some(lab) = Lab::open() else { return };
    let before = photograph(&lab.rootfs());
    let words = "stat /x ; write /x hello ; read /x ; write /etc/passwd zero ; mkdir /new";
    for _ in 0..2 {
        let ended = lab.run(&pod("one", "", &[app("a", words, "")]));
        assert_eq!(ended.value("stat"), "/x ENOENT");
        assert_eq!(ended.value("write"), "/x ok");
        assert!(ended.stdout.contains("hello\n"), "{ended}");
    }
    assert_eq!(photograph(&lab.rootfs()), before);
}

#[test]
fn writable_root_is_written() {
    let Some(lab) = Lab::open() else { return };
    let manifest = pod("one", "", &[app("a", "write /x hello", "rootfs-mode = \"writable\"")]);
    lab.run(&manifest).expect_code(0);
    assert_eq!(fs::read_to_string(lab.rootfs().join("x")).unwrap(), "hello");
}

#[test]
fn two_apps_over_one_directory_do_not_see_each_others_writes() {
    let Some(lab) = Lab::open() else { return };
    let a = app("a", "write /x from-a ; say written ; on-term 0 ; pause", "essential = false");
    let b = app("b", "sleep 0.2 ; stat /x ; exit 0", "depends-on = [\"a\"]");
    let ended = lab.run(&pod("one", "", &[a, b])).expect_code(0);
    assert_eq!(ended.value("stat"), "/x ENOENT");
}

/// CASES 6: mkdir, a process, and the own limit, in every hierarchy that is there.
#[test]
pub fn cgroup_tree_refuses_every_write() {
    let Some(lab) = Lab::open() else { return };
    let paths = ["", "/memory", "/pids", "/unified"].map(|name| format!("/sys/fs/cgroup{name}"));
    let mkdirs: Vec<String> = paths.iter().map(|path| format!("mkdir {path}/x")).collect();
    let files = "/sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/memory/memory.limit_in_bytes \
                 /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/unified/cgroup.procs /sys/fs/cgroup/cgroup.procs \
                 /sys/fs/cgroup/memory.max";
    let words = format!("{} ; open-for-write {files} ; ls /sys/fs/cgroup ; exit 0", mkdirs.join(" ; "));
    let keys = "isolators.memory-max = \"32MiB\"\nisolators.pids-max = 10\ncapabilities = \"appc\"";
    let ended = lab.run(&pod("one", "", &[app("a", &words, keys)])).expect_code(0);
    let refused =
        |line: &str| line.ends_with("EROFS") || line.ends_with("ENOENT") || line.ends_with("EACCES");
    for line in
        ended.stdout.lines().filter(|line| line.starts_with("mkdir") || line.starts_with("open-for-write"))
    {
        assert!(refused(line), "{line}\n{ended}");
    }
    assert!(ended.stdout.contains("EROFS"), "none of the files was there\n{ended}");
}

#[test]
fn cgroup_tree_shows_the_own_groups_alone() {
    let Some(lab) = Lab::open() else { return };
    let words = "read /proc/self/cgroup ; ls /sys/fs/cgroup/memory";
    let ended = lab.run(&pod("one", "", &[app("a", words, "isolators.memory-max = \"32MiB\"")]));
    assert!(!ended.stdout.contains("app-") && !ended.stdout.contains("supervisor"), "{ended}");
    for line in ended.stdout.lines().filter(|line| line.contains("memory:") || line.starts_with("0::")) {
        assert!(line.ends_with(":/"), "{line}\n{ended}");
    }
}

/// The masked paths of the defaults: not readable, or empty.
#[test]
fn masked_paths_show_nothing() {
    let Some(lab) = Lab::open() else { return };
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/config.gz",
        "/proc/kallsyms",
        "/proc/kmem",
        "/proc/mem",
        "/sys/firmware",
        "/sys/hypervisor",
        "/sys/module",
        "/sys/power",
        "/sys/devices/virtual/powercap",
    ];
    let mut seen = 0;
    for path in masked {
        let Ok(on_host) = fs::metadata(path) else { continue };
        seen += 1;
        let words = if on_host.is_dir() { format!("ls {path}") } else { format!("read {path}") };
        let ended = lab.run(&pod("one", "", &[app("a", &words, "capabilities = \"appc\"")]));
        let shown = ended.stdout.trim().trim_start_matches(&words).trim();
        let nothing = shown.is_empty()
            || shown.ends_with("EACCES")
            || shown.ends_with("EPERM")
            || shown.ends_with("ENOENT");
        assert!(nothing, "{path} shows `{shown}`\n{ended}");
    }
    assert!(seen >= 5, "this kernel has {seen} of the masked paths");
}

#[test]
fn kernel_settings_are_read_only() {
    let Some(lab) = Lab::open() else { return };
    let paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ];
    let words = format!("open-for-write {} ; mkdir /sys/x ; exit 0", paths.join(" "));
    let ended = lab.run(&pod("one", "", &[app("a", &words, "capabilities = \"appc\"")])).expect_code(0);
    for line in ended.stdout.lines() {
        assert!(["EROFS", "EACCES", "ENOENT", "EPERM"].iter().any(|word| line.ends_with(word)), "{line}");
    }
    assert!(ended.stdout.contains("core_pattern EROFS"), "{ended}");
}

/// Without CAP_SYS_ADMIN a mask cannot be taken off, nor a read-only mount made writable.
#[test]
fn masks_cannot_be_taken_off() {
    let Some(lab) = Lab::open() else { return };
    let words =
        "umount /proc/sys ; umount /sys ; remount-rw /sys ; remount-rw /proc/sys ; remount-rw / ; exit 0";
    let ended = lab.run(&pod("one", "", &[app("a", words, "capabilities = \"appc\"")])).expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 5, "{ended}");
    assert!(ended.stdout.lines().all(|line| line.ends_with("EPERM")), "{ended}");
}

#[test]
fn dev_has_the_six_devices_and_no_other() {
    let Some(lab) = Lab::open() else { return };
    let rows = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    let stats: Vec<String> = rows.iter().map(|(name, _)| format!("stat /dev/{name}")).collect();
    let words =
        format!("{} ; ls /dev ; mounted /dev ; mounted /dev/shm ; mounted /dev/pts", stats.join(" ; "));
    let ended = lab.run(&pod("one", "", &[app("a", &words, "")])).expect_code(0);
    for (name, device) in rows {
        assert!(ended.stdout.contains(&format!("stat /dev/{name} char 666 {device} ")), "{name}\n{ended}");
    }
    let names: Vec<&str> = ended.value("ls").split(' ').skip(1).collect();
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert!(ended.stdout.contains("mounted /dev tmpfs"), "{ended}");
    assert!(ended.stdout.contains("mounted /dev/shm tmpfs"), "{ended}");
    assert!(ended.stdout.contains("mounted /dev/pts devpts"), "{ended}");
}

#[test]
fn device_node_of_the_host_cannot_be_made() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "mknod /tmp/disk 254 0 ; exit 0", "")])).expect_code(0);
    assert_eq!(ended.value("mknod"), "/tmp/disk EPERM");
}

/// A root whose `/dev`, `/proc` or `/sys` leads out of it: refused, or made inside; never followed.
#[test]
fn mount_points_that_are_symlinks_do_not_lead_out() {
    let Some(lab) = Lab::open() else { return };
    let canary = lab.path("canary");
    fs::create_dir(&canary).unwrap();
    for name in ["dev", "proc", "sys"] {
        fs::remove_dir(lab.rootfs().join(name)).unwrap();
        std::os::unix::fs::symlink(&canary, lab.rootfs().join(name)).unwrap();
        let ended = lab.run(&pod("one", "", &[app("a", "say started", "")]));
        assert!(matches!(ended.code, 0 | 125), "{name}\n{ended}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "`{name}` led out of the root");
        fs::remove_file(lab.rootfs().join(name)).unwrap();
        fs::create_dir(lab.rootfs().join(name)).unwrap();
    }
}

/// The way back to the host's tree: none by `..`, none by PID 1's root.
#[test]
fn host_tree_is_out_of_reach() {
    let Some(lab) = Lab::open() else { return };
    let canary = lab.path("canary");
    fs::write(&canary, "secret").unwrap();
    let inside = canary.to_str().unwrap();
    let up = "/..".repeat(40);
    let words = format!(
        "read {inside} ; read {up}{inside} ; read /proc/1/root{inside} ; read /proc/1/cwd{inside} ; exit 0"
    );
    let ended = lab.run(&pod("one", "", &[app("a", &words, "capabilities = \"appc\"")])).expect_code(0);
    assert!(!ended.stdout.contains("secret"), "{ended}");
    assert_eq!(ended.stdout.lines().count(), 4, "{ended}");
}

/// The whole host as a private copy: the first pod runs anywhere, and the host's files stay as they are.
#[test]
fn root_of_the_host_is_a_private_copy() {
    let Some(lab) = Lab::open() else { return };
    let name = format!("podrun-test-{}", std::process::id());
    let script = format!("echo hello > /{name} && cat /{name} && cat /etc/os-release");
    let exec = format!("[app.a]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    let ended = lab.run(&pod("one", "", &[exec])).expect_code(0);
    assert!(ended.stdout.starts_with("hello\n"), "{ended}");
    assert!(!Path::new("/").join(&name).exists(), "the host's root was written");
}

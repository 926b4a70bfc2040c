//! The devices of an app: what it may open, what it may make a node of, and what it finds in its `/dev`.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::process::Command;

use crate::harness::{Lab, Running, app, below_systemd, driver_name, pod, require, sys, text};

/// Nodes of the first loop device, which nobody named, of the host's memory, and of what every app has.
const MAKE: &str = "mknod /dev/made-loop 7 0 ; mknod-char /dev/made-mem 1 1 ; mknod-char /dev/made-zero 1 5";

fn keys(devices: &str) -> String {
    format!("capabilities = \"appc\"\n{devices}")
}

#[test]
pub fn device_that_is_not_named_cannot_be_made_or_opened() {
    let Some(lab) = Lab::open() else { return };
    let words = format!("{MAKE} ; open-for-write /dev/null /dev/full /dev/zero ; read /dev/null");
    let filtered = keys("devices = [\"/dev/full:r\"]\n");
    let ended = lab.run(&pod("one", "", &[app("a", &words, &filtered)]));
    for made in ["loop", "mem"] {
        assert!(ended.stdout.contains(&format!("mknod /dev/made-{made} EPERM")), "{ended}");
    }
    assert!(!ended.stdout.contains("mknod /dev/made-zero EPERM"), "one of every app's can be made\n{ended}");
    assert!(ended.stdout.contains("open-for-write /dev/full EPERM"), "named to be read only\n{ended}");
    for allowed in ["/dev/null", "/dev/zero"] {
        assert!(!ended.stdout.contains(&format!("open-for-write {allowed} E")), "{ended}");
    }
    lab.call(&["rm", "one"]).expect_code(0);
    // Without the key nothing is filtered: what keeps an app from devices is that it has no node and may make none.
    let ended = lab.run(&pod("one", "", &[app("a", &words, &keys(""))]));
    assert!(!ended.stdout.contains("EPERM"), "{ended}");
}

/// One beside the usual.
#[test]
pub fn device_that_is_named_is_in_dev_and_can_be_used_as_said() {
    let Some(lab) = Lab::open() else { return };
    let there = ["/dev/loop-control", "/dev/fuse", "/dev/rtc0", "/dev/hpet", "/dev/vda"];
    let Some(device) = there.into_iter().find(|path| std::path::Path::new(path).exists()) else {
        crate::harness::sys::tell("not here: this host has no device beside the usual\n");
        return;
    };
    let words = format!("stat {device} ; open-for-write {device}");
    for (mode, access, is_refused) in [("overlay", "rw", false), ("read-only", "r", true)] {
        let named = format!("rootfs-mode = \"{mode}\"\ndevices = [\"{device}:{access}\"]\n");
        let ended = lab.run(&pod("one", "", &[app("a", &words, &named)]));
        assert!(!ended.stdout.contains("ENOENT"), "{ended}");
        // What the driver says to it is another matter.
        let refused = format!("open-for-write {device} EPERM");
        assert_eq!(ended.stdout.contains(&refused), is_refused, "{access}\n{ended}");
        lab.call(&["rm", "one"]).expect_code(0);
    }
}

#[test]
pub fn device_that_is_not_there_is_refused_before_anything_starts() {
    let Some(lab) = Lab::open() else { return };
    let named = "devices = [\"/dev/no-such\"]\n";
    let ended = lab.run(&pod("one", "", &[app("a", "say started", named)])).expect_code(125);
    ended.expect_stderr(&["E0930", "/dev/no-such is not a device on this host"]);
    assert!(lab.pod_dirs().is_empty());
}

/// One app has no list of its own, the other one that is wider; and nothing is wider after a reload of systemd.
#[test]
pub fn devices_of_the_pod_bind_all_of_its_apps() {
    expect_bound_by_pod(&[]);
}

/// By the lists of v1's controller.
#[test]
fn devices_of_the_pod_bind_all_of_its_apps_without_cgroup2() {
    if require::v1() && require::cgroup2() {
        expect_bound_by_pod(&[c"/sys/fs/cgroup/unified"]);
    }
}

/// With these mounts gone for podrun.
fn expect_bound_by_pod(hidden: &[&CStr]) {
    let Some(lab) = Lab::open() else { return };
    let tries = format!("{MAKE} ; open-for-write /dev/full /dev/null");
    let words = format!("{tries} ; say up ; wait-file /tmp/go 600 ; {tries} ; exit 0");
    let own = |devices: &str| keys(&format!("rootfs-mode = \"writable\"\n{devices}"));
    let apps = [app("none", &words, &own("")), app("wide", &words, &own("devices = [\"/dev/full:rw\"]\n"))];
    let path = lab.manifest(&pod("one", "devices = [\"/dev/full:r\"]\n", &apps));
    let mut command = lab.podrun(&["run", path.to_str().unwrap()]);
    if !hidden.is_empty() {
        sys::without_mounts(&mut command, hidden.iter().map(|&mount| mount.to_owned()).collect());
    }
    let running = Running::spawn(&mut command);
    running.wait_for("none   | up");
    running.wait_for("wide   | up");
    if driver_name() == "systemd" {
        if lab.is_unified() {
            let shown = systemctl(&["show", "machine-one.slice", "-p", "DevicePolicy", "-p", "DeviceAllow"]);
            assert!(shown.contains("DevicePolicy=strict\n"), "{shown}");
            assert!(shown.contains("DeviceAllow=/dev/char/1:7 rm\n"), "{shown}");
        }
        systemctl(&["daemon-reload"]);
    }
    let mut inspect = lab.podrun(&["inspect", "one"]);
    if !hidden.is_empty() {
        sys::without_mounts(&mut inspect, hidden.iter().map(|&mount| mount.to_owned()).collect());
    }
    expect_rows(&Running::spawn(&mut inspect).wait().expect_code(0).json(), lab.is_unified());
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    let ended = running.wait().expect_code(0);
    for name in ["none", "wide"] {
        let told = text::of_app(&ended.stdout, name);
        for refused in ["mknod /dev/made-loop", "mknod /dev/made-mem", "open-for-write /dev/full"] {
            assert_eq!(told.matches(&format!("{refused} EPERM")).count(), 2, "{name}: {refused}\n{ended}");
        }
        assert_eq!(told.matches("open-for-write /dev/null ok").count(), 2, "{ended}");
        assert!(told.contains("mknod /dev/made-zero ok"), "{ended}");
    }
    ended.expect_stderr(&["W0372", "/dev/full (rw) is more than the pod's devices allow (r), which bind"]);
}

/// What `inspect` says of the lists of the pod and of app `wide`: a program of the kernel, or the whole list.
#[track_caller]
fn expect_rows(inspected: &serde_json::Value, is_unified: bool) {
    let limits = inspected["limits"].as_array().expect("limits");
    let rows: Vec<_> = limits.iter().filter(|limit| limit["key"] == "devices").collect();
    let said: Vec<_> =
        rows.iter().map(|row| (row["scope"].as_str().unwrap(), row["by"].as_str().unwrap())).collect();
    let of_slice = [("pod", "systemd")].into_iter().filter(|_| is_unified && driver_name() == "systemd");
    let expected: Vec<_> = of_slice.chain([("pod", "podrun"), ("app.wide", "podrun")]).collect();
    assert_eq!(said, expected);
    for row in rows {
        let asked = if row["scope"] == "pod" { "/dev/full:r" } else { "/dev/full:rw" };
        assert_eq!(row["asked"][0], asked, "{row}");
        let lines = |key: &str| -> BTreeSet<&str> { row[key].as_str().expect("lines").lines().collect() };
        assert!(lines("written").contains("c 1:3 rwm"), "{row}");
        if row.get("file").is_some() {
            assert_eq!(lines("kernel"), lines("written"), "{row}");
        } else {
            let number =
                |line: &str| line.strip_prefix("program ").is_some_and(|id| id.parse::<u32>().is_ok());
            assert!(!lines("kernel").is_empty() && lines("kernel").into_iter().all(number), "{row}");
        }
    }
}

/// What it prints.
fn systemctl(arguments: &[&str]) -> String {
    Running::spawn(Command::new("systemctl").args(arguments)).wait().expect_code(0).stdout
}

mod below {
    #[test]
    fn device_that_is_not_named_cannot_be_made_or_opened() {
        super::below_systemd(super::device_that_is_not_named_cannot_be_made_or_opened);
    }

    #[test]
    fn devices_of_the_pod_bind_all_of_its_apps() {
        super::below_systemd(super::devices_of_the_pod_bind_all_of_its_apps);
    }
}

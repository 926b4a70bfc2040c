//! The devices of an app: what it may open, what it may make a node of, and what it finds in its `/dev`.

use crate::harness::{Lab, app, below_systemd, pod, require};

/// Nodes of the first loop device, which nobody named, of the host's memory, and of what every app has.
const MAKE: &str = "mknod /dev/made-loop 7 0 ; mknod-char /dev/made-mem 1 1 ; mknod-char /dev/made-zero 1 5";

fn keys(devices: &str) -> String {
    format!("capabilities = \"appc\"\n{devices}")
}

#[test]
pub fn device_that_is_not_named_cannot_be_made_or_opened() {
    if !require::cgroup2() {
        return;
    }
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
    if !require::cgroup2() {
        return;
    }
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

mod below {
    #[test]
    fn device_that_is_not_named_cannot_be_made_or_opened() {
        super::below_systemd(super::device_that_is_not_named_cannot_be_made_or_opened);
    }
}

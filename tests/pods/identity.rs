//! Who an app is: ids, groups, capabilities, rlimits and what else setpriv(1) could set.

use std::fs;

use crate::harness::{Ended, Lab, app, copy_program, pod, slowness, sys};

fn run(lab: &Lab, words: &str, keys: &str) -> Ended {
    lab.run(&pod("one", "", &[app("a", words, keys)])).expect_code(0)
}

/// The mask of these capabilities (linux/capability.h).
fn mask(numbers: &[u32]) -> String {
    format!("{:016x}", numbers.iter().fold(0_u64, |mask, number| mask | 1 << number))
}

#[track_caller]
fn expect_caps(ended: &Ended, rows: [(&str, &str); 5]) {
    for (set, wanted) in rows {
        assert_eq!(ended.value(set), wanted, "{set}\n{ended}");
    }
}

const NONE: &str = "0000000000000000";
/// Podman's eleven: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
const DEFAULT: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31];

/// CASES 23.
#[test]
fn root_without_capabilities_key_has_the_default_set() {
    let Some(lab) = Lab::open() else { return };
    let default = mask(DEFAULT);
    let ended = run(&lab, "caps", "");
    let rows = [
        ("CapBnd", &*default),
        ("CapPrm", &default),
        ("CapEff", &default),
        ("CapInh", NONE),
        ("CapAmb", NONE),
    ];
    expect_caps(&ended, rows);
}

/// CASES 23.
#[test]
fn root_with_two_capabilities_has_those_two() {
    let Some(lab) = Lab::open() else { return };
    let two = mask(&[10, 13]);
    let ended = run(&lab, "caps", "capabilities = [\"NET_BIND_SERVICE\", \"CAP_NET_RAW\"]");
    let rows = [("CapBnd", &*two), ("CapPrm", &two), ("CapEff", &two), ("CapInh", NONE), ("CapAmb", NONE)];
    expect_caps(&ended, rows);
}

/// CASES 23: there is no other way to keep them over execve(2) than the ambient set.
#[test]
fn user_with_a_list_has_it_in_every_set() {
    let Some(lab) = Lab::open() else { return };
    let one = mask(&[10]);
    let ended = run(&lab, "caps", "user = 1000\ncapabilities = [\"NET_BIND_SERVICE\"]");
    let rows = [("CapBnd", &*one), ("CapPrm", &one), ("CapEff", &one), ("CapInh", &one), ("CapAmb", &one)];
    expect_caps(&ended, rows);
}

/// CASES 23.
#[test]
fn user_without_capabilities_key_is_bounded_and_has_none() {
    let Some(lab) = Lab::open() else { return };
    let default = mask(DEFAULT);
    let ended = run(&lab, "caps", "user = 1000");
    let rows =
        [("CapBnd", &*default), ("CapPrm", NONE), ("CapEff", NONE), ("CapInh", NONE), ("CapAmb", NONE)];
    expect_caps(&ended, rows);
}

#[test]
fn capabilities_none_leaves_nothing_to_root() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "caps", "capabilities = \"none\"");
    expect_caps(
        &ended,
        [("CapBnd", NONE), ("CapPrm", NONE), ("CapEff", NONE), ("CapInh", NONE), ("CapAmb", NONE)],
    );
}

/// CASES 24.
#[test]
fn no_new_privileges_is_as_written() {
    let Some(lab) = Lab::open() else { return };
    for (keys, wanted) in [("", "1"), ("no-new-privileges = true", "1"), ("no-new-privileges = false", "0")] {
        assert_eq!(run(&lab, "status NoNewPrivs", keys).value("NoNewPrivs"), wanted, "{keys}");
    }
}

/// CASES 24.
#[test]
fn oom_score_adjust_is_as_written() {
    let Some(lab) = Lab::open() else { return };
    for (keys, wanted) in [("", "0"), ("oom-score-adjust = 321", "321")] {
        assert_eq!(run(&lab, "read /proc/self/oom_score_adj", keys).stdout.trim(), wanted, "{keys}");
    }
}

/// CASES 24.
#[test]
fn rlimits_are_as_written() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "limits", "rlimits = { nofile = \"100:200\", core = \"0\", nproc = \"77\" }");
    let row = |name: &str| -> Vec<String> {
        let line = ended.stdout.lines().find(|line| line.starts_with(name)).expect("a row of the limits");
        line[name.len()..].split_whitespace().take(2).map(String::from).collect()
    };
    assert_eq!(row("Max open files"), ["100", "200"]);
    assert_eq!(row("Max core file size"), ["0", "0"]);
    assert_eq!(row("Max processes"), ["77", "77"]);
}

/// CASES 24: exactly as given, and the caller's own never come through.
#[test]
fn groups_are_exactly_as_given() {
    let Some(lab) = Lab::open() else { return };
    let rows = [
        ("user = 1000\ngroup = 1000", "1000", "1000", ""),
        ("user = \"web\"\ngroups = [\"logs\", 5000]", "1000", "1001", "1002 5000"),
        ("user = 4242\ngroups = []", "4242", "0", ""),
        ("", "0", "0", ""),
    ];
    for (keys, uid, gid, groups) in rows {
        let path = lab.manifest(&pod("one", "", &[app("a", "ids", keys)]));
        let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
        sys::with_groups(&mut command, vec![4, 27, 1002]);
        let ended = crate::harness::Running::spawn(&mut command).wait().expect_code(0);
        assert_eq!(ended.value("uid"), [uid; 4].join(" "), "{keys}");
        assert_eq!(ended.value("gid"), [gid; 4].join(" "), "{keys}");
        let mut got: Vec<&str> = ended.value("groups").split_whitespace().collect();
        got.sort_unstable();
        assert_eq!(got.join(" "), groups, "{keys}");
    }
}

/// CASES 14.
#[test]
fn user_0_needs_no_passwd() {
    let Some(lab) = Lab::open() else { return };
    fs::remove_file(lab.rootfs().join("etc/passwd")).unwrap();
    fs::remove_file(lab.rootfs().join("etc/group")).unwrap();
    assert_eq!(run(&lab, "ids", "user = 0").value("uid"), "0 0 0 0");
}

/// A passwd that leads out of the root, or never ends, is not read.
#[test]
fn passwd_that_is_not_a_plain_file_of_the_root_is_not_followed() {
    let Some(lab) = Lab::open() else { return };
    let passwd = lab.rootfs().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    let canary = lab.path("canary");
    fs::write(&canary, "spy:x:7777:7777::/:/bin/sh\n").unwrap();
    for target in [canary.to_str().unwrap(), "/dev/zero"] {
        std::os::unix::fs::symlink(target, &passwd).unwrap();
        let text = pod("one", "", &[app("a", "ids", "user = \"spy\"")]);
        let ended = lab.run(&text).expect_code(125);
        assert!(ended.time < std::time::Duration::from_secs(10) * slowness(), "{ended}");
        fs::remove_file(&passwd).unwrap();
    }
}

#[test]
fn ids_that_could_become_root_by_accident_are_refused() {
    let Some(lab) = Lab::open() else { return };
    for user in ["4294967295", "4294967296", "-1", "\"\"", "\" 1\"", "\"+1\"", "\"0x0\"", "\"1:0\""] {
        let ended = lab.run(&pod("one", "", &[app("a", "ids", &format!("user = {user}"))]));
        assert_eq!((ended.code, ended.stdout.as_str()), (125, ""), "{user}\n{ended}");
    }
}

#[test]
fn setuid_file_gives_nothing_to_a_user_with_no_new_privileges() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(lab) = Lab::open() else { return };
    let file = lab.rootfs().join("bin/setuid");
    copy_program(&lab.rootfs().join("bin/probe"), &file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let ended = run(&lab, "exec /bin/setuid ids", "user = 1000");
    assert_eq!(ended.value("uid"), "1000 1000 1000 1000");
}

/// Nothing of the launcher's signal state reaches an app: neither a mask nor an ignored SIGPIPE.
#[test]
fn signals_of_an_app_are_all_default_and_unblocked() {
    let Some(lab) = Lab::open() else { return };
    // The Rust runtime of the probe ignores SIGPIPE (bit 12) itself: looked at by a program that does not.
    let app = "[app.a]\nrootfs = \"/\"\nexec = [\"/bin/cat\", \"/proc/self/status\"]\n".to_owned();
    let ended = lab.run(&pod("one", "", &[app])).expect_code(0);
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "SigCgt:\t0000000000000000"] {
        assert!(ended.stdout.contains(line), "{line}\n{ended}");
    }
}

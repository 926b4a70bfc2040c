//! What cannot be executed is told by what is wrong with it. CASES 22 and 13.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use podrun_abi::event::End;

use crate::harness::{Ended, Lab, pod};

/// An app of the lab's root with this argv, as TOML, and further keys.
fn run(lab: &Lab, exec: &str, keys: &str) -> Ended {
    let app = format!("[app.a]\nrootfs = \"@ROOTFS@\"\nexec = {exec}\n{keys}\n");
    let ended = lab.run(&pod("one", "", &[app]));
    assert_eq!(ended.stdout, "", "nothing ran");
    ended
}

fn place(lab: &Lab, name: &str, bytes: &[u8], mode: u32) {
    let path = lab.rootfs().join("bin").join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn missing_file_is_127_and_named() {
    let Some(lab) = Lab::open() else { return };
    run(&lab, "[\"/bin/nowhere\"]", "").expect_code(127).expect_stderr(&["/bin/nowhere", "no such file"]);
    let status = lab.status("one");
    assert_eq!(
        (&status["exit_code"], &status["apps"][0]["exit_code"]),
        (&127.into(), &127.into()),
        "{status}"
    );
}

#[test]
fn name_not_in_path_is_127_and_named() {
    let Some(lab) = Lab::open() else { return };
    run(&lab, "[\"nowhere\"]", "").expect_code(127).expect_stderr(&["nowhere", "PATH"]);
}

#[test]
fn file_without_x_bit_is_126_and_named() {
    let Some(lab) = Lab::open() else { return };
    place(&lab, "plain", b"#!/bin/probe\n", 0o644);
    run(&lab, "[\"/bin/plain\"]", "").expect_code(126).expect_stderr(&["/bin/plain", "not executable"]);
}

#[test]
fn script_with_a_missing_interpreter_names_the_interpreter() {
    let Some(lab) = Lab::open() else { return };
    place(&lab, "script", b"#!/usr/bin/gone -x\n", 0o755);
    let ended = run(&lab, "[\"/bin/script\"]", "");
    assert!(matches!(ended.code, 126 | 127), "{ended}");
    ended.expect_stderr(&["/bin/script", "interpreter", "/usr/bin/gone"]);
}

#[test]
fn dynamic_binary_without_its_loader_names_the_loader() {
    let Some(lab) = Lab::open() else { return };
    place(&lab, "dynamic", &fs::read("/bin/sh").unwrap(), 0o755);
    let ended = run(&lab, "[\"/bin/dynamic\"]", "");
    assert!(matches!(ended.code, 126 | 127), "{ended}");
    ended.expect_stderr(&["/bin/dynamic", "loader", "ld-linux"]);
}

#[test]
fn directory_is_126_and_named() {
    let Some(lab) = Lab::open() else { return };
    run(&lab, "[\"/bin\"]", "").expect_code(126).expect_stderr(&["/bin", "directory"]);
}

#[test]
fn binary_for_another_machine_is_126_and_names_it() {
    let Some(lab) = Lab::open() else { return };
    let mut bytes = fs::read(lab.rootfs().join("bin/probe")).unwrap();
    bytes[18..20].copy_from_slice(&183_u16.to_le_bytes()); // e_machine: AArch64 (elf(5))
    place(&lab, "foreign", &bytes, 0o755);
    run(&lab, "[\"/bin/foreign\"]", "").expect_code(126).expect_stderr(&["/bin/foreign", "aarch64"]);
}

#[test]
fn text_without_shebang_is_126_and_says_so() {
    let Some(lab) = Lab::open() else { return };
    place(&lab, "text", b"echo hello\n", 0o755);
    run(&lab, "[\"/bin/text\"]", "").expect_code(126).expect_stderr(&["/bin/text", "ELF", "#!"]);
}

#[test]
fn empty_file_is_126_and_says_so() {
    let Some(lab) = Lab::open() else { return };
    place(&lab, "empty", b"", 0o755);
    run(&lab, "[\"/bin/empty\"]", "").expect_code(126).expect_stderr(&["/bin/empty"]);
}

#[test]
fn missing_workdir_is_named() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "[\"/bin/probe\", \"cwd\"]", "workdir = \"/srv/nowhere\"");
    assert!(matches!(ended.code, 125..=127), "{ended}");
    ended.expect_stderr(&["workdir", "/srv/nowhere"]);
}

/// CASES 13.
#[test]
fn unknown_user_or_group_is_named_before_anything_starts() {
    let Some(lab) = Lab::open() else { return };
    for (keys, name) in [
        ("user = \"nobody-here\"", "nobody-here"),
        ("group = \"staff-x\"", "staff-x"),
        ("groups = [\"wheel-x\"]", "wheel-x"),
    ] {
        run(&lab, "[\"/bin/probe\", \"say\", \"started\"]", keys)
            .expect_code(125)
            .expect_stderr(&[name, "/etc/"]);
    }
}

#[test]
fn rootfs_that_is_missing_or_a_file_is_named() {
    let Some(lab) = Lab::open() else { return };
    let file = lab.rootfs().join("bin/probe");
    for path in ["/srv/no/such/root", file.to_str().unwrap()] {
        let text = pod("one", "", &[format!("[app.a]\nrootfs = \"{path}\"\nexec = [\"/bin/probe\"]\n")]);
        lab.run(&text).expect_code(125).expect_stderr(&[path]);
    }
}

/// The other apps of the pod do not start into a pod that is on its way down.
#[test]
fn app_that_cannot_start_ends_the_pod_in_order() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        crate::harness::app("first", "say up ; on-term 0 ; pause", ""),
        "[app.second]\nrootfs = \"@ROOTFS@\"\nexec = [\"/bin/nowhere\"]\ndepends-on = [\"first\"]\n"
            .to_owned(),
        crate::harness::app("third", "say third", "depends-on = [\"second\"]"),
    ];
    let ended = lab.run(&pod("one", "", &apps)).expect_code(127);
    assert!(!ended.stdout.contains("third"), "{ended}");
    assert_eq!(lab.end("third"), End::Skipped);
    assert!(lab.outcome("first").stopped);
}

//! `podrun check --host`: what only a look at the host can find, each with its exact answer. Root directories are
//! made here, so that it needs no root and no image.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const HEAD: &str = "version = 1\n[pod]\nname = \"shop\"\n[app.api]\n";

/// What `check --host` answers, with the temporary directory written as `DIR`, and its exit code.
fn check(dir: &Path, piece: &str) -> (String, i32) {
    let manifest = dir.join("shop.toml");
    fs::write(&manifest, format!("{HEAD}{}", piece.replace("DIR", &dir.display().to_string()))).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_podrun"))
        .args(["check", "--host", "--color", "never"])
        .arg(&manifest)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said = String::from_utf8(output.stdout).unwrap();
    (said.replace(&dir.display().to_string(), "DIR"), output.status.code().unwrap())
}

/// A root with a passwd file and programs of all kinds.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, mode: u32, content: &[u8]| {
        let path = dir.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let own = fs::read(env!("CARGO_BIN_EXE_podrun")).unwrap();
    // A header alone is enough to be known; PT_INTERP needs the table behind it.
    let mut dynamic = vec![0; 64 + 56];
    dynamic[..20].copy_from_slice(&own[..20]);
    dynamic[32..40].copy_from_slice(&64_u64.to_le_bytes());
    dynamic[54..56].copy_from_slice(&56_u16.to_le_bytes());
    dynamic[56..58].copy_from_slice(&1_u16.to_le_bytes());
    dynamic[64..68].copy_from_slice(&3_u32.to_le_bytes());
    dynamic[72..80].copy_from_slice(&120_u64.to_le_bytes());
    dynamic[96..104].copy_from_slice(&28_u64.to_le_bytes());
    dynamic.extend_from_slice(b"/lib64/ld-linux-x86-64.so.2\0");
    let mut foreign = dynamic.clone();
    foreign[18..20].copy_from_slice(&22_u16.to_le_bytes());
    put("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n");
    put("bin/static", 0o755, &own[..64]);
    put("bin/dynamic", 0o755, &dynamic);
    put("bin/foreign", 0o755, &foreign);
    put("bin/script", 0o755, b"#!/usr/bin/python3\n");
    put("bin/plain", 0o644, b"#!/bin/static\n");
    put("bin/private", 0o700, b"#!/bin/static\n");
    fs::write(dir.path().join("good.env"), "A=1\n").unwrap();
    fs::write(dir.path().join("bad.env"), "A=1\nexport B\n").unwrap();
    dir
}

/// A piece of the table `[app.api]`; the title that is to be told, and the text that its place underlines.
const ROWS: &[(&str, &str, &str)] = &[
    (
        "rootfs = \"/srv/images/none\"\nexec = [\"/bin/static\"]\n",
        "error[E0901]: rootfs `/srv/images/none` does not exist",
        "5:10",
    ),
    (
        "rootfs = \"DIR/good.env\"\nexec = [\"/bin/static\"]\n",
        "error[E0901]: rootfs `DIR/good.env` is not a directory",
        "5:10",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/usr/bin/api\"]\n",
        "error[E0910]: app.api.exec[0]: /usr/bin/api does not exist in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"nginx\"]\n",
        "error[E0910]: app.api.exec[0]: `nginx` is in no directory of the app's PATH in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"plain\"]\n",
        "error[E0911]: app.api.exec[0]: /bin/plain is not executable in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/private\"]\nuser = \"web\"\n",
        "error[E0911]: app.api.exec[0]: /bin/private is not executable in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/script\"]\n",
        "error[E0912]: app.api.exec[0]: /bin/script: its interpreter /usr/bin/python3 is missing in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/dynamic\"]\n",
        "error[E0912]: app.api.exec[0]: /bin/dynamic: its loader /lib64/ld-linux-x86-64.so.2 is missing in rootfs DIR/root",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/foreign\"]\n",
        "error[E0913]: app.api.exec[0]: /bin/foreign cannot be executed: built for another architecture (s390x)",
        "6:9",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\nworkdir = \"/srv\"\n",
        "error[E0914]: workdir /srv is not a directory in rootfs DIR/root",
        "7:11",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\nuser = \"postgres\"\n",
        "error[E0902]: user `postgres` is not in DIR/root/etc/passwd",
        "7:8",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\nenv-file = [\"DIR/good.env\", \"DIR/bad.env\"]\n",
        "error[E0903]: app.api.env-file[1]: DIR/bad.env:2: not `NAME=value`, a `#` comment or a blank line",
        "",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\nrlimits = { nofile = 2000000000 }\n",
        "error[E0921]: nofile 2000000000 is above the host's fs.nr_open (",
        "7:22",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\ndevices = [\"/dev/fuze:rw\"]\n",
        "error[E0930]: app.api.devices[0]: /dev/fuze is not a device on this host",
        "7:12",
    ),
    (
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\n[app.api.isolators]\ncpus = 8192\n",
        "warning[W0920]: cpus (8192) is more than the ",
        "8:8",
    ),
];

#[test]
fn every_row_of_the_host_is_told_at_its_key() {
    let dir = root();
    for (piece, title, place) in ROWS {
        let (said, code) = check(dir.path(), piece);
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with(title), "{piece}\nis answered by\n{said}");
        let at = said.lines().nth(1).unwrap();
        assert!(at.trim_start().starts_with("--> DIR/shop.toml:") && at.ends_with(place), "{said}");
        assert_eq!(said.matches("\n\n").count(), 1, "one problem:\n{said}");
        assert_eq!(code, i32::from(title.starts_with("error")), "{said}");
    }
}

/// Keys that do not work yet: what they ask of the host is looked at beside that.
const LATER: &[(&str, &str, &str)] = &[
    (
        "seccomp = \"DIR/profile.json\"\n",
        "error[E0931]: DIR/profile.json: syscalls[3].args[0].op: unknown operator `SCMP_CMP_XX`",
        "7:11",
    ),
    ("seccomp = \"DIR/none.json\"\n", "error[E0931]: DIR/none.json does not exist", "7:11"),
    (
        "secrets = [\"DIR/db-password\"]\n",
        "warning[W0933]: DIR/db-password is readable by others (mode 0644)",
        "7:12",
    ),
    ("secrets = [\"DIR/none\"]\n", "error[E0932]: DIR/none does not exist", "7:12"),
];

#[test]
fn what_keys_to_come_ask_of_the_host_is_told_beside_that() {
    let dir = root();
    let rule = "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"}";
    let args = "{\"names\": [\"clone\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{\"index\": 0, \"value\": 1, \"op\": \"SCMP_CMP_XX\"}]}";
    let profile =
        format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{rule}, {rule}, {rule}, {args}]}}");
    fs::write(dir.path().join("profile.json"), profile).unwrap();
    fs::write(dir.path().join("db-password"), "x").unwrap();
    fs::set_permissions(dir.path().join("db-password"), fs::Permissions::from_mode(0o644)).unwrap();
    for (piece, title, place) in LATER {
        let piece = format!("rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\n{piece}");
        let (said, code) = check(dir.path(), &piece);
        let (rule, message) = title.split_once(": ").unwrap();
        let mut lines = said.lines().skip_while(|line| !(line.starts_with(rule) && line.ends_with(message)));
        let at = lines.nth(1).unwrap_or_else(|| panic!("{title} is not in\n{said}"));
        assert!(at.trim_start().starts_with("--> DIR/shop.toml:") && at.ends_with(place), "{place}\n{said}");
        assert!(said.contains("error[E0102]"), "it does not work yet:\n{said}");
        assert_eq!(code, 1, "{said}");
    }
    let well =
        "rootfs = \"DIR/root\"\nexec = [\"/bin/static\"]\nseccomp = \"default\"\nsecrets = [\"cred:x\"]\n";
    let (said, _) = check(dir.path(), well);
    assert_eq!(said.matches("error[").count(), 2, "only that they do not work yet:\n{said}");
}

/// The kernel stacks two overlays and no third: `check --host` and `run` know before anything is made.
#[test]
fn an_overlay_that_cannot_be_is_told_before_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!("{HEAD}rootfs = \"{}/two\"\nexec = [\"/bin/static\"]\n", dir.path().display());
    let stack = "set -e; mount -t tmpfs none .; cd \"$PWD\"; mkdir -p zero/bin up work one two
        cp \"$1\" zero/bin/static
        mount -t overlay none -o lowerdir=zero,upperdir=up,workdir=work one
        mkdir -p t2; mount -t tmpfs none t2; mkdir t2/up t2/work
        mount -t overlay none -o lowerdir=one,upperdir=t2/up,workdir=t2/work two
        printf '%s' \"$2\" >shop.toml; set +e
        \"$1\" check --host shop.toml; echo \"check: $?\"
        \"$1\" --root \"$PWD/root\" run shop.toml 2>&1; echo \"run: $?\"
        echo \"pods:\" $(ls root/pods) .";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", stack, "sh", env!("CARGO_BIN_EXE_podrun"), &manifest])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    if !said.contains("check: ") {
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(std::env::var_os("PODRUN_TEST_STRICT").is_none(), "{why}");
        eprintln!("SKIP overlays cannot be stacked here: {why}");
        return;
    }
    let told = format!(
        "rootfs-mode \"overlay\" is not possible over {}/two: it is on an overlay over an overlay, and the kernel stacks no more",
        dir.path().display()
    );
    assert_eq!(said.matches(&format!("error[E0906]: {told}")).count(), 2, "{said}");
    assert!(said.contains("check: 1\n") && said.contains("run: 125\n"), "{said}");
    assert!(said.contains("pods: .\n"), "nothing is left:\n{said}");
}

#[test]
fn all_is_told_at_once_and_sorted() {
    let dir = root();
    let piece = "rootfs = \"DIR/root\"\nexec = [\"/bin/none\"]\nworkdir = \"/srv\"\n[app.b]\nrootfs = \"/none\"\nexec = [\"x\"]\n";
    let (said, _) = check(dir.path(), piece);
    let codes: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("error[")?.get(..5)).collect();
    assert_eq!(codes, ["E0910", "E0914", "E0901"], "{said}");
}

#[test]
fn what_this_host_can_do_is_not_minded() {
    let dir = root();
    let piece = "rootfs = \"DIR/root\"\nexec = [\"static\"]\nuser = \"web\"\nenv-file = [\"DIR/good.env\"]\n";
    assert_eq!(check(dir.path(), piece), (String::new(), 0));
}

/// Any text is answered with 0 or 1: a script can tell a manifest that is wrong from a podrun that is.
#[test]
fn check_exits_with_0_or_1_whatever_the_text() {
    let rows = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rows.md")).unwrap();
    let pieces: Vec<&str> =
        rows.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below.max(1)
    };
    let mut files = Vec::new();
    for number in 0..400 {
        let mut text =
            format!("version = 1\n[pod]\nname = \"x\"\n{}", pieces[random(pieces.len())]).into_bytes();
        for _ in 0..random(6) {
            let at = random(text.len());
            match random(3) {
                0 => text.truncate(at),
                1 => text.insert(at, b"\"'[]{}=.\n#\\-0\xff\0"[random(15)]),
                _ => drop(
                    text.splice(at..(at + random(9)).min(text.len()), pieces[random(pieces.len())].bytes()),
                ),
            }
        }
        files.push(dir.path().join(format!("{number}.toml")));
        fs::write(files.last().unwrap(), text).unwrap();
    }
    for some in files.chunks(8) {
        for flags in [&["--host"][..], &["--strict", "-o", "json"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_podrun"))
                .arg("check")
                .args(flags)
                .args(some)
                .output()
                .unwrap();
            let code = output.status.code();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(code, Some(0 | 1)) && !said.contains("panicked"), "{code:?} {some:?}: {said}");
        }
    }
}

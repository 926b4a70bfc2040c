use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::Duration;

use podrun_abi::boot::{ExitPolicy, RootMode};

use super::*;
use crate::spec::{Capabilities, Grace, Limits, PodSpec};

pub(crate) fn app(rootfs: &Path) -> AppSpec {
    AppSpec {
        name: "web".into(),
        rootfs: rootfs.to_owned(),
        rootfs_mode: RootMode::Overlay,
        exec: vec!["/bin/true".into()],
        env: BTreeMap::new(),
        env_files: Vec::new(),
        workdir: "/".into(),
        user: IdOrName::Id(0),
        group: None,
        groups: Vec::new(),
        capabilities: Capabilities::Default,
        no_new_privileges: true,
        oom_score_adjust: 0,
        rlimits: BTreeMap::new(),
        stop_signal: serde_json::from_str("15").unwrap(),
        stop_timeout: Grace::Limited(Duration::from_secs(1)),
        essential: true,
        success: Vec::new(),
        depends_on: Vec::new(),
        needs_ready: Vec::new(),
        ready_notify: false,
        devices: None,
        limits: Limits::default(),
        log: crate::spec::LogSpec::default(),
    }
}

pub(crate) fn spec(apps: Vec<AppSpec>) -> Spec {
    Spec {
        pod: PodSpec {
            name: "p".into(),
            hostname: "p".into(),
            exit_policy: ExitPolicy::Essential,
            stop_timeout: Grace::Infinite,
            labels: BTreeMap::new(),
            devices: None,
            limits: Limits::default(),
        },
        apps,
        sockets: vec![],
    }
}

/// Makes the kernel of this host refuse every overlay, as one in a user namespace.
pub(crate) fn refuse_overlay(host: &mut Host, errno: Errno) {
    for (rootfs, facts) in &mut host.roots {
        facts.overlay = Err(overlay::words(errno, rootfs, false, true));
    }
}

fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    for (name, text) in files {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    root
}

#[test]
fn probe_sees_this_machine() {
    let mut app = app(Path::new("/"));
    app.groups = vec![IdOrName::Name("root".into())];
    let host = probe(&spec(vec![app]), DriverChoice::Cgroupfs).unwrap();
    assert_eq!(host.root(Path::new("/")).directory, Ok(()));
    let accounts = host.root(Path::new("/")).accounts.as_ref().unwrap();
    assert_eq!(accounts.user_by_name("root").unwrap().uid, 0);
    assert_eq!(accounts.group_by_id(0).unwrap().name, "root");
    assert_eq!(host.boot_id.as_ref().unwrap().len(), 36);
    assert!(host.nofile.0 > 0 && host.nofile.1 >= host.nofile.0);
    assert!(host.cgroups.page_size >= 4096);
    assert!(host.root(Path::new("/elsewhere")).directory.is_err());
    assert!(host.env_file(Path::new("/elsewhere")).is_err());
}

#[test]
fn roots_that_are_none_say_what_they_are() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(
        root_facts(Path::new("/nonexistent"), &Wants { groups: true, overlay: false }).directory,
        Err("does not exist".into())
    );
    assert_eq!(
        root_facts(file.path(), &Wants { groups: true, overlay: false }).directory,
        Err("is not a directory".into())
    );
}

#[test]
fn accounts_come_from_inside_the_root_even_through_absolute_links() {
    let root = root_with(&[("real", "app:x:77:7::/home:/bin/sh\n")]);
    symlink("/real", root.path().join("etc/passwd")).unwrap();
    let accounts = root_facts(root.path(), &Wants { groups: true, overlay: false }).accounts.unwrap();
    assert_eq!(accounts.user_by_name("app").unwrap().uid, 77);
    assert_eq!(accounts.user_by_name("root"), None);
}

#[test]
fn links_out_of_the_root_find_nothing() {
    let root = root_with(&[]);
    symlink("../../../../../../etc/passwd", root.path().join("etc/passwd")).unwrap();
    // The link ends at itself inside the root.
    assert!(root_facts(root.path(), &Wants::default()).accounts.unwrap_err().contains("etc/passwd"));
}

#[test]
fn missing_files_are_empty_and_hostile_ones_are_errors() {
    assert_eq!(
        root_facts(root_with(&[]).path(), &Wants { groups: true, overlay: false }).accounts,
        Ok(Accounts::default())
    );
    let root = root_with(&[]);
    nix::unistd::mkfifo(&root.path().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reason = root_facts(root.path(), &Wants { groups: true, overlay: false }).accounts.unwrap_err();
    assert_eq!(reason, "`etc/passwd` is not a regular file");
    let big = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    let reason =
        root_facts(root_with(&[("etc/passwd", &big)]).path(), &Wants { groups: true, overlay: false })
            .accounts
            .unwrap_err();
    assert_eq!(reason, "`etc/passwd` is larger than 1048576 bytes");
}

#[test]
fn group_file_is_read_only_when_a_group_is_named() {
    let root = root_with(&[("etc/group", "wheel:x:10:\n")]);
    let named = AppSpec { group: Some(IdOrName::Name("wheel".into())), ..app(root.path()) };
    let seen = probe(&spec(vec![app(root.path()), named]), DriverChoice::Cgroupfs).unwrap();
    assert_eq!(seen.root(root.path()).accounts.as_ref().unwrap().group_by_name("wheel").unwrap().gid, 10);
    let unseen = probe(&spec(vec![app(root.path())]), DriverChoice::Cgroupfs).unwrap();
    assert_eq!(unseen.root(root.path()).accounts.as_ref().unwrap().group_by_name("wheel"), None);
}

#[test]
fn env_files_are_read_once_and_kept() {
    let root = root_with(&[("etc/a.env", "A=1\nB=2\n")]);
    let path = root.path().join("etc/a.env");
    let app = AppSpec { env_files: vec![path.clone(), root.path().join("none")], ..app(root.path()) };
    let host = probe(&spec(vec![app]), DriverChoice::Cgroupfs).unwrap();
    assert_eq!(
        host.env_file(&path).unwrap(),
        [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]
    );
    assert!(host.env_file(&root.path().join("none")).unwrap_err().contains("cannot open"));
}

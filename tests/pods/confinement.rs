//! What an app gets from outside: its arguments, its environment, its descriptors, its namespaces; and nothing else.

use crate::harness::{Lab, Running, app, pod, sys, text};

/// CASES 7.
#[test]
fn argv_reaches_the_app_unchanged() {
    let Some(lab) = Lab::open() else { return };
    let exec = r#"["/bin/probe", "argv", "a b", "'", "\"", "$HOME", "line\nbreak", "", "\\", "ünï", ";", "*", "-x"]"#;
    let app = format!("[app.a]\nrootfs = \"@ROOTFS@\"\nexec = {exec}\n");
    let ended = lab.run(&pod("one", "", &[app])).expect_code(0);
    let wanted = ["a b", "'", "\"", "$HOME", "line\nbreak", "", "\\", "ünï", ";", "*", "-x"];
    let wanted: String = wanted.iter().map(|word| format!("argv {word:?}\n")).collect();
    assert_eq!(ended.stdout, wanted);
}

/// The base as documented, what the manifest says, and nothing of the launcher's own.
#[test]
fn environment_is_exactly_the_documented_one() {
    let Some(lab) = Lab::open() else { return };
    std::fs::write(lab.path("env-file"), "# a comment\nFROM_FILE=file value\nBOTH=file\n").unwrap();
    let file = lab.path("env-file");
    let keys = format!(
        "user = \"web\"\nenv-file = [\"{}\"]\nenv = {{ BOTH = \"env\", EMPTY = \"\" }}",
        file.display()
    );
    let path = lab.manifest(&pod("shop", "", &[app("a", "env", &keys)]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    command.env("LEAKED", "secret").env_remove("TERM");
    let ended = Running::spawn(&mut command).wait().expect_code(0);
    let mut got: Vec<&str> = ended.stdout.lines().collect();
    got.sort_unstable();
    let wanted = [
        "env BOTH=\"env\"",
        "env EMPTY=\"\"",
        "env FROM_FILE=\"file value\"",
        "env HOME=\"/srv/web\"",
        "env LOGNAME=\"web\"",
        "env PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"",
        "env PODRUN_APP=\"a\"",
        "env PODRUN_POD=\"shop\"",
        "env SHELL=\"/bin/false\"",
        "env USER=\"web\"",
        "env container=\"podrun\"",
    ];
    let uuid = got.pop_if(|line| line.starts_with("env container_uuid=\"")).expect("the pod's UUID");
    let id = lab.pod_dirs()[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(uuid.starts_with(&format!("env container_uuid=\"{id}-")), "{uuid}");
    assert_eq!(got, wanted);
}

/// A launcher that was started with 40 descriptors of the host's root open.
#[test]
fn app_has_descriptors_0_1_2_whatever_the_launcher_had() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "fds", "")]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    sys::leak_descriptors(&mut command, 40);
    let ended = Running::spawn(&mut command).wait().expect_code(0);
    assert_eq!(ended.value("fds"), "0 1 2");
}

/// A workdir through a leaked descriptor would be a way out: refused, or inside.
#[test]
fn workdir_through_a_magic_link_does_not_lead_out() {
    let Some(lab) = Lab::open() else { return };
    for number in 3..12 {
        let keys = format!("workdir = \"/proc/self/fd/{number}\"");
        let path = lab.manifest(&pod("one", "", &[app("a", "cwd ; ls .", &keys)]));
        let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
        sys::leak_descriptors(&mut command, 20);
        let ended = Running::spawn(&mut command).wait();
        assert_ne!(ended.code, 0, "workdir /proc/self/fd/{number} was entered\n{ended}");
        assert_eq!(ended.stdout, "", "{ended}");
    }
}

#[test]
fn workdir_is_where_the_app_starts() {
    let Some(lab) = Lab::open() else { return };
    let run = |keys: &str| {
        lab.run(&pod("one", "", &[app("a", "cwd", keys)])).expect_code(0).value("cwd").to_owned()
    };
    assert_eq!(run(""), "/");
    assert_eq!(run("workdir = \"/tmp\""), "/tmp");
}

/// CASES 26.
#[test]
fn apps_of_a_pod_share_pid_ipc_uts_and_nothing_of_the_root() {
    let Some(lab) = Lab::open() else { return };
    let keys = "hostname = \"shop-host\"";
    let words = "ns ; hostname ; wait-processes 3 20 ; processes";
    // Each stays until the other has looked around.
    let a = app("a", &format!("{words} ; on-term 0 ; pause"), "essential = false");
    let b = app("b", words, "depends-on = [\"a\"]");
    let path = lab.manifest(&pod("one", keys, &[a, b]));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    let (a, b) = (text::of_app(&ended.stdout, "a"), text::of_app(&ended.stdout, "b"));
    for (name, shared) in
        [("pid", true), ("ipc", true), ("uts", true), ("net", true), ("mnt", false), ("cgroup", false)]
    {
        let word = format!("ns-{name}");
        let (of_a, of_b) = (text::value(&a, &word).expect("a link"), text::value(&b, &word).expect("a link"));
        assert_eq!(of_a == of_b, shared, "{name}: {of_a} and {of_b}");
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(of_a == host.to_str().unwrap(), name == "net", "{name} of the host");
    }
    assert_eq!(text::value(&a, "hostname"), Some("shop-host"));
    assert_eq!(text::value(&b, "hostname"), Some("shop-host"));
    // PID 1 is stage1, and each app sees the other.
    assert!(b.contains("process 1 "), "{b}");
    assert_eq!(b.lines().filter(|line| line.ends_with(" probe")).count(), 2, "{b}");
}

#[test]
fn hostname_is_the_pods_name_unless_said() {
    let Some(lab) = Lab::open() else { return };
    assert_eq!(
        lab.run(&pod("shop", "", &[app("a", "hostname", "")])).expect_code(0).value("hostname"),
        "shop"
    );
}

/// A session of its own: no job control from outside reaches it.
#[test]
fn app_leads_its_own_session() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "pid", "")])).expect_code(0);
    assert_eq!(ended.value("sid"), ended.value("pid"));
    assert_eq!(ended.value("pgid"), ended.value("pid"));
    assert_eq!(ended.value("ppid"), "1");
}

/// An app cannot end the pod by a signal to its PID 1.
#[test]
fn signal_from_an_app_to_pid_1_changes_nothing() {
    let Some(lab) = Lab::open() else { return };
    let words = "kill 1 TERM ; kill 1 INT ; kill 1 KILL ; kill 1 STOP ; kill 1 15 ; sleep 0.3 ; say alive";
    let ended = lab.run(&pod("one", "", &[app("a", words, "")])).expect_code(0);
    assert!(ended.stdout.contains("alive"), "{ended}");
}

/// The file of stage1 cannot be opened for writing through `/proc/1/exe`, nor executed as an app.
#[test]
fn stage1s_own_file_is_out_of_reach() {
    let Some(lab) = Lab::open() else { return };
    let words = "open-for-write /proc/1/exe ; ls /proc/1/fd ; read /proc/1/environ ; exit 0";
    let ended = lab.run(&pod("one", "", &[app("a", words, "capabilities = \"appc\"")])).expect_code(0);
    assert!(!ended.stdout.contains("open-for-write /proc/1/exe ok"), "{ended}");
    let stage1 = crate::harness::bin_dir().join("podrun-stage1");
    let before = std::fs::read(&stage1).unwrap();
    let exec = "[app.a]\nrootfs = \"@ROOTFS@\"\nexec = [\"/proc/self/exe\"]\n".to_owned();
    let ended = lab.run(&pod("one", "", &[exec]));
    assert!(matches!(ended.code, 126 | 127), "{ended}");
    assert_eq!(std::fs::read(&stage1).unwrap(), before);
}

/// stage1's own descriptors: none of a file or directory of the host but those the contract names.
#[test]
fn stage1_has_no_memory_of_the_hosts_tree() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say ready ; on-term 0 ; pause", "")]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    sys::leak_descriptors(&mut command, 40);
    let running = Running::spawn(&mut command);
    running.wait_for("ready");
    let pid = lab.stage1_pid();
    let pods = lab.root().join("pods");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let fine = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:", "/sys/fs/cgroup/"];
        let known = fine.iter().any(|start| target.starts_with(start)) || cgroup_file(&target);
        assert!(known || target.starts_with(pods.to_str().unwrap()) || in_pod_dir(&target), "{target}");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// As seen from outside stage1's mount namespace a cgroup file's path begins at the root of its hierarchy.
fn cgroup_file(target: &str) -> bool {
    target.contains("/podrun-")
}

/// Likewise the pod directory's files.
fn in_pod_dir(target: &str) -> bool {
    ["lock", "events.jsonl"].iter().any(|name| target.ends_with(name))
}

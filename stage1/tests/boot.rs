//! How stage1 brings an app to life: its root, its identity, and what it says when that fails.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;

use std::fs;

use harness::{Host, Pod, app, boot, put, required};
use podrun_abi::boot::{Boot, RootMode};
use podrun_abi::control::Command;
use podrun_abi::event::Event;
use podrun_abi::failure::{ExecFault, StartFailure, Step};

/// Runs a pod of one app to its end and returns what the app wrote.
fn output_of(commands: &str, change: impl FnOnce(&mut Boot)) -> String {
    let mut boot = boot(vec![app("a", commands)]);
    change(&mut boot);
    let mut pod = Pod::start(boot);
    pod.finish();
    pod.outcome("a");
    pod.output("a")
}

#[track_caller]
fn assert_lines(output: &str, expected: &[&str]) {
    for line in expected {
        assert!(output.lines().any(|found| found == *line), "no line `{line}` in:\n{output}");
    }
}

/// The failure of a pod with one app that cannot start, and the pod's exit code.
fn failure_of(argv: &[&str], change: impl FnOnce(&mut Boot)) -> (StartFailure, i32) {
    let mut boot = boot(vec![app("a", "")]);
    boot.apps[0].argv = argv.iter().map(|&word| word.to_owned()).collect();
    change(&mut boot);
    let mut pod = Pod::boot_in(boot, |root| {
        put(root, "bin/text", 0o755, b"just text\n");
        put(root, "bin/plain", 0o644, b"#!/bin/probe\n");
        put(root, "bin/script", 0o755, b"#!/no/such/shell\n");
        put(root, "bin/magic", 0o755, b"#!/proc/self/exe\n");
        put(root, "opt/denied", 0o644, b"");
        std::os::unix::fs::symlink("/proc/self/exe", root.join("bin/link")).unwrap();
    });
    pod.order(Command::Go);
    let code = pod.finish();
    let failure = pod.seen.iter().find_map(|event| match event {
        Event::StartFailed { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    (failure.unwrap_or_else(|| panic!("no failure in {:#?}", pod.seen)), code)
}

#[test]
fn app_exit_code_becomes_the_pod_code() {
    if !required() {
        return;
    }
    for (commands, code) in [("exit 0", 0), ("exit 7", 7), ("kill-self TERM", 143), ("kill-self 40", 168)] {
        let mut pod = Pod::start(boot(vec![app("a", commands)]));
        assert_eq!(pod.finish(), code, "{:#?}", pod.seen);
        assert_eq!(i32::from(pod.outcome("a").end.exit_code()), code);
        assert!(pod.seen.contains(&Event::Up));
        let lines = fs::read_to_string(pod.directory.join("events.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), pod.seen.len(), "{lines}");
    }
}

#[test]
fn stage1_by_hand_says_what_it_is() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_podrun-stage1")).arg("3").output().unwrap();
    assert_eq!(run.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&run.stderr).starts_with("podrun-stage1: this is PID 1 of a pod"));
}

#[test]
fn exec_failures_are_told_apart() {
    if !required() {
        return;
    }
    let cases: [(&[&str], Option<ExecFault>, i32); 8] = [
        (&["/no/such"], Some(ExecFault::Missing), 127),
        (&["nowhere"], Some(ExecFault::NotInPath), 127),
        (&["/bin/script"], Some(ExecFault::InterpreterMissing { interpreter: "/no/such/shell".into() }), 127),
        (&["/bin/plain"], Some(ExecFault::NotExecutable), 126),
        (&["/bin"], Some(ExecFault::Directory), 126),
        (&["/bin/text"], Some(ExecFault::BadFormat), 126),
        (&["/bin/link"], None, 126),
        (&["/bin/magic"], None, 126),
    ];
    for (argv, fault, code) in cases {
        let (failure, pod_code) = failure_of(argv, |_| {});
        assert_eq!((failure.step, &failure.fault, pod_code), (Step::Exec, &fault, code), "{failure}");
        assert_eq!(failure.subject, argv[0]);
        assert!(fault.is_some() || failure.errno == libc::ELOOP, "{failure}");
    }
}

#[test]
fn setup_failures_name_step_and_subject() {
    if !required() {
        return;
    }
    let (failure, code) = failure_of(&["/bin/probe"], |boot| boot.apps[0].workdir = "/no/such".into());
    assert_eq!((failure.step, failure.subject.as_str(), code), (Step::Chdir, "/no/such", 125));
    for workdir in ["/proc/self/fd/0", "/proc/1/cwd", "/proc/self/root"] {
        let (failure, _) = failure_of(&["/bin/probe"], |boot| boot.apps[0].workdir = workdir.into());
        assert_eq!((failure.step, failure.subject.as_str()), (Step::Chdir, workdir));
    }
    let (failure, _) = failure_of(&["/bin/probe"], |boot| boot.apps[0].rlimits = vec![(7, 20, 10)]);
    assert_eq!((failure.step, failure.subject.as_str()), (Step::SetRlimit, "nofile"));
    let (failure, _) = failure_of(&["/bin/probe"], |boot| boot.apps[0].identity.bounding |= 1 << 60);
    assert_eq!((failure.step, failure.subject.as_str()), (Step::SetCapabilities, "60"));
}

#[test]
fn boot_failure_is_reported_and_ends_with_125() {
    if !required() {
        return;
    }
    let mut boot = boot(vec![app("a", "exit 0")]);
    boot.roots = vec!["/no/such/root".into()];
    let mut pod = Pod::boot(boot);
    assert_eq!(pod.finish(), 125);
    let [Event::BootFailed { failure }] = &pod.seen[..] else { panic!("{:#?}", pod.seen) };
    assert_eq!((failure.step, failure.subject.as_str()), (Step::BindRoot, "/no/such/root"));
}

#[test]
fn descriptor_that_did_not_come_with_its_packet_is_refused() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot_with(boot(vec![app("a", "exit 0")]), Host::Missing, |_| {});
    assert_eq!(pod.finish(), 125);
    let [Event::BootFailed { failure }] = &pod.seen[..] else { panic!("{:#?}", pod.seen) };
    assert_eq!(failure.step, Step::ReadBoot);
    assert!(failure.subject.starts_with("a packet without descriptor "), "{failure}");
}

#[test]
fn root_with_symlink_for_proc_dev_or_sys_is_refused() {
    if !required() {
        return;
    }
    for (name, step) in [("proc", Step::MountProc), ("dev", Step::MountDev), ("sys", Step::MountSys)] {
        let mut pod = Pod::boot_in(boot(vec![app("a", "exit 0")]), |root| {
            fs::remove_dir(root.join(name)).unwrap();
            std::os::unix::fs::symlink("/tmp", root.join(name)).unwrap();
        });
        pod.order(Command::Go);
        assert_eq!(pod.finish(), 125);
        let found = pod.seen.iter().any(|event| {
            matches!(event, Event::StartFailed { failure, .. }
                if failure.step == step && failure.errno == libc::ELOOP)
        });
        assert!(found, "{name}: {:#?}", pod.seen);
    }
}

#[test]
fn missing_mount_points_are_made_where_the_root_is_writable() {
    if !required() {
        return;
    }
    for (mode, code) in [(RootMode::Overlay, 0), (RootMode::ReadOnly, 125)] {
        let mut boot = boot(vec![app("a", "exit 0")]);
        boot.apps[0].root.mode = mode;
        let mut pod = Pod::boot_in(boot, |root| fs::remove_dir(root.join("sys")).unwrap());
        pod.order(Command::Go);
        assert_eq!(pod.finish(), code, "{:#?}", pod.seen);
        assert!(!pod.directory.join("root/sys").exists());
    }
}

#[test]
fn root_modes_decide_who_sees_a_write() {
    if !required() {
        return;
    }
    for (mode, line, on_host) in [
        (RootMode::Overlay, "write /new ok", false),
        (RootMode::ReadOnly, "write /new EROFS", false),
        (RootMode::Writable, "write /new ok", true),
    ] {
        let mut boot = boot(vec![app("a", "write /new x")]);
        boot.apps[0].root.mode = mode;
        let mut pod = Pod::start(boot);
        pod.finish();
        assert_lines(&pod.output("a"), &[line]);
        assert_eq!(pod.directory.join("root/new").exists(), on_host, "{mode:?}");
    }
}

#[test]
fn app_sees_its_own_root_and_nothing_of_the_host() {
    if !required() {
        return;
    }
    let output =
        output_of("ls / ; ls /dev ; ls /dev/pts ; fds ; cwd ; hostname ; pid ; ls /proc/1/root", |_| {});
    assert_lines(
        &output,
        &[
            "ls / bin dev proc sys tmp",
            "ls /dev fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
            "ls /dev/pts ptmx",
            "fds 0 1 2",
            "cwd /",
            "hostname testpod",
            "pid 2",
            "ppid 1",
            "sid 2",
            "ls /proc/1/root EACCES",
        ],
    );
}

#[test]
fn devices_are_devices() {
    if !required() {
        return;
    }
    let output = output_of(
        "stat /dev/null ; stat /dev/tty ; stat /dev/shm ; write /dev/null x ; umount /proc",
        |_| {},
    );
    assert_lines(&output, &["stat /dev/null char 666 1:3 0", "stat /dev/tty char 666 5:0 0"]);
    assert_lines(
        &output,
        &["stat /dev/shm directory 1777 0:0 40", "write /dev/null ok", "umount /proc EPERM"],
    );
}

#[test]
fn masked_and_read_only_paths_hold() {
    if !required() {
        return;
    }
    let output = output_of(
        "stat /proc/interrupts ; stat /proc/keys ; ls /sys/firmware ; mkdir /sys/firmware/x ; ls /proc/acpi ; \
         open-for-write /proc/sys/kernel/domainname ; open-for-write /proc/irq/default_smp_affinity ; mkdir /sys/x ; \
         mounted /proc/sys ; mounted /sys",
        |_| {},
    );
    assert_lines(&output, &["stat /proc/interrupts char 666 1:3 0", "stat /proc/keys char 666 1:3 0"]);
    assert_lines(&output, &["ls /sys/firmware ", "mkdir /sys/firmware/x EROFS"]);
    assert_lines(&output, &["open-for-write /proc/sys/kernel/domainname EROFS"]);
    assert_lines(&output, &["open-for-write /proc/irq/default_smp_affinity EROFS"]);
    assert_lines(&output, &["mounted /proc/sys proc ro,nosuid,nodev,noexec,relatime"]);
    assert_lines(&output, &["mounted /sys sysfs ro,nosuid,nodev,noexec,relatime"]);
}

#[test]
fn cgroup_view_is_the_own_group_and_read_only() {
    if !required() {
        return;
    }
    let output = output_of(
        "ls /sys/fs/cgroup ; mkdir /sys/fs/cgroup/x ; mkdir /sys/fs/cgroup/memory/x ; \
         open-for-write /sys/fs/cgroup/unified/cgroup.procs /sys/fs/cgroup/pids/pids.max ; \
         read /proc/self/cgroup ; read /sys/fs/cgroup/pids/cgroup.procs",
        |_| {},
    );
    assert_lines(&output, &["ls /sys/fs/cgroup memory pids unified", "mkdir /sys/fs/cgroup/x EROFS"]);
    assert_lines(&output, &["mkdir /sys/fs/cgroup/memory/x EROFS"]);
    assert_lines(&output, &["open-for-write /sys/fs/cgroup/unified/cgroup.procs EROFS"]);
    assert_lines(&output, &["open-for-write /sys/fs/cgroup/pids/pids.max EROFS", "0::/", "2"]);
    for controller in ["memory", "pids"] {
        let found = output.lines().any(|line| line.ends_with(&format!(":{controller}:/")));
        assert!(found, "{controller}: {output}");
    }
}

#[test]
fn apps_share_pid_ipc_uts_and_not_mnt_and_cgroup() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "ns ; sleep 0.5"), app("b", "ns ; sleep 0.5")]));
    pod.finish();
    let line = |app: &str, name: &str| {
        let found = pod.output(app).lines().find(|line| line.starts_with(name)).map(str::to_owned);
        found.unwrap_or_else(|| panic!("no {name} in {}", pod.output(app)))
    };
    for name in ["ns-pid", "ns-ipc", "ns-uts", "ns-net"] {
        assert_eq!(line("a", name), line("b", name));
    }
    for name in ["ns-mnt", "ns-cgroup"] {
        assert_ne!(line("a", name), line("b", name));
    }
}

#[test]
fn identity_is_exactly_as_given() {
    if !required() {
        return;
    }
    let commands = "ids ; caps ; status NoNewPrivs SigIgn SigBlk ; read /proc/self/oom_score_adj";
    let output = output_of(commands, |boot| {
        let app = &mut boot.apps[0];
        app.oom_score_adj = 123;
        app.identity.uid = 1000;
        app.identity.gid = 1001;
        app.identity.groups = vec![5, 77];
        app.identity.ambient = 1 << 10;
        app.identity.bounding = 1 << 10 | 1 << 3;
        app.identity.no_new_privileges = true;
    });
    assert_lines(&output, &["uid 1000 1000 1000 1000", "gid 1001 1001 1001 1001", "groups 5 77", "123"]);
    assert_lines(&output, &["CapInh 0000000000000400", "CapPrm 0000000000000400", "CapEff 0000000000000400"]);
    assert_lines(&output, &["CapBnd 0000000000000408", "CapAmb 0000000000000400", "NoNewPrivs 1"]);
    assert_lines(&output, &["SigBlk 0000000000000000"]);

    let output = output_of("ids ; caps ; status NoNewPrivs", |_| {});
    assert_lines(&output, &["uid 0 0 0 0", "groups ", "CapInh 0000000000000000", "CapAmb 0000000000000000"]);
    assert_lines(&output, &["CapPrm 00000000800005fb", "CapEff 00000000800005fb", "CapBnd 00000000800005fb"]);
    assert_lines(&output, &["NoNewPrivs 0"]);

    let output = output_of("caps", |boot| boot.apps[0].identity.uid = 65534);
    assert_lines(&output, &["CapPrm 0000000000000000", "CapEff 0000000000000000", "CapBnd 00000000800005fb"]);
}

#[test]
fn rlimits_argv_env_and_workdir_arrive() {
    if !required() {
        return;
    }
    let output = output_of("limits ; env ; cwd", |boot| {
        boot.apps[0].rlimits = vec![(libc::RLIMIT_NOFILE, 64, 128), (libc::RLIMIT_CORE, 0, 0)];
        boot.apps[0].env = vec![("PATH".into(), "/bin".into()), ("X".into(), "a \"b\"\n$c".into())];
        boot.apps[0].argv[0] = "probe".into();
        boot.apps[0].workdir = "/tmp".into();
    });
    assert!(output.contains("Max open files            64                   128"), "{output}");
    assert_lines(&output, &[r#"env PATH="/bin""#, r#"env X="a \"b\"\n$c""#, "cwd /tmp"]);
    assert_eq!(output.lines().filter(|line| line.starts_with("env ")).count(), 2);
}

//! stage1 by itself, with real namespaces, cgroups and processes: what `docs/stage1.md` promises.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::{Pod, app, boot, limit, put, required};
use podrun_abi::boot::{Boot, ExitPolicy, RootMode};
use podrun_abi::control::{Command, Reply};
use podrun_abi::event::{End, Event, OomLevel, StopReason};
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

fn names(pod: &Pod, pick: impl Fn(&Event) -> Option<&String>) -> Vec<String> {
    pod.seen.iter().filter_map(pick).cloned().collect()
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
    let mut pod = Pod::start(boot(vec![app("a", "ns"), app("b", "ns")]));
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

#[test]
fn leftovers_are_killed_when_the_main_process_ends() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "daemon ; ignore-term ; children 5 ; exit 3")]));
    assert_eq!(pod.finish(), 3);
    assert_eq!(pod.outcome("a").end, End::Exited { code: 3 });
    assert_eq!(pod.processes(), [0; 0]);
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "orphans 10000 ; no-zombies 1")]));
    assert_eq!(pod.finish(), 0, "{}", pod.output("a"));
    assert!(pod.output("a").contains("no-zombies-after-ms"));
}

#[test]
fn ordered_stop_goes_against_the_dependencies() {
    if !required() {
        return;
    }
    let mut apps = vec![
        app("base", "on-term 0 ; say ready ; pause"),
        app("middle", "say ready ; pause"),
        app("top", "on-term 143 ; say ready ; pause"),
    ];
    apps[1].policy.after = vec![0];
    apps[2].policy.after = vec![1];
    let mut pod = Pod::start(boot(apps));
    pod.wait_for("up", |event| *event == Event::Up);
    ["base", "middle", "top"].iter().for_each(|app| pod.wait_line(app, "ready"));
    assert_eq!(pod.ask(Command::Stop { apps: vec![], timeout_ms: None }), Reply::Accepted);
    assert_eq!(pod.finish(), 0, "{:#?}", pod.seen);
    let ended = names(&pod, |event| match event {
        Event::Ended { app, .. } => Some(app),
        _ => None,
    });
    let started = names(&pod, |event| match event {
        Event::Started { app, .. } => Some(app),
        _ => None,
    });
    assert_eq!((started, ended), (strings("base middle top"), strings("top middle base")));
    assert!(["base", "middle", "top"].iter().all(|app| pod.outcome(app).stopped));
}

fn strings(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn app_that_ignores_the_stop_signal_is_killed_with_all_its_children() {
    if !required() {
        return;
    }
    let mut plan = boot(vec![app("a", "ignore-term ; children 50 ; pause")]);
    plan.apps[0].policy.stop_timeout_ms = Some(300);
    let mut pod = Pod::start(plan);
    pod.wait_line("a", "children 50");
    let begin = Instant::now();
    pod.order(Command::Stop { apps: vec![], timeout_ms: None });
    assert_eq!(pod.finish(), 137, "{:#?}", pod.seen);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(pod.outcome("a").timed_out);
    assert_eq!(pod.processes(), [0; 0]);
}

#[test]
fn signals_from_outside_stop_and_those_from_inside_do_not() {
    if !required() {
        return;
    }
    for (signal, code, reason) in [
        (libc::SIGTERM, 0, StopReason::Requested),
        (libc::SIGINT, 0, StopReason::Requested),
        (37, 0, StopReason::Requested),
        (libc::SIGQUIT, 137, StopReason::Killed),
    ] {
        let mut plan =
            boot(vec![app("a", &format!("kill 1 {signal} ; kill 1 HUP ; kill 1 40 ; say sent ; pause"))]);
        plan.apps[0].policy.stop_timeout_ms = None;
        let mut pod = Pod::start(plan);
        pod.wait_line("a", "sent");
        // An answer comes after the loop has taken the signals: it has not stopped.
        let refused = pod.ask(Command::Kill { apps: vec!["b".into()] });
        assert_eq!(refused, Reply::Refused { reason: "no app `b` in this pod".into() });
        assert!(!pod.output("a").is_empty());
        pod.signal_stage1(signal);
        assert_eq!(pod.finish(), code, "{:#?}", pod.seen);
        let told = pod.seen.iter().any(|event| *event == Event::PodStopping { reason: reason.clone() });
        assert!(told, "{:#?}", pod.seen);
    }
}

#[test]
fn launcher_that_is_gone_means_an_ordered_stop() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "on-term 0 ; pause")]));
    pod.wait_started("a");
    pod.hang_up();
    assert_eq!(pod.finish(), 0);
    let lines = fs::read_to_string(pod.directory.join("events.jsonl")).unwrap();
    assert!(lines.contains(r#""reason":"launcher-gone""#), "{lines}");

    let mut pod = Pod::boot(boot(vec![app("a", "pause")]));
    pod.wait_for("booted", |event| *event == Event::Booted);
    pod.hang_up();
    assert_eq!(pod.finish(), 125, "before `go` it ends at once");
}

#[test]
fn first_failure_ends_an_essential_pod_and_the_last_end_the_others() {
    if !required() {
        return;
    }
    let apps = || vec![app("a", "exit 0"), app("b", "sleep 0.1 ; exit 5"), app("c", "sleep 0.4 ; exit 6")];
    let mut pod = Pod::start(boot(apps()));
    assert_eq!(pod.finish(), 5, "{:#?}", pod.seen);
    let stopped = ["a", "b", "c"].map(|app| pod.outcome(app).stopped);
    assert_eq!(stopped, [false, false, true]);

    let mut plan = boot(apps());
    plan.pod.exit_policy = ExitPolicy::AllExited;
    let mut pod = Pod::start(plan);
    assert_eq!(pod.finish(), 5);
    assert_eq!(pod.outcome("c").end, End::Exited { code: 6 });
}

#[test]
fn memory_hog_is_told_to_have_hit_its_own_limit() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot(boot(vec![app("a", "alloc 67108864")]));
    limit(&pod, "a", "memory.limit_in_bytes", "33554432");
    pod.order(Command::Go);
    assert_eq!(pod.finish(), 137, "{:#?}", pod.seen);
    let outcome = pod.outcome("a");
    assert_eq!(outcome.oom, Some(OomLevel::App));
    assert!(
        outcome.memory_peak_bytes.is_some_and(|peak| (30 << 20..=32 << 20).contains(&peak)),
        "{outcome:?}"
    );
}

#[test]
fn fork_limit_that_forbids_the_start_is_a_failure_of_clone() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot(boot(vec![app("a", "fork-bomb")]));
    limit(&pod, "a", "pids.max", "10");
    pod.order(Command::Go);
    pod.finish();
    assert_lines(&pod.output("a"), &["forks 9 EAGAIN"]);
}

#[test]
fn control_socket_refuses_what_it_must() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "pause"), app("b", "on-term 0 ; pause")]));
    pod.wait_for("up", |event| *event == Event::Up);
    let refused = |reply| match reply {
        Reply::Refused { reason } => reason,
        Reply::Accepted => panic!("accepted"),
    };
    assert_eq!(refused(pod.ask(Command::Go)), "`Go` comes from the launcher only");
    assert!(refused(pod.ask_raw(b"{}")).starts_with("the request cannot be read: "));
    assert!(refused(pod.ask_raw(br#"{"version":9,"command":"go"}"#)).contains("version 1, not 9"));
    let signal = |signal| Command::Signal { apps: vec!["a".into()], signal, all_processes: false };
    assert_eq!(refused(pod.ask(signal(99))), "`99` is not a signal: 1 to 64");
    assert_eq!(pod.ask(Command::Stop { apps: vec!["b".into()], timeout_ms: None }), Reply::Accepted);
    pod.wait_for("end of b", |event| matches!(event, Event::Ended { app, .. } if app == "b"));
    assert_eq!(pod.ask(signal(libc::SIGUSR1)), Reply::Accepted);
    assert_eq!(pod.finish(), 128 + libc::SIGUSR1, "{:#?}", pod.seen);
    assert!(!pod.outcome("a").stopped);
}

#[test]
fn many_apps_start_and_end() {
    if !required() {
        return;
    }
    let apps: Vec<_> = (0..100).map(|index| app(&format!("a{index}"), "exit 0")).collect();
    let mut pod = Pod::start(boot(apps));
    assert_eq!(pod.finish(), 0);
    let ended = pod.seen.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ended, 100);
}

#[test]
fn idle_pod_sleeps() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "pause")]));
    pod.wait_started("a");
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", pod.stage1())).unwrap();
        status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned)
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(before, switches());
}

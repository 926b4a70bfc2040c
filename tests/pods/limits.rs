//! Limits reach the kernel as they were written: read from inside the pod and from the host.

use crate::harness::{Lab, Running, app, bin_dir, pod, require, wait_until};

/// CASES 1.
#[test]
fn memory_max_of_an_app_is_the_kernels() {
    let Some(lab) = Lab::open() else { return };
    for (written, bytes) in [("25MiB", "26214400"), ("42MiB", "44040192")] {
        let keys = format!("isolators.memory-max = \"{written}\"");
        let words = "limit memory-max ; say ready ; on-term 0 ; pause";
        let running = lab.start(&pod("one", "", &[app("a", words, &keys)]));
        running.wait_for("ready");
        assert_eq!(lab.limit("app-a", "memory-max"), bytes);
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait().expect_code(0).value("memory-max"), bytes, "{written}");
        lab.call(&["rm", "one"]).expect_code(0);
    }
}

/// The quota and period that a group of the kernel shows are exactly so many thousandths of a CPU.
#[track_caller]
fn expect_ratio(shown: &str, milli: u64) {
    let numbers: Vec<u64> = shown.split(' ').map(|word| word.parse().unwrap()).collect();
    let [quota, period] = numbers[..] else { panic!("no quota and period: {shown}") };
    assert_eq!(quota * 1000, milli * period, "{milli} thousandths: {quota}/{period}");
    assert!(quota >= 1000 && (1000..=1_000_000).contains(&period), "{milli} thousandths: {quota}/{period}");
}

/// CASES 2.
#[test]
pub fn cpus_of_an_app_keep_their_ratio() {
    let Some(lab) = Lab::open() else { return };
    for (written, milli) in [("\"800m\"", 800), ("0.9", 900), ("\"10%\"", 100), ("1.5", 1500), ("2", 2000)] {
        let keys = format!("isolators.cpus = {written}");
        let ended = lab.run(&pod("one", "", &[app("a", "limit cpus", &keys)])).expect_code(0);
        expect_ratio(ended.value("cpus"), milli);
    }
}

/// CASES 3: also where the quota would be below the kernel's least. Seen from outside: with a thousandth of a CPU
/// the way to the app's first instruction is long.
#[test]
pub fn few_thousandths_of_a_cpu_keep_their_ratio() {
    let Some(lab) = Lab::open() else { return };
    for (written, milli) in [("\"5m\"", 5), ("\"1m\"", 1)] {
        let keys = format!("isolators.cpus = {written}");
        let running = lab.start(&pod("one", "", &[app("a", "pause", &keys)]));
        // What stage1 says when it has the app's group, after its limits.
        wait_until("stage1 has booted", || lab.events_so_far().contains("booted"));
        expect_ratio(&lab.limit("app-a", "cpus"), milli);
        lab.call(&["stop", "-t", "10ms", "one"]);
        running.wait();
        lab.call(&["rm", "one"]).expect_code(0);
    }
}

/// The apps' groups are made when stage1 lives already: what fails then ends it, and leaves nothing (the lab looks).
#[test]
fn group_of_an_app_that_cannot_be_made_undoes_the_start() {
    if !require::v1() || !require::cgroup2() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    // Room for the pod's own group and stage1's in the cgroup2 tree (cgroup-v2.rst), not for the app's.
    std::fs::write(lab.group("").join("cgroup.max.descendants"), "2").unwrap();
    let ended = lab.run(&pod("one", "", &[app("a", "say up", "")])).expect_code(125);
    assert!(ended.stderr.contains("/app-a`: EAGAIN"), "{ended}");
    assert!(lab.pod_dirs().is_empty(), "{ended}");
}

/// A value in a file is not yet a bound: this is where the app's threads really may run, also when it asks for more.
#[test]
fn cpuset_of_an_app_is_where_it_runs() {
    if !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    for (cpu, other) in [("0", "1"), ("1", "0")] {
        let keys = format!("isolators.cpuset = \"{cpu}\"");
        let words = format!("pin {cpu} ; pin {other} ; status Cpus_allowed_list");
        let ended = lab.run(&pod("one", "", &[app("a", &words, &keys)])).expect_code(libc::EINVAL);
        assert!(ended.stdout.contains(&format!("pin {cpu} ok\npin {other} EINVAL\n")), "{ended}");
        assert_eq!(ended.value("Cpus_allowed_list"), cpu);
    }
}

/// The mask of the launcher is inherited; who names CPUs means those.
#[test]
fn app_runs_on_all_cpus_of_its_cpuset_wherever_the_launcher_runs() {
    if !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let named = app("a", "status Cpus_allowed_list", "isolators.cpuset = \"0-1\"");
    let path = lab.manifest(&pod("one", "", &[named]));
    let mut command = lab.command("taskset");
    command.args(["-c", "0"]).arg(bin_dir().join("podrun")).args(["run", "--no-log-prefix"]).arg(path);
    let ended = Running::spawn(&mut command).wait().expect_code(0);
    assert_eq!(ended.value("Cpus_allowed_list"), "0-1");
}

/// Where a group of v1 gives its cpuset to every new one below, as container managers have it (cgroups(7)).
#[test]
fn cpuset_of_the_pod_holds_where_cpusets_are_cloned() {
    if !require::v1() || !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    std::fs::write(lab.group("cpuset").join("cgroup.clone_children"), "1").unwrap();
    let keys = "[pod.isolators]\ncpuset = \"0\"\n";
    let ended = lab.run(&pod("one", keys, &[app("a", "limit cpuset", "")])).expect_code(0);
    assert_eq!(ended.value("cpuset"), "0");
}

#[test]
fn cpus_too_small_for_the_kernel_are_refused() {
    let Some(lab) = Lab::open() else { return };
    let ended =
        lab.run(&pod("one", "", &[app("a", "limit cpus", "isolators.cpus = 0.0005")])).expect_code(125);
    assert_eq!(ended.stdout, "", "nothing started");
}

#[test]
fn every_limit_of_an_app_is_the_kernels() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[app.a.isolators]\nmemory-max = \"64MiB\"\nmemory-swap-max = \"16MiB\"\ncpu-weight = 200\n\
                cpuset = \"0\"\ncpuset-mems = \"0\"\npids-max = 17\n";
    let words = "limit memory-max ; limit memory-swap-max ; limit cpu-weight ; limit cpuset ; limit cpuset-mems ; limit pids-max";
    let ended = lab.run(&pod("one", "", &[app("a", words, keys)])).expect_code(0);
    assert_eq!(ended.value("memory-max"), (64 << 20).to_string());
    assert_eq!(ended.value("cpuset"), "0");
    assert_eq!(ended.value("cpuset-mems"), "0");
    assert_eq!(ended.value("pids-max"), "17");
    // v1 counts memory and swap together; 200 * 1024 / 100: the same ratio to a neighbour as in cgroup v2's unit.
    let (swap, weight) = if lab.is_unified() { (16 << 20, "200") } else { (80 << 20, "2048") };
    assert_eq!(ended.value("memory-swap-max"), swap.to_string());
    assert_eq!(ended.value("cpu-weight"), weight);
}

#[test]
fn limits_of_the_pod_are_on_the_group_above_its_apps() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[pod.isolators]\nmemory-max = \"128MiB\"\npids-max = 64\ncpus = 1.5\ncpu-weight = 50\n";
    let running = lab.start(&pod("one", keys, &[app("a", "say ready ; on-term 0 ; pause", "")]));
    running.wait_for("ready");
    assert_eq!(lab.limit("", "memory-max"), (128 << 20).to_string());
    assert_eq!(lab.limit("", "pids-max"), "64");
    assert_eq!(lab.limit("", "cpu-weight"), if lab.is_unified() { "50" } else { "512" });
    assert_eq!(lab.limit("", "cpus"), "150000 100000");
    // The app and stage1 are below, each in a group of its own.
    for group in ["app-a", "supervisor"] {
        assert_eq!(lab.group_file("pids", group, "cgroup.procs").lines().count(), 1, "{group}");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// CASES 33: said before anything starts, with the controller and where it was looked for.
#[test]
pub fn limit_that_v1_does_not_have_is_refused_by_name() {
    if !require::v1() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    for key in ["memory-high", "memory-low", "memory-min"] {
        let keys = format!("isolators.{key} = \"32MiB\"");
        let ended = lab.run(&pod("one", "", &[app("a", "say started", &keys)])).expect_code(125);
        assert_eq!(ended.stdout, "", "nothing started");
        let wanted = format!("{key}: cgroup v1 has no such limit");
        ended.expect_stderr(&[wanted.as_str(), "on-missing = \"ignore\""]);
    }
}

#[test]
fn limit_that_v1_does_not_have_is_told_when_the_author_allows_it() {
    if !require::v1() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let keys =
        "[app.a.isolators]\nmemory-high = \"32MiB\"\nmemory-max = \"64MiB\"\non-missing = \"ignore\"\n";
    let ended = lab.run(&pod("one", "", &[app("a", "limit memory-max", keys)])).expect_code(0);
    assert_eq!(ended.value("memory-max"), (64 << 20).to_string());
    let status = lab.status("one").to_string();
    assert!(status.contains("memory-high"), "status does not say what is not enforced: {status}");
}

#[test]
fn fork_bomb_stops_at_the_apps_pids_max() {
    let Some(lab) = Lab::open() else { return };
    let bomb = app("bomb", "limit pids-max ; fork-bomb", "isolators.pids-max = 20");
    let ended = lab.run(&pod("one", "", &[bomb])).expect_code(0);
    // The bomb itself is one of the twenty.
    assert_eq!(ended.value("forks"), "19 EAGAIN");
}

#[test]
fn fork_bombs_of_two_apps_stop_at_the_pods_pids_max() {
    let Some(lab) = Lab::open() else { return };
    let words = "fork-bomb ; say bombed ; on-term 0 ; pause";
    let keys = "[pod.isolators]\npids-max = 40\n";
    // A second one that cannot even start does not end the pod before the first has said what it met.
    let second = app("b", words, "depends-on = [\"a\"]\nessential = false");
    let running = lab.start(&pod("one", keys, &[app("a", words, ""), second]));
    running.wait_for("EAGAIN");
    // Whoever comes second finds the sum used up: it bombs with no child at all, or cannot even start.
    assert_eq!(lab.limit("", "pids-current"), "40");
    running.signal(libc::SIGTERM);
    running.wait();
}

#[test]
fn pod_full_of_processes_is_stopped_from_outside() {
    let Some(lab) = Lab::open() else { return };
    let keys = "stop-timeout = \"1s\"\n[pod.isolators]\npids-max = 30\n";
    let bomb = app("bomb", "ignore-term ; fork-bomb ; say bombed ; pause", "stop-timeout = \"500ms\"");
    let running = lab.start(&pod("one", keys, &[bomb]));
    running.wait_for("EAGAIN");
    lab.call(&["stop", "one"]).expect_code(0);
    running.wait();
    lab.wait_until_empty();
}

/// CASES 34, the cgroupfs half: forced or chosen, the driver writes the same values into the same files.
#[test]
fn driver_forced_to_cgroupfs_writes_the_same_values() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[app.a.isolators]\nmemory-max = \"48MiB\"\ncpus = 0.5\ncpu-weight = 300\npids-max = 12\n";
    let words = "limit memory-max ; limit cpus ; limit cpu-weight ; limit pids-max ; read /proc/self/cgroup";
    let manifest = pod("one", "[pod.isolators]\nmemory-max = \"96MiB\"\n", &[app("a", words, keys)]);
    let chosen = lab.run(&manifest).expect_code(0);
    let forced = lab.start_with(&["--driver", "cgroupfs"], &manifest).wait().expect_code(0);
    assert_eq!(chosen.stdout, forced.stdout);
    assert_eq!(forced.value("memory-max"), (48 << 20).to_string());
    assert_eq!(forced.value("pids-max"), "12");
}

/// The plan says beforehand what the kernel shows afterwards.
#[test]
fn plan_names_every_file_and_value_that_run_writes() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[app.a.isolators]\nmemory-max = \"48MiB\"\npids-max = 12\n";
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", keys)]));
    let plan = lab.call(&["plan", path.to_str().unwrap()]).expect_code(0);
    let file = if lab.is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
    for text in [file, "50331648", "pids.max", "app-a"] {
        assert!(plan.stdout.contains(text), "`{text}` is not in the plan\n{plan}");
    }
}

/// Every process of an app is in the app's group in every hierarchy, from its first instruction on.
#[test]
fn app_that_forks_at_once_has_no_process_outside_its_groups() {
    let Some(lab) = Lab::open() else { return };
    let words = "children 20 ; wait-processes 22 20 ; say ready ; on-term 0 ; pause";
    let keys = "[app.a.isolators]\nmemory-max = \"64MiB\"\npids-max = 50\n";
    let running = lab.start(&pod("one", "", &[app("a", words, keys)]));
    running.wait_for("ready");
    let groups: Vec<_> = lab.groups_left().into_iter().filter(|group| group.ends_with("app-a")).collect();
    assert!(groups.len() > usize::from(!lab.is_unified()), "the app is limited in {groups:?} alone");
    for group in groups {
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        assert_eq!(procs.lines().count(), 21, "{}", group.display());
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

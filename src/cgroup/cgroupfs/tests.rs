//! These run against the kernel's own files, below our own group in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_abi::boot::CgroupView;
use podrun_abi::handover::{Alarm, Gauge};

use super::*;
use crate::cgroup::events::keyed;
use crate::cgroup::limits::{self, Facts};
use crate::host;
use crate::spec::{Limits, Spec};
use crate::value::{Ceiling, CpuAmount, CpuWeight, NumberSet};

fn root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("PODRUN_TEST_STRICT").is_none_or(|v| v != "1"), "root is required");
    println!("SKIP needs root to make control groups");
    false
}

fn soon(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// A pod group that nobody else has.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("podrun-t{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn spec(limits: &Limits) -> Spec {
    let mut app = host::tests::app(Path::new("/"));
    app.limits = limits.clone();
    host::tests::spec(vec![app])
}

fn facts(limits: &Limits) -> Facts {
    host::probe(&spec(limits), host::DriverChoice::Cgroupfs).unwrap().cgroups
}

/// What this host would be without its cgroup2 tree.
fn legacy(limits: &Limits) -> Facts {
    let mut facts = facts(limits);
    facts.unified = None;
    facts.hierarchies.v2 = None;
    facts
}

/// This host, and what it would be without its cgroup2 tree where it has v1 controllers.
fn views(limits: &Limits) -> Vec<Facts> {
    let mut views = vec![facts(limits)];
    views.extend(has_v1().then(|| legacy(limits)));
    views
}

fn has_v1() -> bool {
    host::hierarchies().unwrap().v1_with("memory").is_some()
}

/// A plan whose groups go when the test ends, however it does.
struct Planned(CgroupPlan);

impl Drop for Planned {
    fn drop(&mut self) {
        let undone = remove_recorded(&self.0, soon(3000));
        assert!(std::thread::panicking() || undone.is_ok(), "{undone:?}");
    }
}

impl std::ops::Deref for Planned {
    type Target = CgroupPlan;
    fn deref(&self) -> &CgroupPlan {
        &self.0
    }
}

impl std::ops::DerefMut for Planned {
    fn deref_mut(&mut self) -> &mut CgroupPlan {
        &mut self.0
    }
}

fn plan(limits: &Limits, facts: &Facts) -> Planned {
    let pod = Limits { pids_max: Some(Ceiling::At(100)), ..Limits::default() };
    Planned(limits::resolve(&name(), &pod, &[("web", limits)], facts).unwrap())
}

fn small() -> Limits {
    Limits {
        memory_max: Some(Ceiling::At(26_214_400)),
        memory_swap_max: Some(Ceiling::At(0)),
        cpus: Some(CpuAmount(800_000)),
        cpu_weight: Some(CpuWeight::Weight(50)),
        cpuset: Some(NumberSet([0].into())),
        pids_max: Some(Ceiling::At(20)),
        ..Limits::default()
    }
}

fn dirs(plan: &CgroupPlan) -> Vec<PathBuf> {
    plan.hierarchies.iter().map(|j| j.mount_point.join(&j.parent).join(&plan.pod_group)).collect()
}

#[track_caller]
fn assert_nothing_left(plan: &CgroupPlan) {
    for dir in dirs(plan) {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}

fn shell(script: &str) -> Child {
    Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Puts a process into the app's group the way stage1 does when clone3 cannot.
fn join(pod: &PodCgroup, child: &Child) {
    let (cgroup, files) = pod.app("web").unwrap();
    for procs in files.iter().take(cgroup.procs.len()) {
        nix::unistd::write(procs, child.id().to_string().as_bytes()).unwrap();
    }
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

/// The groups of the pod, of stage1 and of the apps; none of them on an error, as in `launch`.
fn create_all(plan: &CgroupPlan) -> anyhow::Result<PodCgroup> {
    let pod = create(plan)?;
    match pod.add_apps() {
        Ok(()) => Ok(pod),
        Err(error) => {
            pod.remove(soon(1000))?;
            Err(error)
        }
    }
}

#[test]
fn every_limit_is_in_its_file_and_nothing_is_left() {
    if !root() {
        return;
    }
    let plan = plan(&small(), &facts(&small()));
    let pod = create_all(&plan).unwrap();
    let mut seen = 0;
    for group in &plan.groups {
        for setting in &group.settings {
            let dir = &dirs(&plan)[setting.hierarchy].join(&group.name);
            let shown = fs::read_to_string(dir.join(&setting.file)).unwrap();
            assert_eq!(shown.trim_end(), setting.reads_back, "{}", setting.file);
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen} settings");
    assert_eq!(pod.supervisor_procs().unwrap().len(), plan.hierarchies.len());
    assert_eq!(pod.supervisor_into().is_some(), plan.hierarchies[0].version == Version::V2);
    pod.remove(soon(1000)).unwrap();
    assert_nothing_left(&plan);
    pod.remove(soon(1000)).unwrap();
}

#[test]
fn pods_in_parallel_do_not_disturb_each_other() {
    if !root() {
        return;
    }
    let facts = facts(&small());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let plan = plan(&small(), &facts);
                    let pod = create_all(&plan).unwrap();
                    pod.remove(soon(2000)).unwrap();
                    assert_nothing_left(&plan);
                }
            });
        }
    });
}

#[test]
fn value_that_the_kernel_changes_is_an_error_and_undone() {
    if !root() {
        return;
    }
    let mut plan = plan(&small(), &facts(&small()));
    let group = plan.groups.iter_mut().find(|g| g.name == "app-web").unwrap();
    let memory = group.settings.iter_mut().find(|s| s.key == "memory-max").unwrap();
    memory.value = "26214401".into();
    memory.reads_back = "26214401".into();
    let error = format!("{:#}", create_all(&plan).unwrap_err());
    let expected = [
        "cannot set memory-max of app `web`: `",
        "shows `26214400` after `26214401` was written, expected `",
    ];
    for part in expected {
        assert!(error.contains(part), "{error}");
    }
    assert_nothing_left(&plan);
}

#[test]
fn value_that_the_kernel_refuses_is_an_error_and_undone() {
    if !root() {
        return;
    }
    let mut plan = plan(&small(), &facts(&small()));
    plan.groups[0].settings[0].value = "nonsense".into();
    let error = format!("{:#}", create_all(&plan).unwrap_err());
    assert!(error.contains("cannot write `nonsense`: "), "{error}");
    assert_nothing_left(&plan);
}

#[test]
fn group_that_exists_is_refused_and_left_alone() {
    if !root() {
        return;
    }
    let plan = plan(&small(), &facts(&small()));
    let pod = create_all(&plan).unwrap();
    let error = format!("{:#}", create_all(&plan).unwrap_err());
    assert!(error.contains("it exists already"), "{error}");
    assert!(dirs(&plan).iter().all(|dir| dir.join("app-web").is_dir()));
    pod.remove(soon(1000)).unwrap();
    assert_nothing_left(&plan);
}

#[test]
fn member_is_verified_in_every_hierarchy_and_killed() {
    if !root() {
        return;
    }
    for facts in views(&small()) {
        let plan = plan(&small(), &facts);
        let pod = create_all(&plan).unwrap();
        let mut child = shell("sleep 60");
        let error = format!("{:#}", pod.verify_member("app-web", pid(&child)).unwrap_err());
        assert!(error.contains(", expected `/"), "{error}");
        join(&pod, &child);
        pod.verify_member("app-web", pid(&child)).unwrap();
        pod.verify_member("supervisor", pid(&child)).unwrap_err();
        pod.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        pod.remove(soon(2000)).unwrap();
        assert_nothing_left(&plan);
    }
}

#[test]
fn kill_is_complete_against_forks() {
    if !root() {
        return;
    }
    for facts in views(&small()) {
        let plan = plan(&small(), &facts);
        let pod = create_all(&plan).unwrap();
        let mut child = shell("read go < /dev/null; while :; do (sleep 60 &) 2> /dev/null; done");
        join(&pod, &child);
        let file =
            dirs(&plan).iter().find_map(|d| fs::read_to_string(d.join("app-web/pids.max")).ok()).unwrap();
        assert_eq!(file.trim(), "20");
        std::thread::sleep(Duration::from_millis(50));
        pod.kill().unwrap();
        child.wait().unwrap();
        pod.remove(soon(5000)).unwrap();
        assert_nothing_left(&plan);
    }
}

#[test]
fn remove_says_who_is_left_at_the_deadline() {
    if !root() {
        return;
    }
    let plan = plan(&small(), &facts(&small()));
    let pod = create_all(&plan).unwrap();
    let mut child = shell("exec sleep 60");
    join(&pod, &child);
    let error = format!("{:#}", pod.remove(soon(50)).unwrap_err());
    assert!(error.contains("cannot remove group `"), "{error}");
    assert!(error.contains(&format!("process {} (", child.id())), "{error}");
    remove_recorded(&plan, soon(2000)).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_nothing_left(&plan);
}

#[test]
fn record_alone_undoes_living_processes_and_groups_in_groups_twice() {
    if !root() {
        return;
    }
    for facts in views(&small()) {
        let plan = plan(&small(), &facts);
        let pod = create_all(&plan).unwrap();
        let children: Vec<Child> = (0..5).map(|_| shell("sleep 60 & sleep 60")).collect();
        children.iter().for_each(|child| join(&pod, child));
        for dir in dirs(&plan) {
            fs::create_dir_all(dir.join("app-web/payload/init")).unwrap();
        }
        drop(pod);
        let text = serde_json::to_string(&*plan).unwrap();
        let record: CgroupPlan = serde_json::from_str(&text).unwrap();
        remove_recorded(&record, soon(3000)).unwrap();
        for mut child in children {
            assert!(!child.wait().unwrap().success());
        }
        assert_nothing_left(&plan);
        remove_recorded(&record, soon(3000)).unwrap();
    }
}

#[test]
fn frozen_processes_of_v1_are_thawed_to_die() {
    if !root() || !has_v1() {
        return;
    }
    let plan = plan(&small(), &legacy(&small()));
    let pod = create_all(&plan).unwrap();
    let mut child = shell("exec sleep 60");
    join(&pod, &child);
    let (cgroup, _files) = pod.app("web").unwrap();
    assert!(cgroup.freezer.is_some() && cgroup.kill.is_none() && cgroup.into.is_none());
    let freezer = dirs(&plan).into_iter().find(|d| d.join("app-web/freezer.state").exists()).unwrap();
    fs::write(freezer.join("app-web/freezer.state"), "FROZEN").unwrap();
    remove_recorded(&plan, soon(3000)).unwrap();
    child.wait().unwrap();
    assert_nothing_left(&plan);
}

#[test]
fn record_that_leads_out_of_the_pods_group_is_refused() {
    let good = CgroupPlan {
        pod_group: "podrun-1".into(),
        hierarchies: Vec::new(),
        groups: Vec::new(),
        limits_at: String::new(),
        not_enforced: Vec::new(),
    };
    remove_recorded(&good, soon(0)).unwrap();
    let group = |name: &str| Group { name: name.into(), ..Group::default() };
    let bad = [
        CgroupPlan { pod_group: "user.slice".into(), ..good.clone() },
        CgroupPlan { pod_group: "podrun-/../x".into(), ..good.clone() },
        CgroupPlan { groups: vec![group("../x")], ..good.clone() },
        CgroupPlan { groups: vec![group("..")], ..good },
    ];
    for plan in bad {
        let error = remove_recorded(&plan, soon(0)).unwrap_err().to_string();
        assert!(error.contains("it holds a name that podrun does not give"), "{error}");
    }
}

#[test]
fn hierarchy_that_is_not_mounted_any_more_is_gone_unless_the_kernel_has_it() {
    let joined = |version, mount_point: &Path, controllers: &[String]| Joined {
        version,
        mount_point: mount_point.to_owned(),
        parent: String::new(),
        controllers: controllers.to_owned(),
        mount_root: String::new(),
        enable_in_parent: Vec::new(),
        gifts: Vec::new(),
        launcher_leaf: None,
        view: CgroupView { name: String::new(), fstype: String::new(), options: String::new() },
    };
    let known = host::hierarchies().unwrap();
    let known: Vec<_> =
        known.v2.iter().chain(&known.v1).map(|h| (h.version, h.controllers.clone(), true)).collect();
    let unknown = [(Version::V1, vec!["name=podrun-never".to_owned()], false)];
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent");
    for (version, controllers, refused) in known.into_iter().chain(unknown) {
        for mount_point in [directory.path(), &absent] {
            let hierarchies = vec![joined(version, mount_point, &controllers)];
            let pod_group = "podrun-1".into();
            let plan = CgroupPlan {
                pod_group,
                hierarchies,
                groups: Vec::new(),
                limits_at: String::new(),
                not_enforced: Vec::new(),
            };
            let removed = remove_recorded(&plan, soon(0)).map_err(|e| format!("{e:#}"));
            let words = format!(
                "cannot remove group `{}/podrun-1`: its hierarchy is not mounted there any more, and the kernel \
                 still has it",
                mount_point.display()
            );
            assert_eq!(removed, if refused { Err(words) } else { Ok(()) }, "{controllers:?}");
        }
    }
}

#[test]
fn group_that_holds_the_caller_is_not_removed() {
    if !root() {
        return;
    }
    let plan = plan(&Limits::default(), &facts(&Limits::default()));
    let pod = create_all(&plan).unwrap();
    // Our own group stands in for the pod's: a pod group one level above would hold us.
    let mut above = CgroupPlan::clone(&plan);
    let own = plan.hierarchies.iter().position(|j| !j.parent.is_empty());
    if let Some(index) = own {
        above.hierarchies = vec![plan.hierarchies[index].clone()];
        let joined = &mut above.hierarchies[0];
        let parent = PathBuf::from(&joined.parent);
        above.pod_group = parent.file_name().unwrap().to_str().unwrap().to_owned();
        joined.parent = parent.parent().unwrap().to_str().unwrap().to_owned();
        // Not a name of ours, so it is refused before anything is opened.
        assert!(remove_recorded(&above, soon(0)).is_err());
        let hierarchies = host::hierarchies().unwrap();
        assert!(remove_leftovers(&hierarchies, &above.pod_group, soon(0)).is_err());
    }
    let trees = &pod.trees;
    let own = fs::read("/proc/self/cgroup").unwrap();
    assert!(trees.iter().all(|tree| !tree.holds(&own)));
    pod.remove(soon(1000)).unwrap();
}

#[test]
fn leftovers_are_found_by_name_alone() {
    if !root() {
        return;
    }
    let plan = plan(&small(), &facts(&small()));
    drop(create_all(&plan).unwrap());
    let mut found = find_leftovers(&facts(&small()).hierarchies, &plan.pod_group);
    let mut expected = dirs(&plan);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    remove_leftovers(&host::hierarchies().unwrap(), &plan.pod_group, soon(2000)).unwrap();
    assert_nothing_left(&plan);
    assert!(find_leftovers(&facts(&small()).hierarchies, &plan.pod_group).is_empty());
}

/// What a gauge among these descriptors says.
fn count(gauge: &Gauge, files: &[OwnedFd]) -> u64 {
    let text = files::read(&files[gauge.dir], &gauge.file).unwrap();
    gauge.key.as_ref().map_or_else(|| text.trim().parse().ok(), |key| keyed(&text, key)).unwrap()
}

#[test]
fn gauges_count_what_their_names_say() {
    if !root() {
        return;
    }
    for facts in views(&small()) {
        let plan = plan(&small(), &facts);
        let pod = create_all(&plan).unwrap();
        let (cgroup, files) = pod.app("web").unwrap();
        let read = |gauge: &Gauge| count(gauge, &files);
        let mut child = shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exec sleep 60");
        join(&pod, &child);
        let watched = &cgroup.watched;
        assert_eq!(read(watched.oom_kills.as_ref().unwrap()), 0);
        assert_eq!(read(watched.oom_hits.as_ref().unwrap()), 0);
        assert_eq!(read(watched.memory_max.as_ref().unwrap()), 26_214_400);
        let used = watched.cpu_used.as_ref().unwrap();
        let deadline = soon(30_000);
        while read(used) * used.scale < 10_000_000 {
            assert!(Instant::now() < deadline, "no CPU time is counted");
        }
        let of_pod = pod.watch_pod(&mut Vec::new()).unwrap();
        assert_eq!(of_pod.oom_hits.unwrap().dir, 0);
        pod.kill().unwrap();
        child.wait().unwrap();
        pod.remove(soon(2000)).unwrap();
    }
}

#[test]
fn kill_by_the_groups_own_limit_moves_its_counters_and_not_the_pods() {
    if !root() {
        return;
    }
    for swap in [None, Some(Ceiling::At(0))] {
        let limits = Limits { memory_swap_max: swap, ..small() };
        let plan = plan(&limits, &facts(&limits));
        let pod = create_all(&plan).unwrap();
        let (cgroup, files) = pod.app("web").unwrap();
        // The shell waits on its input until it is in the group, then its child wants more than the group may hold.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read go; dd if=/dev/zero of=/dev/null bs=60M count=1; sleep 60"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        join(&pod, &child);
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        let watched = &cgroup.watched;
        let kills = watched.oom_kills.as_ref().unwrap();
        let deadline = soon(60_000);
        while count(kills, &files) == 0 {
            assert!(Instant::now() < deadline, "nothing was killed");
            std::thread::sleep(Duration::from_millis(2));
        }
        let hits = watched.oom_hits.as_ref().map(|gauge| count(gauge, &files));
        let sum = watched.memory_sum.as_ref().filter(|_| swap.is_some()).map(|gauge| count(gauge, &files));
        if has_v1() && sum == Some(count(watched.memory_max.as_ref().unwrap(), &files)) {
            // Nobody counts the sum's.
        } else {
            assert_ne!(hits.unwrap(), 0);
        }
        let mut of_pod = Vec::new();
        let pod_hits = pod.watch_pod(&mut of_pod).unwrap().oom_hits.unwrap();
        assert_eq!(count(&pod_hits, &of_pod), 0);
        // Whoever waits at the alarm was woken.
        let (alarm, flags) = match &watched.alarms[0] {
            Alarm::Counter(place) => (*place, PollFlags::POLLIN),
            Alarm::File(place) => (*place, PollFlags::POLLPRI),
        };
        let mut waiting = [PollFd::new(files[alarm].as_fd(), flags)];
        assert_eq!(poll(&mut waiting, PollTimeout::ZERO).unwrap(), 1, "{watched:?}");
        let peak = count(watched.memory_peak.as_ref().unwrap(), &files);
        assert!((20_000_000..=26_214_400).contains(&peak), "{peak}");
        pod.kill().unwrap();
        child.wait().unwrap();
        pod.remove(soon(3000)).unwrap();
        assert_nothing_left(&plan);
    }
}

/// Enabling a controller for the groups below the hierarchy's root, and taking it back if it was not there.
struct EnabledAtRoot(Option<PathBuf>);

impl EnabledAtRoot {
    fn new(mount_point: &Path, controller: &str) -> Self {
        let file = mount_point.join("cgroup.subtree_control");
        let was = fs::read_to_string(&file).unwrap().split_whitespace().any(|c| c == controller);
        fs::write(&file, format!("+{controller}")).unwrap();
        Self((!was).then_some(file))
    }
}

impl Drop for EnabledAtRoot {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // Another process may use it by now; it limits nothing by itself.
            let _ = fs::write(file, "-hugetlb");
        }
    }
}

/// hugetlb is the one controller that a hybrid host's cgroup2 tree is sure to have. As a domain controller it
/// cannot be enabled beside a process, so this shows that the launcher leaves its group and comes back. The
/// launcher is a copy of this program in a group of its own.
#[test]
fn delegated_group_is_left_for_a_leaf_and_entered_again() {
    const LAB: &str = "PODRUN_TEST_DELEGATED";
    if !root() {
        return;
    }
    if let Some(lab) = std::env::var_os(LAB) {
        return launcher_in(Path::new(&lab));
    }
    let Some(v2) = host::hierarchies().unwrap().v2 else { return println!("SKIP needs a cgroup2 tree") };
    let controllers = fs::read_to_string(v2.mount_point.join("cgroup.controllers")).unwrap();
    if !v2.own.as_deref().is_some_and(str::is_empty) || !controllers.contains("hugetlb") {
        return println!("SKIP needs to stand at the root of a cgroup2 tree with hugetlb");
    }
    let _enabled = EnabledAtRoot::new(&v2.mount_point, "hugetlb");
    let lab = v2.mount_point.join(name());
    fs::create_dir(&lab).unwrap();
    let test = "cgroup::cgroupfs::tests::delegated_group_is_left_for_a_leaf_and_entered_again";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(LAB, &lab)
        .output()
        .unwrap();
    let left = fs::read_dir(&lab).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    remove_leftovers(&host::hierarchies().unwrap(), lab.file_name().unwrap().to_str().unwrap(), soon(2000))
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left, 0);
}

fn launcher_in(lab: &Path) {
    fs::write(lab.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    let v2 = host::hierarchies().unwrap().v2.unwrap();
    let own = v2.own.clone().unwrap();
    assert!(lab.ends_with(&own));
    let group = |name: &str| Group { name: name.into(), ..Group::default() };
    let hugetlb = vec!["hugetlb".to_owned()];
    let plan = Planned(CgroupPlan {
        pod_group: "podrun-1".into(),
        hierarchies: vec![Joined {
            version: Version::V2,
            mount_point: v2.mount_point,
            parent: own,
            controllers: hugetlb.clone(),
            mount_root: v2.mount_root,
            enable_in_parent: hugetlb,
            gifts: Vec::new(),
            launcher_leaf: Some("podrun-launcher-1".into()),
            view: v2.view,
        }],
        groups: vec![group(""), group("supervisor"), group("app-web")],
        limits_at: String::new(),
        not_enforced: Vec::new(),
    });
    let pod = create_all(&plan).unwrap();
    let own_group = || fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own_group().contains("/podrun-launcher-1\n"), "{}", own_group());
    let enabled = fs::read_to_string(lab.join("podrun-1/cgroup.subtree_control")).unwrap();
    assert_eq!(enabled.trim(), "hugetlb");
    assert!(lab.join("podrun-1/app-web/hugetlb.2MB.max").exists());
    pod.remove(soon(1000)).unwrap();
    assert!(!own_group().contains("podrun-launcher"), "{}", own_group());
    let mut without = CgroupPlan::clone(&plan);
    without.hierarchies[0].launcher_leaf = None;
    let error = format!("{:#}", create(&without).unwrap_err());
    assert!(error.contains("cannot write `+hugetlb` to `"), "{error}");
    fs::write(lab.parent().unwrap().join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

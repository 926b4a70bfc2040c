use std::path::Path;
use std::time::Duration;

use super::*;
use crate::cgroup::cpuset::{Choice, Giver};
use crate::cgroup::place::GroupFacts;
use crate::cgroup::plan::{Setting, Shows};
use crate::spec::IoMax;
use crate::value::{Ceiling, CpuAmount, CpuWeight, NumberSet};

const MIB: u64 = 1 << 20;

pub(crate) fn hybrid() -> Facts {
    let mounts = b"\
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    let own = b"8:pids:/\n7:blkio:/\n6:freezer:/\n4:memory:/api/1\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n";
    let root = GroupFacts { controllers: vec!["hugetlb".into()], ..GroupFacts::default() };
    Facts {
        hierarchies: Hierarchies::parse(mounts, own),
        unified: Some(UnifiedFacts { root, ..UnifiedFacts::default() }),
        cpuset: Ok(CpusetFacts { cpus: numbers(&[0, 1]).into(), mems: numbers(&[0]).into() }),
        ..Facts::default()
    }
}

pub(crate) fn legacy() -> Facts {
    let mut facts = Facts { unified: None, ..hybrid() };
    facts.hierarchies.v2 = None;
    facts
}

pub(crate) fn unified(controllers: &str, delegated: bool) -> Facts {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mounts = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let own = GroupFacts {
        controllers: words(controllers),
        delegated,
        alone: true,
        writable: true,
        ..GroupFacts::default()
    };
    let root = GroupFacts {
        controllers: words("cpuset cpu io memory hugetlb pids"),
        is_root: true,
        ..GroupFacts::default()
    };
    Facts {
        hierarchies: Hierarchies::parse(mounts, b"0::/user.slice/a.scope\n"),
        unified: Some(UnifiedFacts { own_group: "user.slice/a.scope".into(), own, root }),
        ..hybrid()
    }
}

fn numbers(list: &[u32]) -> NumberSet {
    NumberSet(list.iter().copied().collect())
}

fn full() -> Limits {
    Limits {
        memory_max: Some(Ceiling::At(42 * MIB)),
        memory_swap_max: Some(Ceiling::At(MIB)),
        cpus: Some(CpuAmount(800_000)),
        cpu_weight: Some(CpuWeight::Weight(50)),
        cpuset: Some(numbers(&[0])),
        cpuset_mems: Some(numbers(&[0])),
        pids_max: Some(Ceiling::At(20)),
        ..Limits::default()
    }
}

fn joined(plan: &CgroupPlan) -> Vec<&str> {
    plan.hierarchies.iter().map(|j| j.view.name.as_str()).collect()
}

/// Every app of cgroup2 that does not say anything else has this one.
const OOM_GROUP: &str = ":memory.oom.group=1";

/// What is written for a group, but for [`OOM_GROUP`] at its end.
fn text(plan: &CgroupPlan, group: &str) -> Vec<String> {
    let mut text = whole_text(plan, group);
    text.pop_if(|last| last == OOM_GROUP);
    text
}

fn whole_text(plan: &CgroupPlan, group: &str) -> Vec<String> {
    let group = plan.groups.iter().find(|g| g.name == group).unwrap();
    let line = |s: &Setting| format!("{}:{}={}", plan.hierarchies[s.hierarchy].view.name, s.file, s.value);
    group.settings.iter().map(line).collect()
}

fn one(limits: &Limits, facts: &Facts) -> Result<CgroupPlan, Vec<LimitError>> {
    resolve("podrun-0000abcd", &Limits::default(), &[("web", limits)], facts)
}

fn message(limits: &Limits, facts: &Facts) -> String {
    let errors = one(limits, facts).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn pod_without_limits_joins_what_accounts_and_kills() {
    let plan = one(&Limits::default(), &hybrid()).unwrap();
    assert_eq!(joined(&plan), ["unified", "memory"]);
    assert_eq!(plan.pod_group, "podrun-0000abcd");
    assert_eq!(plan.hierarchies[1].parent, "api/1");
    let names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["", "supervisor", "app-web"]);
    assert!(plan.groups.iter().all(|g| g.settings.is_empty()));
    assert_eq!(joined(&one(&Limits::default(), &legacy()).unwrap()), ["cpuacct", "memory", "freezer"]);
}

#[test]
fn every_limit_on_a_split_hybrid_host() {
    let plan = one(&full(), &hybrid()).unwrap();
    assert_eq!(joined(&plan), ["unified", "cpuset", "cpu", "memory", "pids"]);
    assert_eq!(text(&plan, ""), ["cpuset:cpuset.cpus=0-1", "cpuset:cpuset.mems=0"]);
    assert_eq!(text(&plan, "supervisor"), text(&plan, ""));
    let expected = [
        "cpuset:cpuset.cpus=0",
        "cpuset:cpuset.mems=0",
        "memory:memory.limit_in_bytes=44040192",
        "memory:memory.memsw.limit_in_bytes=45088768",
        "cpu:cpu.cfs_period_us=100000",
        "cpu:cpu.cfs_quota_us=80000",
        "cpu:cpu.shares=512",
        "pids:pids.max=20",
    ];
    assert_eq!(text(&plan, "app-web"), expected);
    assert!(plan.not_enforced.is_empty());
}

#[test]
fn every_limit_on_a_unified_host() {
    let limits = Limits { memory_high: Some(Ceiling::Max), memory_low: Some(Ceiling::At(MIB)), ..full() };
    let plan = one(&limits, &unified("cpuset cpu memory pids", true)).unwrap();
    assert_eq!(joined(&plan), [""]);
    assert_eq!(plan.hierarchies[0].parent, "user.slice/a.scope");
    assert_eq!(plan.hierarchies[0].controllers, ["cpuset", "cpu", "memory", "pids"]);
    assert_eq!(plan.hierarchies[0].enable_in_parent, ["cpuset", "cpu", "memory", "pids"]);
    assert_eq!(plan.hierarchies[0].launcher_leaf.as_deref(), Some("podrun-launcher-0000abcd"));
    let expected = [
        ":cpuset.cpus=0",
        ":cpuset.mems=0",
        ":memory.max=44040192",
        ":memory.swap.max=1048576",
        ":memory.high=max",
        ":memory.low=1048576",
        ":cpu.max=80000 100000",
        ":cpu.weight=50",
        ":pids.max=20",
    ];
    assert_eq!(text(&plan, "app-web"), expected);
    assert!(text(&plan, "").is_empty() && text(&plan, "supervisor").is_empty());
}

/// cpu-period, cpu-burst, memory-zswap-max and memory-oom-group.
fn later() -> Limits {
    Limits {
        cpus: Some(CpuAmount(500_000)),
        cpu_period: Some(Duration::from_millis(20)),
        cpu_burst: Some(Duration::from_millis(5)),
        memory_zswap_max: Some(Ceiling::At(MIB + 1)),
        memory_oom_group: Some(true),
        ..Limits::default()
    }
}

#[test]
fn burst_follows_the_quota_in_the_authors_period() {
    let plan = one(&later(), &unified("cpu memory", true)).unwrap();
    let expected = [":memory.zswap.max=1048577", OOM_GROUP, ":cpu.max=10000 20000", ":cpu.max.burst=5000"];
    assert_eq!(text(&plan, "app-web"), expected);
    assert_eq!(plan.groups[2].settings[0].reads_back, "1048576");
    let lenient = Limits { on_missing: OnMissing::Ignore, ..later() };
    let plan = one(&lenient, &hybrid()).unwrap();
    let expected = ["cpu:cpu.cfs_period_us=20000", "cpu:cpu.cfs_quota_us=10000", "cpu:cpu.cfs_burst_us=5000"];
    assert_eq!(text(&plan, "app-web"), expected);
    let noted: Vec<&str> = plan.not_enforced.iter().map(|noted| noted.key.as_str()).collect();
    assert_eq!(noted, ["memory-zswap-max"]);
}

/// On v1 stage1 does it for apps, and nobody for the pod.
#[test]
fn apps_are_killed_whole_unless_they_say_otherwise() {
    let said = |all| Limits { memory_oom_group: all, ..Limits::default() };
    for (all, value) in [(None, "1"), (Some(true), "1"), (Some(false), "0")] {
        let plan = one(&said(all), &unified("cpu memory", true)).unwrap();
        assert_eq!(whole_text(&plan, "app-web"), [format!(":memory.oom.group={value}")], "{all:?}");
        assert_eq!(whole_text(&plan, ""), [""; 0]);
        assert!(!kills_single_processes(&plan));
        let plan = one(&said(all), &hybrid()).unwrap();
        assert_eq!(whole_text(&plan, "app-web"), [""; 0], "{all:?}");
        assert!(kills_single_processes(&plan));
    }
    let facts = Facts { absent_files: ["memory.oom.group".to_owned()].into(), ..unified("cpu memory", true) };
    assert_eq!(whole_text(&one(&said(None), &facts).unwrap(), "app-web"), [""; 0]);
    let without = one(&said(None), &unified("cpu", true)).unwrap();
    assert_eq!(whole_text(&without, "app-web"), [""; 0], "nobody asked for it");
    let of_pod = |all| resolve("podrun-0000abcd", &said(all), &[("web", &Limits::default())], &hybrid());
    assert!(of_pod(Some(false)).is_ok() && of_pod(None).is_ok());
    let refused = of_pod(Some(true)).unwrap_err();
    assert!(refused[0].to_string().starts_with("pod: memory-oom-group: cgroup v1 has no"), "{}", refused[0]);
}

#[test]
fn file_that_this_kernel_lacks_is_told() {
    for (file, key) in [
        ("memory.zswap.max", "memory-zswap-max"),
        ("memory.oom.group", "memory-oom-group"),
        ("cpu.max.burst", "cpu-burst"),
    ] {
        let facts = Facts { absent_files: [file.to_owned()].into(), ..unified("cpu memory", true) };
        let expected =
            format!("app.web: {key}: this kernel has no `{file}`; remove it, or set on-missing = \"ignore\"");
        assert_eq!(message(&later(), &facts), expected);
    }
}

#[test]
fn limits_that_v1_lacks_are_refused_by_name_or_noted() {
    let limits = Limits { memory_high: Some(Ceiling::At(MIB)), ..Limits::default() };
    let expected =
        "app.web: memory-high: cgroup v1 has no such limit; remove it, or set on-missing = \"ignore\"";
    assert_eq!(message(&limits, &hybrid()), expected);
    let lenient = Limits { on_missing: OnMissing::Ignore, ..limits };
    let noted = one(&lenient, &hybrid()).unwrap().not_enforced;
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].scope.as_str(), noted[0].key.as_str()), ("app.web", "memory-high"));
    assert_eq!(noted[0].reason, "cgroup v1 has no such limit");
}

#[test]
fn several_errors_are_reported_at_once() {
    let pod = Limits { memory_low: Some(Ceiling::Max), cpus: Some(CpuAmount(500_000)), ..Limits::default() };
    let app = Limits {
        memory_min: Some(Ceiling::At(1)),
        cpus: Some(CpuAmount(1_500_000)),
        cpuset: Some(numbers(&[0, 7])),
        pids_max: Some(Ceiling::At(5_000_000)),
        ..Limits::default()
    };
    let errors = resolve("podrun-1", &pod, &[("a", &app)], &hybrid()).unwrap_err();
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "pod: memory-low: cgroup v1 has no such limit; remove it, or set on-missing = \"ignore\"",
            "app.a: cpuset: `0,7` has CPUs that the launcher's group does not have (`0-1`); choose from `0-1`",
            "app.a: memory-min: cgroup v1 has no such limit; remove it, or set on-missing = \"ignore\"",
            "app.a: cpus: 1.5 is more than the pod's 0.5, which cgroup v1 refuses; lower it to the pod's, or raise the pod's",
            "app.a: pids-max: 5000000 is more than the kernel's 4194304; write \"max\"",
        ]
    );
}

#[test]
fn cpuset_of_an_app_is_within_its_pods() {
    let pod = Limits { cpuset: Some(numbers(&[1])), ..Limits::default() };
    let wider = Limits { cpuset: Some(numbers(&[0, 1])), ..Limits::default() };
    let plan = resolve("podrun-1", &pod, &[("a", &Limits::default())], &hybrid()).unwrap();
    assert_eq!(text(&plan, "app-a"), ["cpuset:cpuset.cpus=1", "cpuset:cpuset.mems=0"]);
    assert_eq!(text(&plan, "supervisor"), text(&plan, "app-a"));
    for facts in [hybrid(), unified("cpuset cpu memory pids", true)] {
        let errors = resolve("podrun-1", &pod, &[("a", &wider)], &facts).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "app.a: cpuset: `0-1` has CPUs that the pod does not have (`1`); choose from `1`"
        );
    }
    let unknown = Facts { cpuset: Err("cannot read `x`".into()), ..hybrid() };
    assert_eq!(message(&pod, &unknown), "app.web: cpuset: cannot read `x`; remove it");
}

#[test]
fn group_above_that_has_too_few_cpus_is_named_with_the_remedy() {
    let limits = Limits { cpuset: Some(numbers(&[0, 1])), ..Limits::default() };
    let giver = Giver::Group { path: "machine.slice".into(), above: numbers(&[0, 1]) };
    let cpus = Choice { set: numbers(&[0]), giver };
    let given =
        |facts| Facts { cpuset: Ok(CpusetFacts { cpus: cpus.clone(), mems: numbers(&[0]).into() }), ..facts };
    let expected = "app.web: cpuset: `0-1` has CPUs that group `/machine.slice` does not have (`0`); choose from `0`, \
         or let it have more: ";
    let v2 = format!("{expected}systemctl set-property machine.slice AllowedCPUs=0-1");
    assert_eq!(message(&limits, &given(unified("cpuset cpu memory pids", true))), v2);
    let v1 = format!("{expected}write `0-1` to `/sys/fs/cgroup/cpuset/machine.slice/cpuset.cpus`");
    assert_eq!(message(&limits, &given(hybrid())), v1);
}

#[test]
fn missing_controller_is_named_with_place_and_remedy() {
    let limits = Limits { pids_max: Some(Ceiling::At(5)), ..Limits::default() };
    let mut no_pids = hybrid();
    no_pids.hierarchies.v1.retain(|h| h.controllers != ["pids"]);
    let expected = "app.web: pids-max: controller `pids` is not on this host: not a v1 mount in `/proc/self/mountinfo` \
         and not in `/sys/fs/cgroup/unified/cgroup.controllers`; enable it in the kernel, remove the key, or set on-missing = \"ignore\"";
    assert_eq!(message(&limits, &no_pids), expected);
    let expected = "app.web: pids-max: controller `pids` is not among the controllers of cgroup2's group \
         `/user.slice/a.scope` (`memory`); start it below a delegated group: systemd-run --user --scope -p Delegate=yes podrun run …";
    let mut rootless = unified("memory", true);
    assert_eq!(message(&limits, &rootless), expected);
    let lenient = Limits { on_missing: OnMissing::Ignore, ..limits };
    let plan = one(&lenient, &rootless).unwrap();
    assert_eq!(plan.hierarchies[0].controllers, ["memory"]);
    assert_eq!(plan.not_enforced[0].key, "pids-max");
    rootless.unified.as_mut().unwrap().own.delegated = false;
    let bare = one(&lenient, &rootless).unwrap();
    assert!(bare.hierarchies[0].controllers.is_empty() && bare.hierarchies[0].launcher_leaf.is_none());
}

#[test]
fn undelegated_group_is_an_error_only_when_a_limit_needs_it() {
    let facts = unified("cpu memory pids", false);
    let limits = Limits { memory_max: Some(Ceiling::At(MIB)), ..Limits::default() };
    assert!(
        message(&limits, &facts).contains("it holds processes and is not delegated to us; start it below")
    );
    assert!(one(&Limits::default(), &facts).unwrap().hierarchies[0].controllers.is_empty());
}

#[test]
fn swap_on_v1_is_the_sum_and_needs_the_file() {
    let swap = |max: Option<Ceiling>, swap: Ceiling| Limits {
        memory_max: max,
        memory_swap_max: Some(swap),
        ..Limits::default()
    };
    let with =
        |memory: u64, s: u64| one(&swap(Some(Ceiling::At(memory)), Ceiling::At(s)), &hybrid()).unwrap();
    assert_eq!(text(&with(MIB, 0), "app-web")[1], "memory:memory.memsw.limit_in_bytes=1048576");
    assert_eq!(text(&with(MIB + 1, 4096), "app-web")[1], "memory:memory.memsw.limit_in_bytes=1052672");
    for alone in [None, Some(Ceiling::Max)] {
        assert!(message(&swap(alone, Ceiling::At(0)), &hybrid()).contains("set memory-max too"));
    }
    let no_swap = Facts { absent_files: ["memory.memsw.limit_in_bytes".to_owned()].into(), ..hybrid() };
    assert!(message(&swap(Some(Ceiling::At(MIB)), Ceiling::At(0)), &no_swap).contains("swapaccount=1"));
    let max = one(&swap(Some(Ceiling::At(MIB)), Ceiling::Max), &no_swap).unwrap();
    assert_eq!(text(&max, "app-web").len(), 1);
}

#[test]
fn weights_on_v1_keep_their_ratio() {
    let cases = [
        (CpuWeight::Weight(1), "cpu:cpu.shares=10"),
        (CpuWeight::Weight(100), "cpu:cpu.shares=1024"),
        (CpuWeight::Weight(10_000), "cpu:cpu.shares=102400"),
        (CpuWeight::Idle, "cpu:cpu.idle=1"),
    ];
    for (weight, expected) in cases {
        let plan = one(&Limits { cpu_weight: Some(weight), ..Limits::default() }, &hybrid()).unwrap();
        assert_eq!(text(&plan, "app-web"), [expected]);
    }
}

#[test]
fn controllers_mounted_together_are_one_hierarchy() {
    let mounts = b"1 0 0:1 / /cg rw - cgroup cgroup rw,cpuset,cpu,cpuacct,memory,pids,freezer,devices\n";
    let own = b"1:cpuset,cpu,cpuacct,memory,pids,freezer,devices:/a\n";
    let facts = Facts { hierarchies: Hierarchies::parse(mounts, own), unified: None, ..hybrid() };
    let plan = one(&Limits { cpus: Some(CpuAmount(1_000_000)), ..Limits::default() }, &facts).unwrap();
    assert_eq!(plan.hierarchies.len(), 1);
    assert_eq!(plan.hierarchies[0].mount_point, Path::new("/cg"));
    assert_eq!(text(&plan, "supervisor").len(), 2);
    assert_eq!(text(&plan, "app-web").len(), 4);
}

#[test]
fn host_without_any_hierarchy_is_refused() {
    let errors = one(&Limits::default(), &Facts::default()).unwrap_err();
    assert!(errors[0].reason.contains("no control-group hierarchy is mounted"));
}

fn disk_limits(path: &str) -> Limits {
    let max = IoMax {
        rbps: Some(Ceiling::At(MIB)),
        wbps: Some(Ceiling::Max),
        wiops: Some(Ceiling::At(500)),
        riops: None,
    };
    Limits { io_max: [(path.into(), max)].into(), io_weight: Some(500), ..Limits::default() }
}

fn with_disks(facts: Facts) -> Facts {
    let disk = |minor| Ok(Disk { major: 254, minor });
    let disks = [
        ("/srv".into(), disk(16)),
        ("/dev/vdb".into(), disk(16)),
        ("/".into(), disk(0)),
        ("/proc".into(), Err("/proc is on a filesystem without a block device (proc)".to_owned())),
    ];
    Facts { disks: disks.into(), ..facts }
}

#[test]
fn disks_are_lines_of_one_file_on_v2_and_of_four_on_v1() {
    let v2 = with_disks(unified("io memory", true));
    let plan = one(&disk_limits("/srv"), &v2).unwrap();
    let expected = [":io.weight=default 500", ":io.max=254:16 rbps=1048576 wbps=max riops=max wiops=500"];
    assert_eq!(text(&plan, "app-web"), expected);
    let settings = &plan.groups[2].settings;
    assert_eq!((settings[0].shows, settings[1].shows), (Shows::Whole, Shows::Line));
    let plan = one(&disk_limits("/srv"), &with_disks(hybrid())).unwrap();
    assert_eq!(joined(&plan), ["unified", "memory", "blkio"]);
    let expected = [
        "blkio:blkio.bfq.weight=136",
        "blkio:blkio.throttle.read_bps_device=254:16 1048576",
        "blkio:blkio.throttle.write_iops_device=254:16 500",
    ];
    assert_eq!(text(&plan, "app-web"), expected);
    // Nothing is limited, and the kernel has no line for that.
    let unlimited = Limits { io_max: [("/srv".into(), IoMax::default())].into(), ..Limits::default() };
    assert_eq!(text(&one(&unlimited, &v2).unwrap(), "app-web"), [""; 0]);
}

#[test]
fn weights_of_disks_are_bfqs_where_iocost_is_not() {
    let weight = |weight| Limits { io_weight: Some(weight), ..Limits::default() };
    // systemd's conversion.
    for (asked, bfq) in [(1, 1), (99, 99), (100, 100), (500, 136), (4_500, 500), (10_000, 1_000)] {
        let plan = one(&weight(asked), &hybrid()).unwrap();
        assert_eq!(text(&plan, "app-web"), [format!("blkio:blkio.bfq.weight={bfq}")]);
    }
    let mut facts = unified("io memory", true);
    facts.absent_files.insert("io.weight".into());
    assert_eq!(text(&one(&weight(500), &facts).unwrap(), "app-web"), [":io.bfq.weight=default 136"]);
    facts.absent_files.insert("io.bfq.weight".into());
    assert!(message(&weight(500), &facts).contains("neither `io.weight` nor `io.bfq.weight`"));
}

#[test]
fn disks_that_cannot_be_are_told_with_their_path() {
    let facts = with_disks(hybrid());
    let expected = "app.web: io-max: /proc: /proc is on a filesystem without a block device (proc); \
                    name a block device, or a file on one";
    assert_eq!(message(&disk_limits("/proc"), &facts), expected);
    let mut twice = disk_limits("/srv");
    twice.io_max.extend(disk_limits("/dev/vdb").io_max);
    assert!(
        message(&twice, &facts)
            .contains("/srv: is on the same disk (254:16) as /dev/vdb; remove one of them")
    );
    let errors = resolve("podrun-1", &disk_limits("/"), &[], &facts).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "pod: io-max: cgroup v1 has no such limit for a group of groups; \
         give it to the apps, or set on-missing = \"ignore\""
    );
}

#[test]
fn huge_pages_are_limited_in_use_and_in_reservation() {
    let pages = |page: u64, limit| Limits { hugetlb: [(page, limit)].into(), ..Limits::default() };
    let facts = |facts: Facts| Facts { huge_pages: [2 * MIB, 1 << 30].into(), ..facts };
    let v2 = facts(unified("hugetlb memory", true));
    let plan = one(&pages(2 * MIB, Ceiling::At(5 * MIB)), &v2).unwrap();
    assert_eq!(text(&plan, "app-web"), [":hugetlb.2MB.max=5242880", ":hugetlb.2MB.rsvd.max=5242880"]);
    assert_eq!(plan.groups[2].settings[0].reads_back, "4194304", "whole pages");
    let plan = one(&pages(1 << 30, Ceiling::Max), &v2).unwrap();
    assert_eq!(text(&plan, "app-web"), [":hugetlb.1GB.max=max", ":hugetlb.1GB.rsvd.max=max"]);
    let mounts = b"1 0 0:1 / /cg/memory rw - cgroup cgroup rw,memory\n2 0 0:2 / /cg/hugetlb rw - cgroup cgroup rw,hugetlb\n";
    let hierarchies = Hierarchies::parse(mounts, b"2:hugetlb:/\n1:memory:/\n");
    let v1 = facts(Facts { hierarchies, unified: None, ..hybrid() });
    let plan = one(&pages(2 * MIB, Ceiling::At(4 * MIB)), &v1).unwrap();
    let expected =
        ["hugetlb:hugetlb.2MB.limit_in_bytes=4194304", "hugetlb:hugetlb.2MB.rsvd.limit_in_bytes=4194304"];
    assert_eq!(text(&plan, "app-web"), expected);
    let expected = "app.web: hugetlb: 64KB: this kernel has no huge pages of this size (it has 2MB, 1GB); \
                    remove it, or choose another size";
    assert_eq!(message(&pages(64 << 10, Ceiling::At(0)), &v2), expected);
    // What systemd has delegated lacks it.
    let scope = facts(unified("cpu memory", true));
    assert!(
        message(&pages(2 * MIB, Ceiling::At(0)), &scope).contains("systemd delegates no such controller")
    );
}

#[test]
fn files_of_cgroup2_are_in_its_tree_whoever_else_limits() {
    let files = |name: &str, value: &str| Limits {
        unified: [(name.to_owned(), value.to_owned())].into(),
        ..Limits::default()
    };
    let v2 = unified("hugetlb memory", true);
    let plan = one(&files("memory.swap.high", "4096"), &v2).unwrap();
    assert_eq!(text(&plan, "app-web"), [":memory.swap.high=4096"]);
    assert_eq!(plan.groups[2].settings[0].shows, Shows::Line);
    assert_eq!(plan.hierarchies[0].controllers, ["memory"]);
    // It brings its controller along.
    let plan = one(&files("hugetlb.2MB.rsvd.max", "0"), &v2).unwrap();
    assert_eq!(plan.hierarchies[0].controllers, ["memory", "hugetlb"]);
    let expected = "app.web: unified: `memory.swap.high` is of cgroup v2, and controller `memory` is on v1 here; \
                    remove it, or set on-missing = \"ignore\"";
    assert_eq!(message(&files("memory.swap.high", "4096"), &hybrid()), expected);
    assert!(message(&files("misc.max", "res 5"), &v2).contains("controller `misc` is not"));
    // A file that no controller makes is in every group of the tree.
    assert_eq!(
        text(&one(&files("irq.pressure", "x"), &hybrid()).unwrap(), "app-web"),
        ["unified:irq.pressure=x"]
    );
    assert!(message(&files("irq.pressure", "x"), &legacy()).contains("cgroup v2, which is not mounted here"));
}

//! From isolators to properties, over the real resolver and the mounts of real hosts.

use std::collections::BTreeSet;

use super::*;
use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::limits::{self, CpusetFacts, Disk};
use crate::spec::IoMax;
use crate::value::{Ceiling, CpuAmount};

const MIB: u64 = 1 << 20;

fn manager() -> ManagerFacts {
    let names = "AllowedCPUs AllowedMemoryNodes CPUQuotaPerSecUSec CPUQuotaPeriodUSec CPUWeight IOReadBandwidthMax \
IOReadIOPSMax IOWeight IOWriteBandwidthMax IOWriteIOPSMax MemoryHigh MemoryLow MemoryMax MemoryMin \
MemorySwapMax TasksMax";
    let properties = names.split(' ').map(str::to_owned).collect();
    ManagerFacts { version: "252".into(), root: String::new(), properties }
}

fn numbers(list: &[u32]) -> NumberSet {
    NumberSet(list.iter().copied().collect())
}

fn facts(mounts: &str, own: &str, controllers: &str) -> Facts {
    let controllers = controllers.split_whitespace().map(str::to_owned).collect();
    let root = GroupFacts { controllers, ..GroupFacts::default() };
    Facts {
        hierarchies: Hierarchies::parse(mounts.as_bytes(), own.as_bytes()),
        unified: Some(UnifiedFacts { root, ..UnifiedFacts::default() }),
        cpuset: Ok(CpusetFacts { cpus: numbers(&[0, 1, 9]).into(), mems: numbers(&[0]).into() }),
        ..Facts::default()
    }
}

/// Debian 12 and 13.
fn unified() -> Facts {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let own = "0::/user.slice/user-0.slice/session-1.scope\n";
    facts(mounts, own, "cpuset cpu io memory hugetlb pids rdma misc")
}

/// systemd 252 in the namespaces of a host whose controllers are mounted one by one.
fn hybrid() -> Facts {
    let mounts = "\
30 28 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 28 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 28 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 28 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 28 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 28 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
    let own = "\
9:name=systemd:/system.slice/x.service\n8:pids:/system.slice/x.service\n4:memory:/system.slice/x.service
3:cpuset:/\n1:cpu:/\n0::/system.slice/x.service\n";
    facts(mounts, own, "hugetlb")
}

fn resolve(facts: &Facts, limits: &Limits) -> (CgroupPlan, Result<UnitPlan, Vec<LimitError>>) {
    with_manager(facts, limits, &manager())
}

fn with_manager(
    facts: &Facts,
    limits: &Limits,
    manager: &ManagerFacts,
) -> (CgroupPlan, Result<UnitPlan, Vec<LimitError>>) {
    let pod = PodFacts { name: "my-shop", id: "1a2b3c4d", limits, stop_timeout_ms: Some(30_000) };
    let facts = facts_in_scope(facts, manager, &pod);
    let app = Limits { memory_max: Some(Ceiling::At(MIB)), ..Limits::default() };
    let mut plan = limits::resolve(PAYLOAD, limits, &[("web", &app)], &facts).unwrap();
    let units = assign(&mut plan, manager, &pod);
    (plan, units)
}

/// `property=value | file shown`, and what stays below.
fn told(facts: &Facts, limits: &Limits) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (plan, units) = resolve(facts, limits);
    let units = units.unwrap();
    let text = |setting: &Setting| format!("{}={}", setting.file, setting.reads_back);
    (
        units.properties.iter().map(ToString::to_string).collect(),
        units.shown.iter().map(text).collect(),
        plan.groups[0].settings.iter().map(text).collect(),
    )
}

#[test]
fn names_derive_from_name_and_id_and_are_escaped() {
    let (plan, units) = resolve(&unified(), &Limits::default());
    let units = units.unwrap();
    assert_eq!(units.slice, r"machine-my\x2dshop.slice");
    assert_eq!(units.scope, "podrun-1a2b3c4d.scope");
    assert_eq!(units.slice_group, r"machine.slice/machine-my\x2dshop.slice");
    assert_eq!(plan.hierarchies[0].parent, r"machine.slice/machine-my\x2dshop.slice/podrun-1a2b3c4d.scope");
    assert_eq!((plan.pod_group.as_str(), plan.limits_at.as_str()), ("payload", "../.."));
    assert_eq!(plan.hierarchies[0].launcher_leaf, None);
    assert_eq!(units.stop_timeout_us, 40_000_000);
    for (name, expected) in [("a", "machine-a.slice"), ("a b/c", r"machine-a\x20b\x2fc.slice")] {
        assert_eq!(slice_name(name), expected);
    }
}

#[test]
fn record_with_a_foreign_name_is_refused() {
    let units = resolve(&unified(), &Limits::default()).1.unwrap();
    assert!(units.check().is_ok());
    let wrong = [
        UnitPlan { slice: "system.slice".into(), ..units.clone() },
        UnitPlan { scope: "sshd.service".into(), ..units.clone() },
        UnitPlan { slice_group: "system.slice".into(), ..units.clone() },
        UnitPlan { slice_group: format!("../machine.slice/{}", units.slice), ..units.clone() },
    ];
    for record in wrong {
        assert!(record.check().is_err(), "{record:?}");
    }
}

#[test]
fn systemd_in_a_container_has_its_tree_below_another_group() {
    let inside = ManagerFacts { root: "lxc/a".into(), ..manager() };
    let (plan, units) = with_manager(&unified(), &Limits::default(), &inside);
    assert_eq!(units.unwrap().slice_group, r"lxc/a/machine.slice/machine-my\x2dshop.slice");
    assert!(plan.hierarchies[0].parent.starts_with("lxc/a/machine.slice/"));
}

#[test]
fn limits_of_cgroup2_become_properties_of_the_slice() {
    let limits = Limits {
        memory_max: Some(Ceiling::At(64 * MIB)),
        memory_high: Some(Ceiling::At(48 * MIB + 1)),
        memory_low: Some(Ceiling::At(MIB)),
        memory_min: Some(Ceiling::At(MIB)),
        memory_swap_max: Some(Ceiling::At(0)),
        cpus: Some(CpuAmount(800_000)),
        cpu_weight: Some(CpuWeight::Weight(250)),
        cpuset: Some(numbers(&[0, 9])),
        cpuset_mems: Some(numbers(&[0])),
        pids_max: Some(Ceiling::At(100)),
        ..Limits::default()
    };
    let (properties, shown, below) = told(&unified(), &limits);
    let expected = [
        "AllowedCPUs=0201",
        "AllowedMemoryNodes=01",
        "MemoryMax=67108864",
        "MemorySwapMax=0",
        "MemoryHigh=50331649",
        "MemoryLow=1048576",
        "MemoryMin=1048576",
        "CPUQuotaPerSecUSec=800000",
        "CPUWeight=250",
        "TasksMax=100",
    ];
    assert_eq!(properties, expected);
    let expected = [
        "cpuset.cpus=0,9",
        "cpuset.mems=0",
        "memory.max=67108864",
        "memory.swap.max=0",
        "memory.high=50331648",
        "memory.low=1048576",
        "memory.min=1048576",
        "cpu.max=80000 100000",
        "cpu.weight=250",
        "pids.max=100",
    ];
    assert_eq!(shown, expected);
    assert_eq!(below, [""; 0]);
}

#[test]
fn quota_that_systemd_would_round_is_rounded_up_and_exact_below() {
    let table: [(u64, &str, &str, &[&str]); 5] = [
        (800_000, "CPUQuotaPerSecUSec=800000", "cpu.max=80000 100000", &[]),
        (10_000, "CPUQuotaPerSecUSec=10000", "cpu.max=1000 100000", &[]),
        (5_000, "CPUQuotaPerSecUSec=10000", "cpu.max=1000 100000", &["cpu.max=5000 1000000"]),
        (123_456, "CPUQuotaPerSecUSec=130000", "cpu.max=13000 100000", &["cpu.max=123456 1000000"]),
        (2_500_010, "CPUQuotaPerSecUSec=2510000", "cpu.max=251000 100000", &["cpu.max=250001 100000"]),
    ];
    for (amount, property, shown, below) in table {
        let limits = Limits { cpus: Some(CpuAmount(amount)), ..Limits::default() };
        let told = told(&unified(), &limits);
        assert_eq!((told.0[0].as_str(), told.1[0].as_str()), (property, shown), "{amount}");
        assert_eq!(told.2, below, "{amount}");
    }
}

#[test]
fn period_goes_with_the_quota_and_burst_takes_both_below() {
    let period = |ms| Some(std::time::Duration::from_millis(ms));
    let limits = Limits { cpus: Some(CpuAmount(123_000)), cpu_period: period(20), ..Limits::default() };
    let (properties, shown, below) = told(&unified(), &limits);
    assert_eq!(properties, ["CPUQuotaPerSecUSec=130000", "CPUQuotaPeriodUSec=20000"]);
    assert_eq!((shown[0].as_str(), below[0].as_str()), ("cpu.max=2600 20000", "cpu.max=2460 20000"));
    let (properties, _, below) = told(&unified(), &Limits { cpu_burst: period(1), ..limits.clone() });
    assert_eq!(
        (properties.len(), below),
        (0, vec!["cpu.max=2460 20000".into(), "cpu.max.burst=1000".into()])
    );
    let (properties, _, _) = told(&unified(), &Limits { cpu_burst: period(0), ..limits });
    assert_eq!(properties.len(), 2);
}

#[test]
fn limits_of_disks_are_a_property_for_each_kind() {
    let disk = |minor| Ok(Disk { major: 254, minor });
    let facts = |facts| Facts { disks: [("/".into(), disk(0)), ("/srv".into(), disk(16))].into(), ..facts };
    let max = |bytes| IoMax { rbps: Some(Ceiling::At(bytes)), ..IoMax::default() };
    let also = IoMax { wiops: Some(Ceiling::At(7)), ..max(5) };
    let io_max = [("/".into(), max(3)), ("/srv".into(), also)].into();
    let limits = Limits { io_max, io_weight: Some(300), ..Limits::default() };
    let (properties, shown, below) = told(&facts(unified()), &limits);
    let expected = [
        "IOWeight=300",
        "IOReadBandwidthMax=/dev/block/254:0 3, /dev/block/254:16 5",
        "IOWriteIOPSMax=/dev/block/254:16 7",
    ];
    assert_eq!(properties, expected);
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[2], "io.max=254:16 rbps=5 wbps=max riops=max wiops=7");
    assert!(below.is_empty());
}

#[test]
fn zswap_is_a_property_since_253_and_a_file_before() {
    let limits = Limits { memory_zswap_max: Some(Ceiling::At(MIB)), ..Limits::default() };
    assert_eq!(told(&unified(), &limits).2, ["memory.zswap.max=1048576"]);
    let mut newer = manager();
    newer.properties.insert("MemoryZSwapMax".into());
    let (plan, units) = with_manager(&unified(), &limits, &newer);
    assert_eq!(units.unwrap().properties[0].to_string(), "MemoryZSwapMax=1048576");
    assert!(plan.groups[0].settings.is_empty());
}

#[test]
fn no_limit_is_infinity_and_no_process_is_left_to_the_kernel() {
    let limits = Limits { memory_max: Some(Ceiling::Max), pids_max: Some(Ceiling::Max), ..Limits::default() };
    assert_eq!(told(&unified(), &limits).0, ["MemoryMax=infinity", "TasksMax=infinity"]);
    let limits = Limits { pids_max: Some(Ceiling::At(0)), ..Limits::default() };
    let (properties, _, below) = told(&unified(), &limits);
    assert_eq!((properties.len(), below.as_slice()), (0, ["pids.max=0".to_owned()].as_slice()));
}

#[test]
fn v1_gets_what_systemd_has_for_it_and_the_rest_below() {
    let limits = Limits {
        memory_max: Some(Ceiling::At(64 * MIB)),
        memory_swap_max: Some(Ceiling::At(MIB)),
        cpus: Some(CpuAmount(500_000)),
        cpu_weight: Some(CpuWeight::Weight(200)),
        cpuset: Some(numbers(&[1])),
        pids_max: Some(Ceiling::At(7)),
        ..Limits::default()
    };
    let (properties, shown, below) = told(&hybrid(), &limits);
    assert_eq!(
        properties,
        ["MemoryMax=67108864", "CPUQuotaPerSecUSec=500000", "CPUWeight=200", "TasksMax=7"]
    );
    let files = ["memory.limit_in_bytes=67108864", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"];
    assert_eq!(shown[..3], files);
    assert_eq!(shown[3..], ["cpu.shares=2048", "pids.max=7"]);
    let expected = [
        "cpuset.cpus=1",
        "cpuset.mems=0",
        "memory.limit_in_bytes=67108864",
        "memory.memsw.limit_in_bytes=68157440",
    ];
    assert_eq!(below, expected);
}

#[test]
fn every_hierarchy_has_the_scope_and_systemds_own_is_joined() {
    let facts = Facts { also_delegated: vec!["cpu".into(), "pids".into()], ..hybrid() };
    let (plan, _) = resolve(&facts, &Limits::default());
    let joined: Vec<String> = plan.hierarchies.iter().map(|joined| joined.controllers.join(",")).collect();
    assert_eq!(joined, ["", "cpu", "memory", "pids", "name=systemd"]);
    assert!(plan.hierarchies.iter().all(|joined| joined.parent.ends_with("/podrun-1a2b3c4d.scope")));
}

#[test]
fn property_that_this_systemd_lacks_is_a_file_below() {
    let old = ManagerFacts { properties: BTreeSet::from(["MemoryMax".to_owned()]), ..manager() };
    let limits =
        Limits { memory_max: Some(Ceiling::At(MIB)), cpuset: Some(numbers(&[1])), ..Limits::default() };
    let (plan, units) = with_manager(&unified(), &limits, &old);
    assert_eq!(units.unwrap().properties.len(), 1);
    let files: Vec<&str> = plan.groups[0].settings.iter().map(|s| s.file.as_str()).collect();
    assert_eq!(files, ["cpuset.cpus"]);
}

#[test]
fn weight_that_systemd_cannot_give_is_refused_or_told() {
    let idle = |on_missing| Limits { cpu_weight: Some(CpuWeight::Idle), on_missing, ..Limits::default() };
    assert_eq!(told(&unified(), &idle(OnMissing::Error)).0, ["CPUWeight=0"]);
    let errors = resolve(&hybrid(), &idle(OnMissing::Error)).1.unwrap_err();
    assert_eq!((errors[0].key, errors.len()), ("cpu-weight", 1));
    let (plan, units) = resolve(&hybrid(), &idle(OnMissing::Ignore));
    assert!(units.is_ok());
    assert_eq!(plan.not_enforced[0].key, "cpu-weight");
}

#[test]
fn devices_of_the_pod_are_properties_where_systemd_makes_programs() {
    let manager = |names: &str| {
        let mut manager = manager();
        manager.properties.extend(names.split_whitespace().map(str::to_owned));
        manager
    };
    let rule = |kind, major, minor| Rule { kind, major, minor, access: crate::value::Access::READ };
    let rules = vec![
        rule(Kind::Character, 1, Some(7)),
        rule(Kind::Character, 136, None),
        rule(Kind::Block, 7, Some(0)),
    ];
    let (mut plan, units) = resolve(&unified(), &Limits::default());
    let units = units.unwrap();
    plan.groups[0].devices = Some(rules);
    let table = [
        ("DevicePolicy DeviceAllow", Mode::Unified, true),
        ("DevicePolicy DeviceAllow", Mode::Hybrid, false),
        ("DeviceAllow", Mode::Unified, false),
    ];
    for (names, mode, is_there) in table {
        let mut units = units.clone();
        units.filter_devices(&plan, &manager(names), mode);
        assert_eq!(units.filters_devices(), is_there, "{names} {mode:?}");
        let shown: Vec<String> = units.properties.iter().map(ToString::to_string).collect();
        let all = "DeviceAllow=/dev/char/1:7 r, char-136 r, /dev/block/7:0 r";
        assert_eq!(shown, if is_there { vec!["DevicePolicy=strict", all] } else { vec![] });
    }
}

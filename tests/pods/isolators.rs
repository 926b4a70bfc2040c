//! Every isolator in the kernel: a table that says of each key what stands in which file and which property, held
//! against the kernel in every lane, and printed as docs/isolators.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use podrun_abi::event::{End, OomLevel};
use serde_json::Value;

use crate::harness::require::HugePages;
use crate::harness::{Lab, app, below_systemd, driver_name, pod, require};

/// Stands for the number of the disk that the host's root is on.
const DISK: &str = "MAJ:MIN";

/// One key with a value, and what the kernel shows for it.
struct Row {
    key: &'static str,
    /// In TOML.
    asked: &'static str,
    /// Files of cgroup v2 with their texts.
    v2: &'static [(&'static str, &'static str)],
    /// Files of cgroup v1; none: that version has no such thing.
    v1: &'static [(&'static str, &'static str)],
    /// What `systemctl show` says of the pod's slice.
    systemd: &'static [Property],
}

/// A property of the slice, and where it is one: elsewhere the file is podrun's, below the scope.
struct Property {
    name: &'static str,
    shown: &'static str,
    on_v1: bool,
    /// The first version of systemd that has it.
    since: u32,
}

const fn property(name: &'static str, shown: &'static str) -> Property {
    Property { name, shown, on_v1: true, since: 0 }
}

const fn on_v2_only(name: &'static str, shown: &'static str) -> Property {
    Property { name, shown, on_v1: false, since: 0 }
}

const MIB_64: &str = "67108864";

/// All that can be asked for at once.
const TABLE: &[Row] = &[
    Row {
        key: "memory-max",
        asked: "\"64MiB\"",
        v2: &[("memory.max", MIB_64)],
        v1: &[("memory.limit_in_bytes", MIB_64)],
        systemd: &[property("MemoryMax", MIB_64)],
    },
    Row {
        key: "memory-high",
        asked: "\"48MiB\"",
        v2: &[("memory.high", "50331648")],
        v1: &[],
        systemd: &[on_v2_only("MemoryHigh", "50331648")],
    },
    Row {
        key: "memory-low",
        asked: "\"16MiB\"",
        v2: &[("memory.low", "16777216")],
        v1: &[],
        systemd: &[on_v2_only("MemoryLow", "16777216")],
    },
    Row {
        key: "memory-min",
        asked: "\"8MiB\"",
        v2: &[("memory.min", "8388608")],
        v1: &[],
        systemd: &[on_v2_only("MemoryMin", "8388608")],
    },
    Row {
        key: "memory-swap-max",
        asked: "\"32MiB\"",
        v2: &[("memory.swap.max", "33554432")],
        v1: &[("memory.memsw.limit_in_bytes", "100663296")],
        systemd: &[on_v2_only("MemorySwapMax", "33554432")],
    },
    Row {
        key: "memory-zswap-max",
        asked: "\"4MiB\"",
        v2: &[("memory.zswap.max", "4194304")],
        v1: &[],
        systemd: &[Property { since: 253, ..on_v2_only("MemoryZSwapMax", "4194304") }],
    },
    Row { key: "memory-oom-group", asked: "true", v2: &[("memory.oom.group", "1")], v1: &[], systemd: &[] },
    Row {
        key: "cpus",
        asked: "0.5",
        v2: &[("cpu.max", "10000 20000")],
        v1: &[("cpu.cfs_quota_us", "10000")],
        systemd: &[property("CPUQuotaPerSecUSec", "500ms")],
    },
    Row {
        key: "cpu-period",
        asked: "\"20ms\"",
        v2: &[("cpu.max", "10000 20000")],
        v1: &[("cpu.cfs_period_us", "20000")],
        systemd: &[property("CPUQuotaPeriodUSec", "20ms")],
    },
    Row {
        key: "cpu-weight",
        asked: "200",
        v2: &[("cpu.weight", "200")],
        v1: &[("cpu.shares", "2048")],
        systemd: &[property("CPUWeight", "200")],
    },
    Row {
        key: "cpuset",
        asked: "\"0\"",
        v2: &[("cpuset.cpus", "0")],
        v1: &[("cpuset.cpus", "0")],
        systemd: &[on_v2_only("AllowedCPUs", "0")],
    },
    Row {
        key: "cpuset-mems",
        asked: "\"0\"",
        v2: &[("cpuset.mems", "0")],
        v1: &[("cpuset.mems", "0")],
        systemd: &[on_v2_only("AllowedMemoryNodes", "0")],
    },
    Row {
        key: "pids-max",
        asked: "40",
        v2: &[("pids.max", "40")],
        v1: &[("pids.max", "40")],
        systemd: &[property("TasksMax", "40")],
    },
    Row {
        key: "io-weight",
        asked: "200",
        v2: &[("io.weight", "default 200")],
        v1: &[("blkio.bfq.weight", "109")],
        systemd: &[on_v2_only("IOWeight", "200")],
    },
    Row {
        key: "io-max",
        asked: "{ \"/\" = { rbps = \"1MiB\", wbps = \"2MiB\", riops = 400, wiops = 500 } }",
        v2: &[("io.max", "MAJ:MIN rbps=1048576 wbps=2097152 riops=400 wiops=500")],
        v1: &[
            ("blkio.throttle.read_bps_device", "MAJ:MIN 1048576"),
            ("blkio.throttle.write_bps_device", "MAJ:MIN 2097152"),
            ("blkio.throttle.read_iops_device", "MAJ:MIN 400"),
            ("blkio.throttle.write_iops_device", "MAJ:MIN 500"),
        ],
        systemd: &[
            on_v2_only("IOReadBandwidthMax", "/dev/block/MAJ:MIN 1048576"),
            on_v2_only("IOWriteBandwidthMax", "/dev/block/MAJ:MIN 2097152"),
            on_v2_only("IOReadIOPSMax", "/dev/block/MAJ:MIN 400"),
            on_v2_only("IOWriteIOPSMax", "/dev/block/MAJ:MIN 500"),
        ],
    },
    Row {
        key: "unified",
        asked: "{ \"memory.swap.high\" = 16777216 }",
        v2: &[("memory.swap.high", "16777216")],
        v1: &[],
        systemd: &[],
    },
];

/// Where v1 has it, or the root of the cgroup2 tree, whose pods are not below systemd: that hands it down to nobody.
const HUGETLB: &[Row] = &[Row {
    key: "hugetlb",
    asked: "{ \"2MB\" = \"4MiB\" }",
    v2: &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
    v1: &[("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304")],
    systemd: &[],
}];

fn every_row() -> impl Iterator<Item = &'static Row> {
    [TABLE, BURST, IDLE, HUGETLB].into_iter().flatten()
}

/// A path on a disk, `/` where it is, and the number of the whole disk.
pub(crate) fn disk() -> (String, String) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    mounts.sort_by_key(|fields| fields[4] != "/");
    let found = mounts.iter().find_map(|fields| {
        let device = std::fs::canonicalize(format!("/sys/dev/block/{}", fields[2])).ok()?;
        let whole = if device.join("partition").exists() { device.parent()?.to_owned() } else { device };
        let number = std::fs::read_to_string(whole.join("dev")).ok()?;
        Some((fields[4].to_owned(), number.trim().to_owned()))
    });
    found.expect("something is mounted from a disk")
}

/// With the number of the disk that there is.
fn here(text: &str) -> String {
    text.replace(DISK, &disk().1)
}

/// In a pod of its own: with it podrun holds the quota too.
const BURST: &[Row] = &[
    Row {
        key: "cpus",
        asked: "0.25",
        v2: &[("cpu.max", "25000 100000")],
        v1: &[("cpu.cfs_quota_us", "25000"), ("cpu.cfs_period_us", "100000")],
        systemd: &[],
    },
    Row {
        key: "cpu-burst",
        asked: "\"10ms\"",
        v2: &[("cpu.max.burst", "10000")],
        v1: &[("cpu.cfs_burst_us", "10000")],
        systemd: &[],
    },
];

/// In a pod of its own: it stands in the place of a number.
const IDLE: &[Row] = &[Row {
    key: "cpu-weight",
    asked: "\"idle\"",
    v2: &[("cpu.idle", "1")],
    v1: &[("cpu.idle", "1")],
    systemd: &[on_v2_only("CPUWeight", "idle")],
}];

fn is_below_systemd() -> bool {
    driver_name() == "systemd"
}

/// The pod's own group, in which the file is: its slice, where that has the property.
fn own_group(lab: &Lab, row: &Row, controller: &str) -> PathBuf {
    let own = lab.pod_group(controller, "");
    let held = |p: &Property| (p.on_v1 || lab.is_unified()) && p.since <= crate::systemd::version();
    if is_below_systemd() && !row.systemd.is_empty() && row.systemd.iter().all(held) {
        own.join("../..")
    } else {
        own
    }
}

/// Whether this host can have it, for the pod or for an app.
fn is_held(lab: &Lab, row: &Row, scope: &str) -> bool {
    // For idle systemd gives the least shares on v1, which is something else.
    // No limit of disks holds for what is below a group of v1, and shares are among slices.
    let is_refused = match row.key {
        "cpu-weight" if row.asked == "\"idle\"" => is_below_systemd(),
        "io-weight" => is_below_systemd(),
        "io-max" => true,
        _ => false,
    };
    let is_refused = is_refused && !lab.is_unified() && scope == "pod";
    // On v1 stage1 does it, for apps.
    let by_stage1 = row.key == "memory-oom-group" && scope != "pod";
    // A module of the kernel that a machine may be without.
    let has_bfq = || lab.group("blkio").join("blkio.bfq.weight").exists();
    let is_absent = row.key == "io-weight" && !lab.is_unified() && !has_bfq();
    !is_refused && !is_absent && (lab.is_unified() || !row.v1.is_empty() || by_stage1)
}

#[track_caller]
fn expect_files(lab: &Lab, row: &Row) {
    let files = if lab.is_unified() { row.v2 } else { row.v1 };
    for (file, expected) in files.iter().filter(|_| is_held(lab, row, "app.a")) {
        let controller = file.split('.').next().unwrap();
        let own = is_held(lab, row, "pod").then(|| own_group(lab, row, controller));
        for group in own.into_iter().chain([lab.pod_group(controller, "app-a")]) {
            let path = group.join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let (text, expected) = (text.trim_end(), here(expected));
            assert_eq!(text, expected, "{} = {}: {}", row.key, row.asked, path.display());
        }
    }
}

#[track_caller]
fn expect_property(lab: &Lab, row: &Row) {
    let is_there = |p: &&Property| (lab.is_unified() || p.on_v1) && p.since <= crate::systemd::version();
    for property in row.systemd.iter().filter(|_| is_below_systemd()).filter(is_there) {
        let wanted = ["show", "machine-one.slice", "--value", "-p", property.name];
        let shown = Command::new("systemctl").args(wanted).output().expect("systemctl");
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.trim_end(), here(property.shown), "{}", property.name);
    }
}

/// A row of `inspect` for everything that holds, with the three values; only stage1 does it without a file.
#[track_caller]
fn expect_inspected(inspected: &Value, row: &Row, scope: &str, asked: &str, is_held: bool) {
    let limits = inspected["limits"].as_array().expect("limits");
    let is_rows = |limit: &&Value| limit["scope"] == scope && limit["key"] == row.key;
    let rows: Vec<&Value> = limits.iter().filter(is_rows).collect();
    assert_eq!(!rows.is_empty(), is_held, "{scope} {}: {limits:#?}", row.key);
    let asked: BTreeMap<String, Value> = toml::from_str(&format!("key = {asked}")).expect("a table");
    for limit in rows {
        // A file of `unified` takes a number or a text.
        let bare = |value: &Value| value.to_string().replace('"', "");
        assert_eq!(bare(&limit["asked"]), bare(&asked["key"]), "{limit}");
        if limit["by"] == "stage1" {
            assert!(limit.get("file").is_none() && limit["written"] == "true", "{limit}");
            continue;
        }
        let group = Path::new(limit["file"].as_str().expect("a file")).parent().expect("a group");
        assert_eq!(limit["by"] == "systemd", group.ends_with("machine-one.slice"), "{limit}");
        assert!(limit["kernel"].is_string() && limit["written"].is_string(), "{limit}");
    }
}

/// A pod and an app that ask for everything, and what came of it.
fn expect_all(table: &[Row]) {
    let Some(lab) = Lab::open() else { return };
    let path = disk().0;
    let asked = |row: &Row| row.asked.replace("\"/\"", &format!("\"{path}\""));
    let keys: String = table.iter().map(|row| format!("{} = {}\n", row.key, asked(row))).collect();
    let keys = format!("on-missing = \"ignore\"\n{keys}");
    let own = format!("[app.a.isolators]\n{keys}");
    let manifest =
        pod("one", &format!("[pod.isolators]\n{keys}"), &[app("a", "say up ; on-term 0 ; pause", &own)]);
    let running = lab.start(&manifest);
    running.wait_for("up");
    let status = lab.call(&["status", "one"]).expect_code(0).stdout;
    let inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    for row in table {
        expect_files(&lab, row);
        expect_property(&lab, row);
        for scope in ["pod", "app.a"] {
            let told = format!("  {scope} {}:", row.key);
            let is_held = is_held(&lab, row, scope);
            assert!(is_held != status.contains(&told), "{told}\n{status}");
            expect_inspected(&inspected, row, scope, &asked(row), is_held);
        }
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
pub fn every_isolator_is_in_its_file_in_the_kernel() {
    expect_all(TABLE);
}

#[test]
pub fn burst_is_beside_the_quota_that_it_exceeds() {
    expect_all(BURST);
}

#[test]
pub fn idle_is_in_its_file() {
    expect_all(IDLE);
}

/// On cgroup2 no group but the root hands hugetlb down; the pod is there then, but for one below systemd.
#[test]
pub fn huge_pages_are_in_their_files_or_refused_by_name() {
    // podrun enables the controller at the root of the cgroup2 tree, and leaves it so: another pod may rely on it.
    let Some(lab) = Lab::open_alone() else { return };
    let _taken_back = HandedDown::note();
    let [row] = HUGETLB else { panic!("one row") };
    let keys = format!("[pod.isolators]\n{} = {}\n", row.key, row.asked);
    let own = format!("isolators.{} = {}", row.key, row.asked);
    let running = lab.start(&pod("one", &keys, &[app("a", "say up ; on-term 0 ; pause", &own)]));
    let files = match require::huge_pages() {
        HugePages::V1 => row.v1,
        HugePages::RootOfV2 if !is_below_systemd() => row.v2,
        _ => {
            let told = running.wait().expect_code(125);
            let count = told.stderr.matches("controller `hugetlb` ").count();
            assert!(count == 2 && told.stderr.contains("isolators.hugetlb"), "{told}");
            return;
        }
    };
    running.wait_for("up");
    let inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    let limits = inspected["limits"].as_array().expect("limits");
    let mut paths = Vec::new();
    for scope in ["pod", "app.a"] {
        expect_inspected(&inspected, row, scope, &row.asked.replace("MB", "MiB"), true);
        let rows = limits.iter().filter(|limit| limit["scope"] == scope);
        let own: Vec<&str> = rows.filter_map(|limit| limit["file"].as_str()).collect();
        for (file, expected) in files {
            let path = own.iter().find(|path| path.ends_with(file)).expect("the file");
            assert_eq!(std::fs::read_to_string(path).unwrap().trim_end(), *expected, "{path}");
            paths.push(*path);
        }
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    let left: Vec<&&str> = paths.iter().filter(|path| Path::new(path).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// It is what a group begins with, and not written.
#[test]
pub fn all_the_swap_is_what_the_kernel_shows() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[pod.isolators]\nmemory-max = \"64MiB\"\nmemory-swap-max = \"max\"\n";
    let own = "[app.a.isolators]\nmemory-swap-max = \"max\"\n";
    let running = lab.start(&pod(
        "one",
        keys,
        &[app("a", "say up ; on-term 0 ; pause", own), app("b", "on-term 0 ; pause", "")],
    ));
    running.wait_for("up");
    let inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    let rows: Vec<&Value> = inspected["limits"]
        .as_array()
        .expect("limits")
        .iter()
        .filter(|limit| limit["key"] == "memory-swap-max")
        .collect();
    let file = if lab.is_unified() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    let group = |scope: &str| lab.pod_group("memory", if scope == "pod" { "" } else { "app-a" });
    let expected: Vec<(&str, PathBuf)> =
        ["pod", "app.a"].into_iter().map(|scope| (scope, group(scope).join(file))).collect();
    assert_eq!(rows.len(), 2, "{rows:#?}");
    for (row, (scope, path)) in rows.iter().zip(&expected) {
        let found = (row["scope"].as_str(), row["asked"].as_str(), row["file"].as_str(), row.get("written"));
        assert_eq!(found, (Some(*scope), Some("max"), path.to_str(), None), "{row}");
        let kernel = row["kernel"].as_str().expect("what it says");
        assert!(kernel == "max" || kernel.parse::<u64>().is_ok_and(|number| number >= 1 << 62), "{row}");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// Takes the controller back at the end, unless the root handed it down before.
struct HandedDown(PathBuf);

impl HandedDown {
    fn note() -> Option<Self> {
        let file = require::cgroup2_mount()?.join("cgroup.subtree_control");
        let before = std::fs::read_to_string(&file).ok()?;
        (!before.split_whitespace().any(|word| word == "hugetlb")).then_some(Self(file))
    }
}

impl Drop for HandedDown {
    fn drop(&mut self) {
        // Nobody else may need it, and it may not be there.
        let _ = std::fs::write(&self.0, "-hugetlb");
    }
}

mod below {
    #[test]
    fn every_isolator_is_in_its_file_in_the_kernel() {
        super::below_systemd(super::every_isolator_is_in_its_file_in_the_kernel);
    }

    #[test]
    fn burst_is_beside_the_quota_that_it_exceeds() {
        super::below_systemd(super::burst_is_beside_the_quota_that_it_exceeds);
    }

    #[test]
    fn idle_is_in_its_file() {
        super::below_systemd(super::idle_is_in_its_file);
    }

    #[test]
    fn huge_pages_are_in_their_files_or_refused_by_name() {
        super::below_systemd(super::huge_pages_are_in_their_files_or_refused_by_name);
    }

    #[test]
    fn all_the_swap_is_what_the_kernel_shows() {
        super::below_systemd(super::all_the_swap_is_what_the_kernel_shows);
    }
}

const PAGE: &str = "docs/isolators.md";

const HEAD: &str = "\
# Isolators in the kernel

Every isolator with a value, and what stands in which file for it. A test makes this page
(`tests/pods/isolators.rs`), and the same test sets each of them for a pod and an app and reads the files and properties
in every lane: v1 on hybrid hosts, v2 on unified ones, without systemd and below it.
[cgroups.md](cgroups.md) says why, [manifest.md](manifest.md) what the keys mean.

The files are those of an app and, without systemd, of the pod. Below systemd the pod's value is a property of its slice,
and the same file of the slice's group; `v2` behind it: on cgroup2 only, else in podrun's own group below. A `-`: there is
none, and on v1 such a limit is refused, as `io-max` of the pod is there. `MAJ:MIN` is the number of the disk that `/` is
on. `memory-oom-group` of an app is done by stage1 on v1, without a file. `devices` is a program and no value:
[cgroups.md](cgroups.md#devices).

`hugetlb` is set by podrun alone: in v1's files where v1 has it, else in those of v2, on hybrid hosts as well. On v2 only
the root of the tree hands it down, and the pod's own group is there then; below systemd it cannot be, and the key is
refused by name.

| key | asked | cgroup v2 | cgroup v1 | property of the pod's slice |
| --- | --- | --- | --- | --- |
";

fn line(row: &Row) -> String {
    let files = |files: &[(&str, &str)]| match files {
        [] => "-".to_owned(),
        some => some.iter().map(|(file, text)| format!("`{file}` = `{text}`")).collect::<Vec<_>>().join(", "),
    };
    let properties: Vec<String> = row
        .systemd
        .iter()
        .map(|p| {
            let only = if p.on_v1 { "" } else { ", v2" };
            let since = if p.since > 0 { format!(", since systemd {}", p.since) } else { String::new() };
            format!("`{}={}`{only}{since}", p.name, p.shown)
        })
        .collect();
    let property = if properties.is_empty() { "-".to_owned() } else { properties.join("; ") };
    format!(
        "| `{}` | `{}` | {} | {} | {property} |\n",
        row.key,
        row.asked.replace('|', "\\|"),
        files(row.v2),
        files(row.v1)
    )
}

/// What it says was held against the kernel by the tests above.
#[test]
fn page_of_isolators_is_the_table() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page: String = std::iter::once(HEAD.to_owned()).chain(every_row().map(line)).collect();
    if std::env::var_os("PODRUN_UPDATE_GOLDEN").is_some() {
        std::fs::write(&place, page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(
        written == page,
        "{PAGE} is not what the table says: PODRUN_UPDATE_GOLDEN=1 writes it anew\n{page}"
    );
}

/// No isolator is left out of the table.
#[test]
fn table_has_every_isolator_that_works() {
    let listed =
        Command::new(crate::harness::bin_dir().join("podrun")).args(["explain", "pod.isolators"]).output();
    let listed = String::from_utf8(listed.expect("podrun").stdout).unwrap();
    let named = |line: &str| line.strip_prefix("  ").and_then(|l| l.split(' ').next().map(str::to_owned));
    let working = listed.split("\n\n").find(|part| part.contains("memory-max")).unwrap_or_default();
    for key in working.lines().filter_map(named).filter(|key| !key.is_empty() && key != "on-missing") {
        assert!(every_row().any(|row| row.key == key), "`{key}` is in no table");
    }
}

/// Its main process waits, a child of it is the hog: all of them go, or by the author's word the child alone.
#[test]
fn running_out_of_memory_takes_the_whole_app() {
    let Some(lab) = Lab::open() else { return };
    let hog = |name: &str, then: &str, keys: &str| {
        let limits = "memory-max = \"32MiB\"\nmemory-swap-max = \"0\"\n";
        let words = format!("child-alloc 100000000 ; {then}");
        app(name, &words, &format!("essential = false\n[app.{name}.isolators]\n{limits}{keys}"))
    };
    let apps = [
        hog("unsaid", "pause", ""),
        hog("whole", "pause", "memory-oom-group = true\n"),
        hog("single", "say lived", "memory-oom-group = false\n"),
    ];
    let ended = lab.run(&pod("one", "exit-policy = \"all-exited\"\n", &apps)).expect_code(0);
    let killed = End::Signaled { signal: libc::SIGKILL, core: false };
    for (name, end) in [("unsaid", killed), ("whole", killed), ("single", End::Exited { code: 0 })] {
        let outcome = lab.outcome(name);
        assert_eq!((outcome.end, outcome.oom), (end, Some(OomLevel::App)), "{name}: {ended}");
    }
    assert!(ended.stdout.contains("lived"), "{ended}");
}

/// stage1 lives to tell it.
#[test]
fn memory_oom_group_of_the_pod_takes_all_apps_and_spares_stage1() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "exit-policy = \"all-exited\"\n[pod.isolators]\nmemory-max = \"48MiB\"\nmemory-swap-max = \"0\"\nmemory-oom-group = true\n";
    let apps = [app("calm", "say up ; pause", ""), app("hog", "alloc 100000000", "depends-on = [\"calm\"]")];
    lab.run(&pod("one", keys, &apps));
    let killed = End::Signaled { signal: libc::SIGKILL, core: false };
    for name in ["calm", "hog"] {
        assert_eq!((lab.outcome(name).end, lab.outcome(name).oom), (killed, Some(OomLevel::Pod)), "{name}");
    }
}

//! A walk from state to state, each of any kind, with the kernel read after each step.
//!
//! What is expected of it is worked out here, from the manifest's own words, and not by what podrun has planned.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{
    Ended, Lab, Running, app, below_systemd, driver_name, far, pod, slowness, sys, wait_until,
};
use crate::isolators::disk;

const UP: &str = "on-term 0 ; say up ; pause";
const SCOPES: [&str; 3] = ["", "a", "b"];
const MIB: u64 = 1 << 20;

/// xorshift64*
struct Random(u64);

impl Random {
    fn new() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = std::env::var("PODRUN_TEST_SEED").ok().and_then(|word| word.parse().ok());
        Self(seed.unwrap_or(since.as_secs() << 20 | u64::from(since.subsec_micros())) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }

    fn of<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// What is set of each scope, `""` the pod.
type Model = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

type Values = &'static [&'static str];

/// Keys with their values, of both versions.
const OF_BOTH: [(&str, Values); 10] = [
    ("memory-max", &["64MiB", "96MiB", "128MiB", "max"]),
    ("memory-swap-max", &["0", "16MiB", "max"]),
    ("cpus", &["0.5", "0.2", "0.35"]),
    ("cpu-period", &["20ms", "50ms", "250ms"]),
    ("cpu-burst", &["0ms", "2ms"]),
    ("cpu-weight", &["50", "300", "idle"]),
    ("cpuset", &["0", "1", "0-1"]),
    ("cpuset-mems", &["0"]),
    ("pids-max", &["40", "90", "max"]),
    ("io-max", DISK_LIMITS),
];
/// `DISK` stands for a path on one.
const DISK_LIMITS: Values = &[
    "{ \"DISK\" = { wbps = \"1MiB\" } }",
    "{ \"DISK\" = { rbps = \"2MiB\", wiops = 500 } }",
    "{ \"DISK\" = { rbps = \"3MiB\", wbps = \"1MiB\", riops = 700, wiops = 600 } }",
    "{ \"DISK\" = { rbps = \"max\", riops = 300 } }",
    "{ \"DISK\" = { wbps = \"max\" } }",
];
const OF_V2: [(&str, Values); 7] = [
    ("memory-high", &["32MiB", "48MiB", "max"]),
    ("memory-low", &["16MiB"]),
    ("memory-min", &["4MiB", "8MiB"]),
    ("memory-oom-group", &["true", "false"]),
    ("memory-zswap-max", &["4MiB", "0", "max"]),
    WEIGHTS,
    ("unified", &["{ \"memory.swap.high\" = 8388608 }", "{ \"memory.swap.high\" = \"max\" }"]),
];
/// On v1 where the kernel has BFQ.
const WEIGHTS: (&str, Values) = ("io-weight", &["50", "200"]);
/// On v1, where it is mounted: on v2 nobody hands it down to a pod that runs, and a pod that starts with it is at the root.
const PAGES: (&str, Values) =
    ("hugetlb", &["{ \"2MB\" = \"4MiB\" }", "{ \"2MB\" = \"8MiB\" }", "{ \"2MB\" = \"max\" }"]);
/// With a hierarchy of v1 that the pod is in as well.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];
const ON_V1: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "blkio"];

struct Walk<'l> {
    lab: &'l Lab,
    /// The pod's own group for each controller. Looked for once: every call leaves a launcher's group behind in which it
    /// would be looked for as well.
    groups: BTreeMap<&'static str, PathBuf>,
    model: Model,
    random: Random,
    seed: u64,
    cpus: usize,
    keys: Vec<(&'static str, Values)>,
    /// A path on a disk, and the disk's number.
    disk: (String, String),
    /// Of a systemd that knows it the slice has it.
    zswap_is_slices: bool,
}

impl<'l> Walk<'l> {
    fn new(lab: &'l Lab, model: Model) -> Self {
        let mut controllers = if lab.is_unified() { CONTROLLERS } else { ON_V1 }.to_vec();
        let mut keys = OF_BOTH.to_vec();
        if lab.is_unified() {
            keys.extend(OF_V2);
        } else {
            let has_bfq = lab.group("blkio").join("blkio.bfq.weight").exists();
            keys.extend(has_bfq.then_some(WEIGHTS));
            keys.extend(limits_pages().then_some(PAGES));
            controllers.extend(limits_pages().then_some("hugetlb"));
        }
        let groups = controllers.into_iter().map(|controller| (controller, lab.pod_group(controller, "")));
        let (groups, random) = (groups.collect(), Random::new());
        let zswap_is_slices = driver_name() == "systemd" && crate::systemd::version() >= 253;
        Self {
            lab,
            groups,
            model,
            seed: random.0,
            random,
            cpus: count_cpus(),
            keys,
            disk: disk(),
            zswap_is_slices,
        }
    }

    /// A change that the manifest and both versions take.
    fn next(&mut self) -> (&'static str, Vec<String>) {
        let scope = SCOPES[usize::try_from(self.random.below(3)).unwrap()];
        let mut own = self.model[scope].clone();
        for _ in 0..=self.random.below(4) {
            let (key, values) =
                self.keys[usize::try_from(self.random.below(self.keys.len() as u64)).unwrap()];
            if self.random.below(4) == 0 {
                own.remove(key);
                continue;
            }
            let mut value = self.random.of(values).replace("DISK", &self.disk.0);
            // The pod's is never less than an app's.
            if key == "cpus" && scope.is_empty() {
                value = format!("{}", value.parse::<f64>().unwrap() + 0.5);
            }
            if key == "memory-low" && scope.is_empty() {
                value = "32MiB".into();
            }
            if key == "memory-min" && scope.is_empty() {
                value = "16MiB".into();
            }
            own.insert(key, value);
        }
        self.mend(scope, &mut own);
        let before = &self.model[scope];
        let set = own.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let mut changes: Vec<String> = set.map(|(key, value)| format!("{key}={value}")).collect();
        changes.extend(before.keys().filter(|key| !own.contains_key(*key)).map(|key| format!("{key}=")));
        self.model.insert(scope, own);
        (scope, changes)
    }

    /// Drops what is refused beside the rest.
    fn mend(&self, scope: &str, own: &mut BTreeMap<&'static str, String>) {
        if !own.contains_key("cpus") {
            own.remove("cpu-period");
            own.remove("cpu-burst");
        }
        if own.get("memory-max").is_none_or(|max| max == "max") {
            own.remove("memory-swap-max");
        }
        let is_max = |key: &str| own.get(key).is_some_and(|value| value == "max");
        if is_max("memory-high") && own.contains_key("memory-max") && !is_max("memory-max") {
            own.remove("memory-high");
        }
        if scope.is_empty() && !self.lab.is_unified() {
            self.mend_pod_of_v1(own);
        }
        let outer = if scope.is_empty() { None } else { self.model[""].get("cpuset") };
        let fits = |outer: &str, inner: &str| outer == "0-1" || outer == inner;
        let apps = SCOPES.iter().filter(|other| scope.is_empty() && !other.is_empty());
        let mut inner = apps.filter_map(|other| self.model[other].get("cpuset"));
        let set = own.get("cpuset").cloned();
        let is_wrong = set.is_some_and(|set| {
            self.cpus < 2
                || outer.is_some_and(|outer| !fits(outer, &set))
                || inner.any(|inner| !fits(&set, inner))
        });
        if is_wrong {
            match self.model[scope].get("cpuset") {
                Some(before) => drop(own.insert("cpuset", before.clone())),
                None => drop(own.remove("cpuset")),
            }
        }
    }

    fn mend_pod_of_v1(&self, own: &mut BTreeMap<&'static str, String>) {
        // No limit of a group's disks holds for those below it.
        own.remove("io-max");
        if driver_name() == "systemd" {
            // For idle systemd gives the least shares, which is something else, and for disks only slices have shares.
            if own.get("cpu-weight").is_some_and(|weight| weight == "idle") {
                own.remove("cpu-weight");
            }
            own.remove("io-weight");
        }
    }

    fn group(&self, scope: &str, controller: &str) -> PathBuf {
        let own = &self.groups[controller];
        if scope.is_empty() { own.clone() } else { own.join(format!("app-{scope}")) }
    }

    #[track_caller]
    fn expect(&self, scope: &str, file: &str, expected: &str) {
        self.expect_in(self.group(scope, file.split('.').next().unwrap()), file, expected);
    }

    #[track_caller]
    fn expect_in(&self, group: PathBuf, file: &str, expected: &str) {
        let path = group.join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let shown = text.trim_end();
        let is_free = expected == "max" && shown.parse::<u64>().is_ok_and(|number| number >= 1 << 62);
        assert!(
            shown == expected || is_free,
            "{} shows `{shown}`, expected `{expected}`; PODRUN_TEST_SEED={} {:#?}",
            path.display(),
            self.seed,
            self.model
        );
    }

    /// The slice has what systemd can express.
    fn outer(&self, scope: &str, controller: &str) -> PathBuf {
        let own = self.group(scope, controller);
        if scope.is_empty() && driver_name() == "systemd" { own.join("../..") } else { own }
    }

    fn verify(&self) {
        for scope in SCOPES {
            let own = &self.model[scope];
            let get = |key: &str| own.get(key).map(String::as_str);
            self.verify_memory(scope, &get);
            self.verify_cpu(scope, &get);
            self.verify_cpuset(scope, &get);
            self.expect_in(self.outer(scope, "pids"), "pids.max", get("pids-max").unwrap_or("max"));
            if self.lab.is_unified() {
                self.verify_v2(scope, &get);
            } else {
                self.verify_v1(scope, &get);
            }
        }
    }

    fn verify_memory<'v>(&self, scope: &str, get: &impl Fn(&str) -> Option<&'v str>) {
        let max = bytes(get("memory-max"));
        let file = if self.lab.is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
        self.expect_in(self.outer(scope, "memory"), file, &max);
        let swap = get("memory-swap-max").filter(|swap| *swap != "max");
        if self.lab.is_unified() {
            self.expect_in(self.outer(scope, "memory"), "memory.swap.max", &bytes(swap));
            return;
        }
        let sum = swap.map(|swap| max.parse::<u64>().unwrap() + bytes(Some(swap)).parse::<u64>().unwrap());
        let sum = sum.map_or("max".to_owned(), |sum| sum.to_string());
        self.expect(scope, "memory.memsw.limit_in_bytes", &sum);
        if scope.is_empty() && driver_name() == "systemd" {
            self.expect(scope, "memory.limit_in_bytes", if swap.is_some() { &max } else { "max" });
        }
    }

    fn verify_cpu<'v>(&self, scope: &str, get: &impl Fn(&str) -> Option<&'v str>) {
        let period = get("cpu-period")
            .map_or(100_000, |text| text.trim_end_matches("ms").parse::<u64>().unwrap() * 1000);
        let amount = get("cpus").map(|text| (text.parse::<f64>().unwrap() * 100.0).round() as u64);
        let burst = get("cpu-burst").map_or("0", |text| if text == "2ms" { "2000" } else { "0" });
        let quota = amount.map(|percent| percent * period / 100);
        // Below a quota of systemd's there would be nothing to save up.
        let is_own = scope.is_empty() && driver_name() == "systemd" && burst != "0";
        let place = if is_own { self.group(scope, "cpu") } else { self.outer(scope, "cpu") };
        let (file, prefix) =
            if self.lab.is_unified() { ("cpu.max.burst", "max") } else { ("cpu.cfs_burst_us", "-1") };
        let shown = quota.map_or(format!("{prefix} 100000"), |quota| format!("{quota} {period}"));
        if self.lab.is_unified() {
            self.expect_in(place, "cpu.max", &shown);
        } else {
            let (quota, period) = shown.split_once(' ').unwrap();
            self.expect_in(place.clone(), "cpu.cfs_quota_us", quota);
            self.expect_in(place, "cpu.cfs_period_us", period);
        }
        self.expect(scope, file, burst);
        let weight = get("cpu-weight").unwrap_or("100");
        let place = self.outer(scope, "cpu");
        self.expect_in(place.clone(), "cpu.idle", if weight == "idle" { "1" } else { "0" });
        if let Ok(number) = weight.parse::<u64>() {
            let (file, number) = if self.lab.is_unified() {
                ("cpu.weight", number)
            } else {
                ("cpu.shares", number * 1024 / 100)
            };
            self.expect_in(place, file, &number.to_string());
        }
    }

    fn verify_cpuset<'v>(&self, scope: &str, get: &impl Fn(&str) -> Option<&'v str>) {
        let all = if self.cpus < 2 { "0" } else { "0-1" };
        if !self.lab.is_unified() {
            let pods = self.model[""].get("cpuset").map_or(all, String::as_str);
            self.expect(scope, "cpuset.cpus", get("cpuset").unwrap_or(pods));
        } else if let Some(set) = get("cpuset") {
            self.expect_in(self.outer(scope, "cpuset"), "cpuset.cpus", set);
        } else {
            let text = std::fs::read_to_string(self.outer(scope, "cpuset").join("cpuset.cpus")).unwrap();
            assert!(["", all].contains(&text.trim()), "{text}");
        }
        let nodes = std::fs::read_to_string(self.outer(scope, "cpuset").join("cpuset.mems")).unwrap();
        let all = std::fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or("0".into());
        match get("cpuset-mems").or((!self.lab.is_unified()).then_some(all.trim())) {
            // Of the pod's nodes when it has some.
            None => assert!(["", "0", all.trim()].contains(&nodes.trim()), "{nodes}"),
            Some(set) => {
                let is_inherited = get("cpuset-mems").is_none() && nodes.trim() == "0";
                assert!(nodes.trim() == set || is_inherited, "{scope} {nodes}, expected {set}");
            }
        }
    }

    /// What is asked for a disk, of which a `max` counts as nothing.
    fn disk_limits(&self, table: Option<&str>) -> BTreeMap<String, u64> {
        let Some(table) = table else { return BTreeMap::new() };
        let parsed: BTreeMap<String, BTreeMap<String, BTreeMap<String, toml::Value>>> =
            toml::from_str(&format!("key = {table}")).expect("a table of tables");
        let limits = parsed["key"][&self.disk.0].iter().filter_map(|(name, value)| match value {
            toml::Value::Integer(number) => Some((name.clone(), u64::try_from(*number).unwrap())),
            value => Some((name.clone(), bytes(value.as_str()).parse().ok()?)),
        });
        limits.collect()
    }

    fn verify_v1<'v>(&self, scope: &str, get: &impl Fn(&str) -> Option<&'v str>) {
        let limits = self.disk_limits(get("io-max"));
        let files =
            [("rbps", "read_bps"), ("wbps", "write_bps"), ("riops", "read_iops"), ("wiops", "write_iops")];
        for (name, file) in files {
            let line = limits.get(name).map(|limit| format!("{} {limit}", self.disk.1));
            self.expect(scope, &format!("blkio.throttle.{file}_device"), &line.unwrap_or_default());
        }
        if self.group(scope, "blkio").join("blkio.bfq.weight").exists() {
            let weight = match get("io-weight") {
                Some("200") => "109",
                weight => weight.unwrap_or("100"),
            };
            self.expect(scope, "blkio.bfq.weight", weight);
        }
        if limits_pages() {
            let limit = get("hugetlb").and_then(|table| table.split('"').nth(3));
            for file in ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"] {
                self.expect(scope, file, &bytes(limit));
            }
        }
    }

    fn verify_v2<'v>(&self, scope: &str, get: &impl Fn(&str) -> Option<&'v str>) {
        let memory = self.outer(scope, "memory");
        self.expect_in(memory.clone(), "memory.high", &bytes(get("memory-high")));
        self.expect_in(memory.clone(), "memory.low", &bytes(Some(get("memory-low").unwrap_or("0"))));
        self.expect_in(memory, "memory.min", &bytes(Some(get("memory-min").unwrap_or("0"))));
        let of_app = if scope.is_empty() { "false" } else { "true" };
        let group = if get("memory-oom-group").unwrap_or(of_app) == "true" { "1" } else { "0" };
        self.expect(scope, "memory.oom.group", group);
        // The controller comes with the first of them.
        let place = self.outer(scope, "memory");
        if get("io-weight").is_some() || place.join("io.weight").exists() {
            self.expect_in(place, "io.weight", &format!("default {}", get("io-weight").unwrap_or("100")));
        }
        let limits = self.disk_limits(get("io-max"));
        let place = self.outer(scope, "io");
        if !limits.is_empty() || place.join("io.max").exists() {
            let word = |name: &str| limits.get(name).map_or("max".to_owned(), u64::to_string);
            let (reads, writes) = (word("rbps"), word("wbps"));
            let rest = format!("riops={} wiops={}", word("riops"), word("wiops"));
            let line = format!("{} rbps={reads} wbps={writes} {rest}", self.disk.1);
            self.expect_in(place, "io.max", if limits.is_empty() { "" } else { &line });
        }
        let place =
            if self.zswap_is_slices { self.outer(scope, "memory") } else { self.group(scope, "memory") };
        self.expect_in(place, "memory.zswap.max", &bytes(get("memory-zswap-max")));
        let high =
            if get("unified").is_some_and(|table| table.contains("8388608")) { "8388608" } else { "max" };
        self.expect(scope, "memory.swap.high", high);
    }
}

/// Huge pages have a hierarchy of v1.
fn limits_pages() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").expect("the own groups").lines().any(|line| {
        line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == "hugetlb"))
    })
}

fn bytes(size: Option<&str>) -> String {
    match size {
        None | Some("max") => "max".to_owned(),
        Some(size) => (size.trim_end_matches("MiB").parse::<u64>().unwrap()
            * if size == "0" { 1 } else { MIB })
        .to_string(),
    }
}

/// In every hierarchy of v1 that has one of the keys.
fn start(lab: &Lab) -> (Running, Model) {
    let mut pods = "[pod.isolators]\ncpus = 1\npids-max = 90\nmemory-max = \"128MiB\"\n".to_owned();
    let mut own = BTreeMap::from([("cpus", "1".to_owned()), ("pids-max", "90".to_owned())]);
    own.insert("memory-max", "128MiB".to_owned());
    let cpus = if count_cpus() < 2 { "0" } else { "0-1" };
    pods.push_str(&format!("cpuset = \"{cpus}\"\n"));
    own.insert("cpuset", cpus.to_owned());
    let mut of_a = BTreeMap::from([("io-max", DISK_LIMITS[0].replace("DISK", &disk().0))]);
    if !lab.is_unified() && limits_pages() {
        of_a.insert("hugetlb", PAGES.1[0].to_owned());
    }
    let keys: String = of_a.iter().map(|(key, value)| format!("isolators.{key} = {value}\n")).collect();
    let running = lab.start(&pod("one", &pods, &[app("a", UP, &keys), app("b", UP, "")]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    (running, BTreeMap::from([("", own), ("a", of_a), ("b", BTreeMap::new())]))
}

fn count_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn walk(steps: u32, step: impl Fn(&Lab, &[&str])) {
    let Some(lab) = Lab::open() else { return };
    let (running, model) = start(&lab);
    let mut walk = Walk::new(&lab, model);
    let seed = walk.seed;
    walk.verify();
    for _ in 0..steps {
        let (scope, changes) = walk.next();
        if changes.is_empty() {
            continue;
        }
        let address = if scope.is_empty() { "one".to_owned() } else { format!("one/{scope}") };
        let arguments: Vec<&str> =
            ["update", &address].into_iter().chain(changes.iter().map(String::as_str)).collect();
        step(&lab, &arguments);
        let ended = lab.call(&arguments);
        assert_eq!(ended.code, 0, "PODRUN_TEST_SEED={seed} {arguments:?} to {:#?}\n{ended}", walk.model);
        walk.verify();
    }
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
}

#[test]
fn any_state_leads_to_any_other() {
    walk(200, |_, _| {});
}

#[test]
fn any_state_leads_to_any_other_below_systemd() {
    // A machine is slow, and there each of these makes systemd talk too.
    below_systemd(|| walk(if slowness() == 1 { 200 } else { 60 }, |_, _| {}));
}

/// So many changes that are killed, and less in a machine that is slow: each waits for one that is not.
pub(super) fn kills(count: u32) -> u32 {
    if slowness() == 1 { count } else { count / 3 }
}

/// It is killed at any moment, and the same once more puts it right. One that does nothing takes as long as this one does
/// until it begins to write, and the moments lie around that.
fn kill_on_the_way(lab: &Lab, arguments: &[&str]) {
    signal_on_the_way(lab, arguments, libc::SIGKILL);
}

pub(super) fn signal_on_the_way(lab: &Lab, arguments: &[&str], signal: i32) -> Ended {
    let mut random = Random::new();
    let (command, rest) = arguments.split_first().unwrap();
    let usual = lab.call(&[&[*command, "-n"], rest].concat()).expect_code(0).time.as_micros();
    let usual = u64::try_from(usual).unwrap();
    let moment = Duration::from_micros(usual * 3 / 4 + random.below(usual * 3 / 4));
    let running = Running::spawn(&mut lab.podrun(arguments));
    let pidfd = sys::pidfd(running.pid()).expect("pidfd of a child");
    if !sys::ends_within(&pidfd, moment) {
        sys::kill_pidfd(&pidfd, signal).expect("pidfd_send_signal");
    }
    running.wait()
}

#[test]
fn change_that_is_killed_is_put_right_by_the_same_again() {
    walk(kills(30), kill_on_the_way);
}

/// Not by the same, but by whatever comes next.
#[test]
fn change_that_is_killed_is_put_right_by_another_one() {
    let Some(lab) = Lab::open() else { return };
    let (running, model) = start(&lab);
    let mut walk = Walk::new(&lab, model);
    for round in 0..kills(30) {
        kill_on_the_way(
            &lab,
            &["update", "one/a", "cpus=0.35", "cpu-burst=2ms", "cpu-weight=300", "memory-max=96MiB"],
        );
        let weight = if round % 2 == 0 { "50" } else { "300" };
        lab.call(&["update", "one/b", &format!("cpu-weight={weight}")]).expect_code(0);
        walk.model.get_mut("b").unwrap().insert("cpu-weight", weight.to_owned());
        let is_done = lab.call(&["cat", "one"]).stdout.contains("0.35");
        let keys = [("cpus", "0.35"), ("cpu-burst", "2ms"), ("cpu-weight", "300"), ("memory-max", "96MiB")];
        let before = walk.model["a"].clone();
        if is_done {
            walk.model.get_mut("a").unwrap().extend(keys.map(|(key, value)| (key, value.to_owned())));
        }
        walk.verify();
        lab.call(&["update", "one/a", "cpus=", "cpu-burst=", "cpu-weight=", "memory-max="]).expect_code(0);
        walk.model.insert("a", before);
        walk.verify();
    }
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
}

//! What the kernel does with limits of memory and disks, beyond the value in the file. Those of CPU time are in
//! `cpu_shares`, of processes and CPU sets in `limits`, of devices in `devices`, the OOM killer's in `memory`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use podrun_abi::event::OomLevel;

use crate::harness::{Lab, Running, app, pod, require, sys, text, wait_until};

const MIB: u64 = 1 << 20;

/// A number of a file of a group.
#[track_caller]
fn count(lab: &Lab, group: &str, file: &str, key: &str) -> u64 {
    let text = lab.group_file("memory", group, file);
    text::value(&text, key).unwrap_or(&text).parse().unwrap_or_else(|_| panic!("{file} of {group}: {text}"))
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    Running::spawn(Command::new(program).args(arguments)).wait().expect_code(0);
}

fn stop(running: Running) {
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// Without swap nothing of its memory can be taken back, so that every further piece of it makes the app wait.
#[test]
fn app_above_memory_high_goes_on_slowly() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let words = format!("on-term 0 ; alloc-hold {}", 64 * MIB);
    let keys = "isolators.memory-high = \"16MiB\"\nisolators.memory-swap-max = \"0\"";
    let running = lab.start(&pod("one", "", &[app("slowed", &words, keys), app("free", &words, "")]));
    running.wait_for("allocated");
    wait_until("it is above", || count(&lab, "app-slowed", "memory.events", "high") > 0);
    let (slowed, free) =
        (count(&lab, "app-slowed", "memory.current", ""), count(&lab, "app-free", "memory.current", ""));
    assert!(slowed < 48 * MIB && free >= 64 * MIB, "slowed {slowed}, free {free}");
    assert_eq!(count(&lab, "app-slowed", "memory.events", "oom_kill"), 0);
    assert_eq!(running.stdout_so_far().matches("allocated").count(), 1, "both were as quick");
    stop(running);
}

/// An app root with files that are nothing but holes, on a disk and not in memory.
pub(crate) struct Holes(PathBuf);

impl Holes {
    pub(crate) fn create(lab: &Lab, files: &[(&str, u64)]) -> Self {
        let root = Path::new("/var/tmp").join(lab.name());
        let (from, to) = (lab.rootfs(), root.as_os_str());
        let holes = Self(root.clone());
        run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
        for (name, bytes) in files {
            File::create(root.join(name)).unwrap().set_len(*bytes).unwrap();
        }
        holes
    }

    pub(crate) fn root(&self) -> &str {
        self.0.to_str().expect("a path of ours")
    }
}

impl Drop for Holes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Three apps have read a file each, and a fourth uses so much that not all can stay in the cache.
#[test]
fn memory_low_and_min_keep_what_an_app_has_from_its_siblings() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let holes = Holes::create(&lab, &["low", "min", "taken"].map(|name| (name, 20 * MIB)));
    let of_holes = |name: &str, words: &str, keys: &str| {
        let words = format!("on-term 0 ; {words} ; pause");
        app(name, &words, &format!("rootfs-mode = \"writable\"\n{keys}")).replace("@ROOTFS@", holes.root())
    };
    let apps = [
        of_holes("low", "read-through /low ; say low-read", "isolators.memory-low = \"24MiB\""),
        of_holes("min", "read-through /min ; say min-read", "isolators.memory-min = \"24MiB\""),
        of_holes("taken", "read-through /taken ; say taken-read", ""),
        of_holes("hog", &format!("wait-file /go 600 ; alloc-hold {}", 36 * MIB), ""),
    ];
    let running = lab.start(&pod("one", "[pod.isolators]\nmemory-max = \"84MiB\"\n", &apps));
    let names = ["low", "min", "taken"];
    names.iter().for_each(|name| running.wait_for(&format!("{name}-read")));
    let cached = |name: &str| count(&lab, &format!("app-{name}"), "memory.stat", "file") / MIB;
    let before = names.map(cached);
    assert!(before.into_iter().all(|size| size >= 19), "{before:?} MiB");
    fs::write(holes.0.join("go"), "").unwrap();
    running.wait_for("allocated");
    let [low, min, taken] = names.map(cached);
    println!("of 20 MiB each: low {low}, min {min}, without a guarantee {taken}");
    assert!(low >= 18 && min >= 18 && taken <= 12, "low {low}, min {min}, without a guarantee {taken}");
    stop(running);
}

/// Swap of this machine that goes with the value.
struct Swap(PathBuf);

impl Swap {
    fn on(lab: &Lab, bytes: usize) -> Self {
        let file = Path::new("/var/tmp").join(lab.name());
        let swap = Self(file.clone());
        // Without holes (swapon(8)).
        fs::write(&file, vec![0; bytes]).unwrap();
        let path = file.to_str().unwrap();
        run("chmod", &["600", path]);
        run("mkswap", &[path]);
        run("swapon", &[path]);
        swap
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(&self.0).status();
        let _ = fs::remove_file(&self.0);
    }
}

/// Pages that the kernel has written to swap since it was started.
fn swapped_out() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    text::value(&text, "pswpout").and_then(|count| count.parse().ok()).expect("a count")
}

/// Twice what it may have, with swap on the machine that would take the rest.
#[test]
fn app_that_may_not_swap_is_killed_where_another_swaps() {
    if !require::throwaway() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let _swap = Swap::on(&lab, 96 << 20);
    let hog = |swap: &str| {
        let keys = format!("isolators.memory-max = \"32MiB\"\nisolators.memory-swap-max = \"{swap}\"");
        pod("one", "", &[app("a", &format!("alloc {}", 64 * MIB), &keys)])
    };
    let before = swapped_out();
    lab.run(&hog("0")).expect_code(137);
    assert_eq!(lab.outcome("a").oom, Some(OomLevel::App));
    let written = swapped_out() - before;
    assert!(written < 256, "{written} pages were swapped");
    lab.call(&["rm", "one"]).expect_code(0);
    lab.run(&hog("64MiB")).expect_code(0);
    let written = swapped_out() - before;
    assert!(written > 4096, "only {written} pages were swapped");
}

/// A disk that is a file.
struct Disk {
    node: String,
    /// The device goes with its last close, also when this test is killed.
    _open: File,
}

impl Disk {
    /// `None` where there can be none.
    fn make(lab: &Lab, name: &str, bytes: u64) -> Option<Self> {
        const CONTROL: &str = "/dev/loop-control";
        if !Path::new(CONTROL).exists() {
            // A machine without udev has the module and has not loaded it.
            let _ = Command::new("modprobe").args(["-q", "loop"]).status();
        }
        if !Path::new(CONTROL).exists() {
            sys::tell("not here: no loop device can be made\n");
            return None;
        }
        let file = lab.path(&format!("disk-{name}"));
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let made = Running::spawn(Command::new("losetup").args(["--find", "--show"]).arg(&file)).wait();
        let node = made.expect_code(0).stdout.trim().to_owned();
        let open = File::open(&node).expect("the new device");
        run("losetup", &["--detach", &node]);
        Some(Self { node, _open: open })
    }
}

/// What an app does with a disk of its own, and the limit of it.
struct Transfer {
    app: &'static str,
    /// Blocks of so many bytes, one after the other.
    words: &'static str,
    count: u64,
    block: u64,
    /// Of `io-max`.
    limit: &'static str,
    /// What that is in bytes.
    bytes_per_second: u64,
}

/// Each takes three seconds. The last is bound by its pod.
const TRANSFERS: [Transfer; 5] = [
    Transfer {
        app: "wbps",
        words: "write-direct",
        count: 24,
        block: MIB / 4,
        limit: "wbps = \"2MiB\"",
        bytes_per_second: 2 * MIB,
    },
    Transfer {
        app: "rbps",
        words: "read-direct",
        count: 24,
        block: MIB / 4,
        limit: "rbps = \"2MiB\"",
        bytes_per_second: 2 * MIB,
    },
    Transfer {
        app: "wiops",
        words: "write-direct",
        count: 192,
        block: 4096,
        limit: "wiops = 64",
        bytes_per_second: 64 * 4096,
    },
    Transfer {
        app: "riops",
        words: "read-direct",
        count: 192,
        block: 4096,
        limit: "riops = 64",
        bytes_per_second: 64 * 4096,
    },
    Transfer {
        app: "of-pod",
        words: "write-direct",
        count: 24,
        block: MIB / 4,
        limit: "wbps = \"2MiB\"",
        bytes_per_second: 2 * MIB,
    },
];

/// How many bytes a second each of them gets, all at once.
fn speeds(lab: &Lab, disks: &[(&Transfer, Disk)], is_limited: bool) -> Vec<u64> {
    let mut of_pod = String::new();
    let mut apps = Vec::new();
    for (transfer, Disk { node, .. }) in disks {
        let mut keys = format!("devices = [\"{node}:rw\"]\n");
        let limit = format!("isolators.io-max = {{ \"{node}\" = {{ {} }} }}", transfer.limit);
        match transfer.app {
            _ if !is_limited => {}
            "of-pod" => of_pod = limit,
            _ => keys.push_str(&limit),
        }
        let words = format!("{} {node} {} {}", transfer.words, transfer.count, transfer.block);
        apps.push(app(transfer.app, &words, &keys));
    }
    let path = lab.manifest(&pod("one", &of_pod, &apps));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    lab.call(&["rm", "one"]).expect_code(0);
    let speed = |(transfer, _): &(&Transfer, Disk)| {
        let told = text::of_app(&ended.stdout, transfer.app);
        let number = text::value(&told, "bytes-per-second").and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{}: {ended}", transfer.app))
    };
    disks.iter().map(speed).collect()
}

/// Past the cache, so that whoever reads and writes waits itself.
#[test]
fn direct_reads_and_writes_are_as_fast_as_io_max_says() {
    let Some(lab) = Lab::open() else { return };
    // On v1 a pod can have no such limit, and is told so.
    let is_possible = |transfer: &&Transfer| lab.is_unified() || transfer.app != "of-pod";
    let made = TRANSFERS.iter().filter(is_possible);
    let made: Option<Vec<_>> =
        made.map(|transfer| Some((transfer, Disk::make(&lab, transfer.app, 16 * MIB)?))).collect();
    let Some(disks) = made else { return };
    let (bound, free) = (speeds(&lab, &disks, true), speeds(&lab, &disks, false));
    for (((transfer, _), bound), free) in disks.iter().zip(bound).zip(free) {
        let (limit, whose) = (transfer.bytes_per_second, transfer.app);
        println!("{whose}: {bound} of {limit} bytes a second, {free} without a limit");
        assert!(bound <= limit * 12 / 10, "{whose}: {bound} bytes a second, {limit} allowed");
        assert!(free > 2 * limit, "{whose}: without a limit {free} bytes a second");
        // Where even who has no limit waits so long, it is others that it waits for.
        assert!(
            bound >= limit * 8 / 10 || free < 10 * limit,
            "{whose}: {bound} bytes a second, {limit} allowed, {free} without a limit"
        );
    }
}

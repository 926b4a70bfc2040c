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
struct Holes(PathBuf);

impl Holes {
    fn create(lab: &Lab, files: &[(&str, u64)]) -> Self {
        let root = Path::new("/var/tmp").join(lab.name());
        let (from, to) = (lab.rootfs(), root.as_os_str());
        let holes = Self(root.clone());
        run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
        for (name, bytes) in files {
            File::create(root.join(name)).unwrap().set_len(*bytes).unwrap();
        }
        holes
    }
}

impl Drop for Holes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two apps have read a file each, and a third uses so much that not both can stay in the cache.
#[test]
fn memory_low_keeps_what_an_app_has_from_its_siblings() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let holes = Holes::create(&lab, &[("kept", 20 * MIB), ("taken", 20 * MIB)]);
    let of_holes = |name: &str, words: &str, keys: &str| {
        let words = format!("on-term 0 ; {words} ; pause");
        app(name, &words, &format!("rootfs-mode = \"writable\"\n{keys}"))
            .replace("@ROOTFS@", holes.0.to_str().unwrap())
    };
    let apps = [
        of_holes("kept", "read-through /kept ; say read-it", "isolators.memory-low = \"24MiB\""),
        of_holes("taken", "read-through /taken ; say read-too", ""),
        of_holes("hog", &format!("wait-file /go 600 ; alloc-hold {}", 36 * MIB), ""),
    ];
    let running = lab.start(&pod("one", "[pod.isolators]\nmemory-max = \"64MiB\"\n", &apps));
    running.wait_for("read-it");
    running.wait_for("read-too");
    let cached = |name: &str| count(&lab, &format!("app-{name}"), "memory.stat", "file") / MIB;
    let before = [cached("kept"), cached("taken")];
    assert!(before.into_iter().all(|size| size >= 19), "{before:?} MiB");
    fs::write(holes.0.join("go"), "").unwrap();
    running.wait_for("allocated");
    let (kept, taken) = (cached("kept"), cached("taken"));
    assert!(kept >= 18 && taken <= 12, "kept {kept} MiB of 20, without a guarantee {taken}");
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
    fn make(lab: &Lab, bytes: u64) -> Option<Self> {
        const CONTROL: &str = "/dev/loop-control";
        if !Path::new(CONTROL).exists() {
            // A machine without udev has the module and has not loaded it.
            let _ = Command::new("modprobe").args(["-q", "loop"]).status();
        }
        if !Path::new(CONTROL).exists() {
            sys::tell("not here: no loop device can be made\n");
            return None;
        }
        let file = lab.path("disk");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let made = Running::spawn(Command::new("losetup").args(["--find", "--show"]).arg(&file)).wait();
        let node = made.expect_code(0).stdout.trim().to_owned();
        let open = File::open(&node).expect("the new device");
        run("losetup", &["--detach", &node]);
        Some(Self { node, _open: open })
    }
}

/// Past the cache, so that the writer itself waits.
#[test]
fn direct_writes_are_as_fast_as_io_max_says() {
    let Some(lab) = Lab::open() else { return };
    let Some(disk) = Disk::make(&lab, 16 * MIB) else { return };
    let node = &disk.node;
    let speed = |keys: &str| {
        let keys = format!("devices = [\"{node}:rw\"]\n{keys}");
        let words = format!("write-direct {node} 24 {}", MIB / 4);
        let ended = lab.run(&pod("one", "", &[app("a", &words, &keys)])).expect_code(0);
        lab.call(&["rm", "one"]).expect_code(0);
        ended.number("bytes-per-second")
    };
    let limit = 2 * MIB;
    let bound = speed(&format!("isolators.io-max = {{ \"{node}\" = {{ wbps = \"2MiB\" }} }}"));
    let free = speed("");
    assert!(bound <= limit * 12 / 10, "{bound} bytes a second, {limit} allowed");
    assert!(free > 2 * limit, "without a limit {free} bytes a second");
    // Where even an unlimited writer waits so long, it is others that it waits for.
    assert!(bound >= limit * 8 / 10 || free < 10 * limit, "{bound} bytes a second, {limit} allowed");
}

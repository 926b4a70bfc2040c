//! [`Lab`]: one test's own podrun root, app root and cgroups, and the proof that nothing of its pods is left.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use podrun_abi::event::{End, Event, OomLevel, Outcome, Record};

use super::driver;
use super::groups::Groups;
use super::process::{Ended, Running, copy_program};
use super::turn::{Turn, place};
use super::wait::wait_until;
use super::{bin_dir, require, sys};

/// One test's own place. When it goes, everything of its pods must be gone.
pub struct Lab {
    dir: PathBuf,
    groups: Groups,
    host_mounts: Vec<String>,
    manifests: AtomicU32,
    /// Says to other test runs that this lab is in use.
    _lock: File,
    _turn: Turn,
}

impl Lab {
    /// `None` where pods cannot be run.
    pub fn open() -> Option<Self> {
        require::root().then(|| Self::with(Turn::shared()))
    }

    /// The same, with no other test running meanwhile, and before everything else on the machine.
    pub fn open_alone() -> Option<Self> {
        let lab = require::root().then(|| Self::with(Turn::alone()))?;
        lab.groups.take_precedence();
        Some(lab)
    }

    fn with(turn: Turn) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        // A sweep must not meet a folder whose lock is not held yet.
        let register = register();
        let label = format!("test-podrun-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = place().join(&label);
        fs::create_dir(&dir).expect("a folder of its own");
        let lock = File::create(dir.join("lock")).expect("a lock file");
        lock.try_lock().expect("nobody else knows this file");
        drop(register);
        let host_mounts = mounts(&dir);
        let groups = Groups::create(&label);
        let lab = Self { dir, groups, host_mounts, manifests: AtomicU32::new(0), _lock: lock, _turn: turn };
        build_rootfs(&lab.rootfs());
        lab
    }

    /// A name that nobody else has.
    pub fn name(&self) -> String {
        self.dir.file_name().expect("a folder has a name").to_string_lossy().into_owned()
    }

    /// `PODRUN_ROOT`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A root directory for apps, with the probe in it.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path in the lab's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a manifest; `@ROOTFS@` stands for the lab's app root.
    pub fn manifest(&self, text: &str) -> PathBuf {
        let number = self.manifests.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("pod-{number}.toml"));
        let rootfs = self.rootfs();
        fs::write(&path, text.replace("@ROOTFS@", &rootfs.to_string_lossy())).expect("a manifest");
        path
    }

    /// `podrun` with these arguments, below the lab's groups.
    pub fn podrun(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(bin_dir().join("podrun"));
        command.args(arguments);
        command
    }

    /// Any program, below the lab's groups and with its podrun root.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PODRUN_ROOT", self.root()).env("NO_COLOR", "1").env("PODRUN_DRIVER", driver::name());
        command.current_dir(&self.dir);
        sys::join_before_exec(&mut command, self.groups.open_procs());
        command
    }

    /// `podrun` with these arguments, to its end.
    #[track_caller]
    pub fn call(&self, arguments: &[&str]) -> Ended {
        Running::spawn(&mut self.podrun(arguments)).wait()
    }

    /// `podrun run` in the foreground.
    pub fn start(&self, manifest: &str) -> Running {
        self.start_with(&[], manifest)
    }

    pub fn start_with(&self, flags: &[&str], manifest: &str) -> Running {
        let path = self.manifest(manifest);
        let arguments =
            [&["run", "--no-log-prefix"], flags, &[path.to_str().expect("a path of ours")]].concat();
        Running::spawn(&mut self.podrun(&arguments))
    }

    /// `podrun run` in the foreground, to its end.
    #[track_caller]
    pub fn run(&self, manifest: &str) -> Ended {
        self.start(manifest).wait()
    }

    /// `podrun status POD -o json`.
    #[track_caller]
    pub fn status(&self, pod: &str) -> serde_json::Value {
        self.call(&["status", pod, "-o", "json"]).json()
    }

    /// The directories of the lab's pods.
    pub fn pod_dirs(&self) -> Vec<PathBuf> {
        entries(&self.root().join("pods"))
    }

    /// What the only pod of the lab has told so far.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        let dirs = self.pod_dirs();
        assert_eq!(dirs.len(), 1, "one pod has a directory");
        let text = fs::read_to_string(dirs[0].join("events.jsonl")).unwrap_or_default();
        let parse = |line: &str| serde_json::from_str::<Record>(line).expect("a record").event;
        text.lines().map(parse).collect()
    }

    /// The same as text, also while there is no pod yet.
    pub fn events_so_far(&self) -> String {
        let read = |dir: &PathBuf| fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
        self.pod_dirs().iter().map(read).collect()
    }

    /// How an app of the only pod ended.
    #[track_caller]
    pub fn outcome(&self, app: &str) -> Outcome {
        let events = self.events();
        let ended = events.iter().rev().find_map(|event| match event {
            Event::Ended { app: name, outcome } if name == app => Some(outcome.clone()),
            _ => None,
        });
        ended.unwrap_or_else(|| panic!("`{app}` has not ended: {events:#?}"))
    }

    /// The OOM killer took one of the two apps for the limit of the pod. Both, where the kernel is in need again before
    /// the first one's memory has come back; the other may be ending by its stop signal already.
    #[track_caller]
    pub fn expect_oom_of_the_pod(&self, apps: [&str; 2]) {
        let outcomes = apps.map(|app| self.outcome(app));
        let killed: Vec<_> = outcomes.iter().filter(|outcome| outcome.oom.is_some()).collect();
        let is_dead = |outcome: &Outcome| outcome.end == End::Signaled { signal: libc::SIGKILL, core: false };
        assert!(killed.iter().any(|outcome| is_dead(outcome)), "one of them had to go: {outcomes:#?}");
        let is_told =
            |outcome: &Outcome| outcome.oom == Some(OomLevel::Pod) && (is_dead(outcome) || outcome.stopped);
        assert!(killed.iter().all(|outcome| is_told(outcome)), "{outcomes:#?}");
    }

    #[track_caller]
    pub fn end(&self, app: &str) -> End {
        self.outcome(app).end
    }

    /// The apps in the order in which they were told to stop.
    pub fn stop_order(&self) -> Vec<String> {
        let stopping = |event: Event| if let Event::Stopping { app, .. } = event { Some(app) } else { None };
        self.events().into_iter().filter_map(stopping).collect()
    }

    /// The lab's own group in the hierarchy of a controller.
    pub fn group(&self, controller: &str) -> PathBuf {
        self.groups.path(controller)
    }

    /// A group of the only running pod, `""` for the pod's own, in the hierarchy of a controller (`""`: cgroup2).
    #[track_caller]
    pub fn pod_group(&self, controller: &str, name: &str) -> PathBuf {
        let pods = self.groups.pods(controller);
        assert_eq!(pods.len(), 1, "one pod has groups: {pods:?}");
        pods[0].join(name)
    }

    /// A file of a group of the only running pod, without its newline.
    #[track_caller]
    pub fn group_file(&self, controller: &str, name: &str, file: &str) -> String {
        let path = self.pod_group(controller, name).join(file);
        let read = fs::read_to_string(&path);
        read.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// What the kernel shows of a limit, by its name in the manifest, or of a counter; v1 and v2 have other files.
    #[track_caller]
    pub fn limit(&self, group: &str, key: &str) -> String {
        let (controller, on_v1, on_v2) = match key {
            "memory-max" => ("memory", "memory.limit_in_bytes", "memory.max"),
            "memory-peak" => ("memory", "memory.max_usage_in_bytes", "memory.peak"),
            "cpu-weight" => ("cpu", "cpu.shares", "cpu.weight"),
            "pids-max" => ("pids", "pids.max", "pids.max"),
            "pids-current" => ("pids", "pids.current", "pids.current"),
            "cpus" if self.is_unified() => return self.group_file("cpu", group, "cpu.max"),
            "cpus" => {
                let read = |file| self.group_file("cpu", group, file);
                return format!("{} {}", read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"));
            }
            other => panic!("`{other}` is no limit that a group has"),
        };
        self.group_file(controller, group, if self.is_unified() { on_v2 } else { on_v1 })
    }

    /// CPU time that a group of the only running pod has used.
    #[track_caller]
    pub fn cpu_used(&self, group: &str) -> Duration {
        if !require::cgroup2_is_there() {
            let used = self.group_file("cpuacct", group, "cpuacct.usage");
            return Duration::from_nanos(used.parse().expect("a number"));
        }
        let text = self.group_file("", group, "cpu.stat");
        let used = super::text::value(&text, "usage_usec").expect("what it used");
        Duration::from_micros(used.parse().expect("a number"))
    }

    /// cgroup2 has the controllers.
    pub fn is_unified(&self) -> bool {
        self.groups.is_unified()
    }

    /// The pid, outside, of stage1 of the only running pod.
    #[track_caller]
    pub fn stage1_pid(&self) -> i32 {
        let pids: BTreeSet<i32> = self.stage1_pids().collect();
        assert_eq!(pids.len(), 1, "not one process in the groups of a supervisor: {pids:?}");
        pids.into_iter().next().expect("one")
    }

    /// In every hierarchy that has such a group.
    fn stage1_pids(&self) -> impl Iterator<Item = i32> {
        let groups = self.groups_left().into_iter().filter(|group| group.ends_with("supervisor"));
        groups.flat_map(|group| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()
        })
    }

    /// Groups of pods that are there, in all hierarchies.
    pub fn groups_left(&self) -> Vec<PathBuf> {
        self.groups.below()
    }

    /// Processes of the lab, launchers included.
    pub fn processes(&self) -> Vec<i32> {
        self.groups.processes()
    }

    /// Until no process of the lab is left.
    #[track_caller]
    pub fn wait_until_empty(&self) {
        wait_until("all processes of the lab end", || self.processes().is_empty());
    }

    /// Fails the test when a process, a cgroup or a mount of its pods is left, or a record after `gc`.
    #[track_caller]
    fn expect_nothing_left(&self) {
        let processes: Vec<String> = self.processes().into_iter().map(describe).collect();
        assert!(processes.is_empty(), "processes are left: {processes:#?}");
        let groups = self.groups_left();
        assert!(groups.is_empty(), "cgroups are left: {groups:#?}");
        assert_eq!(mounts(&self.dir), self.host_mounts, "the host's mount table has changed");
        if self.root().exists() {
            self.call(&["gc"]).expect_code(0);
            assert_eq!(self.pod_dirs(), Vec::<PathBuf>::new(), "pod directories are left after gc");
            assert_eq!(entries(&self.root().join("names")), Vec::<PathBuf>::new(), "names are left after gc");
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let judged = (!std::thread::panicking())
            .then(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.expect_nothing_left())));
        self.groups.destroy();
        let _ = fs::remove_dir_all(&self.dir);
        if let Some(Err(cause)) = judged {
            std::panic::resume_unwind(cause);
        }
    }
}

/// Held while labs are made or swept.
fn register() -> File {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(place().join("register"));
    let file = file.expect("a lock file in /tmp");
    file.lock().expect("flock");
    file
}

/// The host's mounts where a pod's could come to light: in the lab, and on what every app has of its own. Elsewhere
/// somebody else may mount at any time.
fn mounts(lab: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let concerns = |line: &&str| {
        let mount_point = Path::new(line.split(' ').nth(4).expect("a mount point"));
        let places = [lab, Path::new("/proc"), Path::new("/sys"), Path::new("/dev")];
        mount_point == Path::new("/") || places.iter().any(|place| mount_point.starts_with(place))
    };
    text.lines().filter(concerns).map(String::from).collect()
}

fn describe(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    format!("{pid} {} {}", read("cmdline").replace('\0', " "), read("cgroup").replace('\n', " "))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// A root that holds what a static program needs, and no more.
fn build_rootfs(rootfs: &Path) {
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(rootfs.join(name)).expect("a folder in the app root");
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode");
    copy_program(&bin_dir().join("podrun-probe"), &rootfs.join("bin/probe"));
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/srv/web:/bin/false\n";
    fs::write(rootfs.join("etc/passwd"), passwd).expect("passwd");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:1001:\nlogs:x:1002:web\n").expect("group");
}

/// Removes the labs of test runs that were killed: those whose lock nobody holds.
fn sweep() {
    let _register = register();
    for dir in entries(&place()).into_iter().filter(|path| path.is_dir()) {
        let Ok(lock) = File::open(dir.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            let label = dir.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            Groups::find(&label).destroy();
            // Another run may sweep it too.
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

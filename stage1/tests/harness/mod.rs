//! Starts stage1 as the launcher does, in namespaces and cgroups of its own, and listens to it.
//!
//! `unshare` of util-linux makes the namespaces; cgroups are made below the test's own, in cgroup2 and in the
//! v1 hierarchies memory, pids and freezer. A dropped [`Pod`] leaves nothing: no process, no group, no directory.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

mod sys;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Standard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{bind, connect, listen, recv, send, sendmsg, setsockopt, socket, socketpair, sockopt};
use podrun_abi::boot::*;
use podrun_abi::control::{Command as Order, Reply, Request};
use podrun_abi::event::{Event, Outcome, Record};
use podrun_abi::handover::{AppCgroup, Gauge, Handover, Owner, Stdio, Watched};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The eleven capabilities that a pod's apps have by default.
pub const DEFAULT_CAPABILITIES: u64 = 0x8000_05fb;
const CONTROLLERS: [&str; 4] = ["unified", "memory", "pids", "freezer"];

/// Whether this test can run here; says why when not, and fails then with PODRUN_TEST_STRICT=1.
pub fn required() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "this test needs root"
    } else if CONTROLLERS.iter().any(|name| own_group(name).is_none()) {
        "this test needs cgroup2 beside the v1 hierarchies memory, pids and freezer"
    } else {
        return true;
    };
    let _ = writeln!(std::io::stdout(), "SKIP {reason}");
    assert!(std::env::var_os("PODRUN_TEST_STRICT").is_none_or(|word| word != "1"), "SKIP {reason}");
    false
}

/// The test's own group, by the name of the hierarchy's usual mount point.
fn own_group(name: &str) -> Option<PathBuf> {
    let controller = if name == "unified" { "" } else { name };
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        (controllers == controller).then_some(path)
    })?;
    let base = Path::new("/sys/fs/cgroup").join(name);
    base.join("cgroup.procs").exists().then(|| base.join(path.trim_start_matches('/')))
}

/// An app that runs the probe with these commands.
pub fn app(name: &str, commands: &str) -> App {
    let mut argv = vec!["/bin/probe".to_owned()];
    argv.extend(commands.split_whitespace().map(str::to_owned));
    App {
        name: name.to_owned(),
        argv,
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        workdir: "/".into(),
        root: Root { index: 0, mode: RootMode::Overlay },
        identity: Identity {
            uid: 0,
            gid: 0,
            groups: vec![],
            bounding: DEFAULT_CAPABILITIES,
            ambient: 0,
            no_new_privileges: false,
        },
        rlimits: vec![],
        oom_score_adj: 0,
        all_cpus: false,
        output: Output::Given,
        sockets: vec![],
        devices: vec![],
        policy: Policy {
            after: vec![],
            after_ready: vec![],
            notify: false,
            essential: true,
            oom_group: false,
            success: vec![Success::Code(0)],
            stop_signal: libc::SIGTERM,
            stop_timeout_ms: Some(10_000),
        },
    }
}

/// What a pod is started from; change it before [`Pod::start`].
pub fn boot(apps: Vec<App>) -> Boot {
    let view = |name: &str, fstype: &str, options: &str| CgroupView {
        name: name.into(),
        fstype: fstype.into(),
        options: options.into(),
    };
    let list = |paths: &str| paths.split_whitespace().map(str::to_owned).collect();
    Boot {
        version: podrun_abi::VERSION,
        pod: podrun_abi::boot::Pod {
            name: "test".into(),
            id: "0badcafe".into(),
            hostname: "testpod".into(),
            scratch: String::new(),
            exit_policy: ExitPolicy::Essential,
            stop_timeout_ms: None,
            machine: None,
            watchdog_us: None,
        },
        roots: vec![],
        journal: None,
        cgroup_views: vec![
            view("unified", "cgroup2", ""),
            view("memory", "cgroup", "memory"),
            view("pids", "cgroup", "pids"),
        ],
        masked: list(
            "/proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/timer_list /proc/none /sys/firmware \
             /sys/devices/system/cpu/cpu*/thermal_throttle /sys/devices/virtual/powercap",
        ),
        read_only: list("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger /proc/none"),
        apps,
    }
}

/// What of the host's cgroups an app gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Everything.
    Whole,
    /// clone3 cannot be used to join.
    NoClone,
    /// No `cgroup.kill` and no `cgroup.events`, but a freezer.
    Freezer,
    /// Nothing but `cgroup.procs`.
    Bare,
    /// One of the files is no `cgroup.procs`: the process will not be found in it.
    Wrong,
    /// The packet names a descriptor that does not come with it.
    Missing,
}

impl Host {
    fn strip(self, group: &mut AppCgroup, directory: &Path, attached: &mut Vec<OwnedFd>) {
        if !matches!(self, Self::Whole | Self::Wrong | Self::Missing) {
            group.into = None;
        }
        if matches!(self, Self::Freezer | Self::Bare) {
            (group.kill, group.events) = (None, None);
        }
        if self != Self::Freezer {
            group.freezer = None;
        }
        if self == Self::Missing {
            group.kill = Some(attached.len());
        }
        if self == Self::Wrong {
            let path = directory.join("no-procs");
            fs::write(&path, "").unwrap();
            group.procs.push(attached.len());
            attached.push(read_write(&path).into());
        }
    }
}

/// A running pod.
pub struct Pod {
    unshare: Child,
    launcher: Option<OwnedFd>,
    label: String,
    pub directory: PathBuf,
    pub seen: Vec<Event>,
    apps: Vec<String>,
}

impl Pod {
    /// Starts it and lets it go.
    pub fn start(boot: Boot) -> Self {
        let mut pod = Self::boot(boot);
        pod.wait_for("booted", |event| matches!(event, Event::Booted));
        pod.order(Order::Go);
        pod
    }

    /// Starts stage1 only.
    pub fn boot(boot: Boot) -> Self {
        Self::boot_in(boot, |_| {})
    }

    /// The same with a change to the root directory before.
    pub fn boot_in(boot: Boot, change: impl FnOnce(&Path)) -> Self {
        Self::boot_with(boot, Host::Whole, change)
    }

    /// The same on a host that lacks something.
    pub fn boot_with(mut boot: Boot, host: Host, change: impl FnOnce(&Path)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let label = format!("s1-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&label);
        let root = directory.join("root");
        for name in ["root/bin", "root/proc", "root/dev", "root/sys", "root/tmp", "scratch"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        fs::copy(probe(), root.join("bin/probe")).unwrap();
        change(&root);
        if boot.roots.is_empty() {
            boot.roots.push(root.to_str().unwrap().to_owned());
        }
        boot.pod.scratch = directory.join("scratch").to_str().unwrap().to_owned();
        let (launcher, inherited) = inherited(&directory);
        let apps: Vec<String> = boot.apps.iter().map(|app| app.name.clone()).collect();
        let attached = [record(&boot), control(&directory), events(&directory)];
        hand_over(
            &launcher,
            Owner::Pod { boot: 0, control: 1, events: 2, watched: Watched::default() },
            &attached,
        );
        for app in &apps {
            let (mut cgroup, stdio, mut attached) = equip(app, &label, &directory);
            host.strip(&mut cgroup, &directory, &mut attached);
            hand_over(
                &launcher,
                Owner::App { cgroup, stdio: Some(stdio), sockets: vec![], stored: vec![] },
                &attached,
            );
        }
        let unshare = execute(inherited);
        Self { unshare, launcher: Some(launcher), label, directory, seen: vec![], apps }
    }

    /// Says something as the launcher.
    pub fn order(&self, command: Order) {
        let text = serde_json::to_vec(&Request { version: podrun_abi::VERSION, command }).unwrap();
        send(self.launcher.as_ref().unwrap().as_raw_fd(), &text, MsgFlags::empty()).unwrap();
    }

    /// Closes the launcher's end.
    pub fn hang_up(&mut self) {
        self.launcher = None;
    }

    /// Asks through the control socket, as a program outside the pod.
    pub fn ask(&self, command: Order) -> Reply {
        let text = serde_json::to_vec(&Request { version: podrun_abi::VERSION, command }).unwrap();
        self.ask_raw(&text)
    }

    /// A client of the control socket that says nothing.
    pub fn connect(&self) -> OwnedFd {
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(client.as_raw_fd(), &UnixAddr::new(&self.directory.join("control")).unwrap()).unwrap();
        client
    }

    /// Waits for the end of a connection.
    pub fn is_closed(&self, client: &OwnedFd) -> bool {
        recv(client.as_raw_fd(), &mut [0; 8], MsgFlags::empty()) == Ok(0)
    }

    pub fn ask_raw(&self, packet: &[u8]) -> Reply {
        self.try_ask(packet).expect("an answer")
    }

    /// `None`: closed without an answer.
    pub fn try_ask(&self, packet: &[u8]) -> Option<Reply> {
        let client = self.connect();
        let mut buffer = [0; podrun_abi::PACKET_BYTES_MAX];
        send(client.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL).ok()?;
        let length =
            recv(client.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok().filter(|length| *length > 0)?;
        Some(serde_json::from_slice(&buffer[..length]).unwrap())
    }

    /// The next record.
    pub fn next(&mut self) -> Option<Event> {
        let mut buffer = vec![0; podrun_abi::PACKET_BYTES_MAX];
        let launcher = self.launcher.as_ref().unwrap().as_raw_fd();
        let mut receive = || recv(launcher, &mut buffer, MsgFlags::empty());
        // unix(7) tells once that stage1 has ended and left packets unread.
        let length =
            receive().or_else(|errno| if errno == Errno::ECONNRESET { receive() } else { Err(errno) });
        let length = length.expect("a record in time");
        if length == 0 {
            return None;
        }
        let record: Record = serde_json::from_slice(&buffer[..length]).unwrap();
        self.seen.push(record.event.clone());
        Some(record.event)
    }

    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("no `{what}` in {:#?}", self.seen));
            if wanted(&event) {
                return event;
            }
        }
    }

    pub fn wait_started(&mut self, name: &str) {
        self.wait_for("started", |event| matches!(event, Event::Started { app, .. } if app == name));
    }

    /// Waits until the app has written this line.
    pub fn wait_line(&self, app: &str, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.output(app).lines().any(|line| line == wanted) {
            assert!(Instant::now() < end, "no line `{wanted}` in {}", self.output(app));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads to the last record; returns stage1's exit code.
    pub fn finish(&mut self) -> i32 {
        if self.launcher.is_some() {
            while self.next().is_some() {}
        }
        self.unshare.wait().unwrap().code().unwrap()
    }

    pub fn outcome(&self, name: &str) -> Outcome {
        let found = self.seen.iter().find_map(|event| match event {
            Event::Ended { app, outcome } if app == name => Some(outcome.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no end of `{name}` in {:#?}", self.seen))
    }

    /// What the app has written so far.
    pub fn output(&self, app: &str) -> String {
        fs::read_to_string(self.directory.join(app)).unwrap_or_default()
    }

    /// stage1's pid as the host numbers it.
    pub fn stage1(&self) -> i32 {
        let pid = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    /// Sends stage1 a signal from outside the pod.
    pub fn signal_stage1(&self, signal: i32) {
        sys::kill(self.stage1(), signal);
    }

    /// Every process that is in a group of the pod, in any hierarchy.
    pub fn processes(&self) -> Vec<i32> {
        let groups = self.apps.iter().flat_map(|app| group_paths(&self.label, app));
        let lists = groups.filter_map(|path| fs::read_to_string(path.join("cgroup.procs")).ok());
        lists.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.launcher = None;
        // `unshare --kill-child` takes stage1 with it, and the kernel the pod's processes.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let groups: Vec<_> = self.apps.iter().flat_map(|app| group_paths(&self.label, app)).collect();
        let pods = CONTROLLERS.iter().filter_map(|name| Some(own_group(name)?.join(&self.label)));
        for path in groups.into_iter().chain(pods.collect::<Vec<_>>()) {
            let end = Instant::now() + PATIENCE;
            while path.exists() && fs::remove_dir(&path).is_err() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn group_paths(label: &str, app: &str) -> Vec<PathBuf> {
    let below = |name: &&str| Some(own_group(name)?.join(label).join(format!("app-{app}")));
    CONTROLLERS.iter().filter_map(below).collect()
}

/// Makes the app's groups and opens what the launcher would open.
fn equip(app: &str, label: &str, directory: &Path) -> (AppCgroup, Stdio, Vec<OwnedFd>) {
    let mut attached: Vec<OwnedFd> = Vec::new();
    let mut keep = |file: File| {
        attached.push(file.into());
        attached.len() - 1
    };
    let paths = group_paths(label, app);
    let mut procs = Vec::new();
    for path in &paths {
        fs::create_dir_all(path).unwrap();
        let v1 = path.join("tasks");
        let joined = if v1.exists() { v1 } else { path.join("cgroup.procs") };
        procs.push(keep(read_write(&joined)));
    }
    let [unified, memory, _, freezer] = &paths[..] else { panic!("four hierarchies") };
    let freezer = Some(keep(read_write(&freezer.join("freezer.state"))));
    let into = Some(keep(File::open(unified).unwrap()));
    let kill = Some(keep(OpenOptions::new().write(true).open(unified.join("cgroup.kill")).unwrap()));
    let events = Some(keep(File::open(unified.join("cgroup.events")).unwrap()));
    let dir = keep(File::open(memory).unwrap());
    let gauge = |file: &str, key: Option<&str>| {
        Some(Gauge { dir, file: file.to_owned(), key: key.map(str::to_owned), scale: 1 })
    };
    let watched = Watched {
        oom_kills: gauge("memory.oom_control", Some("oom_kill")),
        oom_hits: gauge("memory.failcnt", None),
        memory_peak: gauge("memory.max_usage_in_bytes", None),
        ..Watched::default()
    };
    let output = File::create(directory.join(app)).unwrap();
    let stdio = Stdio { stdout: keep(output.try_clone().unwrap()), stderr: keep(output) };
    let cgroup = AppCgroup { into, procs, kill, freezer, events, watched };
    (cgroup, stdio, attached)
}

/// Sends one packet of descriptors, which waits in the socket until stage1 is there.
fn hand_over(launcher: &OwnedFd, of: Owner, attached: &[OwnedFd]) {
    let text = serde_json::to_vec(&Handover { version: podrun_abi::VERSION, of }).unwrap();
    let numbers: Vec<RawFd> = attached.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[] } else { &rights[..] };
    let text = [std::io::IoSlice::new(&text)];
    sendmsg::<()>(launcher.as_raw_fd(), &text, rights, MsgFlags::empty(), None).unwrap();
}

/// Sets a limit of an app that is not started yet, in the v1 hierarchy of its controller.
pub fn limit(pod: &Pod, app: &str, file: &str, value: &str) {
    let path =
        group_paths(&pod.label, app).into_iter().map(|path| path.join(file)).find(|path| path.exists());
    fs::write(path.expect("the file in one of the groups"), value).unwrap();
}

fn read_write(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// The launcher's end of the socket, and what stage1 inherits: its own end and the lock.
fn inherited(directory: &Path) -> (OwnedFd, [OwnedFd; 2]) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let wait = nix::sys::time::TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
    setsockopt(&ours, sockopt::ReceiveTimeout, &wait).unwrap();
    (ours, [theirs, File::create(directory.join("lock")).unwrap().into()])
}

fn control(directory: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let control = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(control.as_raw_fd(), &UnixAddr::new(&directory.join("control")).unwrap()).unwrap();
    listen(&control, Backlog::new(16).unwrap()).unwrap();
    control
}

fn events(directory: &Path) -> OwnedFd {
    OpenOptions::new().create(true).append(true).open(directory.join("events.jsonl")).unwrap().into()
}

fn record(boot: &Boot) -> OwnedFd {
    let memfd = nix::sys::memfd::memfd_create("boot", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::write(&memfd, &serde_json::to_vec(boot).unwrap()).unwrap();
    nix::unistd::lseek(&memfd, 0, nix::unistd::Whence::SeekSet).unwrap();
    memfd
}

/// Runs stage1 as PID 1 of new namespaces, with all signals blocked and the descriptors under their own numbers.
fn execute(inherited: [OwnedFd; 2]) -> Child {
    let numbers = inherited.each_ref().map(AsRawFd::as_raw_fd);
    let mut command = Command::new("unshare");
    command.args(["--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--"]);
    command.arg(env!("CARGO_BIN_EXE_podrun-stage1")).args(numbers.map(|number| number.to_string()));
    command.stdin(Standard::null()).stdout(Standard::null()).env_clear().env("PATH", "/usr/bin:/bin");
    sys::inherit(&mut command, numbers.to_vec());
    command.spawn().expect("unshare of util-linux")
}

/// The static probe, built when the workspace was not built as a whole.
fn probe() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let path = Path::new(env!("CARGO_BIN_EXE_podrun-stage1")).with_file_name("podrun-probe");
    BUILT.call_once(|| {
        if !path.exists() {
            let built = Command::new(env!("CARGO")).args(["build", "-q", "-p", "podrun-probe"]).status();
            assert!(built.unwrap().success(), "cannot build podrun-probe");
        }
    });
    path
}

/// Writes a file into the root directory.
pub fn put(root: &Path, name: &str, mode: u32, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

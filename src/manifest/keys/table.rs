//! The table itself: data alone. Where the reference of docs/manifest.md and this table speak of the same key,
//! a test compares them.

use super::Key;
use super::Kind::{
    Boolean, Bytes, Choice, Command, Count, Cpus, Duration, EndList, Identity, IdentityList, Integer,
    LimitTable, ListOrTable, NumberSet, Octal, Path, PathList, Signal, Table, TableList, Text, TextList,
    TextTable, Weight, WordOrList,
};

const fn key(path: &'static str, kind: super::Kind, default: &'static str, example: &'static str) -> Key {
    Key::new(path, kind, default, example)
}

const fn later(path: &'static str, kind: super::Kind, default: &'static str, example: &'static str) -> Key {
    Key::new(path, kind, default, example).not_yet()
}

/// All keys, in the order in which they are explained.
pub static KEYS: &[Key] = &[
    key("version", Integer(1, 1), "required", "1")
        .about("The version of the manifest's format.")
        .rule("1"),
    // The pod.
    key("pod.name", Text, "required", "\"shop\"")
        .about("The pod's name; commands find the pod by it.")
        .rule("a DNS label: lower-case letters, digits and `-`, at most 63, no `-` at either end"),
    key("pod.hostname", Text, "pod.name", "\"shop\"")
        .about("What the apps see as the name of their host.")
        .rule("at most 64 bytes: letters, digits, `-`, `_` and `.`"),
    key("pod.exit-policy", Choice(&["essential", "all-exited", "never"]), "\"essential\"", "\"essential\"")
        .about("When the pod ends by itself: with its essential apps, with the last app, or never.")
        .rule("one of the words"),
    key("pod.stop-timeout", Duration, "the longest path of the stop graph plus 5s", "\"30s\"")
        .about("How long the ordered stop of the whole pod may take; what is left afterwards is killed.")
        .rule("more than 0"),
    key("pod.labels", TextTable, "{}", "{ tier = \"front\" }")
        .about("Words for people and scripts; podrun does not interpret them.")
        .rule("names of lower-case letters, digits, `.`, `_`, `/` and `-`"),
    key("pod.devices", TextList, "not filtered; null, zero, full, random, urandom, tty and pts are there", "[\"/dev/fuse:rw\"]")
        .about("The only devices that any app may use beside those of every app; which of them it has, its own list says.")
        .rule("a path below /dev, then `:` and some of r, w and m; rw without them"),
    later("pod.slice", Text, "\"machine.slice\"", "\"machine.slice\"")
        .about("The systemd slice that the pod's own slice is in.")
        .rule("ends in `.slice`, no `/`"),
    later("pod.sysctls", TextTable, "{}", "{ \"net.core.somaxconn\" = \"1024\" }")
        .about("Kernel parameters of the pod's own namespaces.")
        .rule("namespaced ones only, and only where the pod has that namespace for itself"),
    later("pod.namespaces", Table, "{}", "{ net = \"private\" }").about("Which namespaces the pod has for itself."),
    later("pod.namespaces.net", Text, "\"host\"", "\"private\"")
        .about("The network namespace: the host's, one without any device, one of the pod's own, or an existing one.")
        .rule("\"host\", \"none\", \"private\", or an absolute path"),
    later("pod.namespaces.ipc", Choice(&["pod", "host"]), "\"pod\"", "\"pod\"")
        .about("Whose System V IPC and POSIX message queues the apps see."),
    later("pod.namespaces.uts", Choice(&["pod", "host"]), "\"pod\"", "\"pod\"")
        .about("Whose hostname the apps see."),
    later("pod.namespaces.cgroup", Choice(&["pod", "host"]), "\"pod\"", "\"pod\"")
        .about("Whether the apps see their own group as the root of the cgroup tree."),
    later("pod.namespaces.pid", Choice(&["pod", "host"]), "\"pod\"", "\"pod\"")
        .about("Whose processes the apps see."),
    later("pod.namespaces.user", Text, "\"host\"", "\"auto\"")
        .about("Whose user ids the apps have.")
        .rule("\"host\", \"auto\", or a map `inside:outside:count`"),
    later("pod.network", Table, "{}", "{ mode = \"host\" }").about("How the pod is connected."),
    later("pod.network.mode", Choice(&["host", "none", "cni"]), "\"host\"", "\"none\"")
        .about("The host's network, none, or one that CNI plugins make.")
        .rule("\"cni\" needs pod.namespaces.net = \"private\""),
    later("pod.network.networks", TextList, "[]", "[\"podrun-bridge\"]").about("Names of CNI networks."),
    later("pod.network.ports", TextList, "[]", "[\"127.0.0.1:8080:80/tcp\"]")
        .about("Ports of the host that lead into the pod.")
        .rule("`[host-ip:]host:pod[/tcp|udp]`; only with mode = \"cni\"; each once"),
    later("pod.network.dns", TextList, "[]", "[\"9.9.9.9\"]").about("Name servers of the pod.").rule("IP addresses"),
    later("pod.network.hosts", TextTable, "{}", "{ db = \"127.0.0.1\" }").about("Lines for the apps' /etc/hosts."),
    // Isolators, of the pod and of an app.
    key("@.isolators.memory-max", Bytes, "no limit", "\"512MiB\"")
        .about("The hard limit of memory; above it the OOM killer kills.")
        .rule("at least 1MiB")
        .files("memory.limit_in_bytes", "memory.max", "MemoryMax="),
    key("@.isolators.memory-high", Bytes, "no limit", "\"448MiB\"")
        .about("Above this much memory the group is slowed down and reclaimed.")
        .rule("not above memory-max")
        .files("", "memory.high", "MemoryHigh="),
    key("@.isolators.memory-low", Bytes, "0", "\"256MiB\"")
        .about("This much memory is not reclaimed while there is anything else to reclaim.")
        .rule("not above memory-high; outside of the pod an app's needs one of the pod")
        .files("", "memory.low", "MemoryLow="),
    key("@.isolators.memory-min", Bytes, "0", "\"64MiB\"")
        .about("This much memory is never reclaimed.")
        .rule("not above memory-low; those of all apps together fit into the pod's")
        .files("", "memory.min", "MemoryMin="),
    key("@.isolators.memory-swap-max", Bytes, "no limit", "\"0\"")
        .about("The limit of swap alone, not of the sum of memory and swap.")
        .rule("cgroup v1 limits the sum: podrun adds, and needs memory-max")
        .files("memory.memsw.limit_in_bytes", "memory.swap.max", "MemorySwapMax="),
    key("@.isolators.memory-zswap-max", Bytes, "no limit", "\"64MiB\"")
        .about("The limit of compressed memory that waits to be swapped.")
        .rule("cgroup v2 only")
        .files("", "memory.zswap.max", "MemoryZSwapMax="),
    key("@.isolators.memory-oom-group", Boolean, "true of an app, false of the pod", "false")
        .about("Whether running out of memory kills all processes of the group instead of one.")
        .rule("of the pod on cgroup v2 only, where stage1 is spared")
        .files("", "memory.oom.group", ""),
    key("@.isolators.cpus", Cpus, "no limit", "1.5")
        .about("CPU time per time; 1.5 is one CPU and a half.")
        .rule("from 0.001 to 8192, in steps of a millionth")
        .files("cpu.cfs_quota_us, cpu.cfs_period_us", "cpu.max", "CPUQuota="),
    key("@.isolators.cpu-period", Duration, "\"100ms\", \"1s\" for small or odd amounts", "\"20ms\"")
        .about("The time in which cpus is counted: a shorter one means shorter waits, and more of them.")
        .rule("from 1ms to 1s; needs cpus, which must give at least 1ms and whole microseconds in it")
        .files("cpu.cfs_period_us", "cpu.max", "CPUQuotaPeriodSec="),
    key("@.isolators.cpu-burst", Duration, "\"0s\"", "\"50ms\"")
        .about("CPU time that may be saved up and used beyond cpus.")
        .rule("not above cpus in one period (100ms when cpu-period is not there)")
        .files("cpu.cfs_burst_us", "cpu.max.burst", ""),
    key("@.isolators.cpu-weight", Weight, "100", "200")
        .about("The share of CPU time when CPUs are contended; \"idle\" only runs when nothing else wants to.")
        .rule("from 1 to 10000, or \"idle\"")
        .files("cpu.shares, cpu.idle", "cpu.weight, cpu.idle", "CPUWeight="),
    key("@.isolators.cpuset", NumberSet, "all of the pod's or the host's", "\"0-1\"")
        .about("The only CPUs to run on.")
        .rule("an app's is part of the pod's")
        .files("cpuset.cpus", "cpuset.cpus", "AllowedCPUs="),
    key("@.isolators.cpuset-mems", NumberSet, "all of the pod's or the host's", "\"0\"")
        .about("The only memory nodes to use.")
        .rule("an app's is part of the pod's")
        .files("cpuset.mems", "cpuset.mems", "AllowedMemoryNodes="),
    key("@.isolators.pids-max", Count, "no limit", "256")
        .about("The largest number of processes and threads.")
        .rule("from 1 to 4194304, or \"max\"")
        .files("pids.max", "pids.max", "TasksMax="),
    key("@.isolators.on-missing", Choice(&["error", "ignore"]), "\"error\"", "\"ignore\"")
        .about("What to do with a limit of this block that the host cannot enforce: refuse to start, or go without.")
        .rule("with \"ignore\" `podrun status` says what is not enforced"),
    key("@.isolators.io-weight", Integer(1, 10_000), "100", "200")
        .about("The share of a disk when it is contended.")
        .rule("from 1 to 10000; it counts where the disk's scheduler is BFQ, or iocost is on")
        .files("blkio.bfq.weight", "io.weight", "IOWeight="),
    key("@.isolators.io-max", Table, "{}", "{ \"/srv\" = { rbps = \"10MB\" } }")
        .about("Limits of bytes and operations per second, by disk.")
        .rule("paths of block devices, or of files on one; on cgroup v1 for apps only")
        .files(
            "blkio.throttle.read_bps_device, blkio.throttle.write_bps_device, \
             blkio.throttle.read_iops_device, blkio.throttle.write_iops_device",
            "io.max",
            "IOReadBandwidthMax=, IOWriteBandwidthMax=, IOReadIOPSMax=, IOWriteIOPSMax=",
        ),
    key("@.isolators.hugetlb", Table, "{}", "{ \"2MB\" = \"64MiB\" }")
        .about("Limits of huge pages, by their size.")
        .rule("sizes that this kernel has, as it names them: `2MB`, `1GB`")
        .files(
            "hugetlb.*.limit_in_bytes, hugetlb.*.rsvd.limit_in_bytes",
            "hugetlb.*.max, hugetlb.*.rsvd.max",
            "",
        ),
    key("@.isolators.unified", LimitTable, "{}", "{ \"memory.swap.high\" = 67108864 }")
        .about("Files of a cgroup v2 group and what to write to them.")
        .rule("none that a key of its own writes; the kernel must show the same text or line afterwards"),
    key("@.isolators.io-max.*.rbps", Bytes, "\"max\"", "\"10MB\"").about("Bytes read per second.").rule("at least 1"),
    key("@.isolators.io-max.*.wbps", Bytes, "\"max\"", "\"10MB\"").about("Bytes written per second.").rule("at least 1"),
    key("@.isolators.io-max.*.riops", Count, "\"max\"", "1000").about("Read operations per second.").rule("at least 1, or \"max\""),
    key("@.isolators.io-max.*.wiops", Count, "\"max\"", "1000").about("Write operations per second.").rule("at least 1, or \"max\""),
    key("@.isolators.hugetlb.*", Bytes, "no limit", "\"64MiB\"")
        .about("The limit of huge pages of this size.")
        .rule("the kernel rounds down to whole pages"),
    later("app.*.isolators.bounds", LimitTable, "{}", "{ memory-max = \"1GiB\" }")
        .about("How far the app may move its own limits."),
    // An app.
    key("app.*.rootfs", Path, "required", "\"/srv/images/web\"")
        .about("The directory that the app sees as its root.")
        .rule("an absolute path without `..`; a directory"),
    key("app.*.rootfs-mode", Choice(&["overlay", "read-only", "writable"]), "\"overlay\"", "\"read-only\"")
        .about("How the app may write its root: to a fresh layer that goes away, not at all, or to the directory.")
        .rule("one of the words"),
    key("app.*.exec", Command, "required", "[\"/bin/sh\", \"-c\", \"echo hello\"]")
        .about("The command and its arguments, passed on as they are; there is no shell.")
        .rule("not empty; first an absolute path, or a name to be found in the app's PATH"),
    key("app.*.env", TextTable, "{}", "{ PORT = \"8081\" }")
        .about("Variables of the app's environment; they win over env-file.")
        .rule("names `[A-Za-z_][A-Za-z0-9_]*`, values are strings"),
    key("app.*.env-file", PathList, "[]", "[\"/etc/shop/web.env\"]")
        .about("Files of the host with variables, a line `NAME=value` each.")
        .rule("absolute paths; a later file wins, `env` wins over all"),
    key("app.*.workdir", Path, "\"/\"", "\"/srv\"")
        .about("The working directory, within the app's root.")
        .rule("an absolute path without `..`, not below /proc"),
    key("app.*.user", Identity, "0", "1000")
        .about("The user that the app runs as.")
        .rule("an id up to 2147483647, or a name of the app's own /etc/passwd"),
    key("app.*.group", Identity, "the user's own group", "\"www-data\"")
        .about("The group that the app runs as.")
        .rule("an id up to 2147483647, or a name of the app's own /etc/group"),
    key("app.*.groups", IdentityList, "[]", "[\"tape\", 1001]")
        .about("The supplementary groups, exactly these.")
        .rule("ids up to 2147483647, and names of the app's own /etc/group"),
    key("app.*.capabilities", WordOrList, "\"default\"", "[\"NET_BIND_SERVICE\"]")
        .about("The capabilities that the app can ever have.")
        .rule("\"none\", \"default\", \"appc\", or the exact list; `CAP_` may be left out"),
    key("app.*.no-new-privileges", Boolean, "true", "true")
        .about("Setuid programs and file capabilities give nothing.")
        .rule("true or false"),
    key("app.*.oom-score-adjust", Integer(-1000, 1000), "0", "100")
        .about("How likely the OOM killer takes this app before others.")
        .rule("from -1000 to 1000; below the launcher's own it needs CAP_SYS_RESOURCE"),
    key("app.*.rlimits", LimitTable, "{}", "{ nofile = \"1024:8192\" }")
        .about("Resource limits of each process, see getrlimit(2).")
        .rule("names in lower case; one value, or \"soft:hard\"; \"unlimited\""),
    key("app.*.stop-signal", Signal, "\"TERM\"", "\"INT\"")
        .about("The signal that asks the app to end.")
        .rule("a name with or without SIG, RTMIN+n or RTMAX-n; not STOP"),
    key("app.*.stop-timeout", Duration, "\"10s\"", "\"25s\"")
        .about("The time between the stop signal and the kill.")
        .rule("\"infinity\" never kills"),
    key("app.*.essential", Boolean, "true", "false")
        .about("Whether the pod ends when this app fails.")
        .rule("true or false"),
    key("app.*.success-codes", EndList, "[0]", "[0, 143, \"TERM\"]")
        .about("The ends that count as success.")
        .rule("exit codes from 0 to 255 and names of signals"),
    key("app.*.depends-on", ListOrTable, "[]", "[\"db\"]")
        .about("Apps that must have been started before this one, and are stopped after it.")
        .rule("a list of names, or a table such as { db = \"started\" }; no cycles"),
    later("app.*.kind", Choice(&["init", "service", "oneshot", "sidecar"]), "\"service\"", "\"oneshot\"")
        .about("The app's part in the pod's life: done before the services, one of them, a job, or beside them."),
    later("app.*.image", Text, "none", "\"web:1\"")
        .about("The image that the root is made from.")
        .rule("not together with rootfs"),
    later("app.*.restart", Choice(&["no", "on-failure", "always", "unless-stopped"]), "\"no\"", "\"on-failure\"")
        .about("When the app is started again."),
    later("app.*.restart-delay", Duration, "\"500ms\"", "\"1s\"")
        .about("The wait before the first restart; it doubles each time.")
        .rule("not above restart-delay-max"),
    later("app.*.restart-delay-max", Duration, "\"30s\"", "\"1m\"").about("The longest wait before a restart."),
    later("app.*.restart-limit", Integer(0, 1_000_000), "5", "10")
        .about("How many restarts in restart-window are tried.")
        .rule("from 0 to 1000000"),
    later("app.*.restart-window", Duration, "\"10m\"", "\"1h\"").about("An app that lives this long starts afresh."),
    later("app.*.stop-exec", Command, "none", "[\"/bin/stop\"]").about("A command that stops the app, in place of the signal."),
    later("app.*.reload-exec", Command, "none", "[\"/bin/reload\"]")
        .about("A command that makes the app read its configuration again.")
        .rule("not together with reload-signal"),
    later("app.*.reload-signal", Signal, "none", "\"HUP\"")
        .about("The signal that makes the app read its configuration again.")
        .rule("not together with reload-exec"),
    later("app.*.pre-start", Command, "none", "[\"/bin/prepare\"]").about("A command that runs before each start."),
    later("app.*.pre-start-timeout", Duration, "\"10s\"", "\"30s\"").about("How long pre-start may take."),
    later("app.*.pre-start-user", Identity, "the app's user", "0").about("The user that pre-start runs as."),
    later("app.*.post-stop", Command, "none", "[\"/bin/clean\"]").about("A command that runs after each end."),
    later("app.*.post-stop-timeout", Duration, "\"10s\"", "\"30s\"").about("How long post-stop may take."),
    later("app.*.mount", TableList, "[]", "[{ volume = \"data\", target = \"/data\" }]")
        .about("What the app sees in its root beside it.")
        .rule("exactly one of source and volume; each target once"),
    later("app.*.mount[].source", Path, "none", "\"/etc/shop\"").about("A path of the host."),
    later("app.*.mount[].volume", Text, "none", "\"data\"").about("The name of a volume of this manifest."),
    later("app.*.mount[].target", Path, "required", "\"/data\"").about("Where the app sees it."),
    later("app.*.mount[].read-only", Boolean, "false", "true").about("Whether the app cannot write it."),
    later("app.*.mount[].options", TextList, "[]", "[\"noexec\"]").about("Options of the mount."),
    later("app.*.mount[].idmap", Boolean, "false", "true").about("Whether its owners are shown as the app's."),
    later("app.*.mount[].create", Boolean, "false", "true").about("Whether a missing source is made."),
    later("app.*.cgroup", Choice(&["ro", "rw", "none"]), "\"ro\"", "\"rw\"")
        .about("What the app sees in /sys/fs/cgroup: its own subtree to read, to write, or nothing."),
    later("app.*.control", Choice(&["none", "read", "limits"]), "\"none\"", "\"read\"")
        .about("What the app may ask of its supervisor."),
    later("app.*.ambient", Boolean, "true when user is not 0", "true")
        .about("Whether the app keeps its capabilities without being root."),
    later("app.*.seccomp", Text, "\"default\"", "\"unconfined\"")
        .about("Which system calls the app may use.")
        .rule("\"default\", \"unconfined\", or the absolute path of an OCI profile"),
    key("app.*.devices", TextList, "not filtered; null, zero, full, random, urandom, tty and pts are there", "[\"/dev/fuse:rw\"]")
        .about("The devices that the app may use beside those of every app; no others, whatever nodes it makes.")
        .rule("a path below /dev, then `:` and some of r, w and m; rw without them"),
    later("app.*.secrets", TextList, "[]", "[\"/etc/shop/db-password\"]")
        .about("Files that the app alone can read, in /run/secrets.")
        .rule("absolute paths, or `cred:NAME` for credentials of systemd"),
    key("app.*.ready.notify", Boolean, "false", "true")
        .about("The app says by itself when it is ready, with sd_notify(3); the pod is up when all such apps have.")
        .rule("true or false"),
    later("app.*.live", Table, "none", "{ http = \"http://127.0.0.1:8081/healthz\" }")
        .about("How it is found out that the app still works.")
        .rule("exactly one of exec, tcp, http, file and log"),
    later("app.*.live.action", Choice(&["restart", "stop-pod", "none"]), "\"restart\"", "\"stop-pod\"")
        .about("What is done when the app no longer works."),
    later("%.exec", Command, "none", "[\"/bin/true\"]").about("A command that succeeds."),
    later("%.tcp", Text, "none", "\"127.0.0.1:80\"").about("A port that accepts.").rule("`host:port`"),
    later("%.http", Text, "none", "\"http://127.0.0.1:80/\"")
        .about("A page that answers with a code from 200 to 399.")
        .rule("begins with http://"),
    later("%.file", Path, "none", "\"/run/ready\"").about("A file that exists."),
    later("%.log", Text, "none", "\"listening on\"").about("A text that a line of its output holds."),
    later("%.interval", Duration, "\"10s\"", "\"2s\"").about("The time between two attempts."),
    later("%.timeout", Duration, "\"1s\"", "\"500ms\"").about("How long an attempt may take.").rule("not above interval"),
    later("%.retries", Integer(1, 1_000_000), "3", "15").about("How many attempts may fail in a row."),
    later("%.start-period", Duration, "\"0s\"", "\"5s\"").about("Failures this soon after the start do not count."),
    key("app.*.log.driver", Choice(&["auto", "journald", "file", "inherit", "none"]), "\"auto\"", "\"file\"")
        .about("Who keeps the output; auto prints it in the foreground, else it is the journal where there is one, else files.")
        .rule("one of the words; inherit only in the foreground"),
    key("app.*.log.max-size", Bytes, "\"10MiB\"", "\"1MiB\"")
        .about("The size at which a file of output is put aside and the next one begun.")
        .rule("at least 64KiB; only with driver = \"file\" or \"auto\""),
    key("app.*.log.max-files", Integer(1, 1000), "3", "5")
        .about("How many files of each stream are kept, with the one that is written.")
        .rule("from 1 to 1000; only with driver = \"file\" or \"auto\""),
    later("app.*.log.rate-limit", Text, "none", "\"1000/s\"")
        .about("The most lines in a time; what is more is dropped.")
        .rule("a number, `/`, and one of s, m and h"),
    later("app.*.stdin", Choice(&["null", "inherit"]), "\"null\"", "\"null\"").about("What the app reads."),
    later("app.*.tty", Boolean, "false", "true").about("Whether the app has the terminal.").rule("one app at most"),
    // Beside pod and apps.
    later("volume", Table, "{}", "{ data = { kind = \"tmpfs\" } }").about("Directories that apps can mount, by name."),
    later("volume.*.kind", Choice(&["dir", "tmpfs", "empty"]), "\"dir\"", "\"tmpfs\"")
        .about("A directory of the host, memory, or a directory that is made for the pod."),
    later("volume.*.path", Path, "required for dir", "\"/srv/shop/data\"").about("The directory of the host."),
    later("volume.*.owner", Text, "none", "\"999:999\"").about("Its user and group.").rule("`uid:gid`"),
    later("volume.*.mode", Octal, "\"0755\"", "\"0700\"").about("Its mode.").rule("3 or 4 octal digits, in quotes"),
    later("volume.*.size", Bytes, "no limit", "\"64MiB\"").about("How much a tmpfs may hold."),
    key("socket.*.listen", Text, "required", "\"0.0.0.0:8000\"")
        .about("Where podrun listens for the app, unless systemd passes the socket.")
        .rule("an absolute path, or `address:port`"),
    key("socket.*.app", Text, "required", "\"web\"").about("The app that gets it, with LISTEN_FDS.").rule("an app of this manifest"),
    key("socket.*.mode", Octal, "\"0666\"", "\"0660\"").about("The mode of a socket that is a path.").rule("3 or 4 octal digits, in quotes"),
    key("socket.*.owner", Text, "none", "\"0:33\"").about("Its user and group.").rule("`uid:gid`"),
    key("socket.*.backlog", Integer(1, 65_535), "128", "128").about("How many connections may wait.").rule("from 1 to 65535"),
];

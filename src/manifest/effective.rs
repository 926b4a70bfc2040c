//! A [`Spec`] as a manifest that says everything: each key that works, with what holds where the author said
//! nothing.
//!
//! The text is itself a manifest, and reading it gives the same spec; a test holds that. What is not set and has no
//! value that could be written (a limit that is not there) is a comment.

use std::fmt::Write as _;

use podrun_abi::boot::{ExitPolicy, RootMode, Success};

use crate::spec::{
    AppSpec, Capabilities, DeviceSpec, Grace, IdOrName, Limits, LogDriver, OnMissing, PodSpec, SocketSpec,
    Spec,
};
use crate::value::{Ceiling, CpuWeight, capability, duration, rlimit, signal, size};

/// The whole manifest.
#[must_use]
pub fn effective(spec: &Spec) -> String {
    let mut text = "version = 1\n".to_owned();
    pod(&mut text, &spec.pod);
    limits_table(&mut text, "pod", &spec.pod.limits);
    for app_spec in &spec.apps {
        app(&mut text, app_spec);
        limits_table(&mut text, &format!("app.{}", app_spec.name), &app_spec.limits);
        ready_table(&mut text, app_spec);
        log_table(&mut text, app_spec);
    }
    spec.sockets.iter().for_each(|socket_spec| socket(&mut text, socket_spec));
    text
}

/// The isolators that are set, with their values in TOML, in the order in which they are explained.
#[must_use]
pub fn isolators(limits: &Limits) -> Vec<(&'static str, String)> {
    all_isolators(limits).into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn all_isolators(limits: &Limits) -> Vec<(&'static str, Option<String>)> {
    let bytes = |ceiling: Option<Ceiling>| {
        ceiling.map(|ceiling| match ceiling {
            Ceiling::At(bytes) => quoted(&size::show(bytes)),
            Ceiling::Max => quoted("max"),
        })
    };
    let count = |ceiling: Option<Ceiling>| {
        ceiling.map(|ceiling| match ceiling {
            Ceiling::At(count) => count.to_string(),
            Ceiling::Max => quoted("max"),
        })
    };
    let weight = limits.cpu_weight.map(|weight| match weight {
        CpuWeight::Idle => quoted("idle"),
        CpuWeight::Weight(weight) => weight.to_string(),
    });
    vec![
        ("memory-max", bytes(limits.memory_max)),
        ("memory-high", bytes(limits.memory_high)),
        ("memory-low", bytes(limits.memory_low)),
        ("memory-min", bytes(limits.memory_min)),
        ("memory-swap-max", bytes(limits.memory_swap_max)),
        ("memory-zswap-max", bytes(limits.memory_zswap_max)),
        ("memory-oom-group", limits.memory_oom_group.map(|all| all.to_string())),
        ("cpus", limits.cpus.map(|cpus| cpus.to_string())),
        ("cpu-period", limits.cpu_period.map(|period| time(Grace::Limited(period)))),
        ("cpu-burst", limits.cpu_burst.map(|burst| time(Grace::Limited(burst)))),
        ("cpu-weight", weight),
        ("cpuset", limits.cpuset.as_ref().map(|set| quoted(&set.to_string()))),
        ("cpuset-mems", limits.cpuset_mems.as_ref().map(|set| quoted(&set.to_string()))),
        ("pids-max", count(limits.pids_max)),
        ("io-weight", limits.io_weight.map(|weight| weight.to_string())),
        (
            "io-max",
            some_inline(limits.io_max.iter().map(|(path, max)| {
                let parts = [
                    ("rbps", bytes(max.rbps)),
                    ("wbps", bytes(max.wbps)),
                    ("riops", count(max.riops)),
                    ("wiops", count(max.wiops)),
                ];
                let said = parts.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
                format!("{} = {}", quoted(&path.to_string_lossy()), inline(said.collect()))
            })),
        ),
        (
            "hugetlb",
            some_inline(limits.hugetlb.iter().map(|(page, limit)| {
                format!("{} = {}", quoted(&size::show(*page)), bytes(Some(*limit)).unwrap_or_default())
            })),
        ),
        (
            "unified",
            some_inline(
                limits.unified.iter().map(|(file, value)| format!("{} = {}", quoted(file), quoted(value))),
            ),
        ),
    ]
}

fn limits_table(text: &mut String, scope: &str, limits: &Limits) {
    line(text, format_args!("\n[{scope}.isolators]"));
    for (key, value) in all_isolators(limits) {
        match value {
            Some(value) => line(text, format_args!("{key} = {value}")),
            None => line(text, format_args!("# {key}: not set")),
        }
    }
    let on_missing = match limits.on_missing {
        OnMissing::Error => "error",
        OnMissing::Ignore => "ignore",
    };
    line(text, format_args!("on-missing = {}", quoted(on_missing)));
}

fn pod(text: &mut String, pod: &PodSpec) {
    let policy = match pod.exit_policy {
        ExitPolicy::Essential => "essential",
        ExitPolicy::AllExited => "all-exited",
        ExitPolicy::Never => "never",
    };
    line(text, format_args!("\n[pod]"));
    line(text, format_args!("name = {}", quoted(&pod.name)));
    line(text, format_args!("hostname = {}", quoted(&pod.hostname)));
    line(text, format_args!("exit-policy = {}", quoted(policy)));
    line(text, format_args!("stop-timeout = {}", time(pod.stop_timeout)));
    line(text, format_args!("labels = {}", table(&pod.labels)));
    devices(text, pod.devices.as_deref());
}

fn devices(text: &mut String, named: Option<&[DeviceSpec]>) {
    let Some(named) = named else { return line(text, format_args!("# devices: not set")) };
    let device = |device: &DeviceSpec| quoted(&format!("{}:{}", device.path, device.access));
    let devices: Vec<String> = named.iter().map(device).collect();
    line(text, format_args!("devices = [{}]", devices.join(", ")));
}

fn app(text: &mut String, app: &AppSpec) {
    let mode = match app.rootfs_mode {
        RootMode::Overlay => "overlay",
        RootMode::ReadOnly => "read-only",
        RootMode::Writable => "writable",
    };
    let files: Vec<String> = app.env_files.iter().map(|path| quoted(&path.to_string_lossy())).collect();
    let words = |list: &[String]| list.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    line(text, format_args!("\n[app.{}]", app.name));
    line(text, format_args!("rootfs = {}", quoted(&app.rootfs.to_string_lossy())));
    line(text, format_args!("rootfs-mode = {}", quoted(mode)));
    line(text, format_args!("exec = [{}]", words(&app.exec)));
    line(text, format_args!("env = {}", table(&app.env)));
    line(text, format_args!("env-file = [{}]", files.join(", ")));
    line(text, format_args!("workdir = {}", quoted(&app.workdir)));
    identity(text, app);
    devices(text, app.devices.as_deref());
    let rlimits = app.rlimits.iter().map(|(number, (soft, hard))| {
        format!("{} = {}", rlimit::name(*number), quoted(&format!("{}:{}", bound(*soft), bound(*hard))))
    });
    line(text, format_args!("rlimits = {}", inline(rlimits.collect())));
    line(text, format_args!("stop-signal = {}", quoted(&signal::name(app.stop_signal))));
    line(text, format_args!("stop-timeout = {}", time(app.stop_timeout)));
    line(text, format_args!("essential = {}", app.essential));
    let success = app.success.iter().map(|success| match success {
        Success::Code(code) => code.to_string(),
        Success::Signal(number) => quoted(&signal::name(*number)),
    });
    line(text, format_args!("success-codes = [{}]", success.collect::<Vec<_>>().join(", ")));
    match app.needs_ready.as_slice() {
        [] => line(text, format_args!("depends-on = [{}]", words(&app.depends_on))),
        until_ready => {
            let condition = |name: &String| if until_ready.contains(name) { "ready" } else { "started" };
            let conditions =
                app.depends_on.iter().map(|name| format!("{name} = {}", quoted(condition(name))));
            line(text, format_args!("depends-on = {}", inline(conditions.collect())));
        }
    }
}

fn ready_table(text: &mut String, app: &AppSpec) {
    line(text, format_args!("\n[app.{}.ready]", app.name));
    line(text, format_args!("notify = {}", app.ready_notify));
}

/// The bounds of files are comments where no files are kept.
fn log_table(text: &mut String, app: &AppSpec) {
    let log = &app.log;
    let word =
        super::log::DRIVERS.iter().find(|(_, driver)| *driver == log.driver).map_or("", |(word, _)| word);
    let mark = if matches!(log.driver, LogDriver::Auto | LogDriver::File) { "" } else { "# " };
    let size = if log.max_size_bytes == u64::MAX { "max".to_owned() } else { size::show(log.max_size_bytes) };
    line(text, format_args!("\n[app.{}.log]", app.name));
    line(text, format_args!("driver = {}", quoted(word)));
    line(text, format_args!("{mark}max-size = {}", quoted(&size)));
    line(text, format_args!("{mark}max-files = {}", log.files_max));
}

fn socket(text: &mut String, socket: &SocketSpec) {
    line(text, format_args!("\n[socket.{}]", quoted(&socket.name)));
    line(text, format_args!("listen = {}", quoted(&socket.listen.to_string())));
    line(text, format_args!("app = {}", quoted(&socket.app)));
    line(text, format_args!("mode = {}", quoted(&format!("{:04o}", socket.mode))));
    match socket.owner {
        Some((user, group)) => line(text, format_args!("owner = {}", quoted(&format!("{user}:{group}")))),
        None => line(text, format_args!("# owner: not set")),
    }
    line(text, format_args!("backlog = {}", socket.backlog));
}

fn identity(text: &mut String, app: &AppSpec) {
    line(text, format_args!("user = {}", id(&app.user)));
    match &app.group {
        Some(group) => line(text, format_args!("group = {}", id(group))),
        None => line(text, format_args!("# group: the user's own, in the app's /etc/passwd")),
    }
    let groups: Vec<String> = app.groups.iter().map(id).collect();
    line(text, format_args!("groups = [{}]", groups.join(", ")));
    let capabilities = match app.capabilities {
        Capabilities::Default => quoted("default"),
        Capabilities::Exactly(0) => quoted("none"),
        Capabilities::Exactly(set) => {
            let known = (0..64).filter(|bit| set >> bit & 1 == 1).filter_map(capability::name);
            format!("[{}]", known.map(quoted).collect::<Vec<_>>().join(", "))
        }
    };
    line(text, format_args!("capabilities = {capabilities}"));
    line(text, format_args!("no-new-privileges = {}", app.no_new_privileges));
    line(text, format_args!("oom-score-adjust = {}", app.oom_score_adjust));
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}

fn id(id: &IdOrName) -> String {
    match id {
        IdOrName::Id(number) => number.to_string(),
        IdOrName::Name(name) => quoted(name),
    }
}

fn bound(value: u64) -> String {
    if value == rlimit::UNLIMITED { "unlimited".to_owned() } else { value.to_string() }
}

fn time(grace: Grace) -> String {
    quoted(&duration::show(grace))
}

fn table(pairs: &std::collections::BTreeMap<String, String>) -> String {
    let bare = |name: &str| {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
    };
    inline(pairs.iter().map(|(name, value)| format!("{} = {}", bare(name), quoted(value))).collect())
}

/// `None`: nothing is said.
fn some_inline(pairs: impl Iterator<Item = String>) -> Option<String> {
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| inline(pairs))
}

fn inline(pairs: Vec<String>) -> String {
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

/// A basic string of TOML 1.0.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other if other.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(other))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const RICH: &str = r#"
version = 1
[pod]
name = "shop"
labels = { "a.b/c" = "front \"end\"\n\\ \u0001" }
exit-policy = "all-exited"
[pod.isolators]
memory-max = "1.5GiB"
cpus = "800m"
cpu-period = "50ms"
cpu-burst = "10ms"
memory-oom-group = true
memory-zswap-max = "1MiB"
cpu-weight = "idle"
pids-max = "max"
io-weight = 30
io-max = { "/srv/a.b" = { rbps = "1MiB", wiops = 5 }, "/" = { wbps = "max", riops = "max" } }
hugetlb = { 2MB = "4MiB", "1GiB" = "max" }
unified = { "memory.swap.high" = 4096, "io.latency" = "8:0 target=10" }
on-missing = "ignore"
[app.db]
rootfs = "/"
exec = ["/bin/sh", "-c", "echo \"$HOME\""]
user = "www-data"
groups = ["tape", 7]
capabilities = ["CHOWN", "NET_ADMIN"]
rlimits = { nofile = "1024:unlimited", core = 0 }
stop-signal = "RTMIN+3"
stop-timeout = "infinity"
success-codes = [0, 3, "TERM"]
env-file = ["/etc/x"]
devices = ["/dev/fuse", "/dev/net/tun:m"]
[app.db.isolators]
memory-max = 1048577
cpuset = "0"
[app.db.env]
A = "b"
[app.db.log]
driver = "file"
max-size = "max"
max-files = 5
[app.web]
rootfs = "/srv"
rootfs-mode = "read-only"
exec = ["x"]
group = 5
capabilities = "none"
essential = false
depends-on = ["db"]
oom-score-adjust = 5
no-new-privileges = false
workdir = "/tmp"
log = { driver = "journald" }
[socket.web-80]
listen = "[::1]:80"
app = "web"
[socket.admin]
listen = "/run/db.sock"
app = "db"
mode = "0600"
owner = "12:34"
backlog = 5
"#;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let first = read(RICH);
        let spec = first.spec.unwrap_or_else(|| panic!("{:?}", first.problems));
        let text = effective(&spec);
        let again = read(&text);
        assert_eq!(again.spec.as_ref(), Some(&spec), "{text}\n{:?}", again.problems);
    }

    #[test]
    fn every_key_that_works_is_said() {
        use super::super::keys::{KEYS, Support};
        let spec = read(RICH).spec.unwrap();
        let text = effective(&spec);
        for key in KEYS.iter().filter(|key| key.support == Support::Supported) {
            let name = key.path.rsplit('.').next().filter(|name| *name != "*").unwrap_or("2MiB");
            let within = [format!(" {name} = "), format!("\"{name}\" = ")];
            let is_said = |line: &str| {
                line.trim_start_matches("# ").starts_with(name)
                    || within.iter().any(|said| line.contains(said))
            };
            assert!(text.lines().any(is_said), "{name}\n{text}");
        }
    }
}

//! Every key that a manifest may have, as one table: the checks of names, the help in messages, `explain` and
//! the JSON schema are made from it.
//!
//! A path is a pattern: `*` stands for a name that the author chose, a leading `@` for `pod` and for `app.*`.
//! It does not say how a value is checked; that is done by the reader of the block that the key is in.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The pattern of its path, such as `@.isolators.memory-max`.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds when it is not there; `required` when that is an error.
    pub default: &'static str,
    /// What is asked of the value beyond its kind.
    pub rule: &'static str,
    /// A value that is right, in TOML.
    pub example: &'static str,
    /// Whether it works.
    pub support: Support,
    /// The files of a cgroup that carry it.
    pub cgroup: Option<CgroupFiles>,
    /// The property of a systemd unit that carries it.
    pub systemd: Option<&'static str>,
}

/// Whether a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Supported,
    /// It is known and refused.
    NotYet,
}

/// The files of a cgroup that carry an isolator. Empty: that version has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupFiles {
    /// In a version 1 hierarchy.
    pub v1: &'static str,
    /// In version 2.
    pub v2: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A size in bytes.
    Bytes,
    /// A time with its unit.
    Duration,
    /// An amount of CPU.
    Cpus,
    /// A number from 1 to 10000, or a word.
    Weight,
    /// A list of numbers and ranges in a string.
    NumberSet,
    /// A number, or `"max"`.
    Count,
    /// An id or a name.
    Identity,
    /// A list of strings.
    TextList,
    /// A list of ids and names.
    IdentityList,
    /// A list of exit codes and names of signals.
    EndList,
    /// A word or a list of strings.
    WordOrList,
    /// A list of names, or a table from names to words.
    ListOrTable,
    /// A table from names of the author's choice to strings.
    TextTable,
    /// A table from names to numbers or strings.
    LimitTable,
    /// A table whose keys are in this table themselves, or are the author's.
    Table,
    /// A list of tables.
    TableList,
}

impl Kind {
    /// With its article, for sentences such as `exec is a list of strings`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Text | Self::Choice(_) | Self::NumberSet => "a string",
            Self::Boolean => "a boolean",
            Self::Bytes => "a size in a string or an integer of bytes",
            Self::Duration => "a duration in a string",
            Self::Cpus => "a number of CPUs or a string",
            Self::Weight => "an integer or \"idle\"",
            Self::Count => "an integer or \"max\"",
            Self::Identity => "an integer or a string",
            Self::TextList => "a list of strings",
            Self::IdentityList => "a list of integers and strings",
            Self::EndList => "a list of exit codes and names of signals",
            Self::WordOrList => "a string or a list of strings",
            Self::ListOrTable => "a list of names or a table",
            Self::TextTable => "a table of strings",
            Self::LimitTable => "a table of integers and strings",
            Self::Table => "a table",
            Self::TableList => "a list of tables",
        }
    }
}

/// What the table knows of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is a key.
    Key(&'static Key),
    /// It is a table that has keys.
    Table,
    /// No key is or begins like this.
    Unknown,
}

/// What is known of the path whose parts these are.
#[must_use]
pub fn look_up(path: &[&str]) -> Lookup {
    let mut inner = false;
    for (head, key) in heads_and_keys() {
        match behind(head, key, path) {
            Some(None) => return Lookup::Key(key),
            Some(Some(_)) => inner = true,
            None => {}
        }
    }
    if inner { Lookup::Table } else { Lookup::Unknown }
}

/// The keys that the table with this path may have, each once; none for a name of the author's choice.
#[must_use]
pub fn keys_in(path: &[&str]) -> Vec<&'static str> {
    let mut names: Vec<_> =
        heads_and_keys().filter_map(|(head, key)| behind(head, key, path).flatten()).collect();
    names.retain(|name| *name != "*");
    names.sort_unstable();
    names.dedup();
    names
}

/// The tables, as patterns, that have a key or a table of this name.
#[must_use]
pub fn tables_with(name: &str) -> Vec<String> {
    let table = |(head, key)| {
        let parts: Vec<_> = parts(head, key).collect();
        let at = parts.iter().position(|part| *part == name).filter(|at| *at > 0)?;
        Some(parts[..at].join("."))
    };
    heads_and_keys().filter_map(table).collect()
}

/// Parts that stand before those of a key's own path.
type Head = &'static [&'static str];

/// Every key; one that belongs to the pod and to apps once for each.
fn heads_and_keys() -> impl Iterator<Item = (Head, &'static Key)> {
    const NONE: &[Head] = &[&[]];
    const POD_AND_APPS: &[Head] = &[&["pod"], &["app", "*"]];
    KEYS.iter().flat_map(|key| {
        let heads = if key.path.starts_with('@') { POD_AND_APPS } else { NONE };
        heads.iter().map(move |head| (*head, key))
    })
}

fn parts(head: Head, key: &'static Key) -> impl Iterator<Item = &'static str> {
    let own = key.path.strip_prefix("@.").unwrap_or(key.path);
    head.iter().copied().chain(own.split('.'))
}

/// The part of a key's path that follows `path`: nothing when it ends there too; `None` when it goes elsewhere.
fn behind(head: Head, key: &'static Key, path: &[&str]) -> Option<Option<&'static str>> {
    let mut wanted = parts(head, key);
    for given in path {
        if !wanted.next().is_some_and(|part| part == "*" || part == *given) {
            return None;
        }
    }
    Some(wanted.next())
}

const fn key(path: &'static str, kind: Kind, default: &'static str, example: &'static str) -> Key {
    let support = Support::Supported;
    Key { path, kind, default, rule: "", example, support, cgroup: None, systemd: None }
}

const fn later(path: &'static str, kind: Kind, default: &'static str, example: &'static str) -> Key {
    key(path, kind, default, example).not_yet()
}

impl Key {
    const fn rule(self, rule: &'static str) -> Self {
        Self { rule, ..self }
    }

    const fn not_yet(self) -> Self {
        Self { support: Support::NotYet, ..self }
    }

    const fn files(self, v1: &'static str, v2: &'static str, systemd: &'static str) -> Self {
        let systemd = if systemd.is_empty() { None } else { Some(systemd) };
        Self { cgroup: Some(CgroupFiles { v1, v2 }), systemd, ..self }
    }
}

use Kind::{
    Boolean, Bytes, Choice, Count, Cpus, Duration, EndList, Identity, IdentityList, Integer, LimitTable,
    ListOrTable, NumberSet, Table, TableList, Text, TextList, TextTable, Weight, WordOrList,
};

/// All keys, in the order in which they are explained.
pub static KEYS: &[Key] = &[
    key("version", Integer, "required", "1").rule("the version of the manifest's format; 1"),
    // The pod.
    key("pod.name", Text, "required", "\"shop\"")
        .rule("a DNS label: lower-case letters, digits and `-`, at most 63, no `-` at either end"),
    key("pod.hostname", Text, "pod.name", "\"shop\"")
        .rule("at most 64 bytes: letters, digits, `-`, `_` and `.`"),
    key("pod.exit-policy", Choice(&["essential", "all-exited", "never"]), "\"essential\"", "\"essential\"")
        .rule("when the pod ends by itself"),
    key("pod.stop-timeout", Duration, "the longest path of the stop graph plus 5s", "\"30s\"")
        .rule("more than 0; afterwards everything that is left is killed"),
    key("pod.labels", TextTable, "{}", "{ tier = \"front\" }")
        .rule("names of lower-case letters, digits, `.`, `_`, `/` and `-`; not interpreted"),
    later("pod.slice", Text, "\"machine.slice\"", "\"machine.slice\"").rule("ends in `.slice`, no `/`"),
    later("pod.sysctls", TextTable, "{}", "{ \"net.core.somaxconn\" = \"1024\" }"),
    later("pod.namespaces", Table, "{}", "{ net = \"private\" }"),
    later("pod.namespaces.net", Text, "\"host\"", "\"private\""),
    later("pod.namespaces.ipc", Choice(&["pod", "host"]), "\"pod\"", "\"pod\""),
    later("pod.namespaces.uts", Choice(&["pod", "host"]), "\"pod\"", "\"pod\""),
    later("pod.namespaces.cgroup", Choice(&["pod", "host"]), "\"pod\"", "\"pod\""),
    later("pod.namespaces.pid", Choice(&["pod", "host"]), "\"pod\"", "\"pod\""),
    later("pod.namespaces.user", Text, "\"host\"", "\"auto\""),
    later("pod.network", Table, "{}", "{ mode = \"host\" }"),
    later("pod.network.mode", Choice(&["host", "none", "cni"]), "\"host\"", "\"none\""),
    later("pod.network.networks", TextList, "[]", "[\"podrun-bridge\"]"),
    later("pod.network.ports", TextList, "[]", "[\"127.0.0.1:8080:80/tcp\"]"),
    later("pod.network.dns", TextList, "[]", "[\"9.9.9.9\"]"),
    later("pod.network.hosts", TextTable, "{}", "{ db = \"127.0.0.1\" }"),
    // Isolators, of the pod and of an app.
    key("@.isolators.memory-max", Bytes, "no limit", "\"512MiB\"")
        .rule("at least 1MiB; above it the OOM killer kills")
        .files("memory.limit_in_bytes", "memory.max", "MemoryMax="),
    key("@.isolators.memory-high", Bytes, "no limit", "\"448MiB\"")
        .rule("not above memory-max; above it the group is throttled and reclaimed")
        .files("", "memory.high", "MemoryHigh="),
    key("@.isolators.memory-low", Bytes, "0", "\"256MiB\"")
        .rule("not above memory-high; not reclaimed while there is anything else to reclaim")
        .files("", "memory.low", "MemoryLow="),
    key("@.isolators.memory-min", Bytes, "0", "\"64MiB\"")
        .rule("not above memory-low; never reclaimed; those of all apps together fit into the pod's")
        .files("", "memory.min", "MemoryMin="),
    key("@.isolators.memory-swap-max", Bytes, "no limit", "\"0\"")
        .rule("swap alone, not the sum of memory and swap")
        .files("memory.memsw.limit_in_bytes", "memory.swap.max", "MemorySwapMax="),
    key("@.isolators.cpus", Cpus, "no limit", "1.5")
        .rule("from 0.001 to 8192, in steps of a millionth")
        .files("cpu.cfs_quota_us, cpu.cfs_period_us", "cpu.max", "CPUQuota="),
    key("@.isolators.cpu-weight", Weight, "100", "200")
        .rule("from 1 to 10000: the share under contention; or \"idle\"")
        .files("cpu.shares, cpu.idle", "cpu.weight, cpu.idle", "CPUWeight="),
    key("@.isolators.cpuset", NumberSet, "all of the pod's or the host's", "\"0-1\"")
        .rule("an app's is part of the pod's")
        .files("cpuset.cpus", "cpuset.cpus", "AllowedCPUs="),
    key("@.isolators.cpuset-mems", NumberSet, "all of the pod's or the host's", "\"0\"")
        .rule("an app's is part of the pod's")
        .files("cpuset.mems", "cpuset.mems", "AllowedMemoryNodes="),
    key("@.isolators.pids-max", Count, "no limit", "256")
        .rule("from 1 to 4194304 processes and threads")
        .files("pids.max", "pids.max", "TasksMax="),
    key("@.isolators.on-missing", Choice(&["error", "ignore"]), "\"error\"", "\"ignore\"")
        .rule("what to do with a limit of this block that the host cannot enforce"),
    later("@.isolators.memory-zswap-max", Bytes, "no limit", "\"64MiB\"").files(
        "",
        "memory.zswap.max",
        "MemoryZSwapMax=",
    ),
    later("@.isolators.memory-oom-group", Boolean, "true for apps, false for the pod", "true").files(
        "",
        "memory.oom.group",
        "",
    ),
    later("@.isolators.cpu-burst", Duration, "\"0s\"", "\"50ms\"").files(
        "cpu.cfs_burst_us",
        "cpu.max.burst",
        "",
    ),
    later("@.isolators.io-weight", Integer, "100", "200").files("blkio.bfq.weight", "io.weight", "IOWeight="),
    later("@.isolators.io-max", Table, "{}", "{ \"/srv\" = { rbps = \"10MB\" } }").files(
        "blkio.throttle.*",
        "io.max",
        "IOReadBandwidthMax=",
    ),
    later("@.isolators.hugetlb", Table, "{}", "{ \"2MB\" = \"64MiB\" }").files(
        "hugetlb.*.limit_in_bytes",
        "hugetlb.*.max",
        "",
    ),
    later("@.isolators.unified", Table, "{}", "{ \"memory.reclaim\" = \"1M\" }"),
    later("app.*.isolators.bounds", Table, "{}", "{ memory-max = \"1GiB\" }"),
    // An app.
    key("app.*.rootfs", Text, "required", "\"/srv/images/web\"")
        .rule("an absolute path without `..`; a directory"),
    key("app.*.rootfs-mode", Choice(&["overlay", "read-only", "writable"]), "\"overlay\"", "\"read-only\"")
        .rule("how the app may write its root"),
    key("app.*.exec", TextList, "required", "[\"/bin/sh\", \"-c\", \"echo hello\"]")
        .rule("not empty; first an absolute path, or a name to be found in the app's PATH"),
    key("app.*.env", TextTable, "{}", "{ PORT = \"8081\" }").rule("names `[A-Za-z_][A-Za-z0-9_]*`"),
    key("app.*.env-file", TextList, "[]", "[\"/etc/shop/web.env\"]")
        .rule("absolute paths on the host; lines `NAME=value`; a later file wins, `env` wins over all"),
    key("app.*.workdir", Text, "\"/\"", "\"/srv\"").rule("an absolute path without `..`, not below /proc"),
    key("app.*.user", Identity, "0", "1000")
        .rule("an id up to 2147483647, or a name of the app's own /etc/passwd"),
    key("app.*.group", Identity, "the user's own group", "\"www-data\"")
        .rule("an id up to 2147483647, or a name of the app's own /etc/group"),
    key("app.*.groups", IdentityList, "[]", "[\"tape\", 1001]").rule("the exact supplementary groups"),
    key("app.*.capabilities", WordOrList, "\"default\"", "[\"NET_BIND_SERVICE\"]")
        .rule("\"none\", \"default\", \"appc\", or the exact list; `CAP_` may be left out"),
    key("app.*.no-new-privileges", Boolean, "true", "true")
        .rule("execve(2) gives no privileges: setuid has no effect"),
    key("app.*.oom-score-adjust", Integer, "0", "100")
        .rule("from -1000 to 1000; below 0 needs CAP_SYS_RESOURCE"),
    key("app.*.rlimits", LimitTable, "{}", "{ nofile = \"1024:8192\" }")
        .rule("names of getrlimit(2) in lower case; one value, or soft:hard; \"unlimited\""),
    key("app.*.stop-signal", Text, "\"TERM\"", "\"INT\"").rule("a name with or without SIG, or RTMIN+n"),
    key("app.*.stop-timeout", Duration, "\"10s\"", "\"25s\"").rule("between the stop signal and the kill"),
    key("app.*.essential", Boolean, "true", "false").rule("whether its failure ends the pod"),
    key("app.*.success-codes", EndList, "[0]", "[0, 143, \"TERM\"]")
        .rule("codes from 0 to 255 and names of signals that count as success"),
    key("app.*.depends-on", ListOrTable, "[]", "[\"db\"]")
        .rule("apps that must have been started before; or a table such as { db = \"started\" }"),
    later("app.*.kind", Choice(&["init", "service", "oneshot", "sidecar"]), "\"service\"", "\"oneshot\""),
    later("app.*.image", Text, "", "\"web:1\""),
    later(
        "app.*.restart",
        Choice(&["no", "on-failure", "always", "unless-stopped"]),
        "\"no\"",
        "\"on-failure\"",
    ),
    later("app.*.restart-delay", Duration, "\"500ms\"", "\"1s\""),
    later("app.*.restart-delay-max", Duration, "\"30s\"", "\"1m\""),
    later("app.*.restart-limit", Integer, "5", "10"),
    later("app.*.restart-window", Duration, "\"10m\"", "\"1h\""),
    later("app.*.stop-exec", TextList, "", "[\"/bin/stop\"]"),
    later("app.*.reload-exec", TextList, "", "[\"/bin/reload\"]"),
    later("app.*.reload-signal", Text, "", "\"HUP\""),
    later("app.*.pre-start", TextList, "", "[\"/bin/prepare\"]"),
    later("app.*.pre-start-timeout", Duration, "", "\"30s\""),
    later("app.*.pre-start-user", Identity, "app.*.user", "0"),
    later("app.*.post-stop", TextList, "", "[\"/bin/clean\"]"),
    later("app.*.post-stop-timeout", Duration, "", "\"30s\""),
    later("app.*.mount", TableList, "[]", "[{ volume = \"data\", target = \"/data\" }]"),
    later("app.*.cgroup", Choice(&["ro", "rw", "none"]), "\"ro\"", "\"rw\""),
    later("app.*.control", Choice(&["none", "read", "limits"]), "\"none\"", "\"read\""),
    later("app.*.ambient", Boolean, "true when user is not 0", "true"),
    later("app.*.seccomp", Text, "\"default\"", "\"unconfined\""),
    later("app.*.devices", TextList, "null, zero, full, random, urandom and tty", "[\"/dev/fuse:rw\"]"),
    later("app.*.secrets", TextList, "[]", "[\"/etc/shop/db-password\"]"),
    later("app.*.ready", Table, "", "{ notify = true }"),
    later("app.*.live", Table, "", "{ http = \"http://127.0.0.1:8081/healthz\" }"),
    later("app.*.log", Table, "{}", "{ driver = \"journald\" }"),
    later("app.*.stdin", Text, "\"null\"", "\"null\""),
    later("app.*.tty", Boolean, "false", "true"),
    // Beside pod and apps.
    later("volume", Table, "{}", "{ data = { kind = \"tmpfs\" } }"),
    later("volume.*.kind", Choice(&["dir", "tmpfs", "empty"]), "\"dir\"", "\"tmpfs\""),
    later("volume.*.path", Text, "", "\"/srv/shop/data\""),
    later("volume.*.owner", Text, "", "\"999:999\""),
    later("volume.*.mode", Text, "\"0755\"", "\"0700\""),
    later("volume.*.size", Bytes, "", "\"64MiB\""),
    later("socket", Table, "{}", "{ http = { listen = \"0.0.0.0:80\", app = \"web\" } }"),
    later("socket.*.listen", Text, "required", "\"0.0.0.0:8000\""),
    later("socket.*.app", Text, "required", "\"web\""),
    later("socket.*.mode", Text, "", "\"0660\""),
    later("socket.*.owner", Text, "", "\"0:33\""),
    later("socket.*.backlog", Integer, "", "128"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Lookup {
        look_up(&path.split('.').collect::<Vec<_>>())
    }

    #[test]
    fn look_up_tells_keys_tables_and_strangers_apart() {
        for path in
            ["version", "pod.name", "pod.isolators.cpus", "app.web.isolators.cpus", "app.x.exec", "volume"]
        {
            assert!(matches!(found(path), Lookup::Key(_)), "{path}");
        }
        for path in ["pod", "app", "app.web", "pod.isolators", "app.web.isolators"] {
            assert_eq!(found(path), Lookup::Table, "{path}");
        }
        for path in ["pods", "pod.exec", "app.web.name", "isolators", "pod.isolators.bounds", "version.x"] {
            assert_eq!(found(path), Lookup::Unknown, "{path}");
        }
    }

    #[test]
    fn keys_in_a_table_are_its_own() {
        assert_eq!(keys_in(&[]), ["app", "pod", "socket", "version", "volume"]);
        assert!(keys_in(&["app", "web"]).contains(&"isolators"));
        assert!(keys_in(&["app"]).is_empty());
        assert!(keys_in(&["pod", "isolators"]).contains(&"memory-max"));
    }

    #[test]
    fn every_path_is_there_once_and_every_example_is_toml() {
        let mut paths: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        paths.sort_unstable();
        assert!(paths.windows(2).all(|two| two[0] != two[1]));
        for key in KEYS {
            assert!(toml::de::DeValue::parse(key.example).is_ok(), "{}: {}", key.path, key.example);
            assert!(key.support == Support::NotYet || !key.rule.is_empty(), "{} has no rule", key.path);
        }
    }
}

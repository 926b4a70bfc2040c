//! Every key that a manifest may have, as one table: the checks of names, the help in messages, `explain` and
//! the JSON schema are made from it.
//!
//! A path is a pattern: `*` stands for a name that the author chose, `mount[]` for each table of a list, a leading
//! `@` for `pod` and for `app.*`, a leading `%` for `app.*.ready` and `app.*.live`. It does not say how a value is
//! checked; that is done by the reader of the block that the key is in.

mod table;

pub use table::KEYS;

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The pattern of its path, such as `@.isolators.memory-max`.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds when it is not there; `required` when that is an error.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// What is asked of the value beyond its kind; empty when there is nothing more.
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
    /// A whole number, not below the first and not above the second.
    Integer(i64, i64),
    /// A string.
    Text,
    /// An absolute path.
    Path,
    /// A mode such as `"0755"`.
    Octal,
    /// The name of a signal.
    Signal,
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
    /// A list of absolute paths.
    PathList,
    /// A list of strings: a command and its arguments.
    Command,
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
            Self::Integer(..) => "an integer",
            Self::Text | Self::Choice(_) | Self::NumberSet | Self::Path | Self::Octal | Self::Signal => {
                "a string"
            }
            Self::Boolean => "a boolean",
            Self::Bytes => "a size in a string or an integer of bytes",
            Self::Duration => "a duration in a string",
            Self::Cpus => "a number of CPUs or a string",
            Self::Weight => "an integer or \"idle\"",
            Self::Count => "an integer or \"max\"",
            Self::Identity => "an integer or a string",
            Self::TextList | Self::PathList | Self::Command => "a list of strings",
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
    let next = |(head, key)| Some(behind(head, key, path)??.trim_end_matches("[]"));
    let mut names: Vec<_> = heads_and_keys().filter_map(next).collect();
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
    const PROBES: &[Head] = &[&["app", "*", "ready"], &["app", "*", "live"]];
    KEYS.iter().flat_map(|key| {
        let heads = match key.path.as_bytes().first() {
            Some(b'@') => POD_AND_APPS,
            Some(b'%') => PROBES,
            _ => NONE,
        };
        heads.iter().map(move |head| (*head, key))
    })
}

fn parts(head: Head, key: &'static Key) -> impl Iterator<Item = &'static str> {
    head.iter().copied().chain(own_path(key).split('.'))
}

/// The part of a key's path that follows `path`: nothing when it ends there too; `None` when it goes elsewhere. Every
/// start looks each key of the manifest up, in the whole table: it compares and allocates nothing.
fn behind(head: Head, key: &'static Key, path: &[&str]) -> Option<Option<&'static str>> {
    if path.len() <= head.len() {
        let agree = head.iter().zip(path).all(|(part, given)| fits(part, given));
        let next = head.get(path.len()).copied();
        return agree.then(|| next.or_else(|| own_path(key).split('.').next()));
    }
    let (above, inner) = path.split_at(head.len());
    if !head.iter().zip(above).all(|(part, given)| fits(part, given)) {
        return None;
    }
    let mut rest = Some(own_path(key));
    for given in inner {
        let (part, behind) = first_part(rest?);
        if !fits(part, given) {
            return None;
        }
        rest = behind;
    }
    Some(rest.map(|rest| first_part(rest).0))
}

fn own_path(key: &'static Key) -> &'static str {
    key.path.trim_start_matches(['@', '%']).trim_start_matches('.')
}

/// `mount[3]` is a table of the list `mount[]`.
fn fits(part: &str, given: &str) -> bool {
    match part.strip_suffix(']') {
        Some(list) => given.ends_with(']') && given.starts_with(list),
        None => part == "*" || part == given,
    }
}

fn first_part(path: &'static str) -> (&'static str, Option<&'static str>) {
    match path.bytes().position(|byte| byte == b'.') {
        Some(dot) => (&path[..dot], Some(&path[dot + 1..])),
        None => (path, None),
    }
}

impl Key {
    const fn new(path: &'static str, kind: Kind, default: &'static str, example: &'static str) -> Self {
        let support = Support::Supported;
        Self { path, kind, default, about: "", rule: "", example, support, cgroup: None, systemd: None }
    }

    const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

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
            assert!(key.about.ends_with('.'), "{} is not explained", key.path);
            assert!(key.support == Support::NotYet || !key.rule.is_empty(), "{} has no rule", key.path);
        }
    }
}

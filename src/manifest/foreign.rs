//! What other tools call it: words that authors bring along from compose, Kubernetes, systemd, podman and rkt.

use super::keys::{self, Lookup, Support};

/// Their words in lower case and without `-` and `_`, and podrun's key; or, behind a `!`, a sentence.
const WORDS: &[(&str, &str)] = &[
    ("after", "depends-on"),
    ("args", "exec"),
    ("build", "!podrun makes no images: rootfs is a directory"),
    ("capabilityboundingset", "capabilities"),
    ("capadd", "capabilities"),
    ("capdrop", "capabilities"),
    ("cmd", "exec"),
    ("command", "exec"),
    ("containername", "!the name of an app is in its header: [app.NAME]"),
    ("containers", "!each app is a table of its own: [app.NAME]"),
    ("cpu", "isolators.cpus"),
    ("cpuquota", "isolators.cpus"),
    ("cpushares", "isolators.cpu-weight"),
    ("cwd", "workdir"),
    ("deploy", "isolators"),
    ("entrypoint", "exec"),
    ("environment", "env"),
    ("environmentfile", "env-file"),
    ("execreload", "reload-exec"),
    ("execstart", "exec"),
    ("execstop", "stop-exec"),
    ("healthcheck", "ready.exec"),
    ("imagepullpolicy", "!podrun fetches no images: rootfs is a directory"),
    ("initcontainers", "!each app is a table of its own: [app.NAME]"),
    ("killsignal", "stop-signal"),
    ("limitnofile", "rlimits"),
    ("limits", "isolators"),
    ("livenessprobe", "live"),
    ("logging", "log"),
    ("memlimit", "isolators.memory-max"),
    ("memory", "isolators.memory-max"),
    ("memorymax", "isolators.memory-max"),
    ("metadata", "pod"),
    ("name", "!the name of an app is in its header: [app.NAME]"),
    ("oomscoreadj", "oom-score-adjust"),
    ("pidslimit", "isolators.pids-max"),
    ("privileged", "!there is no such thing: list what it needs in capabilities"),
    ("readinessprobe", "ready.exec"),
    ("requires", "depends-on"),
    ("resources", "isolators"),
    ("restartpolicy", "restart"),
    ("restartsec", "restart-delay"),
    ("root", "rootfs"),
    ("rootdirectory", "rootfs"),
    ("runasgroup", "group"),
    ("runasuser", "user"),
    ("securitycontext", "user"),
    ("service", "!each app is a table of its own: [app.NAME]"),
    ("services", "!each app is a table of its own: [app.NAME]"),
    ("startupprobe", "ready.exec"),
    ("stopgraceperiod", "stop-timeout"),
    ("tasksmax", "isolators.pids-max"),
    ("terminationgraceperiodseconds", "stop-timeout"),
    ("timeoutstopsec", "stop-timeout"),
    ("uid", "user"),
    ("ulimits", "rlimits"),
    ("volumemounts", "mount"),
    ("volumes", "mount"),
    ("wants", "depends-on"),
    ("workingdir", "workdir"),
    ("workingdirectory", "workdir"),
];

fn find(key: &str) -> Option<&'static str> {
    let plain: String =
        key.chars().filter(|c| !['-', '_'].contains(c)).collect::<String>().to_ascii_lowercase();
    WORDS.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours)
}

/// The key that podrun has for another tool's word, if it is one key.
pub(super) fn word(key: &str) -> Option<&'static str> {
    find(key).filter(|ours| !ours.starts_with('!'))
}

/// What to tell an author who has written another tool's word in the table with this path.
pub(super) fn advice(table: &[&str], key: &str) -> Option<String> {
    let ours = find(key)?;
    if let Some(sentence) = ours.strip_prefix('!') {
        return Some(sentence.to_owned());
    }
    let path: Vec<&str> = ["app", "NAME"].into_iter().chain(ours.split('.')).collect();
    let later = match keys::look_up(&path) {
        Lookup::Key(key) if key.support == Support::NotYet => ", which is not supported yet",
        _ => "",
    };
    let here = if table.last() == Some(&"isolators") { ours.trim_start_matches("isolators.") } else { ours };
    Some(format!("podrun's word for it is `{here}`{later}"))
}

/// Whether a text is a unit file of systemd.
pub(super) fn is_unit(text: &str) -> bool {
    text.lines()
        .take(200)
        .any(|line| matches!(line.trim(), "[Unit]" | "[Service]" | "[Container]" | "[Install]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_to_a_key() {
        for (theirs, ours) in WORDS.iter().filter(|(_, ours)| !ours.starts_with('!')) {
            let path: Vec<&str> = ["app", "web"].into_iter().chain(ours.split('.')).collect();
            let found = keys::look_up(&path) != Lookup::Unknown || *ours == "pod";
            assert!(found, "{theirs}: {ours}");
        }
    }

    #[test]
    fn words_are_found_however_they_are_spelt() {
        for key in ["mem_limit", "memLimit", "mem-limit", "MEM_LIMIT"] {
            assert_eq!(word(key), Some("isolators.memory-max"), "{key}");
        }
        assert_eq!(word("ExecStart"), Some("exec"));
        assert_eq!((word("services"), word("exec"), word("")), (None, None, None));
        let advised = |table: &[&str], key| advice(table, key).unwrap();
        assert_eq!(advised(&["pod", "isolators"], "MemoryMax"), "podrun's word for it is `memory-max`");
        assert_eq!(
            advised(&["app", "web"], "healthcheck"),
            "podrun's word for it is `ready.exec`, which is not supported yet"
        );
        assert!(advice(&[], "services").unwrap().contains("[app.NAME]"));
    }
}

//! The commands that print what a process of a pod sees of itself and around itself.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use crate::{Outcome, failed, say, sys};

pub fn ids() -> Outcome {
    let (uids, gids) = (status_line("Uid"), status_line("Gid"));
    say(&format!("uid {uids}"));
    say(&format!("gid {gids}"));
    let groups: Vec<String> = sys::groups().iter().map(u32::to_string).collect();
    say(&format!("groups {}", groups.join(" ")));
    Ok(())
}

/// The named lines of `/proc/self/status`, as `NAME value`.
pub fn status(names: &[String]) -> Outcome {
    for name in names {
        say(&format!("{name} {}", status_line(name)));
    }
    Ok(())
}

fn status_line(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    found.unwrap_or("none").split_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn file(path: &str) -> Outcome {
    match fs::read(path) {
        Ok(bytes) => {
            say(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
            Ok(())
        }
        Err(error) => Err(failed("read", path, &error)),
    }
}

pub fn env() -> Outcome {
    for (name, value) in std::env::vars_os() {
        say(&format!("env {}={:?}", name.to_string_lossy(), value.to_string_lossy()));
    }
    Ok(())
}

/// `std::env::args_os` was decoded already: the escaped form shows every byte that matters here.
pub fn argv(arguments: &[String]) -> Outcome {
    for argument in arguments {
        say(&format!("argv {argument:?}"));
    }
    Ok(())
}

pub fn cwd() -> Outcome {
    match std::env::current_dir() {
        Ok(path) => say(&format!("cwd {}", path.display())),
        Err(error) => return Err(failed("cwd", "", &error)),
    }
    Ok(())
}

pub fn namespaces() -> Outcome {
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        say(&format!("ns-{name} {}", link.display()));
    }
    Ok(())
}

/// A limit of the own cgroup by its name in the manifest: `memory-max 26214400`, on v1 as on v2.
pub fn limit(name: &str) -> Outcome {
    let files: &[&str] = match name {
        "memory-max" => &["memory/memory.limit_in_bytes", "memory.max"],
        "memory-swap-max" => &["memory/memory.memsw.limit_in_bytes", "memory.swap.max"],
        // systemd mounts cpu and cpuacct together.
        "cpus" => &[
            "cpu/cpu.cfs_quota_us",
            "cpu/cpu.cfs_period_us",
            "cpu,cpuacct/cpu.cfs_quota_us",
            "cpu,cpuacct/cpu.cfs_period_us",
            "cpu.max",
        ],
        "cpu-weight" => &["cpu/cpu.shares", "cpu,cpuacct/cpu.shares", "cpu.weight"],
        "cpuset" => &["cpuset/cpuset.cpus", "cpuset.cpus"],
        "cpuset-mems" => &["cpuset/cpuset.mems", "cpuset.mems"],
        "pids-max" => &["pids/pids.max", "pids.max"],
        _ => &[],
    };
    let values: Vec<String> = files
        .iter()
        .filter_map(|file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok())
        .map(|text| text.trim().to_owned())
        .collect();
    say(&format!("{name} {}", if values.is_empty() { "none".to_owned() } else { values.join(" ") }));
    Ok(())
}

pub fn hostname() -> Outcome {
    say(&format!("hostname {}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim()));
    Ok(())
}

pub fn pids() -> Outcome {
    let (parent, group, session) = sys::relatives();
    say(&format!("pid {}", std::process::id()));
    say(&format!("ppid {parent}"));
    say(&format!("pgid {group}"));
    say(&format!("sid {session}"));
    Ok(())
}

/// The open descriptors, without the one that reads the list.
pub fn descriptors() -> Outcome {
    let mut numbers: Vec<i32> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(|error| failed("fds", "", &error))?.flatten() {
        let is_list = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().ends_with("/fd"));
        if !is_list && let Ok(number) = entry.file_name().to_string_lossy().parse() {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    say(&format!("fds {}", numbers.join(" ")));
    Ok(())
}

pub fn processes() -> Outcome {
    for (pid, state, name) in all_processes() {
        say(&format!("process {pid} {state} {name}"));
    }
    Ok(())
}

pub fn zombies() -> Outcome {
    say(&format!("zombies {}", count_zombies()));
    Ok(())
}

pub fn count_zombies() -> usize {
    all_processes().iter().filter(|(_, state, _)| *state == 'Z').count()
}

/// Pid, state and name of every process that `/proc` shows.
pub fn all_processes() -> Vec<(i32, char, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // Gone in the meantime: not there.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name stands in parentheses and may itself hold some (proc(5)): the last one ends it.
        let (Some(open), Some(close)) = (text.find('('), text.rfind(')')) else { continue };
        let state = text[close + 1..].trim_start().chars().next().unwrap_or('?');
        found.push((pid, state, text[open + 1..close].to_owned()));
    }
    found.sort();
    found
}

pub fn list(path: &str) -> Outcome {
    let entries = fs::read_dir(path).map_err(|error| failed("ls", path, &error))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    say(&format!("ls {path} {}", names.join(" ")));
    Ok(())
}

/// `stat PATH KIND MODE MAJOR:MINOR SIZE`.
pub fn stat(path: &str) -> Outcome {
    let meta = fs::symlink_metadata(path).map_err(|error| failed("stat", path, &error))?;
    let kind = match meta.st_mode() & libc::S_IFMT {
        libc::S_IFDIR => "directory",
        libc::S_IFREG => "file",
        libc::S_IFCHR => "char",
        libc::S_IFBLK => "block",
        libc::S_IFLNK => "symlink",
        libc::S_IFSOCK => "socket",
        _ => "other",
    };
    let (major, minor) = (libc::major(meta.st_rdev()), libc::minor(meta.st_rdev()));
    say(&format!("stat {path} {kind} {:o} {major}:{minor} {}", meta.st_mode() & 0o7777, meta.st_size()));
    Ok(())
}

/// The topmost mount that stands exactly on the path: `mounted PATH FSTYPE OPTIONS`.
pub fn mounted(path: &str) -> Outcome {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = text.lines().rev().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-")?;
        (*fields.get(4)? == path).then(|| format!("{} {}", fields[dash + 1], fields[5]))
    });
    say(&format!("mounted {path} {}", found.unwrap_or_else(|| "none".to_owned())));
    Ok(())
}

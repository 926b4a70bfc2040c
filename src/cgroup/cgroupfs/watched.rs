//! What stage1 is given to watch the limits of the pod and of its apps: directories, names of files in them, and alarms.
//!
//! Which counter says what on which kernel is known here alone; stage1 reads numbers.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use podrun_abi::handover::{Alarm, Gauge, Place, Watched};

use super::{PodCgroup, below};
use crate::cgroup::files;
use crate::cgroup::plan::Version;
use crate::cgroup::remove::Tree;

/// Descriptors on their way to stage1, with the groups among them that are there already.
pub struct Attachments<'a> {
    attached: &'a mut Vec<OwnedFd>,
    groups: Vec<(String, Place)>,
}

impl<'a> Attachments<'a> {
    /// Behind those that are there.
    pub fn new(attached: &'a mut Vec<OwnedFd>) -> Self {
        Self { attached, groups: Vec::new() }
    }

    /// The place of one more.
    pub(super) fn keep(&mut self, file: OwnedFd) -> Place {
        self.attached.push(file);
        self.attached.len() - 1
    }

    /// A group's directory, opened once.
    pub(super) fn group(&mut self, tree: &Tree, group: &str) -> anyhow::Result<Place> {
        let path = format!("{}/{group}", tree.path.display());
        if let Some((_, place)) = self.groups.iter().find(|(known, _)| *known == path) {
            return Ok(*place);
        }
        let dir = files::open_group_at(&tree.pod, if group.is_empty() { "." } else { group })
            .with_context(|| format!("cannot open group `{path}`"))?;
        let place = self.keep(dir);
        self.groups.push((path, place));
        Ok(place)
    }
}

/// Whose limits are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of<'a> {
    Pod,
    App(&'a str),
}

impl PodCgroup {
    /// What tells of the limits of the pod as a whole.
    ///
    /// # Errors
    /// A group cannot be opened.
    pub fn watch_pod(&self, attached: &mut Vec<OwnedFd>) -> anyhow::Result<Watched> {
        self.watched(Of::Pod, &mut Attachments::new(attached))
    }

    /// What tells of the limits and the use of the app with this group.
    pub(super) fn watch_app(&self, group: &str, to: &mut Attachments<'_>) -> anyhow::Result<Watched> {
        self.watched(Of::App(group), to)
    }

    fn watched(&self, of: Of<'_>, to: &mut Attachments<'_>) -> anyhow::Result<Watched> {
        let mut watched = Watched::default();
        self.watch_memory(of, &mut watched, to)?;
        self.watch_pids(of, &mut watched, to)?;
        if let Of::App(group) = of {
            self.watch_use(group, &mut watched, to)?;
        }
        Ok(watched)
    }

    /// The group with the limit: the pod's may be above it, in systemd's hands.
    fn home<'s>(&'s self, of: Of<'s>, key: &str) -> &'s str {
        let own = || self.plan.groups.first().is_some_and(|g| g.settings.iter().any(|s| s.key == key));
        match of {
            Of::App(group) => group,
            Of::Pod if own() => "",
            Of::Pod => &self.plan.limits_at,
        }
    }

    /// v2: `oom` of `memory.events.local` moves in the one group whose limit could not be met. v1: the failure
    /// counter of the limit. A charge asks the sum of memory and swap first, so when both limits are the same it
    /// is the sum's that fails (mm/memcontrol.c, try_charge_memcg), and its counter stands still since Linux 6.15
    /// (`track_failcnt`): then nothing on v1 tells.
    fn watch_memory(
        &self,
        of: Of<'_>,
        watched: &mut Watched,
        to: &mut Attachments<'_>,
    ) -> anyhow::Result<()> {
        let Some((joined, tree)) = self.with("memory") else { return Ok(()) };
        let group = self.home(of, "memory-max");
        let dir = to.group(tree, group)?;
        let gauge = |file: &str, key: Option<&str>| Some(counter(dir, file, key));
        match joined.version {
            Version::V1 => {
                watched.oom_kills = gauge("memory.oom_control", Some("oom_kill"));
                watched.oom_hits = gauge("memory.failcnt", None);
                watched.memory_max = gauge("memory.limit_in_bytes", None);
                watched.memory_sum = gauge("memory.memsw.limit_in_bytes", None);
                watched.memory_peak = gauge("memory.max_usage_in_bytes", None);
                // The pod's own group is told of the limits above it too, among them those that systemd has.
                let told = if of == Of::Pod { "" } else { group };
                watched.alarms.extend(oom_notifier(tree, told)?.map(|n| Alarm::Counter(to.keep(n))));
            }
            Version::V2 => {
                let own = if of == Of::Pod { "memory.events.local" } else { "memory.events" };
                watched.oom_kills = gauge("memory.events", Some("oom_kill"));
                watched.oom_hits = gauge("memory.events.local", Some("oom"));
                watched.memory_high_hits = gauge(own, Some("high"));
                watched.memory_max = gauge("memory.max", None);
                watched.memory_high = gauge("memory.high", None);
                watched.memory_peak = gauge("memory.peak", None);
                let alarm = tree.open_if_there(&below(group, own), OFlag::O_RDONLY)?;
                watched.alarms.extend(alarm.map(|file| Alarm::File(to.keep(file))));
            }
        }
        Ok(())
    }

    /// `pids.events.local` (Linux 6.11, cgroup v2) moves in the one group whose limit was met. Where it is not there, an
    /// app's `pids.events` moves for the pod's limit too, and the pod's own for nobody: the numbers say which it was.
    fn watch_pids(&self, of: Of<'_>, watched: &mut Watched, to: &mut Attachments<'_>) -> anyhow::Result<()> {
        let Some((joined, tree)) = self.with("pids") else { return Ok(()) };
        let group = self.home(of, "pids-max");
        let dir = to.group(tree, group)?;
        watched.pids_max = Some(counter(dir, "pids.max", None));
        let open = |file: &str| tree.open_if_there(&below(group, file), OFlag::O_RDONLY);
        let (file, alarm) = match open("pids.events.local")?.filter(|_| joined.version == Version::V2) {
            Some(alarm) => ("pids.events.local", alarm),
            None => {
                watched.pids_current = Some(counter(dir, "pids.current", None));
                let Some(alarm) = open("pids.events")?.filter(|_| of != Of::Pod) else { return Ok(()) };
                ("pids.events", alarm)
            }
        };
        watched.pids_hits = Some(counter(dir, file, Some("max")));
        watched.alarms.push(Alarm::File(to.keep(alarm)));
        Ok(())
    }

    /// Every group of cgroup2 has `cpu.stat` and `memory.pressure`, with or without the controllers.
    fn watch_use(&self, group: &str, watched: &mut Watched, to: &mut Attachments<'_>) -> anyhow::Result<()> {
        if let Some((_, tree)) = self.v2() {
            let dir = to.group(tree, group)?;
            watched.pressure = Some(dir);
            watched.cpu_used = Some(Gauge { scale: 1000, ..counter(dir, "cpu.stat", Some("usage_usec")) });
        } else if let Some((_, tree)) = self.with("cpuacct") {
            watched.cpu_used = Some(counter(to.group(tree, group)?, "cpuacct.usage", None));
        }
        Ok(())
    }
}

fn counter(dir: Place, file: &str, key: Option<&str>) -> Gauge {
    Gauge { dir, file: file.to_owned(), key: key.map(str::to_owned), scale: 1 }
}

/// v1's notice of an OOM in the group or above it (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control").
/// `None`: this kernel has none, as a real-time one; then a kill is seen when the app has ended.
fn oom_notifier(tree: &Tree, group: &str) -> anyhow::Result<Option<OwnedFd>> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let counter = EventFd::from_flags(flags).context("cannot make an eventfd")?;
    let control = tree.open(&below(group, "memory.oom_control"), OFlag::O_RDONLY)?;
    let file = below(group, "cgroup.event_control");
    let words = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
    match files::write(&tree.pod, &file, &words) {
        Ok(()) => Ok(Some(counter.into())),
        Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP => Ok(None),
            _ => Err(error).with_context(|| format!("cannot write to `{}`", tree.path.join(file).display())),
        },
    }
}

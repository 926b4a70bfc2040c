//! What groups tell of their limits and their use: counters that are read when something wakes us, and at the end.
//!
//! A [`Watch`] is the descriptors of one group, [`Lookout`] what was seen of it and what of that is news, [`Watches`]
//! both for the pod and its apps. Invariant: an alarm is taken back before the counters are read, so that nothing that
//! moves meanwhile is missed.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::read;
use podrun_abi::boot::App;
use podrun_abi::event::{End, Event as Told, OomLevel, Outcome, Pressure};
use podrun_abi::failure::StartFailure;
use podrun_abi::handover::{Alarm, Gauge, Watched};

use crate::attached::Attached;
use crate::handover::{AppHandles, Handles};
use crate::supervisor::AppIndex;
use crate::sys::descriptors::Inherited;

mod lookout;

use lookout::{Above, Counts, Lookout, SAME};

/// A file with one number, or a few lines with one each.
pub const TEXT_BYTES_MAX: usize = 4096;
/// v1 shows a number near 2^63 where there is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// One number in a file of a group.
struct Meter {
    dir: Inherited,
    file: String,
    key: Option<String>,
    scale: u64,
}

/// The descriptors of one group.
pub struct Watch {
    oom_kills: Option<Meter>,
    oom_hits: Option<Meter>,
    memory_high_hits: Option<Meter>,
    pids_hits: Option<Meter>,
    memory_max: Option<Meter>,
    memory_sum: Option<Meter>,
    memory_high: Option<Meter>,
    memory_peak: Option<Meter>,
    pids_max: Option<Meter>,
    pids_current: Option<Meter>,
    cpu_used: Option<Meter>,
    pressure: Option<Inherited>,
    /// To be read when the file has changed.
    files: Vec<Inherited>,
    /// To be read when v1's OOM notifier has counted.
    counters: Vec<Inherited>,
}

impl Watch {
    /// What was handed over for it.
    pub fn new(plan: Watched, attached: &Attached) -> Result<Self, StartFailure> {
        let meter = |gauge: Option<Gauge>| gauge.map(|gauge| Meter::new(gauge, attached)).transpose();
        let mut watch = Self {
            oom_kills: meter(plan.oom_kills)?,
            oom_hits: meter(plan.oom_hits)?,
            memory_high_hits: meter(plan.memory_high_hits)?,
            pids_hits: meter(plan.pids_hits)?,
            memory_max: meter(plan.memory_max)?,
            memory_sum: meter(plan.memory_sum)?,
            memory_high: meter(plan.memory_high)?,
            memory_peak: meter(plan.memory_peak)?,
            pids_max: meter(plan.pids_max)?,
            pids_current: meter(plan.pids_current)?,
            cpu_used: meter(plan.cpu_used)?,
            pressure: plan.pressure.map(|place| attached.at(place)).transpose()?,
            files: Vec::new(),
            counters: Vec::new(),
        };
        for alarm in plan.alarms {
            match alarm {
                Alarm::File(place) => watch.files.push(attached.at(place)?),
                Alarm::Counter(place) => watch.counters.push(attached.at(place)?),
            }
        }
        Ok(watch)
    }

    /// A file that was never read counts as changed.
    fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        self.take_files_back();
        self.take_notices();
        let all = |list: &[Inherited], interest: Interest| {
            list.iter().try_for_each(|fd| registry.register(&mut SourceFd(&fd.number()), token, interest))
        };
        all(&self.files, Interest::PRIORITY)?;
        all(&self.counters, Interest::READABLE)
    }

    fn take_files_back(&self) {
        let mut buffer = [0; TEXT_BYTES_MAX];
        for file in &self.files {
            let _ = pread(*file, &mut buffer, 0);
        }
    }

    /// What v1's notifier has counted since: for each of them a kill follows.
    fn take_notices(&self) -> u64 {
        let count = |counter: &Inherited| {
            let mut number = [0; size_of::<u64>()];
            read(counter.as_fd(), &mut number).map_or(0, |_| u64::from_ne_bytes(number))
        };
        self.counters.iter().map(count).sum()
    }

    fn counts(&self) -> Counts {
        let value = |meter: &Option<Meter>| meter.as_ref().and_then(Meter::read);
        Counts {
            kills: value(&self.oom_kills),
            hits: self.hits(),
            high: value(&self.memory_high_hits),
            pids: value(&self.pids_hits),
            notices: None,
        }
    }

    /// Where memory and its sum with swap have the same limit, it is the sum's that is hit, and nobody counts that.
    fn hits(&self) -> Option<u64> {
        let sum = limit(self.memory_sum.as_ref());
        if sum.is_some() && sum == limit(self.memory_max.as_ref()) {
            return None;
        }
        self.oom_hits.as_ref().and_then(Meter::read)
    }

    fn has_notifier(&self) -> bool {
        !self.counters.is_empty()
    }

    /// A group that was made for this run has counted nothing.
    fn first_counts(&self) -> Counts {
        let zero = |meter: &Option<Meter>| meter.as_ref().map(|_| 0);
        Counts {
            kills: zero(&self.oom_kills),
            hits: zero(&self.oom_hits),
            high: zero(&self.memory_high_hits),
            pids: zero(&self.pids_hits),
            notices: None,
        }
    }

    /// Whether the OOM killer has ever killed anything in it.
    pub fn has_killed(&self) -> bool {
        self.oom_kills.as_ref().and_then(Meter::read).is_some_and(|kills| kills > 0)
    }

    fn pressure(&self) -> Option<Pressure> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        parse_pressure(open_and_read(self.pressure?, "memory.pressure", &mut buffer)?)
    }
}

impl Meter {
    fn new(gauge: Gauge, attached: &Attached) -> Result<Self, StartFailure> {
        let Gauge { dir, file, key, scale } = gauge;
        Ok(Self { dir: attached.at(dir)?, file, key, scale })
    }

    /// The number as it is at this moment; `None` when it cannot be read.
    fn read(&self) -> Option<u64> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let text = open_and_read(self.dir, &self.file, &mut buffer)?;
        Some(find_number(text, self.key.as_deref())?.saturating_mul(self.scale))
    }
}

fn limit(meter: Option<&Meter>) -> Option<u64> {
    meter.and_then(Meter::read).filter(|limit| *limit < NO_LIMIT)
}

fn open_and_read<'b>(dir: Inherited, file: &str, buffer: &'b mut [u8]) -> Option<&'b str> {
    let file = openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    read_text(file, buffer)
}

/// What a file holds, as far as the buffer goes.
pub fn read_text(file: impl AsFd, buffer: &mut [u8]) -> Option<&str> {
    let length = pread(file, buffer, 0).ok()?;
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// The only number of a text, or the one behind `key` and a space on a line of its own.
pub fn find_number(text: &str, key: Option<&str>) -> Option<u64> {
    let Some(key) = key else { return text.trim_end().parse().ok() };
    let number = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    number.parse().ok()
}

/// `some avg10=1.50 avg60=… avg300=… total=12`, and the same behind `full`.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let value = |line: &str, key: &str| -> Option<String> {
        let words = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '))?;
        let word = words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        Some(word.to_owned())
    };
    // The kernel writes two decimals.
    let hundredths = |line: &str| value(line, "avg10")?.replacen('.', "", 1).parse().ok();
    Some(Pressure {
        some_avg10: hundredths("some")?,
        full_avg10: hundredths("full")?,
        some_total_us: value("some", "total")?.parse().ok()?,
    })
}

/// The pod and its apps, watched.
pub struct Watches<'a> {
    apps: &'a [App],
    handles: &'a Handles,
    pod: Lookout,
    /// In the order of the apps.
    of_apps: Vec<Lookout>,
    /// What the pod had counted when something was killed for its limit last.
    explained: Option<(Above, Instant)>,
    /// What v1's notifiers have told; of the pod, and of the apps in their order.
    notices: (u64, Vec<u64>),
}

/// What a look has found.
#[derive(Default)]
pub struct Seen {
    /// To be told.
    pub told: Vec<Told>,
    /// Those in which something was killed.
    pub killed: Vec<AppIndex>,
}

impl<'a> Watches<'a> {
    /// Nothing has been seen yet.
    pub fn new(apps: &'a [App], handles: &'a Handles) -> Self {
        let pod = handles.links.watch.counts();
        let above = Above { hits: pod.hits, notices: handles.links.watch.has_notifier().then_some(0) };
        let lookout = |app: &AppHandles| Lookout::new(app.watch.first_counts(), above);
        Self {
            apps,
            handles,
            pod: Lookout::new(pod, None),
            of_apps: handles.apps.iter().map(lookout).collect(),
            explained: None,
            notices: (0, vec![0; handles.apps.len()]),
        }
    }

    /// Has alarms told under the tokens from this number on: the pod's, and then one for each app.
    pub fn register(&self, registry: &Registry, first: usize) -> io::Result<()> {
        let apps = self.handles.apps.iter().map(|app| &app.watch);
        let mut all = std::iter::once(&self.handles.links.watch).chain(apps).zip(first..);
        all.try_for_each(|(watch, number)| watch.register(registry, Token(number)))
    }

    /// The alarm of this place was told; see [`Watches::register`].
    pub fn rouse(&mut self, place: usize, now: Instant) {
        let lookout = match place.checked_sub(1) {
            None => Some(&mut self.pod),
            Some(app) => self.of_apps.get_mut(app),
        };
        if let Some(lookout) = lookout {
            lookout.rouse(now);
        }
    }

    /// When something is to be looked at.
    pub fn due_at(&self) -> Option<Instant> {
        self.of_apps.iter().chain([&self.pod]).filter_map(Lookout::due_at).min()
    }

    /// What has moved where it is due.
    pub fn look(&mut self, now: Instant) -> Seen {
        let mut seen = Seen::default();
        if self.due_at().is_none_or(|at| at > now) {
            return seen;
        }
        if self.pod.due_at().is_some_and(|at| at <= now) {
            seen.told = self.look_at_pod(now);
        }
        for index in 0..self.of_apps.len() {
            if self.of_apps[index].due_at().is_some_and(|at| at <= now) {
                let (told, killed) = self.look_at(AppIndex(index), now);
                seen.told.extend(told);
                seen.killed.extend(killed.then_some(AppIndex(index)));
            }
        }
        seen
    }

    /// What has moved of an app that has ended, to the last one.
    pub fn last_look(&mut self, app: AppIndex, now: Instant) -> Vec<Told> {
        self.of_apps[app.0].hurry();
        let (told, _) = self.look_at(app, now);
        self.of_apps[app.0].rest();
        told
    }

    /// The same of the pod as a whole.
    pub fn last_look_at_pod(&mut self, now: Instant) -> Vec<Told> {
        self.pod.hurry();
        self.look_at_pod(now)
    }

    fn look_at_pod(&mut self, now: Instant) -> Vec<Told> {
        let watch = &self.handles.links.watch;
        watch.take_files_back();
        self.notices.0 += watch.take_notices();
        self.pod.take(watch.counts(), None, now).of_limits(None, watch, watch)
    }

    /// With whether something was killed in it.
    fn look_at(&mut self, index: AppIndex, now: Instant) -> (Vec<Told>, bool) {
        let Handles { links, apps } = self.handles;
        let (watch, lookout) = (&apps[index.0].watch, &mut self.of_apps[index.0]);
        let name = &self.apps[index.0].name;
        watch.take_files_back();
        if let Some((above, _)) = self.explained.filter(|(_, at)| now.saturating_duration_since(*at) >= SAME)
        {
            lookout.explain(above);
        }
        // The kills first: a limit is counted as hit, and told, before anything is killed for it; and to the pod before it is
        // told to its apps.
        let counts = watch.counts();
        let more = watch.take_notices();
        let (of_pod, of_apps) = &mut self.notices;
        of_apps[index.0] += more;
        *of_pod += links.watch.take_notices();
        let notices = |watch: &Watch, count: u64| watch.has_notifier().then_some(count);
        let counts = Counts { notices: notices(watch, of_apps[index.0]), ..counts };
        let above = Above { hits: links.watch.hits(), notices: notices(&links.watch, *of_pod) };
        let news = lookout.take(counts, above, now);
        // What is counted may be an earlier one.
        if more > 0 {
            lookout.expect_kill(now);
        }
        if news.killed == Some(OomLevel::Pod) {
            self.explained = Some((above, now));
        }
        let mut told = news.of_limits(Some(name), watch, &links.watch);
        for (level, kills) in news.oom {
            let at = if level == OomLevel::Pod { &links.watch } else { watch };
            let limit_bytes = if level == OomLevel::Host { None } else { limit(at.memory_max.as_ref()) };
            let peak_bytes = at.memory_peak.as_ref().and_then(Meter::read);
            let pressure = watch.pressure();
            told.push(Told::Oom { app: name.clone(), level, kills, limit_bytes, peak_bytes, pressure });
        }
        (told, news.killed.is_some())
    }

    /// Completes an outcome with what the group used, and with the last OOM kill in it.
    pub fn account(&self, app: AppIndex, outcome: &mut Outcome, now: Instant) {
        let is_killed = matches!(outcome.end, End::Signaled { signal: libc::SIGKILL, .. });
        outcome.oom_ended = is_killed && !outcome.stopped && self.of_apps[app.0].has_just_killed(now);
        let value = |meter: &Option<Meter>| meter.as_ref().and_then(Meter::read);
        let watch = &self.handles.apps[app.0].watch;
        outcome.oom = self.of_apps[app.0].last_oom();
        outcome.memory_peak_bytes = value(&watch.memory_peak);
        outcome.cpu_used_ns = value(&watch.cpu_used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_found_by_whole_key() {
        let events = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n";
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        let cases = [
            ("populated 0\nfrozen 0\n", Some("populated"), Some(0)),
            (events, Some("oom"), Some(2)),
            (events, Some("oom_kill"), Some(1)),
            (control, Some("oom_kill"), Some(7)),
            (control, Some("kill"), None),
            ("4096\n", None, Some(4096)),
            ("max\n", None, None),
            ("", None, None),
            ("", Some("oom"), None),
        ];
        for (text, key, expected) in cases {
            assert_eq!(find_number(text, key), expected, "{key:?} in {text:?}");
        }
    }

    #[test]
    fn pressure_is_read_in_hundredths() {
        let text = "some avg10=12.34 avg60=0.46 avg300=0.10 total=25806516\nfull avg10=0.05 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = Pressure { some_avg10: 1234, full_avg10: 5, some_total_us: 25_806_516 };
        assert_eq!(parse_pressure(text), Some(pressure));
        assert_eq!(parse_pressure("some avg10=1.00 total=1\n"), None);
        assert_eq!(parse_pressure(""), None);
    }
}

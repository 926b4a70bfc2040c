//! What was seen of a group's counters, and what of that is news. Pure: numbers and times in, news out.

use std::time::{Duration, Instant};

use podrun_abi::event::{Event as Told, OomLevel};

use super::{Meter, Watch, limit};

/// What repeats itself is told again after the first pause, and then with longer and longer ones: an app that meets its
/// limits all day long must not fill the disk with records of it.
const REPEAT_FIRST: Duration = Duration::from_secs(10);
const REPEAT_OOM: Duration = Duration::from_secs(1);
const REPEAT_LAST: Duration = Duration::from_secs(3600);
/// Of kills, which are what somebody is waiting for.
const REPEAT_LAST_OOM: Duration = Duration::from_secs(300);
/// After so many pauses without anything new it begins with the first pause again.
const QUIET_PAUSES: u32 = 4;
/// Kills that follow within this time, and no limit was hit in between, are of the same cause: the kernel takes the
/// processes of a group (`memory.oom.group`) one after another.
pub const SAME: Duration = Duration::from_secs(5);
/// v1 tells of a kill before it kills: then looks follow with pauses from the first to the last length.
const KILL_FIRST: Duration = Duration::from_millis(1);
/// A kernel that prints what it does to a slow console, or that is kept from the CPU by a quota, takes its time.
const KILL_LAST: Duration = Duration::from_secs(32);

/// The counters of a group at one moment. What the host does not count is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that the OOM killer killed.
    pub kills: Option<u64>,
    /// How often the group's own memory limit could not be met.
    pub hits: Option<u64>,
    /// How often it was slowed down.
    pub high: Option<u64>,
    /// How often no process could be added.
    pub pids: Option<u64>,
    /// v1: how often its notifier has told that the limit of the group, or of one above it, could not be met.
    pub notices: Option<u64>,
}

/// What the pod's group has counted, which decides about a kill in an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Above {
    /// As [`Counts::hits`].
    pub hits: Option<u64>,
    /// As [`Counts::notices`].
    pub notices: Option<u64>,
}

impl From<Option<u64>> for Above {
    fn from(hits: Option<u64>) -> Self {
        Self { hits, notices: None }
    }
}

/// What has not been told yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Something was killed since the last look, whether it is told now or later.
    pub killed: Option<OomLevel>,
    /// Whose limit was enforced, and on how many processes.
    pub oom: Vec<(OomLevel, u64)>,
    /// How often the group was slowed down.
    pub high: u64,
    /// How often no process could be added.
    pub pids: u64,
}

impl News {
    /// The two that an app and the pod have alike.
    pub fn of_limits(&self, app: Option<&str>, watch: &Watch, pod: &Watch) -> Vec<Told> {
        let app = || app.map(str::to_owned);
        let mut told = Vec::new();
        if self.high > 0 {
            let limit_bytes = limit(watch.memory_high.as_ref());
            told.push(Told::MemoryHigh { app: app(), times: self.high, limit_bytes });
        }
        if self.pids > 0 {
            let (limit, of_pod) = if app().is_some() {
                met(Use::of_pids(watch), Use::of_pids(pod))
            } else {
                (Use::of_pids(watch).max, false)
            };
            told.push(Told::PidsMax { app: app(), times: self.pids, limit, of_pod });
        }
        told
    }
}

/// How many processes a group may have, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    max: Option<u64>,
    /// `None` where there is no doubt whose limit is met.
    current: Option<u64>,
}

impl Use {
    fn of_pids(watch: &Watch) -> Self {
        let read = |meter: &Option<Meter>| meter.as_ref().and_then(Meter::read);
        Self { max: read(&watch.pids_max), current: read(&watch.pids_current) }
    }

    fn is_full(self) -> bool {
        self.max.zip(self.current).is_some_and(|(max, current)| current >= max)
    }
}

/// The limit that an app has met, and whether it is the pod's. The app's counter moves for either: it is the one that is
/// met at this moment, and when that is neither or both any more, the smaller one.
fn met(app: Use, pod: Use) -> (Option<u64>, bool) {
    let of_pod = match (app.max, pod.max) {
        _ if app.current.is_none() => false,
        (None, _) => true,
        (_, None) => false,
        (Some(own), Some(of_pod)) if app.is_full() == pod.is_full() => of_pod < own,
        _ => pod.is_full(),
    };
    (if of_pod { pod.max } else { app.max }, of_pod)
}

/// What was seen of one group.
#[derive(Debug)]
pub struct Lookout {
    kills: Option<u64>,
    hits: Option<u64>,
    /// Of the pod; nothing for the pod itself.
    above: Above,
    /// The notices that were the group's alone.
    own_notices: u64,
    high: Repeated,
    pids: Repeated,
    last_oom: Option<(OomLevel, Instant)>,
    /// Kills that are not told yet, one entry for each level.
    untold: Vec<(OomLevel, u64)>,
    oom_pace: Pace,
    /// An alarm was told.
    roused_at: Option<Instant>,
    expected: Option<Expected>,
}

/// A kill that is about to come.
#[derive(Debug)]
struct Expected {
    at: Instant,
    pause: Duration,
}

/// How often something may be told.
#[derive(Debug)]
struct Pace {
    first: Duration,
    last: Duration,
    pause: Duration,
    told_at: Option<Instant>,
}

impl Pace {
    fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, pause: first, told_at: None }
    }

    fn next_at(&self) -> Option<Instant> {
        self.told_at.map(|told| told + self.pause)
    }

    fn allows(&self, now: Instant) -> bool {
        self.next_at().is_none_or(|next| next <= now)
    }

    fn told(&mut self, now: Instant) {
        let goes_on = self.told_at.is_some_and(|told| now < told + QUIET_PAUSES * self.pause);
        self.pause = if goes_on { (2 * self.pause).min(self.last) } else { self.first };
        self.told_at = Some(now);
    }
}

/// A counter that may move all the time.
#[derive(Debug)]
struct Repeated {
    seen: u64,
    pace: Pace,
    waits: bool,
}

impl Repeated {
    fn from(count: Option<u64>) -> Self {
        Self { seen: count.unwrap_or_default(), pace: Pace::new(REPEAT_FIRST, REPEAT_LAST), waits: false }
    }

    /// What is to be told now.
    fn take(&mut self, count: Option<u64>, now: Instant) -> u64 {
        let more = count.unwrap_or_default().saturating_sub(self.seen);
        self.waits = more > 0 && !self.pace.allows(now);
        if more == 0 || self.waits {
            return 0;
        }
        self.seen += more;
        self.pace.told(now);
        more
    }

    fn due_at(&self) -> Option<Instant> {
        self.pace.next_at().filter(|_| self.waits)
    }
}

impl Lookout {
    /// From these counts on.
    pub fn new(counts: Counts, above: impl Into<Above>) -> Self {
        Self {
            kills: counts.kills,
            hits: counts.hits,
            above: above.into(),
            own_notices: 0,
            high: Repeated::from(counts.high),
            pids: Repeated::from(counts.pids),
            last_oom: None,
            untold: Vec::new(),
            oom_pace: Pace::new(REPEAT_OOM, REPEAT_LAST_OOM),
            roused_at: None,
            expected: None,
        }
    }

    /// It is to be looked at.
    pub fn rouse(&mut self, now: Instant) {
        self.roused_at = Some(now);
    }

    /// Something is going to be killed, here or in another group of the pod.
    pub fn expect_kill(&mut self, now: Instant) {
        self.expected = Some(Expected { at: now + KILL_FIRST, pause: KILL_FIRST });
    }

    /// When it is to be looked at.
    pub fn due_at(&self) -> Option<Instant> {
        let expected = self.expected.as_ref().map(|expected| expected.at);
        let untold = self.oom_pace.next_at().filter(|_| !self.untold.is_empty());
        [self.roused_at, expected, untold, self.high.due_at(), self.pids.due_at()].into_iter().flatten().min()
    }

    /// The next look tells all that waits.
    pub fn hurry(&mut self) {
        for pace in [&mut self.high.pace, &mut self.pids.pace, &mut self.oom_pace] {
            pace.told_at = None;
        }
    }

    /// Nothing more is to come.
    pub fn rest(&mut self) {
        self.roused_at = None;
        self.expected = None;
    }

    /// The level of the last kill.
    pub fn last_oom(&self) -> Option<OomLevel> {
        self.last_oom.map(|(level, _)| level)
    }

    /// Whether that was so short ago that what dies now dies of it.
    pub fn has_just_killed(&self, now: Instant) -> bool {
        self.last_oom.is_some_and(|(_, at)| now.saturating_duration_since(at) < SAME)
    }

    /// So many hits of the pod's limit are explained by a kill elsewhere in the pod.
    pub fn explain(&mut self, above: impl Into<Above>) {
        let above = above.into();
        self.above.hits = self.above.hits.map(|seen| seen.max(above.hits.unwrap_or_default()));
        self.above.notices = self.above.notices.map(|seen| seen.max(above.notices.unwrap_or_default()));
    }

    /// Takes the counters of this moment.
    pub fn take(&mut self, counts: Counts, above: impl Into<Above>, now: Instant) -> News {
        self.roused_at = None;
        let killed = self.oom(counts, above.into(), now);
        if let Some((level, kills)) = killed {
            match self.untold.iter_mut().find(|(known, _)| *known == level) {
                Some((_, count)) => *count += kills,
                None => self.untold.push((level, kills)),
            }
        }
        let mut news = News {
            killed: killed.map(|(level, _)| level),
            oom: Vec::new(),
            high: self.high.take(counts.high, now),
            pids: self.pids.take(counts.pids, now),
        };
        if !self.untold.is_empty() && self.oom_pace.allows(now) {
            self.oom_pace.told(now);
            news.oom = std::mem::take(&mut self.untold);
        }
        if let Some(expected) = self.expected.as_mut().filter(|expected| expected.at <= now) {
            expected.pause *= 2;
            expected.at = now + expected.pause;
        }
        if killed.is_some() || self.expected.as_ref().is_some_and(|expected| expected.pause > KILL_LAST) {
            self.expected = None;
        }
        news
    }

    /// The level is the lowest whose limit could not be met since the last kill. One whose counter cannot be had (cgroup
    /// v1 has none where memory and its sum with swap have the same limit) is found by leaving the others out, the lowest
    /// first.
    fn oom(&mut self, counts: Counts, above: Above, now: Instant) -> Option<(OomLevel, u64)> {
        // A counter that was not there belongs to a limit that was set since.
        let kills = counts.kills?.saturating_sub(self.kills.unwrap_or_default());
        if kills == 0 {
            return None;
        }
        let (app, pod) = self.moved(counts, above);
        let before = self.last_oom.filter(|(_, at)| now.saturating_duration_since(*at) < SAME);
        let level = match before {
            Some((before, _)) if app != Some(true) && pod != Some(true) => before,
            _ => level(app, pod),
        };
        (self.kills, self.hits, self.above) = (counts.kills, counts.hits, above);
        self.own_notices = self.own_notices.max(own_notices(counts, above).unwrap_or_default());
        self.last_oom = Some((level, now));
        Some((level, kills))
    }

    /// Whether the limits of the app and of the pod could not be met since the last kill; `None`: nothing tells.
    ///
    /// The counters of v1 move also when the kernel could take memory back, as from the cache. Its notifier does not, and
    /// tells a group of the limits above it as well: what the app was told and the pod was not is the app's own.
    fn moved(&self, counts: Counts, above: Above) -> (Option<bool>, Option<bool>) {
        let by_hits = moved(self.above.hits, above.hits);
        let Some(own) = own_notices(counts, above) else { return (moved(self.hits, counts.hits), by_hits) };
        let pod = match (above.notices > self.above.notices, by_hits) {
            // It was told of a group above it, whose limit binds it too.
            (true, Some(false)) => false,
            (true, _) => true,
            // The notifier is silent about a group in which another limit is being enforced.
            (false, by_hits) => by_hits == Some(true),
        };
        (Some(own > self.own_notices), Some(pod))
    }
}

fn level(app: Option<bool>, pod: Option<bool>) -> OomLevel {
    match (app, pod) {
        (Some(true), _) | (None, Some(false) | None) => OomLevel::App,
        (_, Some(true)) | (Some(false), None) => OomLevel::Pod,
        (Some(false), Some(false)) => OomLevel::Host,
    }
}

/// The pod may have been told meanwhile, and the app not yet.
fn own_notices(counts: Counts, above: Above) -> Option<u64> {
    Some(counts.notices?.saturating_sub(above.notices?))
}

/// Whether a counter moved; `None`: it cannot be read.
fn moved(before: Option<u64>, after: Option<u64>) -> Option<bool> {
    before.zip(after).map(|(before, after)| before != after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(kills: u64, hits: u64) -> Counts {
        Counts { kills: Some(kills), hits: Some(hits), ..Counts::default() }
    }

    #[test]
    fn limit_of_processes_is_that_which_is_met() {
        let at = |max: Option<u64>, current| Use { max, current: Some(current) };
        for (app, pod, expected) in [
            (at(Some(100), 19), at(Some(20), 20), (Some(20), true)),
            (at(Some(100), 1), at(Some(20), 2), (Some(20), true)),
            (at(Some(10), 6), at(Some(20), 20), (Some(20), true)),
            (at(Some(10), 10), at(Some(20), 11), (Some(10), false)),
            (at(Some(10), 10), at(Some(20), 20), (Some(10), false)),
            (at(Some(30), 30), at(Some(30), 10), (Some(30), false)),
            (at(Some(10), 1), at(None, 2), (Some(10), false)),
            (at(None, 1), at(Some(20), 2), (Some(20), true)),
            (at(None, 1), at(None, 2), (None, true)),
            (Use { max: Some(100), current: None }, Use { max: Some(20), current: None }, (Some(100), false)),
        ] {
            assert_eq!(met(app, pod), expected, "{app:?} {pod:?}");
        }
    }

    #[test]
    fn level_is_the_lowest_that_moved() {
        use OomLevel::{App, Host, Pod};
        let before = Counts { kills: Some(0), hits: Some(3), ..Counts::default() };
        let cases = [
            ((Some(0), Some(4), Some(6)), None),
            ((Some(1), Some(4), Some(6)), Some(App)),
            ((Some(1), Some(3), Some(6)), Some(Pod)),
            ((Some(1), Some(3), Some(5)), Some(Host)),
            ((Some(1), None, None), Some(App)),
            ((Some(1), None, Some(5)), Some(App)),
            ((Some(1), None, Some(6)), Some(Pod)),
            ((Some(1), Some(3), None), Some(Pod)),
            ((None, None, None), None),
        ];
        for ((kills, hits, pod_hits), expected) in cases {
            let mut lookout = Lookout::new(before, Some(5));
            let news = lookout.take(Counts { kills, hits, ..Counts::default() }, pod_hits, Instant::now());
            assert_eq!(news.killed, expected, "{kills:?} {hits:?} {pod_hits:?}");
            assert_eq!(lookout.last_oom(), expected);
        }
    }

    /// Both limits were met before, and memory could be taken back.
    #[test]
    fn notices_of_v1_tell_more_than_its_counters() {
        use OomLevel::{App, Host, Pod};
        // Notices of the app and of the pod, and hits of the pod; before the kill they are 2, 1 and 5.
        let cases = [
            ((3, 1, Some(5)), App),
            ((3, 1, Some(9)), App),
            ((3, 1, None), App),
            ((3, 2, Some(9)), Pod),
            ((3, 2, None), Pod),
            // A group above the pod, and nobody's.
            ((3, 2, Some(5)), Host),
            ((2, 1, Some(5)), Host),
            ((2, 1, None), Host),
            // Two at once: the second is not announced.
            ((2, 1, Some(6)), Pod),
        ];
        for ((own, pod, hits), expected) in cases {
            let counts = |kills, hits, notices| Counts { notices: Some(notices), ..counts(kills, hits) };
            let above = |notices, hits| Above { hits, notices: Some(notices) };
            let start = Instant::now();
            let mut lookout = Lookout::new(counts(0, 0, 0), above(0, Some(0)));
            assert_eq!(lookout.take(counts(1, 4, 1), above(0, Some(5)), start).killed, Some(App));
            // Another app was killed for the pod's limit.
            lookout.explain(above(1, Some(5)));
            let news = lookout.take(counts(2, 8, own), above(pod, hits), start + 2 * SAME);
            assert_eq!(news.killed, Some(expected), "{own} {pod} {hits:?}");
        }
    }

    #[test]
    fn each_kill_is_told_once_and_judged_by_what_moved_since_the_last() {
        let now = Instant::now();
        let mut lookout = Lookout::new(counts(0, 0), Some(0));
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(lookout.take(counts(2, 5), Some(0), now).oom, [(OomLevel::App, 2)]);
        assert_eq!(lookout.take(counts(2, 5), Some(0), now).oom, []);
        assert_eq!(lookout.take(counts(3, 5), Some(1), at(10)).oom, [(OomLevel::Pod, 1)]);
        assert_eq!(lookout.take(counts(4, 6), Some(1), at(20)).oom, [(OomLevel::App, 1)]);
        assert_eq!(lookout.last_oom(), Some(OomLevel::App));
    }

    #[test]
    fn kills_that_follow_at_once_are_of_the_same_cause() {
        let start = Instant::now();
        let mut lookout = Lookout::new(counts(0, 0), Some(0));
        assert_eq!(lookout.take(counts(1, 0), Some(1), start).killed, Some(OomLevel::Pod));
        let soon = start + Duration::from_secs(1);
        assert_eq!(lookout.take(counts(3, 0), Some(1), soon).killed, Some(OomLevel::Pod));
        assert_eq!(lookout.take(counts(4, 1), Some(1), soon).killed, Some(OomLevel::App));
        let later = soon + 2 * SAME;
        assert_eq!(lookout.take(counts(5, 1), Some(1), later).killed, Some(OomLevel::Host));
        lookout.explain(Some(7));
        assert_eq!(lookout.take(counts(6, 1), Some(7), later + 2 * SAME).killed, Some(OomLevel::Host));
    }

    /// However many there are: an account has room for some hundred thousand records.
    #[test]
    fn kills_without_end_are_told_as_sums() {
        let start = Instant::now();
        let mut lookout = Lookout::new(counts(0, 0), Some(0));
        let (mut told, mut sum) = (0, 0);
        let day = 24 * 3600 * 10;
        for tenth in 0..day {
            let now = start + Duration::from_millis(100 * tenth);
            let news = lookout.take(counts(tenth + 1, tenth + 1), Some(0), now);
            assert_eq!(news.killed, Some(OomLevel::App), "whoever ends it is told of each");
            told += news.oom.len();
            sum += news.oom.iter().map(|(_, kills)| kills).sum::<u64>();
        }
        assert!((288..310).contains(&told), "{told} records in a day");
        lookout.hurry();
        let rest = lookout.take(counts(day, day), Some(0), start + Duration::from_secs(24 * 3600)).oom;
        assert_eq!(sum + rest.iter().map(|(_, kills)| kills).sum::<u64>(), day);
        // After a quiet time it is told at once, and soon again.
        let later = start + Duration::from_secs(48 * 3600);
        assert_eq!(lookout.take(counts(day + 1, day + 1), Some(0), later).oom.len(), 1);
        assert_eq!(lookout.take(counts(day + 2, day + 2), Some(0), later).oom.len(), 0);
        assert_eq!(lookout.due_at(), Some(later + REPEAT_OOM));
    }

    #[test]
    fn what_repeats_itself_is_told_after_ten_seconds_and_at_the_end() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let high = |count: u64| Counts { high: Some(count), pids: Some(0), ..Counts::default() };
        let mut lookout = Lookout::new(high(7), None);
        assert_eq!(lookout.take(high(7), None, at(0)).high, 0);
        assert_eq!(lookout.due_at(), None, "nothing has moved");
        assert_eq!(lookout.take(high(9), None, at(1)).high, 2);
        assert_eq!(lookout.due_at(), None, "all is told");
        assert_eq!(lookout.take(high(10), None, at(2)).high, 0);
        assert_eq!(lookout.take(high(15), None, at(5)).high, 0);
        assert_eq!(lookout.due_at(), Some(at(11)));
        assert_eq!(lookout.take(high(16), None, at(11)).high, 7);
        assert_eq!(lookout.due_at(), None);
        assert_eq!(lookout.take(high(17), None, at(12)).high, 0);
        lookout.hurry();
        assert_eq!(lookout.take(high(17), None, at(13)).high, 1);
    }

    #[test]
    fn a_kill_that_is_expected_is_looked_for_and_given_up() {
        let start = Instant::now();
        let mut lookout = Lookout::new(counts(0, 0), Some(0));
        lookout.rouse(start);
        assert_eq!(lookout.due_at(), Some(start));
        lookout.expect_kill(start);
        let mut now = start;
        let mut looks = 0;
        assert_eq!(lookout.take(counts(0, 0), Some(0), now), News::default());
        while let Some(due) = lookout.due_at() {
            assert!(due > now, "a look that is due for ever");
            now = due;
            lookout.take(counts(0, 0), Some(0), now);
            looks += 1;
        }
        assert!((14..=18).contains(&looks), "{looks}");
        assert!(now - start > Duration::from_secs(30), "{:?}", now - start);
        lookout.expect_kill(now);
        assert!(lookout.take(counts(1, 1), Some(0), now).killed.is_some());
        assert_eq!(lookout.due_at(), None, "it has come");
    }
}

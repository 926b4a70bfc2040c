//! What one app says of itself, as far as it is passed on: its status and its wishes for more time, a few in a second and
//! none twice, and whether its watchdog is fed.
//!
//! Invariant: whatever an app says, and however often, what is kept is one status and one number, and what is told is
//! bounded in time.

use std::time::{Duration, Instant};

use podrun_abi::notice::{Notice, Watchdog};

use super::app::later;

/// Between two reports of what an app says.
const PACE: Duration = Duration::from_millis(250);

/// Status and wish for more time, in microseconds, that are to be told.
pub type Words = (Option<String>, Option<u64>);

#[derive(Debug, Default)]
pub struct Speech {
    /// The status that was told last.
    told: String,
    waiting: Words,
    /// Nothing is told before this.
    next_at: Option<Instant>,
    watch: Watch,
}

/// An app is watched from its first `WATCHDOG=1` on.
#[derive(Debug, Default)]
struct Watch {
    /// How often it has to say so; `None`: nobody asks.
    interval: Option<Duration>,
    /// When it is late.
    due: Option<Instant>,
    triggered: bool,
    /// It was told that the app was late, which is told once.
    missed: bool,
}

impl Speech {
    /// Of an app that nobody has heard yet, whose manager asks so often, in microseconds.
    pub fn new(watchdog_us: Option<u64>) -> Self {
        let watch = Watch { interval: watchdog_us.map(Duration::from_micros), ..Watch::default() };
        Self { watch, ..Self::default() }
    }

    pub fn hear(&mut self, notice: Notice, now: Instant) {
        let (status, extend_us) = &mut self.waiting;
        if let Some(said) = notice.status {
            *status = Some(said).filter(|said| *said != self.told);
        }
        *extend_us = notice.extend_us.max(*extend_us);
        self.watch.hear(notice.watchdog, notice.watchdog_us, now);
    }

    /// When [`Speech::take`] gives something, where it was too early for that.
    pub fn words_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.waiting != (None, None))
    }

    /// What is to be told at this time.
    pub fn take(&mut self, now: Instant) -> Option<Words> {
        if self.next_at.is_some_and(|at| at > now) {
            return None;
        }
        let words = self.take_last()?;
        self.next_at = later(now, PACE);
        Some(words)
    }

    /// What is left to be told when nothing more will be said.
    pub fn take_last(&mut self) -> Option<Words> {
        let words = std::mem::take(&mut self.waiting);
        if let Some(status) = &words.0 {
            self.told.clone_from(status);
        }
        (words != (None, None)).then_some(words)
    }

    /// The app has stood still, and can have said nothing: its time begins anew.
    pub fn resume(&mut self, now: Instant) {
        let interval = self.watch.interval.unwrap_or_default();
        self.watch.due = self.watch.due.and_then(|_| later(now, interval));
    }

    /// When the app is late.
    pub fn watched_until(&self) -> Option<Instant> {
        self.watch.due.filter(|_| !self.watch.missed)
    }

    /// Whether the app is late, or has said that it does not work; once.
    pub fn misses(&mut self, now: Instant) -> bool {
        let late = self.watch.triggered || self.watch.due.is_some_and(|due| due <= now);
        let misses = late && !self.watch.missed;
        self.watch.missed |= misses;
        misses
    }
}

impl Watch {
    fn hear(&mut self, said: Option<Watchdog>, interval_us: Option<u64>, now: Instant) {
        // Where nobody asks, nobody can be asked less or more often.
        let Some(interval) = &mut self.interval else { return };
        if let Some(us) = interval_us {
            *interval = Duration::from_micros(us);
            self.due = self.due.and_then(|_| later(now, *interval)).filter(|_| us > 0);
        }
        match said {
            Some(Watchdog::Fed) if !interval.is_zero() => self.due = later(now, *interval),
            Some(Watchdog::Triggered) => self.triggered = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Notice {
        Notice { status: Some(text.to_owned()), ..Notice::default() }
    }

    fn words(text: &str) -> Option<Words> {
        Some((Some(text.to_owned()), None))
    }

    #[test]
    fn a_flood_of_statuses_is_told_four_times_a_second() {
        let (mut speech, begin) = (Speech::new(None), Instant::now());
        let mut told = Vec::new();
        for ms in 0..1000_u64 {
            let now = begin + Duration::from_millis(ms);
            speech.hear(status(&ms.to_string()), now);
            told.extend(speech.take(now));
        }
        assert_eq!(told, ["0", "250", "500", "750"].map(|text| words(text).unwrap()));
        // The last one is not lost.
        let next = speech.words_at().unwrap();
        assert_eq!(next, begin + Duration::from_secs(1));
        assert_eq!((speech.take(next), speech.words_at()), (words("999"), None));
    }

    #[test]
    fn a_status_that_was_told_is_not_told_again() {
        let (mut speech, now) = (Speech::new(None), Instant::now());
        speech.hear(status(""), now);
        assert_eq!(speech.take(now), None, "nothing was said before either");
        speech.hear(status("a"), now);
        assert_eq!(speech.take(now), words("a"));
        for text in ["a", "b", "a"] {
            speech.hear(status(text), now);
        }
        assert_eq!((speech.words_at(), speech.take_last()), (None, None));
        speech.hear(status(""), now);
        assert_eq!(speech.take_last(), words(""));
    }

    #[test]
    fn of_several_wishes_the_longest_is_told() {
        let (mut speech, now) = (Speech::new(None), Instant::now());
        for us in [3, 9, 5] {
            speech.hear(Notice { extend_us: Some(us), ..Notice::default() }, now);
        }
        assert_eq!(speech.take(now), Some((None, Some(9))));
    }

    #[test]
    fn an_app_is_watched_from_its_first_word_on_and_late_once() {
        let (mut speech, begin) = (Speech::new(Some(1_000_000)), Instant::now());
        let fed = || Notice { watchdog: Some(Watchdog::Fed), ..Notice::default() };
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(speech.watched_until().is_none() && !speech.misses(at(5000)));
        speech.hear(fed(), at(5000));
        speech.hear(fed(), at(5500));
        assert_eq!(speech.watched_until(), Some(at(6500)));
        assert!(!speech.misses(at(6499)) && speech.misses(at(6500)));
        speech.hear(fed(), at(6600));
        assert!(speech.watched_until().is_none() && !speech.misses(at(9000)));
    }

    #[test]
    fn an_app_changes_its_interval_and_calls_by_itself() {
        let now = Instant::now();
        let notice = |watchdog, watchdog_us| Notice { watchdog, watchdog_us, ..Notice::default() };
        let mut speech = Speech::new(Some(1_000_000));
        speech.hear(notice(Some(Watchdog::Fed), Some(3_000_000)), now);
        assert_eq!(speech.watched_until(), Some(now + Duration::from_secs(3)));
        speech.hear(notice(None, Some(0)), now);
        assert_eq!(speech.watched_until(), None);
        speech.hear(notice(Some(Watchdog::Triggered), None), now);
        assert!(speech.misses(now) && !speech.misses(now));
        let mut unasked = Speech::new(None);
        unasked.hear(notice(Some(Watchdog::Triggered), Some(1)), now);
        assert!(!unasked.misses(now));
    }
}

//! [`Window`]: which times of a record are wanted, for `logs` and `events`.

use jiff::Timestamp;

use crate::cli::records::Moment;

/// From when until when.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Window {
    /// As it was typed now.
    pub fn of(since: Option<Moment>, until: Option<Moment>) -> Self {
        let now = Timestamp::now();
        Self { since: since.map(|since| since.at(now)), until: until.map(|until| until.at(now)) }
    }

    /// Whether this time is wanted.
    pub fn holds(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// Nothing that happens from now on is wanted.
    pub fn is_past(&self) -> bool {
        self.until.is_some_and(|until| Timestamp::now() > until)
    }
}

impl Moment {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(time) => now.checked_sub(time).unwrap_or(Timestamp::MIN),
        }
    }
}

//! [`Notice`]: what an app says of itself, one datagram of `NAME=value` lines as sd_notify(3) has it.
//!
//! It comes from inside the pod: any bytes are a notice, and what is not understood says nothing. Some words of the
//! protocol mean nothing here on purpose: `MAINPID=` is a number of another pid namespace, `RELOADING=` and `STOPPING=` of
//! one app are not those of the pod.

/// Where an app finds the socket, and what its `NOTIFY_SOCKET` says.
pub const NOTIFY_SOCKET: &str = "/dev/notify";

/// A longer datagram is dropped whole, as systemd does it; in bytes.
pub const NOTICE_BYTES_MAX: usize = 4096;

/// What is kept of a status, in bytes.
pub const STATUS_BYTES_MAX: usize = 512;

/// A name under which a service manager keeps a descriptor, in bytes (sd_pid_notify_with_fds(3)).
const NAME_BYTES_MAX: usize = 255;
/// The name of what is kept without one.
const STORED: &str = "stored";

/// What one datagram says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`.
    pub ready: bool,
    /// `STATUS=`, at most [`STATUS_BYTES_MAX`] long; empty: nothing any more.
    pub status: Option<String>,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=`: how often the app will say `WATCHDOG=1` from now on, in microseconds; 0: never.
    pub watchdog_us: Option<u64>,
    /// `EXTEND_TIMEOUT_USEC=`: the start or the stop may take so much longer, in microseconds.
    pub extend_us: Option<u64>,
    /// What is to become of descriptors.
    pub store: Option<Store>,
}

/// What is to become of descriptors. A name has 1 to 255 printable characters of ASCII, without `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `FDSTORE=1`: those that come with the datagram are kept for the app's next start.
    Keep {
        /// `FDNAME=`.
        name: String,
        /// Not `FDPOLL=0`: whoever keeps them may close one that has come to its end.
        poll: bool,
    },
    /// `FDSTOREREMOVE=1`: those of this name are kept no more.
    Forget {
        /// `FDNAME=`.
        name: String,
    },
}

/// The values of `WATCHDOG=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// `1`: the app works.
    Fed,
    /// `trigger`: it does not.
    Triggered,
}

impl Notice {
    /// What these bytes say. Of lines with the same name the last one counts.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut notice = Self::default();
        let mut store = StoreLines::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&line[..equals], &line[equals + 1..]);
            match (name, value) {
                (b"READY", b"1") => notice.ready = true,
                (b"STATUS", text) => notice.status = Some(status(text)),
                (b"WATCHDOG", b"1") => notice.watchdog = Some(Watchdog::Fed),
                (b"WATCHDOG", b"trigger") => notice.watchdog = Some(Watchdog::Triggered),
                (b"WATCHDOG_USEC", digits) => notice.watchdog_us = number(digits).or(notice.watchdog_us),
                (b"EXTEND_TIMEOUT_USEC", digits) => notice.extend_us = number(digits).or(notice.extend_us),
                _ => store.take(name, value),
            }
        }
        notice.store = store.meaning();
        notice
    }
}

/// The lines that are about descriptors.
#[derive(Default)]
struct StoreLines<'a> {
    keep: bool,
    forget: bool,
    no_poll: bool,
    name: Option<&'a [u8]>,
}

impl<'a> StoreLines<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        match (name, value) {
            (b"FDSTORE", b"1") => self.keep = true,
            (b"FDSTOREREMOVE", b"1") => self.forget = true,
            (b"FDPOLL", b"0") => self.no_poll = true,
            (b"FDNAME", value) => self.name = Some(value),
            _ => {}
        }
    }

    /// Nothing with a name that is none, and nothing is forgotten without one.
    fn meaning(self) -> Option<Store> {
        let given = self.name.map(|name| std::str::from_utf8(name).ok().filter(|name| is_name(name)));
        match (self.keep, self.forget, given) {
            (_, true, Some(Some(name))) => Some(Store::Forget { name: name.to_owned() }),
            (true, false, None) => Some(Store::Keep { name: STORED.to_owned(), poll: !self.no_poll }),
            (true, false, Some(Some(name))) => {
                Some(Store::Keep { name: name.to_owned(), poll: !self.no_poll })
            }
            _ => None,
        }
    }
}

/// Whether a service manager takes it for the name of a descriptor.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let well = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(well)
}

/// What is no UTF-8 becomes U+FFFD; cut before a character that does not fit.
fn status(text: &[u8]) -> String {
    // Bytes beyond the bound cannot come into the result: none becomes shorter.
    let text = text.get(..STATUS_BYTES_MAX).unwrap_or(text);
    let mut status = String::from_utf8_lossy(text).into_owned();
    let mut end = status.len().min(STATUS_BYTES_MAX);
    while !status.is_char_boundary(end) {
        end -= 1;
    }
    status.truncate(end);
    status
}

/// Decimal digits alone.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_the_protocol_is_understood_or_says_nothing() {
        let none = Notice::default;
        let status = |text: &str| Notice { status: Some(text.to_owned()), ..none() };
        let table: [(&[u8], Notice); 20] = [
            (b"", none()),
            (b"READY=1", Notice { ready: true, ..none() }),
            (b"READY=1\n", Notice { ready: true, ..none() }),
            (b"READY=0", none()),
            (b"READY=10", none()),
            (b"READY", none()),
            (b" READY=1", none()),
            (b"ready=1", none()),
            (b"STATUS=", status("")),
            (b"STATUS=a=b", status("a=b")),
            (b"STATUS=first\nSTATUS=second", status("second")),
            (b"STATUS=\xff!", status("\u{fffd}!")),
            (b"WATCHDOG=1", Notice { watchdog: Some(Watchdog::Fed), ..none() }),
            (b"WATCHDOG=trigger", Notice { watchdog: Some(Watchdog::Triggered), ..none() }),
            (b"WATCHDOG=2", none()),
            (b"WATCHDOG_USEC=5\nWATCHDOG_USEC=x", Notice { watchdog_us: Some(5), ..none() }),
            (b"EXTEND_TIMEOUT_USEC=18446744073709551616", none()),
            (b"EXTEND_TIMEOUT_USEC=+5", none()),
            (b"EXTEND_TIMEOUT_USEC=5000000", Notice { extend_us: Some(5_000_000), ..none() }),
            (b"MAINPID=1\nRELOADING=1\nSTOPPING=1\nBARRIER=1\nNOTIFYACCESS=all\nERRNO=2", none()),
        ];
        for (datagram, expected) in table {
            assert_eq!(Notice::parse(datagram), expected, "{}", String::from_utf8_lossy(datagram));
        }
        let all = Notice::parse(b"X=1\nREADY=1\nSTATUS=up\n\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=7");
        let expected = Notice {
            ready: true,
            status: Some("up".to_owned()),
            watchdog: Some(Watchdog::Fed),
            watchdog_us: None,
            extend_us: Some(7),
            store: None,
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn descriptors_are_kept_and_forgotten_by_name() {
        let keep = |name: &str, poll| Some(Store::Keep { name: name.to_owned(), poll });
        let forget = |name: &str| Some(Store::Forget { name: name.to_owned() });
        let long = |length: usize| format!("FDSTORE=1\nFDNAME={}", "x".repeat(length));
        let table = [
            ("FDSTORE=1".to_owned(), keep("stored", true)),
            ("FDNAME=a.b c\nFDSTORE=1".to_owned(), keep("a.b c", true)),
            ("FDSTORE=1\nFDNAME=a\nFDPOLL=0".to_owned(), keep("a", false)),
            ("FDSTOREREMOVE=1\nFDNAME=a".to_owned(), forget("a")),
            ("FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=a".to_owned(), forget("a")),
            ("FDSTOREREMOVE=1".to_owned(), None),
            ("FDNAME=a".to_owned(), None),
            ("FDSTORE=0".to_owned(), None),
            ("FDSTORE=1\nFDNAME=".to_owned(), None),
            ("FDSTORE=1\nFDNAME=a:b".to_owned(), None),
            ("FDSTORE=1\nFDNAME=a\tb".to_owned(), None),
            ("FDSTORE=1\nFDNAME=\u{e9}".to_owned(), None),
            (long(255), keep(&"x".repeat(255), true)),
            (long(256), None),
        ];
        for (text, expected) in table {
            assert_eq!(Notice::parse(text.as_bytes()).store, expected, "{text:?}");
        }
    }

    #[test]
    fn status_is_bounded_and_whole_in_its_characters() {
        for (text, length) in [("a".repeat(5000), 512), ("\u{20ac}".repeat(1000), 510)] {
            let notice = Notice::parse(format!("STATUS={text}").as_bytes());
            assert_eq!(notice.status.map(|status| status.len()), Some(length));
        }
        // Each of these bytes takes three in the result.
        let notice = Notice::parse(&[b"STATUS=".as_slice(), &[0xff; 600]].concat());
        assert_eq!(notice.status, Some("\u{fffd}".repeat(170)));
    }
}

//! Signals by name, with or without `SIG`, and real-time ones as `RTMIN+n` (signal(7)).

use podrun_abi::control::Signal;

use super::{Refusal, digits, nearest};

/// Numbers of x86 and ARM; the only architectures where they differ (MIPS, SPARC, PA-RISC, Alpha) are not built for.
const NAMES: [(&str, Signal); 32] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("POLL", 29),
];
/// SIGSTOP, which no process can act upon.
const STOP: Signal = 19;
/// The first real-time signal that the C library leaves to programs; it keeps 32 and 33 for itself.
const RTMIN: Signal = 34;
const RTMAX: Signal = 64;

/// A signal from its name.
///
/// # Errors
/// When no signal has that name.
pub fn parse(text: &str) -> Result<Signal, Refusal> {
    let bare = text.strip_prefix("SIG").unwrap_or(text);
    let by_name = NAMES.iter().find(|(name, _)| *name == bare).map(|(_, number)| *number);
    by_name.or_else(|| real_time(bare)).ok_or_else(|| unknown(text))
}

/// A signal that may ask a process to end.
///
/// # Errors
/// When no signal has that name, or it is `STOP`.
pub fn parse_stop(text: &str) -> Result<Signal, Refusal> {
    match parse(text)? {
        STOP => Err(Refusal::range("STOP halts a process and never ends it".to_owned())
            .help("write a signal that the app ends on, such as \"TERM\", or \"KILL\"")),
        signal => Ok(signal),
    }
}

/// The name of a signal without `SIG`: `TERM`, `RTMIN+3`; the number itself for one that has none.
#[must_use]
pub fn name(signal: Signal) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => (*name).to_owned(),
        None if signal == RTMIN => "RTMIN".to_owned(),
        None if (RTMIN..=RTMAX).contains(&signal) => format!("RTMIN+{}", signal - RTMIN),
        None => signal.to_string(),
    }
}

fn real_time(bare: &str) -> Option<Signal> {
    let (from_min, offset) = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(""), _) => return Some(RTMIN),
        (_, Some("")) => return Some(RTMAX),
        (Some(rest), _) => (true, rest.strip_prefix('+')?),
        (_, Some(rest)) => (false, rest.strip_prefix('-')?),
        _ => return None,
    };
    let offset = Signal::try_from(digits(offset)?).ok().filter(|n| *n <= RTMAX - RTMIN)?;
    Some(if from_min { RTMIN + offset } else { RTMAX - offset })
}

fn unknown(text: &str) -> Refusal {
    let refusal = Refusal::form(format!("unknown signal `{text}`"));
    if let Some(number) = digits(text).and_then(|n| Signal::try_from(n).ok()).filter(|n| (1..=31).contains(n))
    {
        return refusal.help(format!("write the name: \"{}\"", name(number)));
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    match nearest(bare, NAMES.iter().map(|(name, _)| *name)) {
        Some(near) => refusal.help(format!("did you mean `{near}`?")),
        None => refusal.help("write a name such as \"TERM\", \"HUP\" or \"RTMIN+3\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_names() {
        let table = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("HUP", 1),
            ("WINCH", 28),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMIN+30", 64),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
        ];
        for (text, number) in table {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn parse_refuses_what_is_no_name() {
        for text in [
            "",
            "SIG",
            "term",
            "15",
            "TREM",
            "SIGSIGTERM",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+-1",
            " TERM",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("TREM").unwrap_err().help.as_deref(), Some("did you mean `TERM`?"));
        assert_eq!(parse("15").unwrap_err().help.as_deref(), Some("write the name: \"TERM\""));
    }

    #[test]
    fn stop_is_no_stop_signal() {
        assert!(parse_stop("STOP").is_err());
        assert_eq!(parse_stop("KILL"), Ok(9));
    }

    #[test]
    fn names_of_all_numbers_parse_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(number)), Ok(number));
        }
        assert_eq!(name(33), "33");
    }
}

//! Resource limits of a process (getrlimit(2)): names, and values such as `"1024:8192"` or `"unlimited"`.

use super::{Refusal, digits, nearest};

/// The RLIM_INFINITY of the kernel.
pub const UNLIMITED: u64 = u64::MAX;

/// Names and RLIMIT_* numbers; the same on every architecture but MIPS, SPARC and Alpha.
const NAMES: [(&str, u32); 16] = [
    ("cpu", libc::RLIMIT_CPU),
    ("fsize", libc::RLIMIT_FSIZE),
    ("data", libc::RLIMIT_DATA),
    ("stack", libc::RLIMIT_STACK),
    ("core", libc::RLIMIT_CORE),
    ("rss", libc::RLIMIT_RSS),
    ("nproc", libc::RLIMIT_NPROC),
    ("nofile", libc::RLIMIT_NOFILE),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("as", libc::RLIMIT_AS),
    ("locks", libc::RLIMIT_LOCKS),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
];

/// All names.
#[must_use]
pub fn names() -> Vec<&'static str> {
    NAMES.iter().map(|(name, _)| *name).collect()
}

/// The number of a resource from its name.
///
/// # Errors
/// When no resource has that name.
pub fn resource(name: &str) -> Result<u32, Refusal> {
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let lower = name.to_ascii_lowercase();
    let bare = ["rlimit_", "limit"].iter().find_map(|prefix| lower.strip_prefix(prefix)).unwrap_or(&lower);
    let refusal = Refusal::form(format!("unknown rlimit `{name}`"));
    Err(match nearest(bare, NAMES.iter().map(|(known, _)| *known)) {
        Some(near) => refusal.help(format!("did you mean `{near}`?")),
        None => refusal.help(format!("the names are {}", NAMES.map(|(known, _)| known).join(", "))),
    })
}

/// The name of a resource, or its number for one that has none here.
#[must_use]
pub fn name(resource: u32) -> String {
    let known = NAMES.iter().find(|(_, number)| *number == resource);
    known.map_or_else(|| resource.to_string(), |(name, _)| (*name).to_owned())
}

/// Soft and hard limit: one value for both, or `soft:hard`.
///
/// # Errors
/// When the text is neither, or soft is above hard.
pub fn parse(text: &str) -> Result<(u64, u64), Refusal> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard) = (value(soft, text)?, value(hard, text)?);
    if soft > hard {
        return Err(Refusal::range(format!("the soft limit in \"{text}\" is above the hard one")));
    }
    Ok((soft, hard))
}

fn value(part: &str, text: &str) -> Result<u64, Refusal> {
    if part == "unlimited" {
        return Ok(UNLIMITED);
    }
    let Some(number) = digits(part) else {
        return Err(Refusal::form(format!("\"{text}\" is not a resource limit"))
            .help("write a number, \"unlimited\", or both limits such as \"1024:8192\""));
    };
    // The largest number is the kernel's word for no limit; it is not a limit that was meant.
    u64::try_from(number).ok().filter(|number| *number != UNLIMITED).ok_or_else(|| {
        Refusal::range(format!("{part} does not fit into a resource limit")).help("write \"unlimited\"")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    #[test]
    fn parse_one_value_or_two() {
        let table = [
            ("8192", (8192, 8192)),
            ("0", (0, 0)),
            ("1024:8192", (1024, 8192)),
            ("unlimited", (UNLIMITED, UNLIMITED)),
            ("1:unlimited", (1, UNLIMITED)),
            ("18446744073709551614", (u64::MAX - 1, u64::MAX - 1)),
        ];
        for (text, limits) in table {
            assert_eq!(parse(text), Ok(limits), "{text}");
        }
    }

    #[test]
    fn parse_refuses_with_the_kind_of_fault() {
        for text in
            ["", ":", "1:", ":1", "-1", "+1", "1:2:3", "1 : 2", "infinity", "64K", "0x10", "Unlimited"]
        {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
        for text in ["2:1", "unlimited:1", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
    }

    #[test]
    fn names_parse_to_their_numbers_and_back() {
        // From asm-generic/resource.h.
        for (name_text, number) in [("cpu", 0), ("core", 4), ("nofile", 7), ("as", 9), ("rttime", 15)] {
            assert_eq!(resource(name_text), Ok(number));
            assert_eq!(name(number), name_text);
        }
        for (wrong, right) in [
            ("NOFILE", "nofile"),
            ("LimitNOFILE", "nofile"),
            ("RLIMIT_NPROC", "nproc"),
            ("nofiles", "nofile"),
        ] {
            assert_eq!(
                resource(wrong).unwrap_err().help,
                Some(format!("did you mean `{right}`?")),
                "{wrong}"
            );
        }
        assert!(resource("").is_err());
    }
}

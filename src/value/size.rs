//! Sizes in bytes: `"512MiB"`, `"1.5GiB"`, `"512MB"`, `"max"`.
//!
//! A bare `M` is refused: systemd, podman and Docker read 512M as 536870912, Kubernetes and appc as 512000000,
//! and a limit that is 5 % off is found out in production.

use super::{Ceiling, Refusal, Why, decimal};

/// The units with their sizes, the largest first.
const UNITS: [(&str, u64); 20] = [
    ("EiB", 1 << 60),
    ("Ei", 1 << 60),
    ("PiB", 1 << 50),
    ("Pi", 1 << 50),
    ("TiB", 1 << 40),
    ("Ti", 1 << 40),
    ("GiB", 1 << 30),
    ("Gi", 1 << 30),
    ("MiB", 1 << 20),
    ("Mi", 1 << 20),
    ("KiB", 1 << 10),
    ("Ki", 1 << 10),
    ("EB", 1_000_000_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The kernel's counters are signed: what is above reads back as "max" and would limit nothing.
const BYTES_MAX: u64 = i64::MAX as u64;

/// A size or `"max"`.
///
/// # Errors
/// When the text is not a size, is ambiguous, or does not fit.
pub fn parse(text: &str) -> Result<Ceiling, Refusal> {
    if text == "max" {
        return Ok(Ceiling::Max);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let Some((value, places)) = decimal(number) else { return Err(not_a_size(text)) };
    if is_ambiguous(unit) {
        return Err(ambiguous(text, number, unit));
    }
    let Some(scale) = scale_of(unit) else { return Err(unknown_unit(text, number, unit)) };
    let bytes = value * u128::from(scale) / 10_u128.pow(places);
    match u64::try_from(bytes) {
        Ok(bytes) => from_bytes(bytes),
        Err(_) => Err(too_large(text)),
    }
}

/// A size given as a number of bytes.
///
/// # Errors
/// When no kernel counter can hold it.
pub fn from_bytes(bytes: u64) -> Result<Ceiling, Refusal> {
    if bytes > BYTES_MAX { Err(too_large(&bytes.to_string())) } else { Ok(Ceiling::At(bytes)) }
}

/// The shortest exact form: `1536MiB`, `1000B`.
#[must_use]
pub fn show(bytes: u64) -> String {
    let exact = UNITS.iter().find(|(unit, scale)| {
        (unit.ends_with("iB") || *unit == "B") && bytes >= *scale && bytes.is_multiple_of(*scale)
    });
    match exact {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => "0".to_owned(),
    }
}

fn scale_of(unit: &str) -> Option<u64> {
    if unit.is_empty() {
        return Some(1);
    }
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

/// One letter, as systemd and Kubernetes write it and mean different things.
fn is_ambiguous(unit: &str) -> bool {
    matches!(unit, "K" | "M" | "G" | "T" | "P" | "E" | "k" | "m" | "g" | "t" | "p" | "e")
}

fn ambiguous(text: &str, number: &str, unit: &str) -> Refusal {
    let letter = unit.to_ascii_uppercase();
    let in_bytes = |unit: &str| match parse(&format!("{number}{unit}")) {
        Ok(Ceiling::At(bytes)) => format!("{bytes}, "),
        _ => String::new(),
    };
    let (binary, metric) = (format!("{letter}iB"), format!("{letter}B"));
    let help = format!(
        "write \"{number}{binary}\" ({}what systemd and podman mean) or \"{number}{metric}\" ({}what Kubernetes means)",
        in_bytes(&binary),
        in_bytes(&metric),
    );
    Refusal { why: Why::Ambiguous, message: format!("ambiguous size \"{text}\""), help: Some(help) }
}

fn unknown_unit(text: &str, number: &str, unit: &str) -> Refusal {
    let wanted = unit.trim();
    let meant = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    match meant {
        Some((name, _)) => not_a_size(text).help(format!("write \"{number}{name}\"")),
        None => not_a_size(text),
    }
}

fn not_a_size(text: &str) -> Refusal {
    if text.ends_with('%') {
        let refusal = Refusal::form(format!("\"{text}\" is not a size"));
        return refusal.help("a share of the host's memory cannot be given: it would differ between hosts");
    }
    Refusal::form(format!("\"{text}\" is not a size"))
        .help("write a number of bytes, a size such as \"512MiB\", \"1.5GiB\" or \"512MB\", or \"max\"")
}

fn too_large(text: &str) -> Refusal {
    Refusal::range(format!("{text} is more than the kernel can count (8EiB)"))
        .help("write \"max\" for no limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_sizes_gives_exact_bytes() {
        let table = [
            ("0", 0),
            ("1", 1),
            ("4096B", 4096),
            ("25MiB", 26_214_400),
            ("42MiB", 44_040_192),
            ("512Mi", 536_870_912),
            ("512MB", 512_000_000),
            ("1.5GiB", 1_610_612_736),
            ("0.5KiB", 512),
            ("0.1KiB", 102),
            ("64kB", 64_000),
            ("64KB", 64_000),
            ("7EiB", 7 << 60),
            ("9223372036854775807", i64::MAX as u64),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(Ceiling::At(bytes)), "{text}");
        }
        assert_eq!(parse("max"), Ok(Ceiling::Max));
    }

    #[test]
    fn parse_refuses_what_is_no_size() {
        for text in [
            "",
            " ",
            "MiB",
            "-1",
            "+1",
            "1 MiB",
            " 1MiB",
            "1MiB ",
            "1.MiB",
            ".5GiB",
            "1,5GiB",
            "1e6",
            "1..5GiB",
            "0x10",
            "512mib",
            "512MIB",
            "1_000",
            "Max",
            "infinity",
            "unlimited",
            "٣MiB",
            "12x",
            "1\0",
            "50%",
        ] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
    }

    #[test]
    fn parse_refuses_a_bare_letter_as_ambiguous() {
        for text in ["512M", "512m", "1G", "1.5G", "1k", "1K", "1e", "2T", "2P"] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Ambiguous), "{text}");
        }
        assert_eq!(
            parse("512M").unwrap_err().help.unwrap(),
            "write \"512MiB\" (536870912, what systemd and podman mean) or \"512MB\" (512000000, what \
             Kubernetes means)"
        );
    }

    #[test]
    fn parse_refuses_what_overflows() {
        for text in [
            "8EiB",
            "10EB",
            "16EiB",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999EiB",
        ] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
        for text in ["100000000000000000000", "340282366920938463463374607431768211456"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(from_bytes(u64::MAX).is_err());
    }

    #[test]
    fn unit_in_the_wrong_case_is_corrected() {
        assert_eq!(parse("512mib").unwrap_err().help.as_deref(), Some("write \"512MiB\""));
        assert_eq!(parse("512 MiB").unwrap_err().help.as_deref(), Some("write \"512MiB\""));
    }

    #[test]
    fn show_is_exact_and_short() {
        let table = [
            (0, "0"),
            (1, "1B"),
            (1000, "1000B"),
            (1024, "1KiB"),
            (1_610_612_736, "1536MiB"),
            (1 << 40, "1TiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(show(bytes), text);
        }
    }
}

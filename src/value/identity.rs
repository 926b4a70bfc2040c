//! Users and groups: a number, or a name for the app's own passwd and group files.
//!
//! The parser is strict because its mistakes are root shells: a text that is almost a number must never become
//! uid 0, nor a name that a lenient reader of `/etc/passwd` matches by accident.

use super::{Refusal, digits, quoted};
use crate::spec::IdOrName;

/// Above 2^31 - 1 programs and some kernel interfaces take an id for a negative number, and 2^32 - 1 means
/// "no change" in setresuid(2).
const ID_MAX: u32 = 0x7fff_ffff;
/// What useradd(8) allows, doubled.
const NAME_BYTES_MAX: usize = 64;

/// A number in digits alone, or a name.
///
/// # Errors
/// When the text is neither, or the number is above 2147483647.
pub fn parse(text: &str) -> Result<IdOrName, Refusal> {
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        if text.len() > 1 && text.starts_with('0') {
            return Err(not_an_identity(text));
        }
        return digits(text).map_or_else(|| Err(too_large(text)), from_number);
    }
    if is_name(text) { Ok(IdOrName::Name(text.to_owned())) } else { Err(not_an_identity(text)) }
}

/// An id given as a number.
///
/// # Errors
/// When it is above 2147483647.
pub fn from_number(number: u128) -> Result<IdOrName, Refusal> {
    match u32::try_from(number) {
        Ok(id) if id <= ID_MAX => Ok(IdOrName::Id(id)),
        _ => Err(too_large(&number.to_string())),
    }
}

fn is_name(text: &str) -> bool {
    let body = text.strip_suffix('$').unwrap_or(text);
    let starts_well = body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let well = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    starts_well && text.len() <= NAME_BYTES_MAX && body.bytes().all(well)
}

fn too_large(text: &str) -> Refusal {
    Refusal::range(format!("{text} is not an id: the range is 0 to {ID_MAX}"))
}

fn not_an_identity(text: &str) -> Refusal {
    let refusal = Refusal::form(format!("{} is neither an id nor a name", quoted(text)));
    if text.contains(':') {
        return refusal.help("user and group are two keys: user = \"…\" and group = \"…\"");
    }
    refusal.help("write a number such as 1000, or a name of the app's own passwd or group file")
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    #[test]
    fn parse_numbers_and_names() {
        for (text, id) in [("0", 0), ("1000", 1000), ("65534", 65_534), ("2147483647", ID_MAX)] {
            assert_eq!(parse(text), Ok(IdOrName::Id(id)), "{text}");
        }
        for text in ["root", "_apt", "www-data", "systemd-network", "machine$", "User.Name", "r"] {
            assert_eq!(parse(text), Ok(IdOrName::Name(text.to_owned())), "{text}");
        }
    }

    /// CVE-2024-40635 and CVE-2026-30892 were uids that a lenient parser turned into 0.
    #[test]
    fn parse_refuses_what_is_almost_an_id() {
        for text in [
            "",
            " ",
            " 1",
            "1 ",
            "+1",
            "-1",
            "-0",
            "0x0",
            "00",
            "01",
            "0000",
            "1:",
            "1:0:0",
            ":1",
            ":",
            "nobody:",
            "root:root",
            "root\0",
            "root ",
            " root",
            "1.0",
            "1e3",
            "1_000",
            "٣",
            "röot",
            "$",
            "-root",
            "a/b",
            "a\n",
            "1000a",
        ] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
        for text in ["2147483648", "4294967294", "4294967295", "4294967296", "18446744073709551616"] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
        let beyond_u128 = "9".repeat(60);
        assert_eq!(parse(&beyond_u128).map_err(|r| r.why), Err(Why::Range));
        assert!(parse(&"a".repeat(65)).is_err());
    }
}

//! Durations: `"1m30s"`, `"500ms"`, `"48h"`, `"infinity"`.
//!
//! A number without a unit is refused: half of the world's configuration files mean seconds by it and half
//! mean milliseconds.

use std::time::Duration;

use super::{Refusal, decimal};
use crate::spec::Grace;

/// Units from long to short, in milliseconds.
const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// A hundred years: what is longer is meant as "infinity", and sums of these cannot overflow.
const MS_MAX: u128 = 100 * 366 * 24 * 3_600_000;

/// A time, or `"infinity"`.
///
/// # Errors
/// When the text is neither, or longer than a hundred years.
pub fn parse(text: &str) -> Result<Grace, Refusal> {
    if text == "infinity" {
        return Ok(Grace::Infinite);
    }
    let mut total = 0_u128;
    let mut rest = text;
    let mut allowed = &UNITS[..];
    while !rest.is_empty() {
        let Some((ms, used, after)) = part(rest, allowed) else { return Err(not_a_duration(text)) };
        total = total.saturating_add(ms);
        allowed = &allowed[used + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err(not_a_duration(text));
    }
    match u64::try_from(total) {
        Ok(ms) if total <= MS_MAX => Ok(Grace::Limited(Duration::from_millis(ms))),
        _ => Err(Refusal::range(format!("\"{text}\" is longer than a hundred years"))
            .help("write \"infinity\" for no limit")),
    }
}

/// One number with its unit: its milliseconds, the unit's index in `allowed`, and the text behind it.
fn part<'t>(text: &'t str, allowed: &[(&str, u128)]) -> Option<(u128, usize, &'t str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let after = &text[unit_at..];
    let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    let used = allowed.iter().position(|(unit, _)| *unit == &after[..unit_end])?;
    let (value, places) = decimal(&text[..unit_at])?;
    let scaled = value * allowed[used].1;
    let divisor = 10_u128.pow(places);
    scaled.is_multiple_of(divisor).then_some((scaled / divisor, used, &after[unit_end..]))
}

/// The shortest exact form: `1m30s`, `500ms`, `infinity`.
#[must_use]
pub fn show(grace: Grace) -> String {
    let Grace::Limited(time) = grace else { return "infinity".to_owned() };
    let mut rest = time.as_millis();
    let mut text = String::new();
    for (unit, ms) in UNITS {
        if rest >= ms {
            text.push_str(&format!("{}{unit}", rest / ms));
            rest %= ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn not_a_duration(text: &str) -> Refusal {
    let refusal = Refusal::form(format!("\"{text}\" is not a duration"));
    if decimal(text).is_some() {
        return refusal.help(format!("it needs a unit: \"{text}s\""));
    }
    if let Some(Some((days, 0))) = text.strip_suffix('d').map(decimal) {
        return refusal.help(format!("the longest unit is the hour: \"{}h\"", days.saturating_mul(24)));
    }
    refusal.help(
        "write hours, minutes, seconds and milliseconds such as \"1m30s\" or \"500ms\", or \"infinity\"",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    #[test]
    fn parse_durations_gives_milliseconds() {
        let table = [
            ("0s", 0),
            ("500ms", 500),
            ("1s", 1_000),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("0.001s", 1),
            ("1m30s", 90_000),
            ("1h1m1s1ms", 3_661_001),
            ("48h", 172_800_000),
            ("90m", 5_400_000),
        ];
        for (text, ms) in table {
            assert_eq!(parse(text), Ok(Grace::Limited(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(parse("infinity"), Ok(Grace::Infinite));
    }

    #[test]
    fn parse_refuses_what_is_no_duration() {
        for text in [
            "", "s", "10", "1.5", "-1s", "+1s", " 1s", "1s ", "1m 30s", "1min", "30s1m", "1s1s", "2d", "1w",
            "1S", "1.0001s", "0.5ms", "inf", "Infinity", "forever", "1e3s", "1µs", "1\0s", "1.s",
        ] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
    }

    #[test]
    fn parse_refuses_what_overflows() {
        for text in ["900000h", "99999999999999999999h", "18446744073709551615s"] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
        assert!(parse("999999999999999999999999999999999999999999s").is_err());
    }

    #[test]
    fn help_names_the_missing_unit_and_the_longest() {
        assert_eq!(parse("10").unwrap_err().help.as_deref(), Some("it needs a unit: \"10s\""));
        assert_eq!(parse("2d").unwrap_err().help.as_deref(), Some("the longest unit is the hour: \"48h\""));
    }

    #[test]
    fn show_reads_back_as_the_same() {
        for text in ["0s", "500ms", "1m30s", "48h", "1h1ms", "infinity"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}

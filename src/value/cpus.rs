//! CPU amounts (`0.5`, `"500m"`, `"50%"`) and weights (`100`, `"idle"`).
//!
//! An amount is read from its decimal text, never through a binary float: 0.9 is 900000 millionths and
//! nothing near it.

use super::{CpuAmount, CpuWeight, Refusal, decimal, digits};

/// The smallest quota of the kernel (1 ms) in its longest period (1 s).
const MILLIONTHS_MIN: u128 = 1_000;
/// NR_CPUS of the largest x86 configuration.
const CPUS_MAX: u128 = 8_192;

/// An amount of CPU from the text of a number, of thousandths (`m`) or of hundredths (`%`).
///
/// # Errors
/// When the text is no such amount, or is outside of 0.001 to 8192 CPUs.
pub fn parse(text: &str) -> Result<CpuAmount, Refusal> {
    let (number, places_of_unit) = match text.as_bytes().last() {
        Some(b'm') => (&text[..text.len() - 1], 3),
        Some(b'%') => (&text[..text.len() - 1], 2),
        _ => (text, 0),
    };
    let Some((value, places)) = decimal(number) else { return Err(not_an_amount(text)) };
    let divisor = 10_u128.pow(places + places_of_unit);
    let scaled = value * 1_000_000;
    if scaled > CPUS_MAX * 1_000_000 * divisor {
        return Err(Refusal::range(format!("{text} is more than {CPUS_MAX} CPUs")));
    }
    if scaled < MILLIONTHS_MIN * divisor {
        return Err(Refusal::range(format!("{text} is less than 0.001 CPU"))
            .help("the kernel's smallest share is 1 ms in each second: \"1m\""));
    }
    if !scaled.is_multiple_of(divisor) {
        return Err(Refusal::range(format!("{text} is finer than a millionth of a CPU")));
    }
    u64::try_from(scaled / divisor).map(CpuAmount).map_err(|_| not_an_amount(text))
}

/// The share of CPU under contention, from a number.
///
/// # Errors
/// When it is outside of 1 to 10000.
pub fn weight(number: i64) -> Result<CpuWeight, Refusal> {
    match u16::try_from(number) {
        Ok(weight @ 1..=10_000) => Ok(CpuWeight::Weight(weight)),
        _ => Err(Refusal::range(format!("cpu-weight is {number}; the range is 1 to 10000"))
            .help("100 is the kernel's default; Docker's default of 1024 cpu-shares corresponds to it")),
    }
}

/// The share of CPU under contention, from a word.
///
/// # Errors
/// When it is not `idle`.
pub fn weight_word(text: &str) -> Result<CpuWeight, Refusal> {
    if text == "idle" {
        return Ok(CpuWeight::Idle);
    }
    let help = match digits(text) {
        Some(number) => format!("write it without quotes: {number}"),
        None => "write a number from 1 to 10000, or \"idle\"".to_owned(),
    };
    Err(Refusal::form(format!("\"{text}\" is not a CPU weight")).help(help))
}

impl std::fmt::Display for CpuAmount {
    /// CPUs as a decimal, the shortest: `0.5`, `2`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:06}").trim_end_matches('0'))
    }
}

fn not_an_amount(text: &str) -> Refusal {
    Refusal::form(format!("\"{text}\" is not a CPU amount")).help("write 1.5, \"1500m\" or \"150%\"")
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    #[test]
    fn parse_amounts_is_exact() {
        let table = [
            ("0.5", 500_000),
            ("0.9", 900_000),
            ("0.1", 100_000),
            ("0.3", 300_000),
            ("1", 1_000_000),
            ("2.0", 2_000_000),
            ("0.001", 1_000),
            ("0.001001", 1_001),
            ("800m", 800_000),
            ("5m", 5_000),
            ("1m", 1_000),
            ("1.5m", 1_500),
            ("10%", 100_000),
            ("0.1%", 1_000),
            ("150%", 1_500_000),
            ("33.3333%", 333_333),
            ("1500m", 1_500_000),
            ("8192", 8_192_000_000),
        ];
        for (text, millionths) in table {
            assert_eq!(parse(text), Ok(CpuAmount(millionths)), "{text}");
        }
    }

    #[test]
    fn parse_refuses_with_the_kind_of_fault() {
        let form = [
            "", "m", "%", "fast", "-1", "+1", "inf", "nan", "1e-1", "1,5", ".5", "1.", "1 ", "0x1", "1m%",
            "é",
        ];
        for text in form {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
        let range =
            ["0", "0.0", "0m", "0%", "0.5m", "0.0009", "0.05%", "8193", "99999999999999999999", "0.0010001"];
        for text in range {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
        assert!(parse("340282366920938463463374607431768211456").is_err());
        assert!(parse("0.99999999999999999999999999999999999999999").is_err());
    }

    #[test]
    fn weights_are_in_range() {
        assert_eq!(weight(1), Ok(CpuWeight::Weight(1)));
        assert_eq!(weight(10_000), Ok(CpuWeight::Weight(10_000)));
        for number in [0, -1, 10_001, 65_536, 65_537, i64::MAX, i64::MIN] {
            assert_eq!(weight(number).map_err(|r| r.why), Err(Why::Range), "{number}");
        }
        assert_eq!(weight_word("idle"), Ok(CpuWeight::Idle));
        assert!(weight_word("100").unwrap_err().help.unwrap().contains("without quotes: 100"));
        assert!(weight_word("Idle").is_err());
    }

    #[test]
    fn amounts_are_shown_as_they_are_meant() {
        for text in ["0.5", "2", "0.001", "1.25", "0.333333"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }
}

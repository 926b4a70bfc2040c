//! Sets of CPU and memory node numbers in the kernel's list format: `0-2,5` (cpuset(7)).

use super::{NumberSet, Refusal, digits};

/// The largest CPU number: NR_CPUS of the largest x86 configuration, less one. Memory nodes are far fewer.
const NUMBER_MAX: u32 = 8_191;

/// A set of numbers; never an empty one.
///
/// # Errors
/// When the text is not a list of numbers and ranges, or a number is above 8191.
pub fn parse(text: &str) -> Result<NumberSet, Refusal> {
    let mut set = NumberSet(std::collections::BTreeSet::new());
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, text)?, number(last, text)?);
        if first > last {
            return Err(Refusal::form(format!("the range {part} in \"{text}\" runs backwards"))
                .help(format!("write {last}-{first}")));
        }
        set.0.extend(first..=last);
    }
    Ok(set)
}

fn number(digit_text: &str, text: &str) -> Result<u32, Refusal> {
    let Some(value) = digits(digit_text) else {
        return Err(Refusal::form(format!("\"{text}\" is not a list of numbers"))
            .help("write numbers and ranges such as \"0-3,8\""));
    };
    match u32::try_from(value) {
        Ok(value) if value <= NUMBER_MAX => Ok(value),
        _ => Err(Refusal::range(format!("{value} in \"{text}\" is above {NUMBER_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    #[test]
    fn parse_lists_and_show_the_shortest() {
        let table = [
            ("0", "0"),
            ("0-3", "0-3"),
            ("3,1,2", "1-3"),
            ("0-1,1-2,8", "0-2,8"),
            ("7-7", "7"),
            ("8191", "8191"),
        ];
        for (text, shown) in table {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn parse_refuses_with_the_kind_of_fault() {
        for text in
            ["", ",", "0,", "-", "0-", "-1", "a", "0 - 3", " 0", "3-1", "0-1-2", "0:1", "0-7:2/4", "+1"]
        {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Form), "{text:?}");
        }
        for text in ["8192", "0-4294967295", "0-18446744073709551616"] {
            assert_eq!(parse(text).map_err(|r| r.why), Err(Why::Range), "{text}");
        }
    }
}

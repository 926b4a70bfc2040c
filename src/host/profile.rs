//! The form of a seccomp profile of OCI (runtime-spec, config-linux.md, "Seccomp").
//!
//! Pure. Names of system calls are not judged: libraries leave out those that they do not know, since profiles are
//! written for many kernels.

use serde_json::{Map, Value};

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
/// A system call has no more arguments.
const ARGUMENTS: u64 = 6;

/// Finds the first fault: where it is, such as `syscalls[3].args[0].op`, and what.
///
/// # Errors
/// That fault, to be read after the name of the file.
pub fn check(text: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        format!("it is not JSON from line {}, column {} on", error.line(), error.column())
    })?;
    let profile = value.as_object().ok_or("it is not a JSON object")?;
    word(profile, "", "defaultAction", ("action", &ACTIONS))?;
    for (at, name) in list(profile, "", "architectures")?.iter().enumerate() {
        if !name.as_str().is_some_and(|name| name.starts_with("SCMP_ARCH_")) {
            return Err(format!("architectures[{at}]: unknown architecture {}", shown(name)));
        }
    }
    for (at, rule) in list(profile, "", "syscalls")?.iter().enumerate() {
        let place = format!("syscalls[{at}]");
        check_rule(
            rule.as_object().ok_or_else(|| format!("{place} is not an object"))?,
            &format!("{place}."),
        )?;
    }
    Ok(())
}

fn check_rule(rule: &Map<String, Value>, place: &str) -> Result<(), String> {
    word(rule, place, "action", ("action", &ACTIONS))?;
    let names = list(rule, place, "names")?;
    if names.is_empty() {
        return Err(format!("{place}names: there is no name of a system call"));
    }
    if let Some(at) = names.iter().position(|name| !name.is_string()) {
        return Err(format!("{place}names[{at}] is not a string"));
    }
    for (at, argument) in list(rule, place, "args")?.iter().enumerate() {
        let place = format!("{place}args[{at}]");
        let argument = argument.as_object().ok_or_else(|| format!("{place} is not an object"))?;
        let place = format!("{place}.");
        if argument.get("index").and_then(Value::as_u64).is_none_or(|index| index >= ARGUMENTS) {
            return Err(format!("{place}index: it is a number from 0 to 5"));
        }
        if argument.get("value").and_then(Value::as_u64).is_none() {
            return Err(format!("{place}value: it is a number"));
        }
        word(argument, place.as_str(), "op", ("operator", &OPERATORS))?;
    }
    Ok(())
}

/// One of a few words, which must be there.
fn word(
    object: &Map<String, Value>,
    place: &str,
    key: &str,
    (what, words): (&str, &[&str]),
) -> Result<(), String> {
    match object.get(key) {
        None => Err(format!("{place}{key} is missing")),
        Some(Value::String(text)) if words.contains(&text.as_str()) => Ok(()),
        Some(other) => Err(format!("{place}{key}: unknown {what} {}", shown(other))),
    }
}

/// A list; one that is not there is empty.
fn list<'a>(object: &'a Map<String, Value>, place: &str, key: &str) -> Result<&'a [Value], String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{place}{key} is not a list")),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    const GOOD: &str = r#"{
  "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
  "architectures": ["SCMP_ARCH_X86_64"],
  "syscalls": [
    { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" },
    { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
      "args": [{ "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] }
  ]
}"#;

    #[test]
    fn the_first_fault_is_told_with_its_place() {
        assert_eq!(check(GOOD.as_bytes()), Ok(()));
        assert_eq!(check(b"{\"defaultAction\": \"SCMP_ACT_ALLOW\"}"), Ok(()));
        let table = [
            ("SCMP_CMP_MASKED_EQ", "SCMP_CMP_XX", "syscalls[1].args[0].op: unknown operator `SCMP_CMP_XX`"),
            ("\"SCMP_ACT_ERRNO\"", "\"ERRNO\"", "defaultAction: unknown action `ERRNO`"),
            ("\"defaultAction\"", "\"x\"", "defaultAction is missing"),
            ("[\"SCMP_ARCH_X86_64\"]", "[\"amd64\"]", "architectures[0]: unknown architecture `amd64`"),
            ("[\"read\", \"write\"]", "[]", "syscalls[0].names: there is no name of a system call"),
            ("\"write\"", "4", "syscalls[0].names[1] is not a string"),
            ("\"index\": 0", "\"index\": 6", "syscalls[1].args[0].index: it is a number from 0 to 5"),
            ("2114060288", "\"x\"", "syscalls[1].args[0].value: it is a number"),
            ("[{ \"index\"", "{ \"index\"", "it is not JSON from line 7, column 93 on"),
        ];
        for (from, to, expected) in table {
            assert_eq!(check(GOOD.replacen(from, to, 1).as_bytes()), Err(expected.to_owned()), "{from}");
        }
        assert_eq!(check(b"[]"), Err("it is not a JSON object".to_owned()));
        assert_eq!(check(b"{"), Err("it is not JSON from line 1, column 1 on".to_owned()));
    }
}

//! [`find`]: one value of a JSON text, by a path such as `limits[0].kernel` or `labels["a.b/c"]`. Pure.

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::error::{EXIT_USAGE, Note};

/// One step into a value.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The value at this path.
///
/// # Errors
/// When the path is none, or there is nothing.
pub fn find<'v>(value: &'v Value, path: &str) -> Result<&'v Value> {
    let Some(steps) = steps(path) else {
        let error = Err(anyhow!("cannot use `--field`: `{path}` is not a path")).code(EXIT_USAGE);
        return error.hint("write keys and numbers such as limits[0].kernel, or labels[\"a.b\"]");
    };
    let mut found = value;
    let mut way = String::new();
    for step in steps {
        let next = match &step {
            Step::Key(key) => found.get(key),
            Step::Index(index) => found.get(index),
        };
        let Some(next) = next else { return nothing(found, &way, &step) };
        found = next;
        match step {
            Step::Key(key) if way.is_empty() => way = key,
            Step::Key(key) => way.push_str(&format!(".{key}")),
            Step::Index(index) => way.push_str(&format!("[{index}]")),
        }
    }
    Ok(found)
}

fn nothing<T>(at: &Value, way: &str, step: &Step) -> Result<T> {
    let place = if way.is_empty() { String::new() } else { format!(" in `{way}`") };
    let error = match step {
        Step::Key(key) => Err(anyhow!("there is no `{key}`{place}")),
        Step::Index(index) => Err(anyhow!("there is no [{index}]{place}")),
    };
    match at {
        Value::Object(map) => {
            error.hint(format!("it has {}", map.keys().cloned().collect::<Vec<_>>().join(", ")))
        }
        Value::Array(items) => error.hint(format!("it is a list of {}, counted from 0", items.len())),
        _ => error.hint("it is a value of its own"),
    }
}

/// A dot before everything, as jq has it, is no mistake.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('.').unwrap_or(path);
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, behind) = quoted.split_once("\"]")?;
            steps.push(Step::Key(key.to_owned()));
            rest = behind;
        } else if let Some(number) = rest.strip_prefix('[') {
            let (number, behind) = number.split_once(']')?;
            steps.push(Step::Index(number.parse().ok()?));
            rest = behind;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, behind) = rest.split_at(end);
            steps.push(Step::Key((!key.is_empty()).then(|| key.to_owned())?));
            rest = behind;
        }
        rest = match rest.strip_prefix('.') {
            Some("") => return None,
            Some(next) => next,
            None if rest.is_empty() || rest.starts_with('[') => rest,
            None => return None,
        };
    }
    (!steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_its_value() {
        let value = json!({ "a": [{ "b": 1 }, { "b": null }], "labels": { "x.y/z": "t" }, "s": "text" });
        let table = [
            ("s", json!("text")),
            (".a[0].b", json!(1)),
            ("a[1].b", json!(null)),
            ("labels[\"x.y/z\"]", json!("t")),
            ("a[1]", json!({ "b": null })),
        ];
        for (path, expected) in table {
            assert_eq!(find(&value, path).unwrap(), &expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let value = json!({ "a": [{ "b": 1, "c": 2 }], "s": "text" });
        let table = [
            ("x", "there is no `x`", "it has a, s"),
            ("a[0].x", "there is no `x` in `a[0]`", "it has b, c"),
            ("a[1]", "there is no [1] in `a`", "it is a list of 1, counted from 0"),
            ("s.x", "there is no `x` in `s`", "it is a value of its own"),
        ];
        for (path, message, hint) in table {
            let error = crate::error::text(&find(&value, path).unwrap_err());
            assert_eq!(error, format!("podrun: {message}\nhint: {hint}\n"), "{path}");
        }
        for path in ["", ".", "a.", "a..b", "a[", "a[x]", "a[0]b", "[]", "a[\"b]"] {
            let error = find(&value, path).unwrap_err();
            assert!(error.to_string().contains("is not a path"), "{path}: {error}");
        }
    }
}

//! The JSON Schema of a manifest, for editors: made from the table of keys, so that it knows what the reader knows.
//!
//! It says what can be said of one value at a time. What values mean together (an app's CPUs within the pod's, a
//! cycle) is only said by `podrun check`. Keys that do not work yet are not in it: an editor must not offer what is
//! refused. Draft 7, and patterns without look-around, since that is what editors understand.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::keys::{self, Key, Kind, Lookup, Support};
use crate::value::rlimit;

/// Where an installed schema is; the first line of the shipped manifests names it.
pub const PATH: &str = "/usr/share/podrun/schema-v1.json";

/// Stands for a name of the author's choice.
const NAME: &str = "NAME";

/// The whole schema.
#[must_use]
pub fn schema() -> Value {
    let mut root = table(&[]);
    if let Value::Object(entries) = &mut root {
        entries.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        entries.insert("$id".into(), json!(format!("file://{PATH}")));
        entries.insert("title".into(), json!("The manifest of a podrun pod, version 1"));
        // Editors that know TOML 1.1 warn of what others cannot read.
        entries.insert("x-tombi-toml-version".into(), json!("v1.0.0"));
    }
    root
}

/// A table: its keys that work, which of them must be there, and nothing else.
fn table(path: &[&str]) -> Value {
    match path {
        ["app"] => return named(path, "^[a-z0-9-]{1,32}$", 1),
        ["socket"] => return named(path, "^[A-Za-z0-9_.-]{1,255}$", 0),
        _ => {}
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for name in keys::keys_in(path) {
        let inner: Vec<&str> = path.iter().copied().chain([name]).collect();
        match keys::look_up(&inner) {
            Lookup::Key(key) if key.support == Support::Supported => {
                if key.default == "required" {
                    required.push(name);
                }
                let found = if key.kind == Kind::Table { entries(&inner, key) } else { value(key) };
                properties.insert(name.to_owned(), found);
            }
            Lookup::Table => {
                if matches!(inner.as_slice(), ["app" | "pod"]) {
                    required.push(name);
                }
                properties.insert(name.to_owned(), table(&inner));
            }
            _ => {}
        }
    }
    json!({
        "type": "object",
        "description": description(path),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A table of tables whose names are the author's.
fn named(path: &[&str], names: &str, at_least: usize) -> Value {
    let one: Vec<&str> = path.iter().copied().chain([NAME]).collect();
    json!({
        "type": "object",
        "description": description(path),
        "minProperties": at_least,
        "patternProperties": { names: table(&one) },
        "additionalProperties": false,
    })
}

/// A key that is a table with names of the author's: of tables, or of values.
fn entries(path: &[&str], key: &Key) -> Value {
    let one: Vec<&str> = path.iter().copied().chain([NAME]).collect();
    let entry = match keys::look_up(&one) {
        Lookup::Key(entry) => value(entry),
        _ => table(&one),
    };
    let names = if path.ends_with(&["hugetlb"]) { "^[0-9]+([KMG]B|[KMG]iB)$" } else { "^/" };
    let mut found = value(key);
    if let Value::Object(entries) = &mut found {
        entries.insert("patternProperties".into(), json!({ names: entry }));
        entries.insert("additionalProperties".into(), json!(false));
    }
    found
}

fn description(path: &[&str]) -> &'static str {
    match path {
        [] => "A pod: a few apps that live and die together.",
        ["app"] => "The apps of the pod, by their names.",
        ["socket"] => "Sockets that are open before their app is started, by their names in LISTEN_FDNAMES.",
        ["socket", _] => "One socket. Its name is the part of the header behind `socket.`.",
        ["pod"] => "What holds for the pod as a whole.",
        [.., "io-max", _] => "Limits of one disk. Its name is a path that leads to it.",
        ["pod", _] => "Limits for all apps together.",
        ["app", _] => "One app. Its name is the part of the header behind `app.`.",
        _ => "Limits for this app with all its processes.",
    }
}

/// One key, with what is known of it.
fn value(key: &Key) -> Value {
    let mut found = of_kind(key);
    let Value::Object(entries) = &mut found else { return found };
    let rule = if key.rule.is_empty() { String::new() } else { format!("\n\n{}.", capital(key.rule)) };
    let files = key.cgroup.map(|files| {
        let file = |name: &'static str| if name.is_empty() { "none" } else { name };
        format!("\n\ncgroup v2: {}; v1: {}.", file(files.v2), file(files.v1))
    });
    entries.insert("description".into(), json!(format!("{}{rule}{}", key.about, files.unwrap_or_default())));
    if let Some(default) = json_of(key.default) {
        entries.insert("default".into(), default);
    }
    if let Some(example) = json_of(key.example) {
        entries.insert("examples".into(), json!([example]));
    }
    found
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

const DURATION: &str = "^(infinity|([0-9]+(\\.[0-9]+)?(h|ms|m|s))+)$";
const SIZE: &str = "^(max|[0-9]+(\\.[0-9]+)?([KMGTPE]i|[KMGTPE]iB|[KMGTPEk]B|B)?)$";
const SIGNAL: &str = "^(SIG)?(RTMIN(\\+[0-9]+)?|RTMAX(-[0-9]+)?|[A-Z]+[0-9]?)$";
const IDENTITY: &str = "^([0-9]+|[A-Za-z_][A-Za-z0-9_.-]*\\$?)$";
const NUMBERS: &str = "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

fn of_kind(key: &Key) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let identity = || json!({ "type": ["integer", "string"], "minimum": 0, "maximum": 2_147_483_647, "pattern": IDENTITY });
    match key.kind {
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Text => match key.path {
            "pod.name" => text("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
            "pod.hostname" => text("^[A-Za-z0-9_.-]{1,64}$"),
            _ => json!({ "type": "string" }),
        },
        Kind::Path => text("^/"),
        Kind::Octal => text("^0?[0-7]{3,4}$"),
        Kind::Signal => text(SIGNAL),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Bytes => json!({ "type": ["integer", "string"], "minimum": 0, "pattern": SIZE }),
        Kind::Duration => text(DURATION),
        Kind::Cpus => {
            json!({ "type": ["number", "string"], "minimum": 0.001, "maximum": 8192, "pattern": "^[0-9]+(\\.[0-9]+)?[m%]?$" })
        }
        Kind::Weight => {
            json!({ "type": ["integer", "string"], "minimum": 1, "maximum": 10_000, "pattern": "^idle$" })
        }
        Kind::NumberSet => text(NUMBERS),
        Kind::Count => {
            json!({ "type": ["integer", "string"], "minimum": 1, "maximum": 4_194_304, "pattern": "^max$" })
        }
        Kind::Identity => identity(),
        Kind::TextList => list(json!({ "type": "string" })),
        Kind::PathList => list(text("^/")),
        Kind::Command => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::IdentityList => list(identity()),
        Kind::EndList => json!({
            "type": "array",
            "minItems": 1,
            "items": { "type": ["integer", "string"], "minimum": 0, "maximum": 255, "pattern": SIGNAL },
        }),
        Kind::WordOrList => json!({
            "anyOf": [
                { "type": "string", "enum": ["default", "none", "appc"] },
                { "type": "array", "items": { "type": "string" } },
            ],
        }),
        Kind::ListOrTable => json!({
            "anyOf": [
                { "type": "array", "items": { "type": "string" } },
                { "type": "object", "additionalProperties": { "type": "string", "enum": ["started"] } },
            ],
        }),
        Kind::TextTable => strings(key),
        Kind::LimitTable if key.path.ends_with(".unified") => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)+$" },
            "additionalProperties": { "type": ["integer", "string"] },
        }),
        Kind::LimitTable => json!({
            "type": "object",
            "propertyNames": { "enum": rlimit::names() },
            "additionalProperties": { "type": ["integer", "string"], "minimum": 0, "pattern": "^([0-9]+|unlimited)(:([0-9]+|unlimited))?$" },
        }),
        Kind::Table => json!({ "type": "object" }),
        Kind::TableList => list(json!({ "type": "object" })),
    }
}

/// Tables whose names are the author's. A variable with the name of an app's key has most likely slipped below the
/// header of the env table, where TOML says nothing.
fn strings(key: &Key) -> Value {
    let names = match key.path {
        "app.*.env" => json!({
            "allOf": [
                { "pattern": VARIABLE },
                { "not": { "enum": keys::keys_in(&["app", NAME]) } },
            ],
        }),
        _ => json!({ "pattern": "^[a-z0-9._/-]+$" }),
    };
    json!({ "type": "object", "propertyNames": names, "additionalProperties": { "type": "string" } })
}

/// A value that the table of keys writes as TOML; what is prose there is none.
fn json_of(text: &str) -> Option<Value> {
    fn convert(value: &DeValue) -> Option<Value> {
        Some(match value {
            DeValue::String(text) => json!(text),
            DeValue::Integer(number) => json!(number.as_str().parse::<i64>().ok()?),
            DeValue::Float(number) => json!(number.as_str().parse::<f64>().ok()?),
            DeValue::Boolean(truth) => json!(truth),
            DeValue::Datetime(_) => return None,
            DeValue::Array(list) => list.iter().map(|each| convert(each.get_ref())).collect(),
            DeValue::Table(table) => {
                let entries = table
                    .iter()
                    .map(|(name, each)| Some((name.get_ref().to_string(), convert(each.get_ref())?)));
                Value::Object(entries.collect::<Option<_>>()?)
            }
        })
    }
    convert(DeValue::parse(text).ok()?.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_working_key_is_in_it_with_words_and_no_other_is() {
        let schema = schema();
        for key in keys::KEYS {
            let pointers: Vec<String> = match key.path.strip_prefix("@.") {
                Some(own) => vec![format!("pod.{own}"), format!("app.*.{own}")],
                None => vec![key.path.to_owned()],
            };
            for path in pointers {
                let mut at = Some(&schema);
                for part in path.split('.') {
                    at = at.and_then(|table| match part {
                        "*" => table.get("patternProperties")?.as_object()?.values().next(),
                        name => table.get("properties")?.get(name),
                    });
                }
                let works = key.support == Support::Supported;
                assert_eq!(at.is_some(), works, "{path}");
                let described =
                    at.and_then(|key| key["description"].as_str()).is_some_and(|text| text.len() > 20);
                assert!(described || !works, "{path}");
            }
        }
    }

    #[test]
    fn defaults_and_examples_are_values() {
        let schema = schema();
        let app = &schema["properties"]["app"]["patternProperties"]["^[a-z0-9-]{1,32}$"]["properties"];
        assert_eq!(app["success-codes"]["default"], json!([0]));
        assert_eq!(app["stop-timeout"]["default"], json!("10s"));
        assert_eq!(app["env"]["examples"], json!([{ "PORT": "8081" }]));
        assert_eq!(app["group"].get("default"), None, "prose is no default");
        assert_eq!(schema["required"], json!(["app", "pod", "version"]));
    }
}

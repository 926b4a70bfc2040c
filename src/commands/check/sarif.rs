//! [`report`]: problems in the form that code hosts and editors take from checkers, SARIF 2.1.0 (OASIS).
//!
//! Pure. What was typed on the command line is in no file: such a problem has the key that it is about and no place.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Value, json};

use crate::manifest::rules::Rule;
use crate::manifest::{Problem, Severity, Source};

/// The whole report on these manifests.
#[must_use]
pub fn report(checked: &[(Source, Vec<Problem>)]) -> Value {
    let mut rules: Vec<&'static Rule> =
        checked.iter().flat_map(|(_, found)| found).filter_map(|problem| Rule::find(problem.code)).collect();
    rules.sort_by_key(|rule| rule.code);
    rules.dedup_by_key(|rule| rule.code);
    let results = checked.iter().flat_map(|(source, found)| found.iter().map(move |one| (source, one)));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "podrun",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|rule| of_rule(rule)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.map(|(source, problem)| of_problem(source, problem)).collect::<Vec<_>>(),
        }],
    })
}

fn of_rule(rule: &Rule) -> Value {
    let explained = rule.section();
    json!({
        "id": rule.code,
        "shortDescription": { "text": rule.about },
        "help": { "text": explained, "markdown": explained },
    })
}

fn of_problem(source: &Source, problem: &Problem) -> Value {
    let message = match &problem.help {
        Some(help) => format!("{}\nhelp: {help}", problem.message),
        None => problem.message.clone(),
    };
    let mut location = physical(source, &problem.span);
    if !problem.path.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": problem.path }]);
    }
    let mut result = json!({
        "ruleId": problem.code,
        "level": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": { "text": message },
        "locations": [location],
    });
    if !problem.related.is_empty() {
        let related = problem.related.iter().map(|(span, label)| {
            let mut location = physical(source, span);
            location["message"] = json!({ "text": label });
            location
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

/// A place in a file, where it is in one.
fn physical(source: &Source, span: &Range<usize>) -> Value {
    if !source.is_in_file(span.start) {
        return json!({});
    }
    let (file, line, column) = source.place(span.start);
    let (_, end_line, end_column) = source.place(span.end);
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(file) },
        "region": {
            "startLine": line,
            "startColumn": column,
            "endLine": end_line,
            "endColumn": end_column,
        },
    } })
}

/// A path as a reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::overrides::{Change, Overrides};

    fn checked(text: &str, sets: &[&str]) -> Value {
        let changes = sets.iter().map(|set| Change::Set((*set).to_owned())).collect();
        let source = Source::new("my shop.toml", text, Overrides { changes, ..Overrides::default() });
        let problems = source.read().problems;
        report(&[(source, problems)])
    }

    #[test]
    fn a_problem_has_its_rule_its_place_and_what_has_to_do_with_it() {
        let text = "version = 1\n[pod]\nname = \"x\"\n# ü\n[pod]\n";
        let report = checked(text, &[]);
        assert_eq!(report["version"], "2.1.0");
        let run = &report["runs"][0];
        let result = &run["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&"E0002".into(), &"error".into()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "my%20shop.toml");
        let region = json!({ "startLine": 5, "startColumn": 2, "endLine": 5, "endColumn": 5 });
        assert_eq!(place["region"], region);
        let related = result["relatedLocations"].as_array().unwrap();
        let line_of = |label: &str| {
            let found = related.iter().find(|place| place["message"]["text"] == label).unwrap();
            found["physicalLocation"]["region"]["startLine"].clone()
        };
        assert_eq!((line_of("first given here"), line_of("again here")), (2.into(), 5.into()));
        assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "E0002");
    }

    #[test]
    fn what_was_typed_is_in_no_file() {
        let text = "version = 1\n[pod]\nname = \"x\"\n[app.a]\nrootfs = \"/\"\nexec = [\"x\"]\n";
        let report = checked(text, &["app.a.isolators.cpus=fast"]);
        let location = &report["runs"][0]["results"][0]["locations"][0];
        let name = json!([{ "fullyQualifiedName": "app.a.isolators.cpus" }]);
        assert_eq!(location, &json!({ "logicalLocations": name }));
        assert_eq!(checked(text, &[])["runs"][0]["results"], json!([]));
    }

    #[test]
    fn paths_become_references() {
        for (path, expected) in [
            ("shop.toml", "shop.toml"),
            ("/etc/a b.toml", "file:///etc/a%20b.toml"),
            ("../x/ü%.toml", "../x/%C3%BC%25.toml"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}

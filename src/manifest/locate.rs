//! Where a key stands in the text, for problems that only a look at the host can find.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The place of the value of `path` (`app.web.groups[1]`), else of the nearest table around it that is there.
pub(super) fn in_tree(tree: &DeTable, path: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut table = tree;
    for part in parts(path) {
        let (key, index) = match part.split_once('[') {
            Some((key, index)) if !part.starts_with('"') => {
                (key, index.trim_end_matches(']').parse::<usize>().ok())
            }
            _ => (part.trim_matches('"'), None),
        };
        let Some((name, value)) = table.get_key_value(key) else { break };
        let element = index.and_then(|i| element(value, i));
        found = Some(match value.get_ref() {
            // The header or the key, not everything below it.
            DeValue::Table(_) => name.span(),
            _ => element.unwrap_or_else(|| value.span()),
        });
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    found
}

/// The parts between the dots; one in quotes may hold dots itself.
fn parts(path: &str) -> Vec<&str> {
    let mut in_quotes = false;
    path.split(|c: char| {
        in_quotes ^= c == '"';
        c == '.' && !in_quotes
    })
    .collect()
}

fn element(value: &Spanned<DeValue<'_>>, index: usize) -> Option<Range<usize>> {
    match value.get_ref() {
        DeValue::Array(elements) => elements.get(index).map(Spanned::span),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::overrides::Overrides;

    #[test]
    fn locate_finds_the_value_or_what_is_nearest() {
        let text = "[app.web]\nuser = \"x\"\ngroups = [1, \"wheel\"]\n[app.web.isolators]\ncpus = 1\n[app.web.isolators.io-max]\n\"/srv/a.b\" = { rbps = 1 }\n";
        let table = [
            ("app.web.user", Some("\"x\"")),
            ("app.web.groups[1]", Some("\"wheel\"")),
            ("app.web.groups[9]", Some("[1, \"wheel\"]")),
            ("app.web.isolators.cpus", Some("1")),
            ("app.web.isolators.memory-max", Some("isolators")),
            ("app.web.isolators.io-max.\"/srv/a.b\"", Some("\"/srv/a.b\"")),
            ("app.web.group", Some("web")),
            ("pod.name", None),
        ];
        let source = |text| Source::new("x.toml", text, Overrides::default());
        for (path, expected) in table {
            assert_eq!(source(text).locate(path).map(|span| &text[span]), expected, "{path}");
        }
        assert_eq!(source("= nonsense").locate("a"), None);
    }
}

//! What keys that do not work yet ask of the host, so that `check --host` can look at it all the same.
//!
//! Such keys never reach the spec; their values that are well formed are gathered here from the tree. What is not
//! well formed has been told by [`super::later`] already, and is left out.

use std::ops::Range;
use std::path::PathBuf;

use super::tree::{Item, Report, Table};
use crate::value::place;

/// One thing that is asked of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The key that asks, such as `app.web.secrets[0]`.
    pub path: String,
    /// Where it stands.
    pub span: Range<usize>,
    /// What it is.
    pub what: Thing,
}

/// What can be asked of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A file that nobody else should be able to read.
    Secret(PathBuf),
    /// A credential that systemd has given to the service that podrun runs in.
    Credential(String),
    /// A seccomp profile in the form of OCI.
    Profile(PathBuf),
    /// A map of user ids, as it was written: `inside:outside:count`.
    UserMap(String),
}

/// Everything that the tree asks, in the order of the text.
pub(super) fn gather(root: &Table) -> Vec<Ask> {
    let mut asks = Vec::new();
    if let Some(pod) = root.table("pod") {
        let user = pod.table("namespaces").and_then(|table| table.item("user"));
        if let Some(item) = user.filter(|item| item.value.as_str().is_some_and(is_map)) {
            add(&mut asks, &item, |text| Thing::UserMap(text.to_owned()));
        }
    }
    for app in root.table("app").map(|table| table.items()).unwrap_or_default() {
        let Some(app) = app.as_table() else { continue };
        of_app(&app, &mut asks);
    }
    asks.sort_by_key(|ask| ask.span.start);
    asks
}

fn of_app(app: &Table, asks: &mut Vec<Ask>) {
    let mut quiet = Report::new("", 0);
    let mut elements = |key: &str| {
        let list = app.item(key).filter(|item| item.value.is_array());
        list.map(|item| item.elements(&mut quiet)).unwrap_or_default()
    };
    for element in elements("secrets") {
        match element.value.as_str().and_then(|text| text.strip_prefix("cred:")) {
            Some(name) if place::is_credential(name) => {
                let what = Thing::Credential(name.to_owned());
                asks.push(Ask { path: element.path.to_string(), span: element.span.clone(), what });
            }
            Some(_) => {}
            None => add(asks, &element, |text| Thing::Secret(text.into())),
        }
    }
    if let Some(item) = app.item("seccomp") {
        add(asks, &item, |text| Thing::Profile(text.into()));
    }
}

/// Words such as `default` ask for no file.
fn add(asks: &mut Vec<Ask>, item: &Item, thing: impl Fn(&str) -> Thing) {
    let Some(text) = item.value.as_str() else { return };
    if place::absolute(text).is_ok() || is_map(text) {
        asks.push(Ask { path: item.path.to_string(), span: item.span.clone(), what: thing(text) });
    }
}

fn is_map(text: &str) -> bool {
    super::later::id_map(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::overrides::Overrides;
    use super::Thing::{Credential, Profile, Secret, UserMap};

    #[test]
    fn what_is_well_formed_is_asked_and_nothing_else() {
        let text = r#"
version = 1
[pod]
name = "x"
namespaces = { user = "0:1000:70000" }
[app.a]
secrets = ["/etc/a", "cred:b", "cred:"]
seccomp = "/etc/p.json"
[app.b]
seccomp = "default"
"#;
        let source = Source::new("x.toml", text, Overrides::default());
        let asks = source.asks();
        let found: Vec<_> = asks.iter().map(|ask| (ask.path.as_str(), &ask.what)).collect();
        let expected = [
            ("pod.namespaces.user", UserMap("0:1000:70000".into())),
            ("app.a.secrets[0]", Secret("/etc/a".into())),
            ("app.a.secrets[1]", Credential("b".into())),
            ("app.a.seccomp", Profile("/etc/p.json".into())),
        ];
        assert_eq!(found, expected.each_ref().map(|(path, what)| (*path, what)));
        assert_eq!(Source::new("x.toml", "= nonsense", Overrides::default()).asks(), []);
    }
}

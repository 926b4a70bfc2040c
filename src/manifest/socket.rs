//! The tables `[socket.NAME]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::app::App;
use super::keys::Kind;
use super::later::{self, tcp};
use super::problem::Problem;
use super::rules;
use super::tree::{Item, Report, Table, ValueRules};
use crate::spec::{IdOrName, Listen, SocketSpec};
use crate::value::{Refusal, nearest, place};

const LISTEN: ValueRules = ValueRules::both(rules::LISTEN);
/// What sd_listen_fds_with_names(3) takes, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// SOMAXCONN of old kernels, and nothing that an app notices.
const BACKLOG: i32 = 128;

/// Reads every socket; tells what is wrong with each.
pub(super) fn read(root: &Table, apps: &[App], report: &mut Report) -> Vec<SocketSpec> {
    let items = root.table("socket").map(|table| table.items()).unwrap_or_default();
    items.iter().filter_map(|item| read_one(item, apps, report)).collect()
}

fn read_one(item: &Item, apps: &[App], report: &mut Report) -> Option<SocketSpec> {
    let table = item.as_table()?;
    check_name(item, report);
    let listen = table.required("listen", report).and_then(|item| item.parsed(report, LISTEN, listen));
    let app = table.required("app", report).and_then(|item| app(item, apps, report));
    let mut checked = |key: &str, kind: Kind| {
        let found = table.item(key)?;
        later::value(&found, kind, report);
        Some(found)
    };
    let mode = checked("mode", Kind::Octal);
    let backlog = checked("backlog", Kind::Integer(1, 65_535));
    let owner = table.item("owner").and_then(|item| owner(&item, report));
    let mode = mode.and_then(|item| u32::from_str_radix(item.value.as_str()?, 8).ok());
    let backlog = backlog.and_then(|item| i32::try_from(item.as_integer()?).ok());
    Some(SocketSpec {
        name: item.key.to_owned(),
        listen: listen?,
        app: app?,
        mode: mode.unwrap_or(0o666),
        owner,
        backlog: backlog.unwrap_or(BACKLOG),
    })
}

/// The name stands in `LISTEN_FDNAMES`, between colons.
fn check_name(item: &Item, report: &mut Report) {
    let well = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(1..=NAME_BYTES_MAX).contains(&item.key.len()) || !item.key.bytes().all(well) {
        let message = format!("invalid socket name `{}`: use letters, digits, `-`, `_` and `.`", item.key);
        report.add(Problem::new(&rules::SOCKET_NAME, &item.path, item.key_span.clone(), message));
    }
}

fn listen(text: &str) -> Result<Listen, Refusal> {
    if text.starts_with('/') {
        return place::absolute(text).map(|path| Listen::Path(PathBuf::from(path)));
    }
    tcp(text)?;
    text.parse::<SocketAddr>().map(Listen::Address).map_err(|_| {
        Refusal::form(format!("`{text}` has no address before its port"))
            .help("write a number: \"127.0.0.1:8000\" for this host alone, \"0.0.0.0:8000\" for everybody")
    })
}

/// The host's users are not the app's, so that a name would mean one of two.
fn owner(item: &Item, report: &mut Report) -> Option<(u32, u32)> {
    match later::owner(item, report)? {
        (IdOrName::Id(user), IdOrName::Id(group)) => Some((user, group)),
        _ => {
            let message = "the owner of a socket is given by numbers";
            report.add(item.problem(&rules::OWNER, message).help("write uid:gid, such as \"0:33\""));
            None
        }
    }
}

/// The app that gets it.
fn app(item: Item, apps: &[App], report: &mut Report) -> Option<String> {
    let name = item.text(report)?;
    let names = || apps.iter().map(|app| app.spec.name.as_str());
    if names().any(|known| known == name) {
        return Some(name.to_owned());
    }
    let socket = item.path.parts().get(1).copied().unwrap_or_default().to_owned();
    let message = format!("socket `{socket}` is for app `{name}`, which is not in this manifest");
    let problem = item.problem(&rules::UNKNOWN_APP, message);
    report.add(match nearest(name, names()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem,
    });
    None
}

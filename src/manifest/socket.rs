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
/// What unix(7) has room for, without the NUL at its end.
const PATH_BYTES_MAX: usize = 107;
/// So many fit into one message to stage1, with all else that an app gets.
const OF_APP_MAX: usize = 128;
/// SOMAXCONN of old kernels, and nothing that an app notices.
const BACKLOG: i32 = 128;

/// Reads every socket; tells what is wrong with each.
pub(super) fn read(root: &Table, apps: &[App], report: &mut Report) -> Vec<SocketSpec> {
    let items = root.table("socket").map(|table| table.items()).unwrap_or_default();
    let mut sockets: Vec<SocketSpec> = Vec::new();
    for item in &items {
        let Some(socket) = read_one(item, apps, report) else { continue };
        check_place(item, &socket, (&items, &sockets), report);
        if sockets.iter().filter(|other| other.app == socket.app).count() == OF_APP_MAX {
            let message = format!("app `{}` has more than {OF_APP_MAX} sockets", socket.app);
            report.add(Problem::new(&rules::LISTEN, &item.path, item.key_span.clone(), message));
        }
        sockets.push(socket);
    }
    sockets
}

/// Only one can listen at a place.
fn check_place(
    item: &Item,
    socket: &SocketSpec,
    (items, before): (&[Item], &[SocketSpec]),
    report: &mut Report,
) {
    let Some(first) = before.iter().find(|other| other.listen == socket.listen) else { return };
    let first = items.iter().find(|item| item.key == first.name).and_then(place);
    if let (Some(first), Some(own)) = (first, place(item)) {
        let message = format!("two sockets listen at {}", socket.listen);
        report.add(own.problem(&rules::LISTEN, message).related(first.span, "the other one"));
    }
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

fn place<'a>(item: &Item<'a>) -> Option<Item<'a>> {
    item.as_table()?.item("listen")
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
    if text.len() > PATH_BYTES_MAX && text.starts_with('/') {
        let length = text.len();
        return Err(Refusal::form(format!(
            "this path has {length} bytes; a socket's has at most {PATH_BYTES_MAX}"
        )));
    }
    if text.ends_with('/') {
        return Err(
            Refusal::form(format!("`{text}` is a directory")).help("name the socket's own file in it")
        );
    }
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

//! The pod's slice, sysctls, namespaces and network.

use std::collections::BTreeMap;

use super::super::problem::Problem;
use super::super::rules;
use super::super::tree::{Item, Report, Table, ValueRules};
use crate::value::{Refusal, place, quoted};

const SLICE: ValueRules = ValueRules::both(rules::SLICE);
const NAMESPACE: ValueRules = ValueRules::both(rules::NAMESPACE);
const PORT: ValueRules = ValueRules::both(rules::PORT);

/// Prefixes of kernel parameters that exist once for each namespace, with the key of that namespace.
const NAMESPACED: [(&str, &str); 9] = [
    ("net.", "net"),
    ("fs.mqueue.", "ipc"),
    ("kernel.msgmax", "ipc"),
    ("kernel.msgmnb", "ipc"),
    ("kernel.msgmni", "ipc"),
    ("kernel.sem", "ipc"),
    ("kernel.shm", "ipc"),
    ("kernel.domainname", "uts"),
    ("kernel.hostname", "uts"),
];

pub(super) fn check(root: &Table, report: &mut Report) {
    let Some(pod) = root.table("pod") else { return };
    if let Some(item) = pod.item("slice").filter(|item| item.value.is_str()) {
        item.parsed(report, SLICE, slice);
    }
    let namespaces = pod.table("namespaces");
    if let Some(namespaces) = &namespaces {
        check_namespaces(namespaces, report);
    }
    if let Some(sysctls) = pod.table("sysctls") {
        for item in sysctls.items() {
            sysctl(&item, namespaces.as_ref(), report);
        }
    }
    if let Some(network) = pod.table("network") {
        check_network(&network, namespaces.as_ref(), report);
    }
}

fn slice(text: &str) -> Result<(), Refusal> {
    if text.contains('/') {
        return Err(Refusal::form("slice is a name without `/`".to_owned())
            .help("`-` separates the levels: \"machine-shop.slice\" is in \"machine.slice\""));
    }
    if text.ends_with(".slice") && text.len() > ".slice".len() {
        return Ok(());
    }
    Err(Refusal::form("slice must end in `.slice`".to_owned()).help(format!("write \"{text}.slice\"")))
}

fn word<'a>(table: Option<&Table<'a>>, key: &str) -> Option<&'a str> {
    table?.item(key)?.value.as_str()
}

fn sysctl(item: &Item, namespaces: Option<&Table>, report: &mut Report) {
    let name = item.key.replace('/', ".");
    let namespace = NAMESPACED.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, key)| *key);
    let at_key = |message: String| Problem::new(&rules::SYSCTL, &item.path, item.key_span.clone(), message);
    match namespace {
        None => report.add(at_key(format!("{name} is not namespaced; set it on the host"))),
        Some("net") if !matches!(word(namespaces, "net"), Some("private" | "none")) => {
            let problem = at_key(format!("{name} would be the host's: the pod has no network namespace"));
            report.add(problem.help("set namespaces.net = \"private\", or set it on the host"));
        }
        Some(key) if word(namespaces, key) == Some("host") => {
            let problem = at_key(format!("{name} would be the host's: namespaces.{key} is \"host\""));
            let item = namespaces.and_then(|table| table.item(key));
            report.add(match item {
                Some(item) => problem.related(item.span, "the host's"),
                None => problem,
            });
        }
        Some(_) => {}
    }
}

fn check_namespaces(table: &Table, report: &mut Report) {
    if let Some(item) = table.item("net").filter(|item| item.value.is_str()) {
        item.parsed(report, NAMESPACE, |text| match text {
            "host" | "none" | "private" => Ok(()),
            path if path.starts_with('/') => place::absolute(path).map(|_| ()),
            other => Err(unknown(other, "net", &["host", "none", "private"])
                .help("or the path of a namespace, such as \"/run/netns/blue\"")),
        });
    }
    if let Some(item) = table.item("user").filter(|item| item.value.is_str()) {
        item.parsed(report, NAMESPACE, |text| match text {
            "host" | "auto" => Ok(()),
            map if map.starts_with(|c: char| c.is_ascii_digit()) => id_map(map),
            other => {
                Err(unknown(other, "user", &["host", "auto"]).help("or a map such as \"0:100000:65536\""))
            }
        });
    }
    if let Some(item) = table.item("pid").filter(|item| item.value.as_str() == Some("host")) {
        let message = "pid = \"host\" means stage1 cannot be PID 1: orphans are reaped by subreaper instead";
        report.add(item.problem(&rules::PID_HOST, message));
    }
}

fn unknown(text: &str, key: &str, words: &[&str]) -> Refusal {
    Refusal::form(format!("unknown {key} namespace {}; expected {}", quoted(text), words.join(", ")))
}

/// `inside:outside:count`, as in user_namespaces(7).
pub(in super::super) fn id_map(text: &str) -> Result<(), Refusal> {
    let numbers: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_slice() {
        [Some(inside), Some(outside), Some(count @ 1..)]
            if inside.checked_add(*count).is_some() && outside.checked_add(*count).is_some() =>
        {
            Ok(())
        }
        _ => Err(Refusal::form(format!("{} is not a map of ids", quoted(text)))
            .help("write `inside:outside:count` such as \"0:100000:65536\"")),
    }
}

fn check_network(network: &Table, namespaces: Option<&Table>, report: &mut Report) {
    let mode = network.item("mode");
    let word_of_mode = mode.as_ref().and_then(|item| item.value.as_str()).unwrap_or("host");
    let net = word(namespaces, "net");
    if let Some(item) = mode.as_ref().filter(|_| word_of_mode == "cni" && net != Some("private")) {
        let message = "network.mode = \"cni\" needs namespaces.net = \"private\"";
        let problem = item.problem(&rules::NETWORK_NAMESPACE, message);
        report.add(match namespaces.and_then(|table| table.item("net")) {
            Some(net) => problem.related(net.span, "this is the namespace"),
            None => problem.help("add [pod.namespaces] with net = \"private\""),
        });
    }
    let Some(ports) = network.item("ports").filter(|item| item.value.is_array()) else { return };
    let is_told = mode
        .as_ref()
        .is_some_and(|item| !["host", "none", "cni"].contains(&item.value.as_str().unwrap_or("")));
    if word_of_mode != "cni" && !is_told {
        let why = if word_of_mode == "host" { ": the app binds the host port itself" } else { "" };
        let message = format!("ports have no effect with network.mode = \"{word_of_mode}\"{why}");
        report.add(ports.problem(&rules::PORTS_UNUSED, message).help("remove them"));
    }
    check_ports(&ports, report);
}

fn check_ports(ports: &Item, report: &mut Report) {
    let mut seen: BTreeMap<(&str, u16, &str), Item> = BTreeMap::new();
    for element in ports.elements(report) {
        let Some(text) = element.value.as_str() else { continue };
        let Some((address, port, protocol)) = element.accept(report, PORT, port(text)) else { continue };
        // An address of its own does not meet another address, but "all" meets every one.
        let earlier = seen.iter().find(|((other, number, of), _)| {
            *number == port
                && *of == protocol
                && (*other == address || other.is_empty() || address.is_empty())
        });
        if let Some((_, first)) = earlier {
            let problem =
                element.problem(&rules::PORT_TWICE, format!("host port {port}/{protocol} is used twice"));
            report.add(problem.related(first.span.clone(), "first used here"));
        }
        seen.entry((address, port, protocol)).or_insert(element);
    }
}

/// The address, the port and the protocol on the host of `[host-ip:]host:pod[/tcp|udp]`.
fn port(text: &str) -> Result<(&str, u16, &str), Refusal> {
    let refuse = || {
        Refusal::form(format!("{} is not a port mapping", quoted(text)))
            .help("write host:pod such as \"8080:80\", \"127.0.0.1:8080:80\" or \"8080:80/udp\"")
    };
    let (mapping, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut parts = mapping.rsplitn(3, ':');
    let (inner, outer, address) = (parts.next(), parts.next(), parts.next().unwrap_or(""));
    let number = |part: Option<&str>| part.and_then(|p| p.parse().ok()).filter(|port: &u16| *port > 0);
    let is_address =
        address.is_empty() || address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let (Some(_), Some(port), true) = (number(inner), number(outer), is_address) else {
        return Err(refuse());
    };
    if protocol == "tcp" || protocol == "udp" { Ok((address, port, protocol)) } else { Err(refuse()) }
}

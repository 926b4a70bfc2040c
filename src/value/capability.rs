//! Capabilities by name (capabilities(7)), and the sets that have a name of their own.

use super::{Refusal, nearest};
use crate::spec::Capabilities;

/// Bit n is capability n.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// podman's default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
/// SYS_CHROOT, SETFCAP.
pub const DEFAULT: u64 = 1 << 0 | 1 << 1 | 0b1_1111 << 3 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;

/// The fourteen of appc and Docker: the default with NET_RAW, MKNOD and AUDIT_WRITE.
pub const APPC: u64 = DEFAULT | 1 << 13 | 1 << 27 | 1 << 29;

/// A named set: `none`, `default` or `appc`.
///
/// # Errors
/// When no set has that name.
pub fn parse_set(text: &str) -> Result<Capabilities, Refusal> {
    match text {
        "none" => Ok(Capabilities::Exactly(0)),
        "default" => Ok(Capabilities::Default),
        "appc" => Ok(Capabilities::Exactly(APPC)),
        _ => {
            let refusal = Refusal::form(format!("unknown set of capabilities `{text}`"));
            Err(match (parse(text), nearest(text, ["none", "default", "appc"])) {
                (Ok(_), _) => refusal.help(format!("write a list: [\"{text}\"]")),
                (_, Some(near)) => refusal.help(format!("did you mean \"{near}\"?")),
                _ => refusal
                    .help("write \"none\", \"default\", \"appc\" or a list such as [\"NET_BIND_SERVICE\"]"),
            })
        }
    }
}

/// The number of a capability from its name, with or without `CAP_`.
///
/// # Errors
/// When no capability has that name.
pub fn parse(text: &str) -> Result<u32, Refusal> {
    let bare = text.strip_prefix("CAP_").unwrap_or(text);
    match (0_u32..).zip(NAMES).find(|(_, name)| *name == bare) {
        Some((number, _)) => Ok(number),
        None => Err(unknown(text)),
    }
}

/// The name of a capability without `CAP_`.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

fn unknown(text: &str) -> Refusal {
    let refusal = Refusal::form(format!("unknown capability {text}"));
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" {
        return refusal.help("there is no word for all of them: list what the app needs");
    }
    match nearest(bare, NAMES) {
        Some(near) => refusal.help(format!("did you mean {near}?")),
        None => refusal.help("write a name of capabilities(7), such as \"NET_BIND_SERVICE\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_parse_to_their_numbers() {
        for (number, name) in (0..).zip(NAMES) {
            assert_eq!(parse(name), Ok(number));
            assert_eq!(parse(&format!("CAP_{name}")), Ok(number));
        }
        // Anchors from linux/capability.h, against a slip in the order of the table.
        for (name, number) in
            [("SETPCAP", 8), ("NET_RAW", 13), ("SYS_ADMIN", 21), ("MKNOD", 27), ("SETFCAP", 31)]
        {
            assert_eq!(parse(name), Ok(number));
        }
        assert_eq!(parse("CHECKPOINT_RESTORE"), Ok(40));
        assert_eq!((name(40), name(41)), (Some("CHECKPOINT_RESTORE"), None));
    }

    #[test]
    fn named_sets_are_those_of_podman_and_appc() {
        let set = |names: &[&str]| names.iter().fold(0, |set, name| set | 1_u64 << parse(name).unwrap());
        let eleven = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        assert_eq!(DEFAULT, set(&eleven));
        assert_eq!(APPC, set(&eleven) | set(&["MKNOD", "NET_RAW", "AUDIT_WRITE"]));
        assert_eq!((DEFAULT.count_ones(), APPC.count_ones()), (11, 14));
        assert_eq!(parse_set("none"), Ok(Capabilities::Exactly(0)));
        assert_eq!(parse_set("default"), Ok(Capabilities::Default));
    }

    #[test]
    fn unknown_names_get_a_hint() {
        let help = |text: &str| parse(text).unwrap_err().help.unwrap();
        assert_eq!(help("NET_BIND"), "did you mean NET_BIND_SERVICE?");
        assert_eq!(help("cap_net_admin"), "did you mean NET_ADMIN?");
        assert!(help("ALL").contains("list what the app needs"));
        for text in ["", "CAP_", "CAP_CAP_CHOWN", "41", "chown "] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_set("CHOWN").unwrap_err().help.as_deref(), Some("write a list: [\"CHOWN\"]"));
        assert!(parse_set("non").is_err());
    }
}

//! The rules of a manifest, each with the code that names it for good. `E` breaks the manifest, `W` warns.
//!
//! A code is never given to another rule; scripts and search engines remember it. What there is to say about a rule
//! beyond its one sentence stands in docs/problems.md, which is a part of the program for `explain`.

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Such as `E0101`.
    pub code: &'static str,
    /// The rule in one sentence.
    pub about: &'static str,
}

macro_rules! rules {
    ($($name:ident $code:literal $about:literal;)*) => {
        $(#[doc = $about] pub const $name: Rule = Rule { code: $code, about: $about };)*
        /// All rules in the order of their topics.
        pub const ALL: &[Rule] = &[$($name),*];
    };
}

rules! {
    SYNTAX "E0001" "The text is TOML.";
    DUPLICATE_KEY "E0002" "A key or table is given once.";
    MULTI_LINE_INLINE_TABLE "W0003" "An inline table stands on one line: only TOML 1.1 allows more, and editors lag behind.";
    UNKNOWN_KEY "E0101" "Every key is known.";
    NOT_SUPPORTED "E0102" "Every key that is given works; one that does not work yet is refused, never ignored.";
    WRONG_TYPE "E0103" "A value has the type of its key.";
    MISSING_KEY "E0104" "Required keys and tables are there.";
    VERSION "E0105" "The version of the manifest is one that this podrun reads.";
    APP_LIST "E0106" "Apps are named tables, not a list of tables.";
    APP_DOTTED "E0107" "Names of apps have no dots.";
    NO_APPS "E0108" "A pod has at least one app.";
    UNKNOWN_WORD "E0109" "A value that is one of a few words is one of them.";
    RANGE "E0110" "A number is within the range of its key.";
    POD_NAME "E0201" "The pod's name is a DNS label.";
    HOSTNAME "E0202" "The hostname has at most 64 bytes: letters, digits, `-`, `_` and `.`.";
    LABEL_NAME "E0203" "Names of labels are made of lower-case letters, digits, `.`, `_`, `/` and `-`.";
    STOP_TIMEOUT_SHORT "W0204" "The pod's stop-timeout is not shorter than an app's.";
    NO_ESSENTIAL_APP "W0205" "With exit-policy essential there is an essential app.";
    SLICE "E0206" "A slice is a name that ends in `.slice`.";
    SYSCTL "E0207" "A sysctl is namespaced, and the pod has that namespace for itself.";
    NAMESPACE "E0208" "A namespace is one of its words, a path for the network, or a map for users.";
    PID_HOST "W0209" "A pod has a pid namespace of its own: in the host's, stage1 is not PID 1.";
    NETWORK_NAMESPACE "E0210" "The mode of the network fits the network namespace.";
    PORT "E0211" "A port is mapped as `[host-ip:]host:pod[/tcp|udp]`.";
    PORT_TWICE "E0212" "A port of the host leads to one place.";
    PORTS_UNUSED "E0213" "Ports are mapped only where the pod has a network of its own.";
    SIZE_FORM "E0310" "A size is a number of bytes, has a binary or metric unit, or is max.";
    SIZE_RANGE "E0311" "A size fits into the kernel's counters.";
    SIZE_AMBIGUOUS "E0312" "A size has a unit that every tool reads alike.";
    CPUS_FORM "E0320" "A CPU amount is a number, thousandths (m) or hundredths (%).";
    CPUS_RANGE "E0321" "A CPU amount is from 0.001 to 8192, in steps of a millionth.";
    WEIGHT_FORM "E0330" "A CPU weight is a number, or idle.";
    WEIGHT_RANGE "E0331" "A CPU weight is from 1 to 10000.";
    NUMBERS_FORM "E0340" "A cpuset is a list of numbers and ranges.";
    NUMBERS_RANGE "E0341" "Numbers in a cpuset are at most 8191.";
    PIDS_FORM "E0350" "pids-max is a number, or max.";
    PIDS_RANGE "E0351" "pids-max is from 1 to 4194304.";
    PIDS_ONE "W0352" "An app that may have one task only cannot start any process or thread.";
    DURATION_FORM "E0360" "A duration has a unit.";
    DURATION_RANGE "E0361" "A duration is not longer than a hundred years, and more than 0 for the pod's stop.";
    MEMORY_ORDER "E0370" "memory-min is not above memory-low, that not above memory-high, that not above memory-max.";
    MEMORY_SMALL "E0371" "memory-max is at least 1MiB.";
    ABOVE_POD "W0372" "An app's limit is not above the pod's, which binds anyway.";
    MIN_SUM "E0373" "What is guaranteed to all apps together fits into what the pod has.";
    PROTECTION_UNUSED "W0374" "An app's protection from reclaim holds outside of the pod only as far as the pod has one too.";
    CPUSET_OUTSIDE "E0375" "An app's cpuset is part of the pod's.";
    CPU_PERIOD "E0380" "A period is from 1ms to 1s, and cpus gives at least 1ms and whole microseconds in it.";
    CPU_BURST "E0381" "A burst is not above what cpus gives in one period.";
    UNIFIED "E0382" "unified holds only files of cgroup v2 that no key of its own and not podrun itself writes.";
    APP_NAME "E0401" "An app's name has 1 to 32 lower-case letters, digits and `-`.";
    PATH "E0402" "A path is absolute and has no `..`.";
    WORKDIR "E0403" "A workdir is not below /proc.";
    COMMAND "E0404" "A command is an absolute path, or a name to be found in the app's PATH.";
    EMPTY_LIST "E0405" "A list that must have elements has some.";
    NUL "E0406" "Nothing that goes to the kernel as text holds a NUL.";
    ENV_NAME "E0407" "A variable's name is made of letters, digits and `_`.";
    ENV_VALUE "E0408" "A variable's value is a string.";
    ENV_SLIPPED "W0409" "No variable has the name of an app's key: it may have slipped below the env table.";
    IDENTITY_FORM "E0410" "A user or group is an id or a name.";
    IDENTITY_RANGE "E0411" "An id is from 0 to 2147483647.";
    ROOT_TWICE "E0412" "An app has a rootfs or an image, not both.";
    RELOAD_TWICE "E0413" "An app is reloaded by a command or by a signal, not both.";
    RESTART_DELAY "E0414" "restart-delay is not longer than restart-delay-max.";
    TTY_TWICE "E0415" "At most one app has the terminal.";
    DEVICE "E0416" "A device is a path below /dev, with some of r, w and m behind a colon, and is there once.";
    SECCOMP "E0417" "seccomp is default, unconfined, or the absolute path of a profile.";
    SECRET "E0418" "A secret is an absolute path, or `cred:` with the name of a credential of systemd's.";
    CAPABILITY "E0420" "A capability or a set of them is known.";
    OOM_SCORE "E0430" "oom-score-adjust is from -1000 to 1000.";
    RLIMIT_NAME "E0440" "A resource limit is known.";
    RLIMIT_FORM "E0441" "A resource limit is a number, unlimited, or soft:hard.";
    RLIMIT_RANGE "E0442" "A soft limit is not above its hard limit.";
    SIGNAL "E0450" "A signal is known and can end a process.";
    SUCCESS_CODE "E0460" "An exit code is from 0 to 255.";
    UNKNOWN_APP "E0501" "An app that another depends on is in the manifest.";
    CYCLE "E0502" "No app depends on itself, directly or through others.";
    NO_PROBE "E0503" "An app that others wait for until it is ready has a probe.";
    NEVER_COMPLETES "E0504" "An app that others wait for until it has completed is an init or a oneshot.";
    VOLUME_PATH "E0601" "A volume of kind dir has a path, and no other has one.";
    OCTAL "E0602" "A mode has 3 or 4 octal digits and stands in quotes.";
    VOLUME_UNUSED "W0603" "A volume is mounted by an app.";
    OWNER "E0604" "An owner is a user and a group.";
    UNKNOWN_VOLUME "E0605" "A volume that is mounted is in the manifest.";
    MOUNT_SOURCE "E0606" "A mount has exactly one of source and volume.";
    TARGET_TWICE "E0607" "An app has one mount for a target.";
    TARGET_HIDDEN "W0608" "No mount hides an earlier one.";
    PROBE_ONE "E0701" "A probe has exactly one way to find out.";
    PROBE_TIMES "E0702" "An attempt ends before the next one begins.";
    PROBE_PLACE "E0703" "A probe over the network has a host and a port, or an address that begins with http://.";
    LOG_FILE_ONLY "E0711" "Files of output are limited only where output is kept in files.";
    RATE "E0712" "A rate is a number of lines in a second, a minute or an hour.";
    LISTEN "E0721" "A socket listens at an absolute path or at host:port.";
    SOCKET_NAME "E0722" "A socket's name can stand in LISTEN_FDNAMES.";
    SET_FORM "E0801" "--set takes a path of keys and a value with `=` between them.";
    SET_WAY "E0802" "--set leads through tables only.";
    OVERRIDE_APP "E0803" "An app that the command line names is in the manifest.";
    ENV_TYPED "E0804" "A variable without a value is in podrun's own environment.";
    ENV_FILE_TYPED "E0805" "A file of variables can be read, and each of its lines is NAME=value.";
    HOST_ROOTFS "E0901" "A rootfs is a directory of this host.";
    HOST_ACCOUNT "E0902" "A user or group that is named is in the app's own files.";
    HOST_ENV_FILE "E0903" "An env-file can be read, and each of its lines is NAME=value.";
    HOST_LIMIT "E0904" "This host can enforce every limit.";
    HOST_DESCRIPTORS "E0905" "There are enough file descriptors for all apps.";
    HOST_OVERLAY "E0906" "An overlay can be made over the app's root.";
    HOST_LOG "E0908" "What is to keep an app's output is there.";
    EXEC_MISSING "E0910" "A command is in the app's root.";
    EXEC_DENIED "E0911" "A command can be executed by the app's user.";
    EXEC_PARTS "E0912" "The interpreter of a script and the loader of a program are in the app's root.";
    EXEC_FORMAT "E0913" "A command is a program for this machine, or a script.";
    WORKDIR_MISSING "E0914" "A workdir is a directory in the app's root.";
    CPUS_ABOVE_HOST "W0920" "An amount of CPU is not more than the host has.";
    RLIMIT_ABOVE_HOST "E0921" "A limit of open files is not above the kernel's.";
    NEEDS_CAPABILITY "E0922" "What only CAP_SYS_RESOURCE may do is asked for only where podrun has it.";
    HOST_DEVICE "E0930" "A device is one of this host.";
    HOST_SECCOMP "E0931" "A seccomp profile is a file of the form that OCI describes.";
    HOST_SECRET "E0932" "A secret is a file of this host.";
    SECRET_OPEN "W0933" "A secret cannot be read by everybody.";
    HOST_DISK "E0934" "What io-max limits is a block device, or lies on one.";
    HOST_SUBUID "E0935" "A map of user ids is within what /etc/subuid gives.";
    PASSED_SOCKET "E0936" "The sockets that a service manager passes are those of the manifest.";
}

/// The document that explains all rules.
const DOCUMENT: &str = include_str!("../../docs/problems.md");

impl Rule {
    /// The rule with this code, in upper or lower case.
    #[must_use]
    pub fn find(code: &str) -> Option<&'static Self> {
        ALL.iter().find(|rule| rule.code.eq_ignore_ascii_case(code))
    }

    /// What docs/problems.md says about it, in Markdown, from the sentence on.
    #[must_use]
    pub fn section(&self) -> &'static str {
        let mut sections = DOCUMENT.split("\n## ").skip(1);
        let own = sections.find_map(|section| section.strip_prefix(self.code));
        own.unwrap_or(self.about).trim()
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, DOCUMENT};
    use crate::manifest::read;

    #[test]
    fn codes_are_given_once_and_say_their_severity() {
        let mut codes: Vec<_> = ALL.iter().map(|rule| rule.code).collect();
        codes.sort_unstable();
        assert!(codes.windows(2).all(|two| two[0] != two[1]));
        assert!(codes.iter().all(|code| code.len() == 5 && code.starts_with(['E', 'W'])));
    }
    #[test]
    fn every_rule_has_its_section_and_no_section_is_left_over() {
        let codes: Vec<_> = DOCUMENT.split("\n## ").skip(1).filter_map(|section| section.get(..5)).collect();
        assert_eq!(codes, ALL.iter().map(|rule| rule.code).collect::<Vec<_>>());
        for rule in ALL {
            let rest = rule.section().strip_prefix(rule.about).unwrap_or_else(|| panic!("{}", rule.code));
            assert!(rest.trim().len() > 40, "{} is not explained", rule.code);
        }
    }

    /// What is shown as wrong breaks the rule, and what is shown as right does not.
    #[test]
    fn examples_of_every_rule_are_what_they_are_said_to_be() {
        for rule in ALL {
            for part in rule.section().split("\n\n").zip(rule.section().split("\n\n").skip(1)) {
                let (before, block) = part;
                let Some(block) = block.strip_prefix("```toml\n") else { continue };
                let text = whole(block.trim_end_matches("```"));
                let breaks = read(&text).problems.iter().any(|problem| problem.code == rule.code);
                assert_eq!(breaks, before == "Not:", "{}:\n{text}", rule.code);
            }
        }
    }

    /// A piece of a manifest with what every manifest has.
    fn whole(piece: &str) -> String {
        let version = if piece.contains("version =") { "" } else { "version = 1\n" };
        let pod =
            if piece.contains("[pod]") || piece.contains("version =") { "" } else { "[pod]\nname = \"x\"\n" };
        format!("{version}{pod}{piece}")
    }
}

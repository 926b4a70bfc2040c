//! The decisions of a plan, over a host that was really looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use podrun_abi::boot::{ExitPolicy, RootMode, Success};

use super::*;
use crate::host::DriverChoice;
use crate::spec::{Capabilities, IdOrName, Limits, PodSpec};
use crate::value::Ceiling;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nweb:x:33:34:web:/srv:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web\n";

fn app(name: &str, rootfs: &std::path::Path) -> AppSpec {
    AppSpec {
        name: name.to_owned(),
        rootfs: rootfs.to_owned(),
        rootfs_mode: RootMode::Overlay,
        exec: vec!["/bin/true".to_owned()],
        env: BTreeMap::new(),
        env_files: Vec::new(),
        workdir: "/".to_owned(),
        user: IdOrName::Id(0),
        group: None,
        groups: Vec::new(),
        capabilities: Capabilities::Default,
        no_new_privileges: true,
        oom_score_adjust: 0,
        rlimits: BTreeMap::new(),
        stop_signal: 15,
        stop_timeout: Grace::Limited(Duration::from_secs(10)),
        essential: true,
        success: vec![Success::Code(0)],
        depends_on: Vec::new(),
        needs_ready: Vec::new(),
        ready_notify: false,
        devices: None,
        limits: Limits::default(),
        log: crate::spec::LogSpec::default(),
    }
}

fn spec(apps: Vec<AppSpec>) -> Spec {
    Spec {
        pod: PodSpec {
            name: "shop".to_owned(),
            hostname: "shop".to_owned(),
            exit_policy: ExitPolicy::Essential,
            stop_timeout: Grace::Limited(Duration::from_secs(15)),
            labels: BTreeMap::new(),
            devices: None,
            limits: Limits::default(),
        },
        apps,
        sockets: vec![],
    }
}

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(root.path().join("etc/group"), GROUP).unwrap();
    root
}

fn request(id: &str) -> Request {
    Request {
        id: id.to_owned(),
        name: None,
        started: Started::Foreground,
        passed: Vec::new(),
        watchdog_us: None,
    }
}

fn planned(spec: &Spec, name: Option<&str>) -> Result<Plan, Vec<Refusal>> {
    let request = Request { name: name.map(str::to_owned), ..request("0badcafe") };
    resolve(spec, &crate::host::probe(spec, DriverChoice::Cgroupfs).unwrap(), &request)
}

#[test]
fn apps_stand_behind_those_they_depend_on_and_else_as_written() {
    let root = root();
    let mut apps: Vec<AppSpec> = ["a", "b", "c", "d"].map(|name| app(name, root.path())).into();
    apps[0].depends_on = vec!["c".to_owned(), "b".to_owned()];
    let plan = planned(&spec(apps), None).unwrap();
    let names: Vec<&str> = plan.apps.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["b", "c", "a", "d"]);
    assert_eq!(plan.apps[2].policy.after, [0, 1]);
    assert_eq!(plan.roots.len(), 1, "one root is bound once");
    let groups: Vec<&str> = plan.cgroup.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups, ["", "supervisor", "app-b", "app-c", "app-a", "app-d"]);
}

#[test]
fn names_become_the_numbers_of_the_apps_own_files() {
    let root = root();
    let mut web = app("web", root.path());
    web.user = IdOrName::Name("web".to_owned());
    web.groups = vec![IdOrName::Name("log".to_owned()), IdOrName::Id(7)];
    let plan = planned(&spec(vec![web]), None).unwrap();
    let identity = &plan.apps[0].identity;
    assert_eq!((identity.uid, identity.gid, identity.groups.as_slice()), (33, 34, [4, 7].as_slice()));
}

#[test]
fn unknown_names_are_all_refused_with_their_keys() {
    let root = root();
    let mut web = app("web", root.path());
    web.user = IdOrName::Name("nobody-here".to_owned());
    web.group = Some(IdOrName::Name("no-group".to_owned()));
    let refusals = planned(&spec(vec![web]), None).unwrap_err();
    let keys: Vec<&str> = refusals.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(keys, ["app.web.user", "app.web.group"]);
    assert!(refusals[0].message.contains("`nobody-here` is not in "), "{}", refusals[0].message);
    assert!(refusals[0].message.ends_with("/etc/passwd"), "{}", refusals[0].message);
}

#[test]
fn uid_0_needs_no_passwd_file() {
    let root = tempfile::tempdir().unwrap();
    let plan = planned(&spec(vec![app("a", root.path())]), None).unwrap();
    assert_eq!((plan.apps[0].identity.uid, plan.apps[0].identity.gid), (0, 0));
}

#[test]
fn capabilities_are_ambient_only_where_a_user_other_than_root_lists_them() {
    let root = root();
    let table = [
        (0, Capabilities::Default, 0x8004_05fb, 0),
        (0, Capabilities::Exactly(0x401), 0x401, 0),
        (1000, Capabilities::Default, 0x8004_05fb, 0),
        (1000, Capabilities::Exactly(0x401), 0x401, 0x401),
        (1000, Capabilities::Exactly(0), 0, 0),
    ];
    for (uid, capabilities, bounding, ambient) in table {
        let mut web = app("web", root.path());
        web.user = IdOrName::Id(uid);
        web.capabilities = capabilities;
        let plan = planned(&spec(vec![web]), None).unwrap();
        let identity = &plan.apps[0].identity;
        assert_eq!((identity.bounding, identity.ambient), (bounding, ambient), "{uid} {capabilities:?}");
    }
}

#[test]
fn app_that_tells_by_itself_has_its_own_socket_and_those_that_wait_for_it_say_so() {
    let root = root();
    let mut apps = ["web", "db", "log"].map(|name| app(name, root.path())).to_vec();
    for app in &mut apps {
        // Whatever the author says of it, there is one socket at which it is heard.
        app.env = BTreeMap::from([("NOTIFY_SOCKET".to_owned(), "/elsewhere".to_owned())]);
    }
    apps[0].depends_on = vec!["log".to_owned(), "db".to_owned()];
    apps[0].needs_ready = vec!["db".to_owned()];
    apps[1].ready_notify = true;
    let spec = spec(apps);
    let host = crate::host::probe(&spec, DriverChoice::Cgroupfs).unwrap();
    let request = Request { watchdog_us: Some(9), ..request("0badcafe") };
    let plan = resolve(&spec, &host, &request).unwrap();
    let names: Vec<&str> = plan.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["db", "log", "web"]);
    let policies: Vec<_> = plan.apps.iter().map(|app| &app.policy).collect();
    assert_eq!(policies.iter().map(|policy| policy.notify).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((&policies[2].after, &policies[2].after_ready), (&vec![0, 1], &vec![0]));
    let value = |app: usize, name: &str| {
        let found = plan.apps[app].env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!((value(0, "NOTIFY_SOCKET"), value(0, "WATCHDOG_USEC")), (Some("/dev/notify"), Some("9")));
    assert_eq!((value(1, "NOTIFY_SOCKET"), value(1, "WATCHDOG_USEC")), (Some("/elsewhere"), None));
    assert!(render(&plan, Some("web")).contains("  after      db (ready), log\n"));
    assert!(render(&plan, Some("db")).contains("  ready      when it says so (sd_notify)\n"));
}

#[test]
fn what_was_kept_for_an_app_is_no_socket_and_goes_back_to_it() {
    let root = root();
    let socket = |name: &str| crate::spec::SocketSpec {
        name: name.to_owned(),
        listen: crate::spec::Listen::Path("/run/x".into()),
        app: "db".to_owned(),
        mode: 0o666,
        owner: None,
        backlog: 1,
    };
    let mut spec = spec(vec![app("web", root.path()), app("db", root.path())]);
    spec.apps[1].ready_notify = true;
    let host = crate::host::probe(&spec, DriverChoice::Cgroupfs).unwrap();
    let passed = |spec: &Spec, names: &[&str]| {
        let passed = names.iter().map(ToString::to_string).collect();
        resolve(spec, &host, &Request { passed, ..request("0badcafe") })
    };
    // Beside it podrun opens the sockets itself.
    spec.sockets = vec![socket("http")];
    let plan = passed(&spec, &["db.conn", "db.a.b"]).unwrap();
    let stored: Vec<_> = plan.stored.iter().map(|stored| (stored.own_name(), stored.app)).collect();
    assert_eq!(stored, [("conn", 1), ("a.b", 1)]);
    assert!(!plan.sockets[0].is_passed);
    assert!(render(&plan, Some("db")).contains("  stored     conn, kept by the service manager\n"));
    // A name of the manifest is a socket's.
    spec.sockets = vec![socket("db.conn")];
    let plan = passed(&spec, &["db.conn", "db.b"]).unwrap();
    assert_eq!((plan.stored.len(), plan.sockets[0].is_passed), (1, true));
    spec.sockets = Vec::new();
    for (name, hint) in [("web.conn", "FDSTORE"), ("gone.conn", "FDSTORE"), ("conn", "add [socket.conn]")] {
        let refusals = passed(&spec, &[name]).unwrap_err();
        let told = refusals[0].hint.clone().unwrap_or_default();
        assert!(refusals[0].message.contains(name) && told.contains(hint), "{refusals:?}");
    }
}

#[test]
fn the_environment_is_made_from_nothing_and_the_manifest_wins() {
    let root = root();
    let file = root.path().join("web.env");
    std::fs::write(&file, "# words\nA=file\nB=file\n").unwrap();
    let mut web = app("web", root.path());
    web.user = IdOrName::Name("web".to_owned());
    web.env_files = vec![file];
    web.env = BTreeMap::from([("A".to_owned(), "manifest".to_owned()), ("HOME".to_owned(), "/x".to_owned())]);
    let plan = planned(&spec(vec![web]), Some("other")).unwrap();
    let env: Vec<String> = plan.apps[0].env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let uuid = format!("container_uuid={}", plan.uuid());
    assert!(
        uuid.starts_with("container_uuid=0badcafe-") && uuid.len() == "container_uuid=".len() + 36,
        "{uuid}"
    );
    let expected = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/x",
        "USER=web",
        "LOGNAME=web",
        "SHELL=/bin/false",
        "container=podrun",
        &uuid,
        "PODRUN_POD=other",
        "PODRUN_APP=web",
        "A=manifest",
        "B=file",
    ];
    assert_eq!(env, expected);
    assert_eq!((plan.pod.as_str(), plan.hostname.as_str()), ("other", "other"));
}

#[test]
fn a_root_that_is_not_there_or_a_file_is_refused() {
    let root = root();
    for (rootfs, reason) in [("nowhere", "does not exist"), ("etc/passwd", "is not a directory")] {
        let missing: PathBuf = root.path().join(rootfs);
        let refusals = planned(&spec(vec![app("a", &missing)]), None).unwrap_err();
        assert_eq!(refusals[0].path, "app.a.rootfs");
        assert!(refusals[0].message.ends_with(reason), "{}", refusals[0].message);
    }
}

#[test]
fn more_descriptors_than_the_hard_limit_are_refused() {
    let root = root();
    let spec = spec(vec![app("a", root.path())]);
    let mut host = crate::host::probe(&spec, DriverChoice::Cgroupfs).unwrap();
    host.nofile = (64, 64);
    let request = Request {
        id: "0badcafe".to_owned(),
        name: None,
        started: Started::Foreground,
        passed: Vec::new(),
        watchdog_us: None,
    };
    let refusals = resolve(&spec, &host, &request).unwrap_err();
    assert!(refusals[0].message.contains("file descriptors, the hard limit here is 64"), "{refusals:?}");
}

#[test]
fn a_recorded_plan_reads_back_the_same_and_its_text_names_what_is_done() {
    let root = root();
    let mut spec = spec(vec![app("a", root.path()), app("b", root.path())]);
    spec.apps[1].limits.pids_max = Some(Ceiling::At(17));
    let plan = planned(&spec, None).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    let text = render(&plan, None);
    for part in ["pod shop\n", "app a\n", "app b\n", "app-b/pids.max = 17  (pids-max)", "podrun-0badcafe"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert!(!render(&plan, Some("b")).contains("app a\n"));
}

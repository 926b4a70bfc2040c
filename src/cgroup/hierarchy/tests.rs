use super::*;

const SPLIT_HYBRID_MOUNTS: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const SPLIT_HYBRID_SELF: &str = "\
9:name=systemd:/
8:pids:/
6:freezer:/
5:devices:/
4:memory:/process_api/542adfbc3f9782705a7268e181cfeff3
3:cpuset:/
2:cpuacct:/
1:cpu:/
0::/
";

const SYSTEMD_HYBRID_MOUNTS: &str = "\
28 21 0:24 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
29 28 0:25 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
30 28 0:26 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:10 - cgroup cgroup rw,xattr,name=systemd
33 28 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct
34 28 0:30 / /sys/fs/cgroup/cpuset rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpuset,noprefix
";
const SYSTEMD_HYBRID_SELF: &str = "\
11:cpuset:/
4:cpuacct,cpu:/user.slice
1:name=systemd:/user.slice/user-0.slice/session-1.scope
0::/user.slice/user-0.slice/session-1.scope
";

fn parse(mounts: &str, own: &str) -> Hierarchies {
    Hierarchies::parse(mounts.as_bytes(), own.as_bytes())
}

#[test]
fn split_hybrid_host_has_one_hierarchy_per_controller() {
    let found = parse(SPLIT_HYBRID_MOUNTS, SPLIT_HYBRID_SELF);
    assert_eq!(found.mode(), Mode::Hybrid);
    assert_eq!(found.v1.len(), 8);
    let memory = found.v1_with("memory").unwrap();
    assert_eq!(memory.own.as_deref(), Some("process_api/542adfbc3f9782705a7268e181cfeff3"));
    assert_eq!(memory.mount_point, Path::new("/sys/fs/cgroup/memory"));
    assert_eq!(memory.view, view("memory", "cgroup", "memory"));
    assert_eq!(found.v1_with("cpu").unwrap().own.as_deref(), Some(""));
    assert_eq!(found.v1_with("cpu").unwrap().controllers, ["cpu"]);
    assert_eq!(found.v1_with("name=systemd").unwrap().view, view("systemd", "cgroup", "none,name=systemd"));
    assert_eq!(found.v2.unwrap().view, view("unified", "cgroup2", ""));
    assert!(parse(SPLIT_HYBRID_MOUNTS, SPLIT_HYBRID_SELF).v1_with("hugetlb").is_none());
}

#[test]
fn systemd_hybrid_host_mounts_controllers_together() {
    let found = parse(SYSTEMD_HYBRID_MOUNTS, SYSTEMD_HYBRID_SELF);
    assert_eq!(found.mode(), Mode::Hybrid);
    let cpu = found.v1_with("cpuacct").unwrap();
    assert_eq!(cpu.controllers, ["cpu", "cpuacct"]);
    assert_eq!(cpu.own.as_deref(), Some("user.slice"));
    assert_eq!(cpu.view, view("cpu,cpuacct", "cgroup", "cpu,cpuacct"));
    let cpuset = found.v1_with("cpuset").unwrap();
    assert_eq!(cpuset.cpuset_file("cpus"), "cpus");
    assert_eq!(cpu.cpuset_file("cpus"), "cpuset.cpus");
    assert_eq!(found.v2.unwrap().own.as_deref(), Some("user.slice/user-0.slice/session-1.scope"));
}

#[test]
fn unified_host_has_its_view_on_the_directory_itself() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    let found = parse(mounts, "0::/system.slice/ssh.service\n");
    assert_eq!(found.mode(), Mode::Unified);
    let v2 = found.v2.unwrap();
    assert_eq!(v2.own_dir().unwrap(), Path::new("/sys/fs/cgroup/system.slice/ssh.service"));
    assert_eq!(v2.view, view("", "cgroup2", ""));
    assert!(v2.controllers.is_empty());
}

#[test]
fn legacy_host_has_no_unified_tree() {
    let mounts = "25 20 0:21 / /cgroup/mem rw - cgroup none rw,memory\n26 20 0:22 / /cgroup/cpu rw - cgroup none rw,cpuacct,cpu,release_agent=/sbin/x\n";
    let found = parse(mounts, "2:cpu,cpuacct:/a\n1:memory:/\n");
    assert_eq!(found.mode(), Mode::Legacy);
    assert_eq!(found.v1_with("memory").unwrap().view.name, "memory");
    assert_eq!(found.v1_with("cpu").unwrap().view, view("cpuacct,cpu", "cgroup", "cpuacct,cpu"));
    assert_eq!(parse("", "").mode(), Mode::None);
    assert_eq!(parse("", SPLIT_HYBRID_SELF).mode(), Mode::None);
}

#[test]
fn own_group_is_relative_to_the_root_of_the_mount() {
    let cases = [
        ("/", "/", Some("")),
        ("/", "/a/b", Some("a/b")),
        ("/docker/ab", "/docker/ab", Some("")),
        ("/docker/ab", "/docker/ab/x", Some("x")),
        ("/docker/ab", "/docker/abc", None),
        ("/docker/ab", "/", None),
        ("/..", "/", None),
        ("/", "/../x", None),
    ];
    for (root, path, expected) in cases {
        assert_eq!(below(root, path).as_deref(), expected, "{root} {path}");
    }
}

#[test]
fn nested_container_sees_its_part_of_the_tree() {
    let mounts = "700 690 0:31 /docker/4f2a /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:17 - cgroup cgroup rw,memory\n";
    let found = parse(mounts, "5:memory:/docker/4f2a/inner\n");
    let memory = found.v1_with("memory").unwrap();
    assert_eq!(memory.own.as_deref(), Some("inner"));
    assert_eq!(memory.mount_root, "docker/4f2a");
}

#[test]
fn first_mount_wins_unless_it_does_not_show_us() {
    let own = "1:memory:/a\n";
    let copy = "9 1 0:21 / /copy rw - cgroup none rw,memory\n";
    let first = "8 1 0:21 / /first rw - cgroup none rw,memory\n";
    let other = "7 1 0:21 /b /other rw - cgroup none rw,memory\n";
    let point = |text: String| parse(&text, own).v1[0].mount_point.clone();
    assert_eq!(point(format!("{first}{copy}")), Path::new("/first"));
    assert_eq!(point(format!("{other}{first}{copy}")), Path::new("/first"));
    assert_eq!(parse(other, own).v1[0].own, None);
}

#[test]
fn octal_escapes_are_undone() {
    let cases: [(&[u8], &[u8]); 6] = [
        (br"/a\040b", b"/a b"),
        (br"/a\134b\011", b"/a\\b\t"),
        (br"/a\9", br"/a\9"),
        (br"/a\", br"/a\"),
        (br"/\888", br"/\888"),
        (br"/\777", br"/\777"),
    ];
    for (input, expected) in cases {
        assert_eq!(unescape(input), expected);
    }
    let found = parse("8 1 0:21 / /with\\040space rw - cgroup none rw,memory\n", "1:memory:/\n");
    assert_eq!(found.v1[0].mount_point, Path::new("/with space"));
}

#[test]
fn hostile_texts_are_passed_over_in_bounds() {
    for text in
        ["", "\n\n", " - cgroup", "1 2 3 4 5 6 - cgroup2", "x - cgroup x rw,memory", "::::", " - - - "]
    {
        assert_eq!(parse(text, text).mode(), Mode::None, "{text:?}");
    }
    let many: String =
        (0..100_000).map(|n| format!("{n} 1 0:{n} / /m{n} rw - cgroup none rw,name=n{n}\n")).collect();
    let own: String = (0..1000).map(|n| format!("{n}:name=n{n}:/\n")).collect();
    assert_eq!(parse(&many, &own).v1.len(), HIERARCHIES_MAX);
    let long = format!("8 1 0:21 / /{} rw - cgroup none rw,memory\n", "x".repeat(4095));
    assert_eq!(parse(&long, "1:memory:/\n").v1.len(), 1);
}

#[test]
fn hierarchy_exists_with_just_its_controllers() {
    let text = b"4:name=systemd:/x\n3:cpu,cpuacct:/y\n2:memory:/\n0::/u\n";
    let table: [(Version, &[&str], bool); 8] = [
        (Version::V1, &["cpu", "cpuacct"], true),
        (Version::V1, &["cpuacct", "cpu"], true),
        (Version::V1, &["cpu"], false),
        (Version::V1, &["memory"], true),
        (Version::V1, &["memory", "pids"], false),
        (Version::V1, &["name=systemd"], true),
        (Version::V1, &["systemd"], false),
        (Version::V2, &["memory"], true),
    ];
    for (version, controllers, expected) in table {
        let controllers: Vec<String> = controllers.iter().map(|&c| c.to_owned()).collect();
        assert_eq!(exists(text, version, &controllers), expected, "{controllers:?}");
    }
    assert!(!exists(b"2:memory:/\n", Version::V2, &[]));
}

#[test]
fn membership_is_found_by_version_and_controller() {
    let text = b"12:name=systemd:/s\n4:cpuacct,cpu:/a\n5:memory:/m:x\n0::/u\n";
    let of = |version, controller: &str| membership(text, version, &[controller.to_owned()]);
    assert_eq!(of(Version::V1, "cpu"), Some("/a"));
    assert_eq!(of(Version::V1, "memory"), Some("/m:x"));
    assert_eq!(of(Version::V1, "name=systemd"), Some("/s"));
    assert_eq!(of(Version::V1, "pids"), None);
    assert_eq!(membership(text, Version::V2, &[]), Some("/u"));
    assert_eq!(of(Version::V2, "memory"), Some("/u"));
    assert_eq!(membership(text, Version::V1, &[]), None);
}

fn view(name: &str, fstype: &str, options: &str) -> CgroupView {
    CgroupView { name: name.into(), fstype: fstype.into(), options: options.into() }
}

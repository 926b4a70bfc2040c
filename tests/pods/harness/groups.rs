//! The lab's own cgroup in every hierarchy: whatever a test starts is born below it, so that what is left is found.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::driver;
use super::wait::wait_until;

/// One mounted hierarchy.
pub struct Hierarchy {
    /// v1: its controllers, or `name=systemd`. v2: empty.
    pub controllers: Vec<String>,
    /// Where the labs' groups are made: the group of this test program. On a unified host the nearest one above it
    /// that hands memory down, as a group that holds a process cannot.
    own: PathBuf,
    /// v2: the controllers that `own` hands down; none on a hybrid host.
    handed_down: Vec<String>,
    /// Where systemd makes the pod's groups, when it is the driver.
    slice: Option<PathBuf>,
}

impl Hierarchy {
    fn below(mount_point: &Path, path: &str, controllers: Vec<String>) -> Self {
        let own = mount_point.join(path);
        let handed_down = |group: &Path| -> Vec<String> {
            let text = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
            text.split_whitespace().map(String::from).collect()
        };
        let above = own.ancestors().take_while(|group| group.starts_with(mount_point));
        let giver = above.map(|group| (group, handed_down(group)));
        let slice = driver::slice(mount_point);
        match giver.into_iter().find(|(_, words)| words.iter().any(|word| word == "memory")) {
            Some((group, words)) => Self { controllers, own: group.to_owned(), handed_down: words, slice },
            None => Self { controllers, own, handed_down: Vec::new(), slice },
        }
    }

    /// cgroup2 with controllers of its own.
    pub fn is_unified(&self) -> bool {
        !self.handed_down.is_empty()
    }

    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The mounted hierarchies, with the own group in each.
pub fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let own = fs::read_to_string("/proc/self/cgroup").expect("the own cgroups");
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(dash) = fields.iter().position(|field| *field == "-") else { continue };
        let (root, mount_point, options) = (fields[3], fields[4], fields[dash + 3]);
        let lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let here: Option<(&str, &str)> = match fields[dash + 1] {
            "cgroup2" => lines.into_iter().find(|(controllers, _)| controllers.is_empty()),
            "cgroup" => lines.into_iter().find(|(names, _)| {
                !names.is_empty() && names.split(',').all(|n| options.split(',').any(|o| o == n))
            }),
            _ => None,
        };
        let Some((controllers, path)) = here else { continue };
        let path = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
        let controllers: Vec<String> =
            controllers.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
        // systemd delegates no devices of v1, and tidies up what is empty there whenever one of its services with a list of
        // devices ends. podrun joins it only where there is no cgroup2.
        if controllers == ["devices"] && mounts.lines().any(|line| line.contains(" - cgroup2 ")) {
            continue;
        }
        if !found.iter().any(|other| other.controllers == controllers) {
            found.push(Hierarchy::below(Path::new(mount_point), path, controllers));
        }
    }
    found
}

/// One group of the same name in every hierarchy.
pub struct Groups {
    all: Vec<(Hierarchy, PathBuf)>,
    launchers: AtomicU32,
}

/// The name of a launcher's group, and a number.
const LAUNCHER: &str = "launcher-";

impl Groups {
    pub fn create(label: &str) -> Self {
        let mut all = Vec::new();
        for hierarchy in hierarchies() {
            let path = hierarchy.own.join(label);
            fs::create_dir(&path).expect("a cgroup below the own one");
            if hierarchy.has("cpuset") {
                // A v1 group without CPUs and memory nodes takes nobody in.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    copy_text(&hierarchy.own.join(file), &path.join(file)).expect("the own group's cpuset");
                }
            }
            if hierarchy.is_unified() {
                let words: Vec<String> =
                    hierarchy.handed_down.iter().map(|word| format!("+{word}")).collect();
                write_existing(&path.join("cgroup.subtree_control"), &words.join(" ")).expect("controllers");
            }
            all.push((hierarchy, path));
        }
        Self { all, launchers: AtomicU32::new(0) }
    }

    /// The groups of this name that are there, of a run that was killed.
    pub fn find(label: &str) -> Self {
        let all = hierarchies().into_iter().map(|hierarchy| {
            let path = hierarchy.own.join(label);
            (hierarchy, path)
        });
        Self { all: all.filter(|(_, path)| path.exists()).collect(), launchers: AtomicU32::new(0) }
    }

    pub fn is_unified(&self) -> bool {
        self.all.iter().any(|(hierarchy, _)| hierarchy.is_unified())
    }

    /// Nearly all of the CPU when others want some too: what else runs on the machine is one entity or many beside
    /// this one group, and a test that measures shares is not to measure that.
    pub fn take_precedence(&self) {
        for (_, path) in &self.all {
            // A hierarchy without the controller has neither file.
            let _ = write_existing(&path.join("cpu.shares"), "262144");
            let _ = write_existing(&path.join("cpu.weight"), "10000");
        }
    }

    /// What a launcher joins. On a unified host a group of its own, delegated as systemd does it: there the group
    /// that hands controllers down can hold no process.
    pub fn open_procs(&self) -> Vec<File> {
        let open = |(hierarchy, path): &(Hierarchy, PathBuf)| {
            let path = if hierarchy.is_unified() { self.delegate_group(path) } else { path.clone() };
            let file = path.join("cgroup.procs");
            let opened = OpenOptions::new().write(true).open(&file);
            opened.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        self.all.iter().map(open).collect()
    }

    fn delegate_group(&self, path: &Path) -> PathBuf {
        let number = self.launchers.fetch_add(1, Ordering::Relaxed);
        let path = path.join(format!("{LAUNCHER}{number}"));
        fs::create_dir(&path).expect("a group for a launcher");
        super::sys::set_attribute(&path, c"trusted.delegate", b"1").expect("an attribute of a group");
        path
    }

    /// The lab's group in the hierarchy of the controller; `""` means cgroup2.
    pub fn path(&self, controller: &str) -> PathBuf {
        self.of(controller).1.clone()
    }

    fn of(&self, controller: &str) -> &(Hierarchy, PathBuf) {
        let wanted = |hierarchy: &Hierarchy| match controller {
            "" => hierarchy.is_v2(),
            name => hierarchy.has(name) || hierarchy.handed_down.iter().any(|word| word == name),
        };
        let found = self.all.iter().find(|(hierarchy, _)| wanted(hierarchy));
        found.unwrap_or_else(|| panic!("no hierarchy of `{controller}`"))
    }

    /// The pods' own groups in the hierarchy of the controller; `""` means cgroup2.
    pub fn pods(&self, controller: &str) -> Vec<PathBuf> {
        let (hierarchy, path) = self.of(controller);
        if let Some(slice) = &hierarchy.slice {
            return directories(slice).into_iter().filter(|group| group.ends_with("payload")).collect();
        }
        let depth = path.components().count() + if hierarchy.is_unified() { 2 } else { 1 };
        let is_pod = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.components().count() == depth && !name.starts_with("podrun-launcher-")
        };
        directories(path).into_iter().filter(is_pod).collect()
    }

    /// Groups that pods have made, in all hierarchies.
    pub fn below(&self) -> Vec<PathBuf> {
        let of_the_lab = |group: &Path, lab: &Path| {
            let name = group.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(LAUNCHER) && group.parent() == Some(lab)
        };
        let below = |lab: &PathBuf| {
            directories(lab).into_iter().filter(|group| !of_the_lab(group, lab)).collect::<Vec<_>>()
        };
        self.places().flat_map(below).chain(self.slices().filter(|path| path.exists()).cloned()).collect()
    }

    fn slices(&self) -> impl Iterator<Item = &PathBuf> {
        self.all.iter().filter_map(|(hierarchy, _)| hierarchy.slice.as_ref())
    }

    /// The lab's groups, and those that systemd makes for it.
    fn places(&self) -> impl Iterator<Item = &PathBuf> {
        self.all.iter().map(|(_, path)| path).chain(self.slices())
    }

    /// Processes in or below, in any hierarchy.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.places().flat_map(|path| processes_below(path)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Everything that is in it ends, and then it does: for what a failed test or a killed run has left.
    pub fn destroy(&self) {
        for path in self.places() {
            // v1's freezer holds what nobody can kill until it thaws.
            for group in directories(path).iter().chain([path]) {
                let _ = write_existing(&group.join("freezer.state"), "THAWED");
                let _ = write_existing(&group.join("cgroup.freeze"), "0");
            }
        }
        wait_until("the processes of a lab end", || {
            let pids = self.processes();
            for pid in &pids {
                // Gone since the list was read: that is what is wanted.
                let _ = super::sys::kill(*pid, libc::SIGKILL);
            }
            pids.is_empty()
        });
        wait_until("the groups of a lab go", || {
            self.all.iter().all(|(_, path)| {
                directories(path).iter().rev().for_each(|group| drop(fs::remove_dir(group)));
                fs::remove_dir(path).is_ok() || !path.exists()
            })
        });
    }
}

/// The directories below, parents first.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(path) else { return found };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.push(entry.path());
        found.extend(directories(&entry.path()));
    }
    found
}

fn processes_below(path: &Path) -> Vec<i32> {
    let groups = directories(path);
    let read = |group: &Path| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let texts = groups.iter().map(PathBuf::as_path).chain([path]).map(read).collect::<Vec<_>>();
    // 0 is a process of another pid namespace, which no test program sees from outside.
    texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 1)
        .collect()
}

fn copy_text(from: &Path, to: &Path) -> io::Result<()> {
    write_existing(to, &fs::read_to_string(from)?)
}

fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

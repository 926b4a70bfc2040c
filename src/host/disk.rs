//! From a path to the whole disk that it lies on: the kernel limits only those.
//!
//! A partition is followed to its disk, and what the device mapper makes (LUKS, LVM) to what it is made of, as long as
//! that is one disk; a loop device is a disk of its own. Only `/sys/dev/block` and mountinfo are looked at.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::read_bounded;
use crate::cgroup::limits::Disk;

/// Where the kernel lists block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";
/// More devices are not made of each other.
const LEVELS_MAX: usize = 16;

/// The disk behind a path.
///
/// # Errors
/// Why there is none, to be read by itself.
pub(super) fn find(path: &Path) -> Result<Disk, String> {
    let found = fs::metadata(path).map_err(|error| failed(path, &error))?;
    let number = if found.file_type().is_block_device() { found.rdev() } else { found.dev() };
    let disk = Disk { major: major(number), minor: minor(number) };
    let devices = Path::new(DEVICES);
    if devices.join(disk.to_string()).exists() {
        return whole(devices, disk, path);
    }
    whole(devices, by_mount(path, &found, disk)?, path)
}

fn failed(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("cannot look at `{}`: {error}", path.display()),
    }
}

/// btrfs gives its files numbers that no device has; its mounts name their device all the same.
fn by_mount(path: &Path, found: &Metadata, number: Disk) -> Result<Disk, String> {
    let mounts = read_bounded(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    let number = number.to_string();
    let source = mounts.lines().find_map(|line| mount_source(line, &number));
    let (kind, source) = source.unwrap_or(("unknown", ""));
    let device = fs::metadata(source).ok().filter(|device| device.file_type().is_block_device());
    match device.filter(|_| kind != "unknown" && !found.file_type().is_block_device()) {
        Some(device) => Ok(Disk { major: major(device.rdev()), minor: minor(device.rdev()) }),
        None => Err(format!("{} is on a filesystem without a block device ({kind})", path.display())),
    }
}

/// The type and the source of the mount in this line of proc_pid_mountinfo(5), where its device has this number.
fn mount_source<'a>(line: &'a str, number: &str) -> Option<(&'a str, &'a str)> {
    let (before, after) = line.split_once(" - ")?;
    before.split(' ').nth(2).filter(|given| *given == number)?;
    let mut after = after.split(' ');
    Some((after.next()?, after.next()?))
}

/// Follows a device down to what is no part of another one.
fn whole(devices: &Path, disk: Disk, path: &Path) -> Result<Disk, String> {
    let mut disk = disk;
    for _ in 0..LEVELS_MAX {
        let device = fs::canonicalize(devices.join(disk.to_string()));
        let device = device.map_err(|error| format!("cannot look at block device {disk}: {error}"))?;
        let below = if device.join("partition").exists() {
            device.parent().map(Path::to_owned).into_iter().collect()
        } else {
            made_of(&device)
        };
        disk = match below.as_slice() {
            [] => return Ok(disk),
            [one] => number_of(one)?,
            [one, ..] => {
                // Two partitions of one disk are one disk.
                let disks: Result<Vec<Disk>, String> =
                    below.iter().map(|device| whole(devices, number_of(device)?, path)).collect();
                let disks = disks?;
                if disks.iter().any(|other| Some(other) != disks.first()) {
                    let names: Vec<String> = below.iter().map(|device| name_of(device)).collect();
                    let names = names.join(", ");
                    return Err(format!("{} is on more than one disk ({names})", path.display()));
                }
                number_of(one)?
            }
        };
    }
    Err(format!("{} is on a device that is made of too many others", path.display()))
}

/// What the device mapper has made it of.
fn made_of(device: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| fs::canonicalize(entry.path()).ok()).collect();
    found.sort();
    found
}

fn name_of(device: &Path) -> String {
    device.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn number_of(device: &Path) -> Result<Disk, String> {
    let text = fs::read_to_string(device.join("dev"));
    let text = text.map_err(|error| format!("cannot look at block device {}: {error}", name_of(device)))?;
    let numbers = text.trim().split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (major, minor) =
        numbers.ok_or_else(|| format!("cannot look at block device {}: no number", name_of(device)))?;
    Ok(Disk { major, minor })
}

/// Whether some disk divides its time by `io-weight`: its scheduler is BFQ, or iocost is on for it. `v2`: where cgroup2
/// is mounted, whose root says the latter (cgroup-v2.rst, `io.cost.qos`).
pub(super) fn some_obeys_weights(v2: Option<&Path>) -> bool {
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let mut disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks.any(|disk| is_bfq(&text(disk.path().join("queue/scheduler"))))
        || v2.is_some_and(|root| has_iocost(&text(root.join("io.cost.qos"))))
}

/// The scheduler that is used stands in brackets.
fn is_bfq(schedulers: &str) -> bool {
    schedulers.split_whitespace().any(|word| word == "[bfq]")
}

/// A line for each disk that was ever asked about.
fn has_iocost(qos: &str) -> bool {
    qos.split_whitespace().any(|word| word == "enable=1")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree as the kernel has it: `dev/block/M:m` are links to the devices.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            fs::create_dir(tree.0.path().join("numbers")).unwrap();
            tree
        }

        fn device(&self, place: &str, number: &str, made_of: &[&str]) {
            let device = self.0.path().join(place);
            fs::create_dir_all(device.join("slaves")).unwrap();
            fs::write(device.join("dev"), format!("{number}\n")).unwrap();
            if place.matches('/').count() == 1 {
                fs::write(device.join("partition"), "1\n").unwrap();
            }
            symlink(&device, self.0.path().join("numbers").join(number)).unwrap();
            for other in made_of {
                let other = self.0.path().join(other);
                symlink(&other, device.join("slaves").join(other.file_name().unwrap())).unwrap();
            }
        }

        fn whole(&self, major: u64, minor: u64) -> Result<String, String> {
            let disk = Disk { major, minor };
            whole(&self.0.path().join("numbers"), disk, Path::new("/srv")).map(|disk| disk.to_string())
        }
    }

    #[test]
    fn partition_luks_and_lvm_lead_to_the_whole_disk() {
        let tree = Tree::new();
        tree.device("sda", "8:0", &[]);
        tree.device("sda/sda2", "8:2", &[]);
        tree.device("sda/sda3", "8:3", &[]);
        tree.device("sdb", "8:16", &[]);
        tree.device("loop0", "7:0", &[]);
        tree.device("dm-0", "253:0", &["sda/sda2"]);
        tree.device("dm-1", "253:1", &["dm-0"]);
        tree.device("dm-2", "253:2", &["sda/sda2", "sda/sda3"]);
        tree.device("dm-3", "253:3", &["sda/sda2", "sdb"]);
        for (major, minor) in [(8, 0), (8, 2), (253, 0), (253, 1), (253, 2)] {
            assert_eq!(tree.whole(major, minor).as_deref(), Ok("8:0"), "{major}:{minor}");
        }
        assert_eq!(tree.whole(7, 0).as_deref(), Ok("7:0"));
        assert_eq!(tree.whole(253, 3).unwrap_err(), "/srv is on more than one disk (sda2, sdb)");
        assert!(tree.whole(9, 9).unwrap_err().starts_with("cannot look at block device 9:9: "));
    }

    #[test]
    fn path_without_a_disk_is_told() {
        let proc = find(Path::new("/proc")).unwrap_err();
        assert_eq!(proc, "/proc is on a filesystem without a block device (proc)");
        assert_eq!(find(Path::new("/no/such")).unwrap_err(), "/no/such does not exist");
    }

    #[test]
    fn mounts_are_found_by_their_number() {
        let line = "36 35 0:31 / /data rw,noatime shared:1 - btrfs /dev/sda2 rw,space_cache";
        assert_eq!(mount_source(line, "0:31"), Some(("btrfs", "/dev/sda2")));
        assert_eq!(mount_source(line, "0:3"), None);
        assert_eq!(mount_source("nonsense", "0:31"), None);
    }

    #[test]
    fn disks_that_obey_weights_are_known_by_their_scheduler_or_iocost() {
        assert!(is_bfq("mq-deadline kyber [bfq] none\n"));
        for other in ["[none] mq-deadline kyber bfq\n", "none\n", ""] {
            assert!(!is_bfq(other), "{other}");
        }
        let qos =
            |enable| format!("8:16 enable={enable} ctrl=auto rpct=95.00 rlat=75000 min=50.00 max=150.00\n");
        assert!(has_iocost(&qos(1)) && has_iocost(&(qos(0) + &qos(1))));
        assert!(!has_iocost(&qos(0)) && !has_iocost(""));
    }
}

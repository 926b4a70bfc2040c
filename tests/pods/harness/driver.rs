//! Which driver makes the groups of a lab's pods. Labs say cgroupfs, so that what a test starts is below its own groups;
//! a test that runs once more below systemd says so here, and its labs look into systemd's tree too.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::require;

thread_local! {
    static BELOW_SYSTEMD: Cell<bool> = const { Cell::new(false) };
}

/// The slice of a pod that is called `one`.
const SLICE: &str = "machine-one.slice";

/// Runs a test with the systemd driver, if there is a systemd, and looks whether a unit is left. The test calls its pod
/// `one`, as they all do; so one of them runs at a time.
pub fn below_systemd(test: fn()) {
    static TURN: Mutex<()> = Mutex::new(());
    if !require::systemd() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _chosen = Chosen::choose();
    test();
    let listed =
        Command::new("systemctl").args(["list-units", "--all", "--no-legend", "--plain", SLICE]).output();
    let units = String::from_utf8(listed.expect("systemctl").stdout).expect("names of units");
    assert_eq!(units, "", "units are left");
}

/// This thread's labs are below systemd as long as this lives, also when the test panics.
struct Chosen;

impl Chosen {
    fn choose() -> Self {
        BELOW_SYSTEMD.set(true);
        Self
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        BELOW_SYSTEMD.set(false);
    }
}

/// What `--driver` would say.
pub fn name() -> &'static str {
    if BELOW_SYSTEMD.get() { "systemd" } else { "cgroupfs" }
}

/// Where the pod's slice is in a hierarchy, when systemd makes it.
pub fn slice(mount_point: &Path) -> Option<PathBuf> {
    BELOW_SYSTEMD.get().then(|| mount_point.join("machine.slice").join(SLICE))
}

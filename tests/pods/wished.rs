//! Controllers that a pod has without a limit: where they are not to be had it starts all the same.

use std::fs;
use std::process::Command;

use crate::harness::sys::tell;
use crate::harness::{Lab, Running, app, bin_dir, pod, require};
use crate::systemd::{expect_nothing_left, systemctl};

/// Where the kernel shares out realtime by groups, a new group of v1's `cpu` takes nobody who runs so.
#[test]
fn launcher_in_realtime_starts_a_pod() {
    let Some(lab) = Lab::open() else { return };
    // The launcher's own group is a new one, too.
    let share = lab.group("cpu").join("cpu.rt_runtime_us");
    if share.exists() && fs::write(&share, "10000").is_err() {
        return tell("not here: the group above has no realtime to give\n");
    }
    let path = lab.manifest(&pod("one", "", &[app("a", "say up", "")]));
    let mut command = lab.command("chrt");
    command.args(["-f", "1"]).arg(bin_dir().join("podrun")).args(["run", "--no-log-prefix"]).arg(path);
    let ended = Running::spawn(&mut command).wait().expect_code(0);
    assert_eq!(ended.stdout, "up\n");
}

/// machine.slice has no group below it that counts input and output, as long as this lives.
struct WithoutIo;

impl WithoutIo {
    const DIR: &str = "/run/systemd/system/machine.slice.d";

    fn make() -> Self {
        fs::create_dir_all(Self::DIR).unwrap();
        let without = Self;
        fs::write(format!("{}/io.conf", Self::DIR), "[Slice]\nDisableControllers=io\n").unwrap();
        systemctl(&["daemon-reload"]).expect_code(0);
        without
    }
}

impl Drop for WithoutIo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Self::DIR);
        let _ = Command::new("systemctl").arg("daemon-reload").status();
    }
}

#[test]
fn pod_starts_where_systemd_withholds_a_controller_that_no_limit_needs() {
    if !require::unified() || !require::systemd() || !require::throwaway() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let run = |words: &str, keys: &str| {
        let path = lab.manifest(&pod(&lab.name(), "", &[app("a", words, keys)]));
        let arguments = ["run", "--driver", "systemd", "--no-log-prefix", path.to_str().unwrap()];
        Running::spawn(&mut lab.podrun(&arguments))
    };
    let counted = || {
        let running = run("on-term 0 ; say up ; pause", "");
        running.wait_for("up");
        let name = lab.name();
        let stats =
            lab.call(&["stats", "--no-stream", "-i", "100ms", "-o", "json", &name]).expect_code(0).json();
        let app = &stats["pods"][0]["apps"][0];
        assert_eq!(app["pids_current"], 1, "{stats}");
        let is_counted = app["io_read_bytes"].is_number();
        // What is recorded is what is there.
        lab.call(&["update", &format!("{name}/a"), "pids-max=33"]).expect_code(0);
        running.signal(libc::SIGTERM);
        running.wait().expect_code(0);
        expect_nothing_left(&lab);
        is_counted
    };
    assert!(counted(), "with the controller");
    let without = WithoutIo::make();
    assert!(!counted(), "without it");
    let needed = run("say started", "isolators.io-weight = 50").wait().expect_code(125);
    assert_eq!(needed.stdout, "", "a limit needs it");
    drop(without);
    assert!(counted(), "again with it");
}

//! A pod as one of systemd's machines, and what an app can see of that.

use std::process::Command;

use podrun_abi::event::End;

use crate::harness::{Ended, Lab, Running, app, far, pod, wait_until};
use crate::systemd::{expect_nothing_left, open, scope};

fn start(lab: &Lab) -> Running {
    let apps = [app("web", "on-term 0 ; say up ; pause", "")];
    let path = lab.manifest(&pod(&lab.name(), "", &apps));
    let running = Running::spawn(&mut lab.podrun(&["run", "--driver", "systemd", path.to_str().unwrap()]));
    running.wait_for("up");
    running
}

fn machinectl(arguments: &[&str]) -> Ended {
    Running::spawn(Command::new("machinectl").args(arguments)).wait()
}

fn is_listed(lab: &Lab) -> bool {
    let listed = machinectl(&["list", "--no-legend", "--no-pager"]).stdout;
    listed.lines().any(|line| line.split_whitespace().next() == Some(&lab.name()))
}

/// machined is started by the first question, and registers pods when it comes to it.
#[track_caller]
fn wait_until_listed(lab: &Lab) {
    wait_until("machinectl lists the pod", || is_listed(lab));
}

#[test]
fn pod_is_a_machine_while_it_lives() {
    let Some(lab) = open() else { return };
    let running = start(&lab);
    wait_until_listed(&lab);
    let name = lab.name();
    let shown = machinectl(&["show", &name]).expect_code(0).stdout;
    for line in ["Service=podrun", "Class=container", &format!("Unit={}", scope(&lab)), "State=running"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let mut ps = Command::new("ps");
    let told = Running::spawn(ps.args(["-e", "-o", "machine=,args="])).wait().expect_code(0).stdout;
    let of_pod = |line: &&str| line.split_whitespace().next() == Some(&name);
    assert!(told.lines().filter(of_pod).any(|line| line.contains("/bin/probe")), "{told}");
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    wait_until("machined forgets the pod", || !is_listed(&lab));
    expect_nothing_left(&lab);
}

#[test]
fn terminate_and_poweroff_of_the_machine_are_ordered_stops() {
    for verb in ["terminate", "poweroff"] {
        let Some(lab) = open() else { return };
        let running = start(&lab);
        wait_until_listed(&lab);
        machinectl(&[verb, &lab.name()]).expect_code(0);
        running.wait_within(far()).expect_code(0);
        let outcome = lab.outcome("web");
        assert_eq!((outcome.end, outcome.stopped), (End::Exited { code: 0 }, true), "{verb}");
        wait_until("machined forgets the pod", || !is_listed(&lab));
        expect_nothing_left(&lab);
    }
}

/// As systemd.io/CONTAINER_INTERFACE has them; the directory of the host stays as it was.
#[test]
fn app_finds_the_container_interfaces_files() {
    let Some(lab) = open() else { return };
    let script = "cat /run/host/container-manager; grep -qx \\\"$container_uuid\\\" /run/host/container-uuid && echo same";
    let text = format!(
        "version = 1\n[pod]\nname = \"{}\"\n[app.web]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        lab.name()
    );
    let path = lab.manifest(&text);
    let arguments = ["run", "--driver", "systemd", "--no-log-prefix", path.to_str().unwrap()];
    assert_eq!(lab.call(&arguments).expect_code(0).stdout, "podrun\nsame\n");
    assert!(!std::path::Path::new("/run/host/container-manager").exists());
    expect_nothing_left(&lab);
}

//! [`Bus`]: a dbus-daemon of one's own. It owns the process; which names and messages there are is not its matter.
//! The process ends with it, and when the thread that started it ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// Everybody may do everything: it is reached by whoever can enter the test's folder.
const CONFIGURATION: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=@DIR@/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow user="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

pub(crate) struct Bus {
    daemon: Mutex<Child>,
    address: String,
    pid: u32,
}

impl Bus {
    pub(crate) fn start(dir: &Path) -> Self {
        let shown = dir.to_str().expect("a folder of ours");
        let configuration = dir.join("bus.conf");
        std::fs::write(&configuration, CONFIGURATION.replace("@DIR@", shown)).expect("a configuration");
        // setpriv(1) sees to it that a test that is killed leaves no daemon.
        let mut daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dbus-daemon", "--nofork", "--nopidfile", "--nosyslog"])
            .arg(format!("--config-file={}", configuration.display()))
            .arg("--print-address=1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // As root it says that it may have no more descriptors, which it does not need.
            .stderr(File::create(dir.join("bus.log")).expect("a file in the test's folder"))
            .spawn()
            .expect("setpriv and dbus-daemon can be executed");
        // It listens by the time it says where.
        let mut line = String::new();
        let stdout = daemon.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the daemon's output can be read");
        let log = || std::fs::read_to_string(dir.join("bus.log")).unwrap_or_default();
        assert!(line.starts_with("unix:path="), "dbus-daemon said `{line}` and `{}`", log());
        let pid = daemon.id();
        Self { daemon: Mutex::new(daemon), address: format!("unix:path={shown}/bus"), pid }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// May be called twice.
    pub(crate) fn kill(&self) {
        let mut daemon = self.daemon.lock().expect("nobody panics with it");
        // It is a child that is not waited for before, so that the number is its own.
        let _ = daemon.kill();
        daemon.wait().expect("a child can be waited for");
    }
}

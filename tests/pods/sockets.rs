//! Sockets that are open before their app is: those of the manifest, and those that systemd passes.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::harness::{Lab, Running, app, bin_dir, far, pod, wait_until};
use crate::service::{self, Unit};
use crate::systemd::systemctl;

const ANSWER: &str = "on-term 0 ; answer 1 ; pause";

/// A port of the loopback network that no other test of this host has.
fn own_address() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 99, high, low], 8000))
}

/// One table `[socket.NAME]`.
fn socket(name: &str, listen: &str, app: &str, keys: &str) -> String {
    format!("[socket.{name}]\nlisten = \"{listen}\"\napp = \"{app}\"\n{keys}\n")
}

/// Whoever has connected gets his answer as soon as the app is there.
fn answer(mut connection: impl Read) -> String {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// The file is there a moment before anybody listens.
fn connect(path: &Path) -> UnixStream {
    let mut connection = None;
    wait_until("somebody listens", || {
        connection = UnixStream::connect(path).ok();
        connection.is_some()
    });
    let connection = connection.unwrap();
    connection.set_read_timeout(Some(far())).unwrap();
    connection
}

/// What somebody who connects is told.
pub fn answer_of(path: &Path) -> String {
    answer(connect(path))
}

/// Sockets that nobody has any more would refuse.
fn is_open(path: &Path) -> bool {
    !matches!(UnixStream::connect(path), Err(e) if [ErrorKind::ConnectionRefused, ErrorKind::NotFound].contains(&e.kind()))
}

#[test]
fn app_gets_its_own_sockets_with_their_names_and_nothing_else() {
    let Some(lab) = Lab::open() else { return };
    let (path, address) = (lab.path("web"), own_address());
    let apps =
        [app("a", "fds ; answer 2 ; pause", ""), app("b", "fds ; answer 0 ; env ; say up ; pause", "")];
    let keys = "mode = \"0640\"\nowner = \"12:34\"\nbacklog = 5";
    let sockets =
        [socket("web", path.to_str().unwrap(), "a", keys), socket("http", &address.to_string(), "a", "")];
    let running = lab.start(&(pod("one", "", &apps) + &sockets.concat()));
    running.wait_for("up");
    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o640, 12, 34));
    assert_eq!(answer(connect(&path)), "web\n");
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(far())).unwrap();
    assert_eq!(answer(connection), "http\n");
    running.wait_for("answered http");
    running.signal(libc::SIGTERM);
    let ended = running.wait();
    assert!(ended.stdout.contains("listen own 2 web:http\n"), "{ended}");
    for fds in ["fds 0 1 2 3 4\n", "fds 0 1 2\n"] {
        assert!(ended.stdout.contains(fds), "{fds}{ended}");
    }
    assert!(ended.stdout.contains("listen other  \n"), "{ended}");
    assert!(!ended.stdout.contains("env LISTEN_"), "{ended}");
    assert!(fs::symlink_metadata(&path).is_err(), "the socket's file goes with the pod");
    assert!(TcpStream::connect(address).is_err());
}

/// stage1 stops the pod in order; the file is what `gc` removes.
#[test]
fn socket_of_a_killed_launcher_is_removed_and_its_place_is_free() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.path("web");
    let text = pod("one", "", &[app("a", ANSWER, "")]) + &socket("web", path.to_str().unwrap(), "a", "");
    let running = lab.start(&text);
    running.wait_for("listen own");
    running.signal(libc::SIGKILL);
    running.wait();
    wait_until("the pod has ended", || !is_open(&path));
    assert!(fs::symlink_metadata(&path).is_ok());
    // A pod of another name meets the deserted file.
    let other = lab.start(&text.replace("\"one\"", "\"two\""));
    other.wait_for("listen own");
    assert_eq!(answer(connect(&path)), "web\n");
    // The first one's end must not take it away from the second.
    lab.call(&["gc"]).expect_code(0);
    assert!(is_open(&path));
    other.signal(libc::SIGKILL);
    other.wait();
    lab.wait_until_empty();
    lab.call(&["gc"]).expect_code(0);
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn place_that_is_taken_is_an_error_and_stays_as_it_is() {
    let Some(lab) = Lab::open() else { return };
    let (taken, file, free) = (lab.path("taken"), lab.path("file"), lab.path("free"));
    let _listener = UnixListener::bind(&taken).unwrap();
    fs::write(&file, "precious").unwrap();
    for path in [&taken, &file] {
        let sockets = [("first", &free), ("web", path)]
            .map(|(name, path)| socket(name, path.to_str().unwrap(), "a", ""));
        let ended = lab.run(&(pod("one", "", &[app("a", ANSWER, "")]) + &sockets.concat())).expect_code(125);
        let error = format!(
            "cannot listen at `{}` for socket `web`: EADDRINUSE: Address already in use",
            path.display()
        );
        ended.expect_stderr(&[&error, "hint: "]);
        assert!(fs::symlink_metadata(&free).is_err(), "what was opened before it is gone");
        assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
    }
    let nowhere = pod("one", "", &[app("a", ANSWER, "")]) + &socket("web", "/nowhere/web", "a", "");
    let words =
        ["cannot listen at `/nowhere/web` for socket `web`: ENOENT", "hint: make the directory first"];
    lab.run(&nowhere).expect_code(125).expect_stderr(&words);
    assert!(is_open(&taken));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

/// What an app's own env says of descriptors it may say, as long as podrun does not give it any.
#[test]
fn variables_of_passed_sockets_are_podruns_where_there_is_a_socket() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.path("web");
    let env = "env = { LISTEN_FDS = \"7\", LISTEN_FDNAMES = \"mine\" }";
    let apps = [app("a", "env", env), app("b", "env", env)];
    let text =
        pod("one", "exit-policy = \"all-exited\"", &apps) + &socket("web", path.to_str().unwrap(), "a", "");
    let ended = lab.run(&text).expect_code(0);
    // Each line is of one of the two.
    for line in ["env LISTEN_FDS=\"1\"\n", "env LISTEN_FDNAMES=\"web\"\n", "env LISTEN_FDS=\"7\"\n"] {
        assert_eq!(ended.stdout.matches(line).count(), 1, "{line}{ended}");
    }
}

/// The sockets go to the process that stays, as one that forks away keeps what it was given.
#[test]
fn sockets_that_are_passed_to_a_detached_run_reach_the_app() {
    let Some(lab) = service::open() else { return };
    let path = lab.path("passed");
    let text = pod("one", "", &[app("a", ANSWER, "")]) + &socket("web", "/nowhere/web", "a", "");
    let manifest = lab.manifest(&text);
    let mut activated = lab.command("systemd-socket-activate");
    activated.arg("--fdname=web").arg("-l").arg(&path);
    activated.args(["-E", "PODRUN_ROOT", "-E", "PODRUN_DRIVER"]).arg(bin_dir().join("podrun"));
    let caller = Running::spawn(activated.args(["run", "-d"]).arg(manifest));
    assert_eq!(answer(connect(&path)), "web\n");
    caller.wait().expect_code(0);
    lab.call(&["stop", "one"]).expect_code(0);
    lab.wait_until_empty();
    let _ = fs::remove_file(path);
}

/// A `.socket` unit as long as this value, for the service of the same name.
struct Listener {
    name: String,
    file: PathBuf,
}

impl Listener {
    fn install(unit: &Unit, fdname: &str, paths: &[&Path]) -> Self {
        let listen: String = paths.iter().map(|path| format!("ListenStream={}\n", path.display())).collect();
        Self::write(unit, &format!("[Socket]\nFileDescriptorName={fdname}\n{listen}"))
    }

    fn write(unit: &Unit, text: &str) -> Self {
        let name = unit.name.replace(".service", ".socket");
        let file = Path::new("/run/systemd/system").join(&name);
        let listener = Self { name, file };
        fs::write(&listener.file, text).unwrap();
        systemctl(&["start", &listener.name]).expect_code(0);
        listener
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        systemctl(&["stop", &self.name]);
        let _ = fs::remove_file(&self.file);
    }
}

/// The first byte of the first client is answered, though nothing ran when it came; and the next pod answers the next.
#[test]
fn sockets_that_systemd_passes_reach_the_app_that_claims_them() {
    let Some(lab) = service::open() else { return };
    let (passed, own) = (lab.path("passed"), lab.path("own"));
    let apps = [service::app("a", "answer 1", ""), service::app("b", ANSWER, "essential = false")];
    let text = pod("one", "", &apps) + &socket("web", own.to_str().unwrap(), "a", "");
    let unit = Unit::install(&lab, "Delegate=yes", &text);
    let listener = Listener::install(&unit, "web", &[&passed]);
    assert_eq!(unit.property("ActiveState"), "inactive");
    for times in 1..=2 {
        assert_eq!(answer(connect(&passed)), "web\n", "{}", unit.output());
        unit.expect_gone();
        assert_eq!(unit.output().matches("listen own 1 web\n").count(), times, "{}", unit.output());
        assert!(fs::symlink_metadata(&own).is_err(), "what is passed is not opened again");
    }
    drop(listener);
}

/// Both units as podrun writes them.
#[test]
fn generated_socket_starts_the_generated_service_for_its_first_client() {
    let Some(lab) = service::open() else { return };
    let path = lab.path("web");
    let keys = "mode = \"0640\"\nbacklog = 5";
    let text =
        pod(&lab.name(), "", &[app("a", ANSWER, "")]) + &socket("web", path.to_str().unwrap(), "a", keys);
    let manifest = lab.manifest(&text);
    let generate =
        |kind: &str| lab.call(&["generate", kind, manifest.to_str().unwrap()]).expect_code(0).stdout;
    let root = format!("[Service]\nEnvironment=PODRUN_ROOT={}\n", lab.root().display());
    let unit = Unit::write(&lab, &(generate("unit") + &root));
    let listener = Listener::write(&unit, &generate("socket"));
    assert_eq!((unit.property("ActiveState"), lab.pod_dirs().len()), ("inactive".to_owned(), 0));
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(answer(connect(&path)), "web\n");
    wait_until("it is active", || unit.property("ActiveState") == "active");
    drop(listener);
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert!(fs::symlink_metadata(&path).is_err(), "RemoveOnStop=");
}

#[test]
fn sockets_of_unit_and_manifest_that_differ_are_an_error() {
    let Some(lab) = service::open() else { return };
    let passed = lab.path("passed");
    // An attempt that begins when the socket unit is stopped already is passed nothing, and must fail as well.
    let text = pod("one", "", &[service::app("a", ANSWER, "")]) + &socket("web", "/nowhere/web", "a", "");
    let unit = Unit::install(&lab, "Delegate=yes", &text);
    let listener = Listener::install(&unit, "wep", &[&passed]);
    let _connection = connect(&passed);
    unit.wait_for("FileDescriptorName=web");
    // As long as a connection waits, systemd tries again.
    drop(listener);
    wait_until("no attempt is left", || {
        ["failed", "inactive"].contains(&unit.property("ActiveState").as_str())
    });
    let output = unit.output();
    for said in [
        "error[E0936]: socket `wep` was passed by the service manager, and no app claims it",
        "add [socket.wep] to the manifest",
        "error[E0936]: socket `web` was not passed by the service manager, which passes others",
        "add FileDescriptorName=web",
    ] {
        assert!(output.contains(said), "`{said}`\n{output}");
    }
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
}

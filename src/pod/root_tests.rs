use std::process::Command;
use std::sync::Barrier;

use super::*;
use crate::error::{exit_code, hints};

pub(in crate::pod) fn root() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(&directory.path().join("podrun")).unwrap();
    (directory, root)
}

/// Another test of this process may be between fork and exec, with copies of all our descriptors.
pub(in crate::pod) fn wait_until_dead(pod: &Pod) {
    assert!(crate::pod::gc::wait_for_end(pod, Duration::from_secs(10)), "the lock is held");
}

fn found(root: &Root, word: &str) -> Result<String> {
    root.find(word).map(|pod| pod.id().to_string())
}

#[test]
fn a_root_that_does_not_exist_has_no_pods() {
    let (_directory, root) = root();
    assert!(root.list().unwrap().is_empty());
    let error = root.find("shop").unwrap_err();
    assert_eq!((format!("{error:#}").as_str(), exit_code(&error)), ("no such pod `shop`", Some(4)));
    assert!(!root.path().exists());
}

#[test]
fn a_root_that_others_may_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (mode, refused) in [(0o700, false), (0o755, false), (0o777, true), (0o1777, true), (0o720, true)] {
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Root::open(directory.path()).is_err(), refused, "{mode:o}");
    }
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(format!("{:#}", Root::open(&file).unwrap_err()).contains("it is not a directory"));
}

#[test]
fn directories_are_for_their_owner_only() {
    let (_directory, root) = root();
    let pod = root.create("shop").unwrap();
    for path in [root.path().to_owned(), root.pods(), root.names(), pod.path.clone()] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700, "{path:?}");
    }
    let files = ["lock", "pod.json"];
    assert!(files.iter().all(|file| {
        std::fs::metadata(pod.path.join(file)).unwrap().permissions().mode() & 0o7777 == 0o600
    }));
}

#[test]
fn a_pod_is_alive_until_the_last_copy_of_its_lock_is_closed() {
    let (_directory, root) = root();
    let made = root.create("shop").unwrap();
    let pod = root.find("shop").unwrap();
    let copy = made.lock.try_clone().unwrap();
    assert!(pod.is_alive() && pod.has_launcher());
    drop(made);
    assert!(pod.is_alive());
    drop(copy);
    wait_until_dead(&pod);
}

#[test]
fn a_running_pod_keeps_its_name_and_an_ended_one_gives_it_up() {
    let (_directory, root) = root();
    let first = root.create("shop").unwrap();
    let error = root.create("shop").unwrap_err();
    assert_eq!(format!("{error:#}"), format!("a pod of this name is running (id {})", first.id));
    assert!(hints(&error).next().unwrap().contains("`podrun stop shop`"));
    assert_eq!(root.entries().unwrap().len(), 1, "the loser has left something");
    let old = first.id.clone();
    drop(first);
    wait_until_dead(&root.find("shop").unwrap());
    let second = root.create("shop").unwrap();
    assert_eq!(found(&root, "shop").unwrap(), second.id.as_str());
    assert_eq!(found(&root, old.as_str()).unwrap(), old.as_str());
    assert_eq!(root.list().unwrap().len(), 2);
}

#[test]
fn a_pod_is_found_by_name_by_id_and_by_the_beginning_of_its_id() {
    let (_directory, root) = root();
    std::fs::create_dir_all(root.pods().join("aabb0001")).unwrap();
    std::fs::create_dir_all(root.pods().join("aabb0002")).unwrap();
    std::fs::create_dir_all(root.pods().join("not-a-pod")).unwrap();
    assert_eq!(found(&root, "aabb0001").unwrap(), "aabb0001");
    assert_eq!(
        format!("{:#}", found(&root, "aab").unwrap_err()),
        "pod `aab` is ambiguous: aabb0001, aabb0002 and maybe more"
    );
    assert_eq!(exit_code(&found(&root, "ffff").unwrap_err()), Some(4));
    for word in ["", "not-a-pod", "../pods/aabb0001", "AABB0001"] {
        assert!(found(&root, word).is_err(), "{word}");
    }
    let named = root.create("aab").unwrap();
    assert_eq!(found(&root, "aab").unwrap(), named.id.as_str(), "a name goes before an id");
}

#[test]
fn a_name_whose_link_is_lost_or_damaged_is_found_by_its_record() {
    let (_directory, root) = root();
    let pod = root.create("shop").unwrap();
    let link = root.names().join("shop");
    for target in ["../pods/00000000", "/etc", "..", "x"] {
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert_eq!(found(&root, "shop").unwrap(), pod.id.as_str(), "{target}");
    }
}

#[test]
fn only_the_pod_that_has_a_name_gives_it_back() {
    let (_directory, root) = root();
    let first = root.create("shop").unwrap().id.clone();
    wait_until_dead(&root.find("shop").unwrap());
    let second = root.create("shop").unwrap();
    root.release_name("shop", &first).unwrap();
    assert!(root.names().join("shop").is_symlink());
    root.release_name("shop", &second.id).unwrap();
    assert!(!root.names().join("shop").is_symlink());
    root.release_name("shop", &second.id).unwrap();
}

#[test]
fn of_fifty_at_once_one_gets_the_name() {
    let (_directory, root) = root();
    let barrier = Barrier::new(50);
    let results: Vec<Result<PodDir>> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            root.create("shop")
        };
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(winners.len(), 1);
    for loser in losers {
        let error = format!("{:#}", loser.unwrap_err());
        assert!(error.starts_with("a pod of this name is running"), "{error}");
    }
    assert_eq!(root.entries().unwrap().len(), 1);
}

#[test]
fn sweepers_leave_a_pod_alone_that_is_being_made() {
    let (_directory, root) = root();
    root.make_directories().unwrap();
    std::thread::scope(|scope| {
        // They end when the sender is dropped, also by a panic.
        let (running, done) = std::sync::mpsc::channel::<()>();
        let done = std::sync::Arc::new(std::sync::Mutex::new(done));
        for _ in 0..2 {
            let (done, root) = (done.clone(), &root);
            scope.spawn(move || {
                use std::sync::mpsc::TryRecvError;
                while done.lock().unwrap().try_recv() != Err(TryRecvError::Disconnected) {
                    crate::pod::gc::sweep(root).unwrap();
                }
            });
        }
        for _ in 0..200 {
            let pod = root.create("shop").unwrap();
            let found = root.find("shop").unwrap();
            assert!(pod.path.join("lock").exists() && found.is_alive());
            drop(pod);
            wait_until_dead(&found);
        }
        drop(running);
    });
    assert_eq!(root.list().unwrap().len(), 200);
}

#[test]
fn the_control_socket_works_below_a_root_of_any_length() {
    use std::os::fd::AsRawFd;
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(&directory.path().join("x".repeat(200))).unwrap();
    let pod = root.create("shop").unwrap();
    let socket = pod.control().unwrap();
    let path = pod.path.join("control");
    assert!(path.as_os_str().len() > 108);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(nix::sys::socket::accept(socket.as_raw_fd()), Err(nix::errno::Errno::EAGAIN));
}

#[test]
fn an_exec_ed_child_does_not_hold_the_lock() {
    let (_directory, root) = root();
    let made = root.create("shop").unwrap();
    let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    drop(made);
    let pod = root.find("shop").unwrap();
    wait_until_dead(&pod);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_pod_name_is_a_dns_label() {
    let long = "a".repeat(64);
    let table = [
        ("shop", true),
        ("a", true),
        ("a-1", true),
        (&long[1..], true),
        (long.as_str(), false),
        ("", false),
        ("-a", false),
        ("a-", false),
        ("A", false),
        ("a.b", false),
        ("a/b", false),
        ("..", false),
        ("a\0", false),
    ];
    for (word, valid) in table {
        assert_eq!(is_name(word), valid, "{word:?}");
    }
}

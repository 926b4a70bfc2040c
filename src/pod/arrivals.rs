//! [`Arrivals`]: waiting for pods that come.
//!
//! A pod can live for 20 ms and leave no record. inotify wakes us when its directory gets its name, and costs nothing
//! while none comes. Where it cannot be had (no directory yet, no instance left: inotify(7)), every wait is a short one
//! and a pod may have come in each.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::root::Root;

/// Between two looks where nothing tells of pods.
const BLIND: Duration = Duration::from_millis(100);
/// Between two looks where something does: not each filesystem says that a directory was removed, and the next one of the
/// name is another one.
const SURE: Duration = Duration::from_secs(1);

/// Waits for pods below one root.
pub struct Arrivals {
    pods: PathBuf,
    /// `None`: it cannot be had.
    watch: Option<Inotify>,
    looked_at: Instant,
}

impl Arrivals {
    /// From now on: those that are there are to be listed after this.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        let pods = root.pods();
        let mut arrivals = Self { pods, watch: None, looked_at: Instant::now() };
        arrivals.renew();
        arrivals
    }

    /// Waits, but not for longer than this. Says whether it is time to look which pods there are.
    pub fn wait(&mut self, longest: Duration) -> bool {
        let is_told = match &self.watch {
            Some(inotify) => is_told(inotify, longest.min(SURE)),
            None => {
                std::thread::sleep(longest.min(BLIND));
                true
            }
        };
        let is_due = is_told || self.looked_at.elapsed() >= SURE;
        if is_due {
            self.renew();
        }
        is_due
    }

    /// Does nothing where the directory is watched already.
    fn renew(&mut self) {
        // A pod's directory is renamed when it is one.
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let inotify = self.watch.take();
        let inotify = inotify.or_else(|| Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok());
        self.watch = inotify.filter(|inotify| inotify.add_watch(&self.pods, flags).is_ok());
        self.looked_at = Instant::now();
    }
}

/// Whether something came within this time.
fn is_told(inotify: &Inotify, longest: Duration) -> bool {
    // A part of a millisecond would be none.
    let timeout = PollTimeout::try_from(longest.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout);
    // What it was is seen in the list.
    ready.is_err() || (ready != Ok(0) && inotify.read_events().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::root::tests::root;

    const FAR: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn pod_that_comes_ends_the_wait() {
        let (_directory, root) = root();
        let mut arrivals = Arrivals::new(&root);
        let told =
            |arrivals: &Arrivals, longest| arrivals.watch.as_ref().map(|watch| is_told(watch, longest));
        assert_eq!(told(&arrivals, SHORT), None, "nobody can tell yet");
        let first = root.create("one").unwrap();
        assert!(arrivals.wait(FAR), "a look now and then");
        assert_eq!(told(&arrivals, SHORT), Some(false));
        let _second = root.create("two").unwrap();
        assert_eq!(told(&arrivals, FAR), Some(true));
        assert_eq!(told(&arrivals, SHORT), Some(false));
        first.discard(&root).unwrap();
        assert_eq!(told(&arrivals, FAR), Some(true), "its remains have another name");
        std::fs::remove_dir_all(root.pods()).unwrap();
        let _third = root.create("three").unwrap();
        while !arrivals.wait(FAR) {}
        let _fourth = root.create("four").unwrap();
        assert_eq!(told(&arrivals, FAR), Some(true), "it is another directory");
    }
}

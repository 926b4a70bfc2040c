//! [`Silent`]: a socket that takes connections and never says a word. What is sent to it is not even read.
//!
//! The kernel completes a connection without anybody accepting it, so that there is nothing to run.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The listening socket.
pub struct Silent {
    path: PathBuf,
    listener: UnixListener,
}

impl Silent {
    /// Listens in `dir`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let path = dir.join("silent");
        let listener = UnixListener::bind(&path).expect("a socket in the test's folder");
        Self { path, listener }
    }

    /// For `DBUS_SYSTEM_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.path.display())
    }

    /// How many have connected; they find a closed socket after this.
    ///
    /// # Panics
    /// Never, but when the kernel refuses what it always grants.
    #[must_use]
    pub fn finish(self) -> usize {
        self.listener.set_nonblocking(true).expect("a socket can be non-blocking");
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

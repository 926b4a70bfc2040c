//! What every test stands on: an own place for its pods, processes with deadlines, proof that nothing is left.

mod driver;
mod groups;
mod lab;
mod process;
pub mod require;
pub mod sys;
pub mod text;
mod turn;
mod wait;

pub use driver::{below_systemd, name as driver_name};
pub use lab::Lab;
pub use process::{Ended, Running, copy_program, spawn};
pub use text::{app, pod};
pub use wait::{far, runs, slowness, wait_until};

use std::path::PathBuf;

/// Where `podrun`, `podrun-stage1` and `podrun-probe` lie: what `PODRUN_BIN_DIR` says, else where cargo built this
/// test's own package.
pub fn bin_dir() -> PathBuf {
    let built =
        || PathBuf::from(env!("CARGO_BIN_EXE_podrun")).parent().expect("a file has a parent").to_owned();
    let dir = std::env::var_os("PODRUN_BIN_DIR").map_or_else(built, PathBuf::from);
    for name in ["podrun", "podrun-stage1", "podrun-probe"] {
        let path = dir.join(name);
        assert!(path.exists(), "`{}` is missing; build it with `cargo build --workspace`", path.display());
    }
    dir
}

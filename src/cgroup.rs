//! Control groups: which hierarchies there are, which files carry a limit, and the groups of a pod.
//!
//! Two questions are kept apart. The *driver* makes the pod's group and removes it ([`cgroupfs`], [`remove`]); the
//! *hierarchy* says where the files are ([`hierarchy`]). [`limits`] is pure: from isolators to file writes.
//! Every value that is written is read back; a difference is an error. Nothing here knows a manifest key's
//! text form or a process's life.

pub mod cgroupfs;
pub mod change;
pub mod cpuset;
pub mod devices;
pub mod events;
mod files;
pub mod hierarchy;
pub mod limits;
pub mod place;
pub mod plan;
pub mod pressure;
pub mod remove;
pub mod stats;
pub mod update;

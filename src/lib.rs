//! The launcher of podrun as a library, so that tests, benches and fuzz targets reach its parts.
//!
//! The way of the data: [`manifest`] → [`spec`] → [`plan`] (with what [`host`] saw) → [`launch`] → [`monitor`].

pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod error;
pub mod host;
pub mod launch;
pub mod manifest;
pub mod monitor;
pub mod output;
pub mod passwd;
pub mod plan;
pub mod pod;
pub mod sockets;
pub mod spec;
pub mod sys;
pub mod systemd;
pub mod value;

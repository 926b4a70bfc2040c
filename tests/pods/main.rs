//! Black-box tests: pods run for real, by the built binaries, with the probe inside.
//!
//! One behaviour each, named `thing_condition_result`; the number of a case in its doc comment. Every test has a
//! [`harness::Lab`] of its own, which fails the test when anything of its pods is left on the host.
//! One program for all of them: it links once, and its tests share the turn-taking of [`harness::turn`].
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;

mod bad_input;
mod below_systemd;
mod budgets;
mod commands;
mod completion;
mod confinement;
mod cpu_shares;
mod detached;
mod devices;
mod doctor;
mod enforcement;
mod events;
mod examples;
mod exec_errors;
mod foreground;
mod identity;
mod isolators;
mod journal;
mod json;
mod lifecycle;
mod limits;
mod look;
mod machine;
mod memory;
mod notify;
mod oom;
mod orphans;
mod pause;
mod root;
mod service;
mod shipped;
mod slice_cpus;
mod sockets;
mod storms;
mod sudden_death;
mod systemd;
mod systemd_fails;
mod terminal;
mod unified;
mod update;
mod wished;

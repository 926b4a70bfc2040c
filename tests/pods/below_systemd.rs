//! What the driver must make no difference to: tests of other modules, once more below a real systemd. CASES 2, 3, 5, 6,
//! 15, 16, 18, 19, 33.

use crate::harness::below_systemd;
use crate::{bad_input, lifecycle, limits, memory, orphans, root};

/// CASES 2.
#[test]
fn cpus_of_an_app_keep_their_ratio() {
    below_systemd(limits::cpus_of_an_app_keep_their_ratio);
}

/// CASES 3.
#[test]
fn few_thousandths_of_a_cpu_keep_their_ratio() {
    below_systemd(limits::few_thousandths_of_a_cpu_keep_their_ratio);
}

/// CASES 5.
#[test]
fn hog_is_killed_at_its_own_limit_while_its_sibling_lives() {
    below_systemd(memory::hog_is_killed_at_its_own_limit_while_its_sibling_lives);
}

/// CASES 6.
#[test]
fn cgroup_tree_refuses_every_write() {
    below_systemd(root::cgroup_tree_refuses_every_write);
}

/// CASES 15.
#[test]
fn end_of_the_only_app_is_the_exit_code() {
    below_systemd(lifecycle::end_of_the_only_app_is_the_exit_code);
}

/// CASES 16.
#[test]
fn first_essential_app_that_fails_decides() {
    below_systemd(lifecycle::first_essential_app_that_fails_decides);
}

/// CASES 18.
#[test]
fn app_and_50_children_that_ignore_sigterm_are_dead_within_2_s() {
    below_systemd(lifecycle::app_and_50_children_that_ignore_sigterm_are_dead_within_2_s);
}

/// CASES 19.
#[test]
fn daemons_of_an_app_end_with_its_main_process() {
    below_systemd(orphans::daemons_of_an_app_end_with_its_main_process);
}

/// CASES 33.
#[test]
fn limit_that_v1_does_not_have_is_refused_by_name() {
    below_systemd(limits::limit_that_v1_does_not_have_is_refused_by_name);
}

/// CASES 33.
#[test]
fn missing_controller_is_named_with_where_it_was_looked_for() {
    below_systemd(bad_input::missing_controller_is_named_with_where_it_was_looked_for);
}

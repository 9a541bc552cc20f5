//! A scenario of a stranger: what its programs can reach of the machine, and of whoever runs it.

macro_rules! needs_root {
    () => {
        if let Some(skipped) = crate::files::needs_root() {
            return skipped;
        }
    };
}

#[path = "safety/bounds.rs"]
mod bounds;
#[path = "safety/files.rs"]
mod files;
#[path = "safety/groups.rs"]
mod groups;
#[path = "safety/handles.rs"]
mod handles;
#[path = "safety/hung.rs"]
mod hung;
#[path = "safety/reach.rs"]
mod reach;
mod support;

use support::tests;

fn main() {
    support::main(tests![
        reach::the_callers_environment_is_in_no_process_of_a_node,
        reach::an_ordinary_users_environment_is_in_no_process_either,
        reach::a_node_has_no_network_but_its_own_loopback,
        reach::a_runtime_is_copied_and_never_the_machines_own,
        hung::a_daemon_stuck_in_the_kernel_leaves_nothing,
        hung::a_consumer_whose_look_is_stuck_sees_the_next_mount,
        hung::looks_at_a_hung_mount_leave_one_process_behind,
        hung::killed_with_a_stuck_daemon_it_leaves_nothing,
        hung::clean_frees_a_kept_node_with_a_stuck_daemon,
        groups::a_killed_run_leaves_no_control_group,
        groups::clean_finds_and_removes_control_groups,
        reach::root_of_a_node_reaches_nothing_of_the_machine,
        reach::a_node_with_a_runtime_has_given_up_the_machines_capabilities,
        reach::a_program_in_a_container_has_its_capabilities_and_no_more,
        reach::calls_that_no_node_needs_are_as_if_there_were_none,
        handles::files_are_opened_by_their_handles_only_for_a_transport_that_is_named,
        reach::an_ordinary_user_beside_a_run_of_root_gains_nothing,
        bounds::what_a_program_prints_without_end_is_counted_and_left_out,
        bounds::whatever_is_sent_takes_little_memory,
        bounds::a_daemon_may_print_more_than_a_pipe_holds,
        bounds::a_daemon_that_never_stops_printing_is_watched_all_the_same,
        bounds::at_the_limit_of_processes_nothing_is_said_of_the_mount,
        bounds::without_descriptors_it_says_so
    ]);
}

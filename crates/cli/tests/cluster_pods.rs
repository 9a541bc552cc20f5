//! What is carried out in pods of a real cluster, and what is printed for it: that of `KUBECONFIG`, whose nodes the ssh
//! configuration of `PROPAGATION_SSH_CONFIG` knows by their names. Without one every test is skipped, and counted.

#[path = "cluster/carried_out.rs"]
mod carried_out;
#[path = "cluster/compared.rs"]
mod compared;
#[path = "cluster/directory.rs"]
mod directory;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "cluster/printed.rs"]
mod printed;
mod support;

use support::tests;

fn main() {
    support::main(tests![
        directory::a_clean_up_that_fails_is_told_of_its_scenario,
        printed::a_native_sidecar_is_a_producer,
        carried_out::daemons_and_programs_of_the_node_run_in_pods,
        carried_out::a_daemon_stuck_in_the_kernel_leaves_nothing_on_a_node,
        carried_out::programs_of_a_named_image_run_in_pods,
        carried_out::a_program_that_the_node_has_not_is_a_skip,
        carried_out::volumes_are_read_only_as_asked,
        carried_out::processes_of_the_node_are_workloads,
        carried_out::pods_with_user_namespaces_receive_mounts_and_send_none,
        carried_out::faults_of_answers_and_supervisors_are_carried_out,
        carried_out::a_mount_is_handed_over_to_the_next_container,
        compared::transports_are_compared_in_pods,
        compared::transports_are_compared_through_a_host_pod,
        compared::a_transport_that_does_not_stand_in_pods_is_left_out,
        compared::an_interrupted_comparison_is_shown_and_removed,
        compared::what_a_killed_comparison_leaves_is_removed,
        compared::a_comparison_ends_when_a_server_hangs,
        compared::two_comparisons_on_a_node_leave_each_other_alone,
        carried_out::scenarios_run_on_several_nodes,
        carried_out::doctor_looks_at_every_node,
        printed::the_commands_of_a_report_work_as_printed,
        printed::the_probe_of_a_report_can_be_applied_as_printed,
        printed::an_image_volume_brings_the_probe,
        printed::the_report_comes_before_the_clean_up,
        printed::a_clean_up_in_the_background_leaves_nothing
    ]);
}

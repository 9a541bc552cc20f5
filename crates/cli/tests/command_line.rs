//! The command line as its users see it: exit statuses, formats, bad input.

#[path = "command_line/beside.rs"]
mod beside;
#[path = "command_line/refused.rs"]
mod refused;
#[path = "command_line/runs.rs"]
mod runs;
mod support;
#[path = "command_line/transports.rs"]
mod transports;
#[path = "command_line/written.rs"]
mod written;

use support::tests;

fn main() {
    support::main(tests![
        runs::five_phases_give_full_success,
        written::json_is_a_report_that_renders_again,
        written::a_report_directory_gets_both_files,
        written::reports_and_logs_are_for_their_user_alone,
        written::a_relative_state_directory_is_ignored,
        written::variables_of_daemons_are_in_no_report_unless_asked_for,
        runs::partial_success_is_3_and_names_the_intervention,
        runs::a_private_covering_mount_is_5_with_the_fix,
        runs::a_stopped_daemon_is_a_hang_and_ends,
        runs::a_probe_of_the_producer_ends_a_stopped_daemon,
        runs::a_clean_unmount_is_told_from_a_crash,
        refused::bad_bridges_are_2_with_the_fix,
        runs::odd_bridges_work,
        refused::a_misspelt_flag_gets_a_suggestion,
        refused::values_that_cannot_be_meant_are_2,
        runs::a_file_that_is_skipped_is_counted_as_skipped_everywhere,
        runs::kept_nodes_are_named_for_several_files_and_with_q,
        beside::every_help_has_an_example,
        refused::clean_has_no_options_of_runs,
        beside::the_schema_is_json,
        beside::completions_for_every_shell,
        refused::a_damaged_report_is_2,
        refused::input_that_has_no_end_is_2,
        written::what_a_step_is_called_cannot_reach_the_terminal,
        refused::an_unwritable_report_directory_is_2_before_anything_runs,
        written::a_full_log_disk_is_a_warning,
        written::a_closed_pipe_is_not_an_error,
        beside::doctor_reads_this_host,
        beside::probe_tells_states_apart,
        written::no_color_without_a_terminal,
        runs::the_five_phases_run_with_any_daemon,
        transports::the_five_phases_run_over_smb_by_rclone,
        transports::the_five_phases_run_over_smb_by_smbnetfs,
        transports::the_five_phases_run_over_fuse_that_smbd_serves_again,
        transports::what_a_transport_lacks_is_said_before_anything_runs,
        refused::a_comparison_takes_one_node
    ]);
}

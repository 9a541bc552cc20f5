//! Reports as other programs take them: a browser, a reader of JUnit XML, Graphviz.

#[path = "reports/again.rs"]
mod again;
#[path = "reports/formats.rs"]
mod formats;
#[path = "reports/page.rs"]
mod page;
mod support;

use support::tests;

fn main() {
    support::main(tests![
        formats::every_format_is_written_and_printed,
        formats::trouble_ends_on_one_screen,
        formats::the_printed_probe_runs_in_an_image_without_this_program,
        formats::junit_is_accepted_by_its_schema,
        formats::graphviz_draws_the_graph,
        again::the_command_in_a_report_does_the_same_again,
        again::the_plan_in_a_report_does_the_same_again,
        again::many_scenarios_get_an_index,
        page::a_page_says_everything_and_asks_for_nothing,
        page::a_page_is_readable_light_dark_and_on_paper,
        page::a_page_is_used_by_keyboard,
        page::a_hostile_report_runs_nothing,
        page::ten_thousand_consumers_open
    ]);
}

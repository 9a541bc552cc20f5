//! Environment, logs, the command, the clean-up.

use maud::{Markup, html};

use super::{block, shown};
use crate::accounting::{self, Accounting, Row};
use crate::reproduce;
use crate::words::{duration, first_lines};
use propagation_model::facts::{FuseDevice, HostFacts, PathState};
use propagation_model::report::Report;

/// What the workloads logged, each to unfold.
pub(super) fn logs(report: &Report) -> Option<Markup> {
    let (first, left_out) = first_lines(&report.logs);
    (!first.is_empty()).then(|| {
        html! {
            @for log in first {
                details {
                    summary { (shown(&log.workload)) " (" (log.lines.len()) " lines)" }
                    (block(&log.lines))
                }
            }
            @if left_out > 0 { p class="note" { (left_out) " more logs are in report.json." } }
        }
    })
}

/// What there is after every step, and what grows.
pub(super) fn accounting(report: &Report) -> Option<Markup> {
    let accounting = Accounting::of(report);
    (!accounting.rows.is_empty()).then(|| {
        html! {
            @for growth in &accounting.growth {
                p class="failed" { (shown(&growth.to_string())) }
            }
            div class="scroll" tabindex="0" role="region" aria-label="mounts after every step" {
                table {
                    caption { "What there is after every step; a dash where it was not counted" }
                    thead { tr { @for name in accounting::COLUMNS { th scope="col" { (name) } } } }
                    tbody {
                        @for [step, cells @ ..] in accounting.rows.iter().map(Row::cells) {
                            tr {
                                th scope="row" { (shown(&step)) }
                                @for cell in cells { td { (shown(&cell)) } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Facts of the node as a table.
pub(super) fn environment(report: &Report) -> Option<Markup> {
    let facts = report.environment.as_ref()?;
    Some(html! {
        div class="scroll" tabindex="0" role="region" aria-label="facts of the node" {
            table {
                caption { "The node, read without changing anything" }
                tbody {
                    @for (name, value) in rows(facts) {
                        tr { th scope="row" { (name) } td { (shown(&value)) } }
                    }
                }
            }
        }
    })
}

/// The facts in words.
pub(crate) fn rows(facts: &HostFacts) -> Vec<(&'static str, String)> {
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
    let device = match &facts.fuse_device {
        FuseDevice::Usable => "usable".into(),
        FuseDevice::Unusable { errno } => format!("not usable: {errno}"),
    };
    let bridge = match &facts.bridge {
        PathState::Directory => "a directory".into(),
        PathState::Missing => "nothing, before the run".into(),
        PathState::Other { what } => what.clone(),
        PathState::Error { errno } => format!("cannot be looked at: {errno}"),
    };
    let conf = &facts.fuse_conf;
    let conf = match (conf.exists, conf.user_allow_other) {
        (false, _) => format!("{}: not there", conf.path),
        (true, true) => format!("{}: user_allow_other", conf.path),
        (true, false) => format!("{}: without user_allow_other", conf.path),
    };
    let covering = facts.covering_mount.as_ref();
    let lsm = if facts.lsm.is_empty() { "none readable".into() } else { facts.lsm.join(", ") };
    vec![
        ("Host", facts.hostname.clone()),
        ("Kernel", format!("{} {}", facts.kernel_release, facts.architecture)),
        ("Runtime", or_none(&facts.runtime)),
        ("Kubelet", or_none(&facts.kubelet)),
        ("/dev/fuse", device),
        ("fusermount3", or_none(&facts.fusermount3)),
        ("fuse.conf", conf),
        ("Bridge", bridge),
        ("Mount that covers the bridge", covering.map_or("none".into(), ToString::to_string)),
        ("Security modules", lsm),
        ("Control groups", facts.cgroup.clone()),
        ("User namespace of an ordinary user", yes_no(facts.user_namespace)),
        ("Mount events through fanotify", yes_no(facts.fanotify_mount_events)),
    ]
}

/// The command that does the same again.
pub(super) fn reproduce(report: &Report) -> Markup {
    html! {
        (block(&reproduce::commands(report)))
        p { "This report again, from report.json:" }
        (block(&["propagation report report.json --format html > report.html".to_owned()]))
    }
}

/// What was undone and what could not be.
pub(super) fn cleanup(report: &Report) -> Markup {
    let cleanup = &report.cleanup;
    html! {
        p { "Took " (duration(cleanup.duration_ms)) "." }
        @for (title, lines, class) in [
            ("Could not be undone", &cleanup.could_not, "failed"),
            ("Kept on purpose", &cleanup.kept, "skipped"),
            ("Undone", &cleanup.undone, "passed"),
        ] {
            @if !lines.is_empty() {
                h3 class=(class) { (title) }
                (block(lines))
            }
        }
    }
}

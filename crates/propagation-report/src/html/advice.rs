//! What the experiments have shown.

use maud::{Markup, html};

use super::{block, shown};
use crate::advice::Advised;
use propagation_model::report::{Experiment, Report};

/// One cause, one change, and all that was tried; nothing where nothing was.
pub(super) fn section(report: &Report) -> Option<Markup> {
    let advice = Advised::of(report)?;
    Some(html! {
        @if let Some(cause) = advice.cause {
            p { strong { "Cause: " } (shown(&cause.title)) " (" (shown(&cause.standing())) ")" }
        }
        p { strong { (shown(advice.head)) } }
        @if !advice.text.is_empty() {
            (block(&advice.text.lines().map(str::to_owned).collect::<Vec<_>>()))
        }
        (list("Also for good", &advice.for_good))
        (list("To bring it back this minute", &advice.now))
        p class="note" { (shown(&advice.count)) }
        @if !advice.in_vain.is_empty() {
            details {
                summary { "What does not heal, or was not tried" }
                div class="inside" { ul { @for one in &advice.in_vain { (item(one)) } } }
            }
        }
    })
}

fn list(title: &str, experiments: &[&Experiment]) -> Markup {
    html! {
        @if !experiments.is_empty() {
            h3 { (title) }
            ul { @for one in experiments { (item(one)) } }
        }
    }
}

fn item(experiment: &Experiment) -> Markup {
    let side_effects = experiment.tried().map_or(&[][..], |tried| &tried.side_effects);
    html! {
        li {
            (shown(&experiment.words)) ": " (shown(&experiment.outcome())) ". Costs "
            (experiment.cost.as_str()) "."
            @for effect in side_effects { " " (shown(&effect.to_string())) "." }
        }
    }
}

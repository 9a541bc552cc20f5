//! What accesses gave while a server was dead, a line of signs for each transport.

use std::fmt::Write;

use propagation_model::comparison::{Comparison, Gave, Span};

use super::figures::time;

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

/// Columns of a timeline.
const LINE: usize = 58;

/// The timelines, each line after a margin; nothing where no server was killed.
pub(super) fn write(out: &mut String, comparison: &Comparison, margin: &str) {
    let deaths: Vec<_> = comparison
        .measured()
        .filter_map(|one| Some((one.transport, one.death.as_ref()?)))
        .collect();
    let ends = deaths.iter().flat_map(|(_, death)| death.fresh.iter().chain(&death.held));
    let (mut from, mut until) = (0.0_f64, 0.0_f64);
    for span in ends {
        (from, until) = (from.min(span.from_ms), until.max(span.until_ms));
    }
    if deaths.is_empty() || until <= from {
        return;
    }
    for (transport, death) in deaths {
        let _ =
            writeln!(out, "{margin}{:18} {}", transport.as_str(), bar(&death.fresh, from, until));
        let _ = writeln!(out, "{margin}{:18} {}", "  open before", bar(&death.held, from, until));
    }
    let at = ((-from / (until - from)) * LINE as f64) as usize;
    let _ = writeln!(out, "{margin}{:18} {:at$}^ killed, 0 of {}", "", "", time(until));
    let _ = writeln!(out, "{margin}= ok  ~ slow  x error  ? no answer\n");
}

/// What accesses gave, a sign for each part of the time: the worst that happened in it.
fn bar(spans: &[Span], from: f64, until: f64) -> String {
    let step = (until - from) / LINE as f64;
    let sign = |index: usize| {
        let (left, right) = (from + step * index as f64, from + step * (index + 1) as f64);
        let within = spans.iter().filter(|span| span.from_ms < right && span.until_ms >= left);
        let rank = |span: &Span| match span.gave {
            Gave::Ok => (1, '='),
            Gave::Slow => (2, '~'),
            Gave::Errno(_) => (3, 'x'),
            Gave::Hang => (4, '?'),
        };
        within.map(rank).max().map_or(' ', |(_, sign)| sign)
    };
    (0..LINE).map(sign).collect()
}

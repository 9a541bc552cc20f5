//! Figures as all renderings show them.

use propagation_model::comparison::{Comparison, Death, Healing, Measure, Metric, Ratio, Tendency};

use crate::words::one_line;

/// A value in three significant digits, whole where it is larger, in two where it is below a hundredth.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        size if size >= 0.001 => format!("{value:.4}"),
        size if size >= 0.000_05 => format!("{value:.5}"),
        _ => "0".into(),
    }
}

/// A power of ten of nanoseconds, as an axis has it.
pub(super) fn power(exponent: i32) -> String {
    let unit = match exponent {
        ..3 => "ns",
        3..6 => "µs",
        6..9 => "ms",
        _ => "s",
    };
    let below = match exponent {
        ..9 => exponent.rem_euclid(3),
        _ => exponent - 9,
    };
    format!("{} {unit}", 10_u64.pow(below.unsigned_abs()))
}

/// Milliseconds in the unit that suits them.
pub(super) fn time(ms: f64) -> String {
    if ms.abs() >= 1_000.0 {
        format!("{} s", number(ms / 1e3))
    } else {
        format!("{} ms", number(ms))
    }
}

/// The median of a measure, or what came instead of one.
pub(super) fn median(measure: Option<&Measure>) -> String {
    match measure {
        None => "-".into(),
        Some(measure) => match measure.median {
            Some(median) => number(median),
            None if measure.gave_up > 0 => "no end".into(),
            None => {
                let errno = measure.failed.keys().next();
                errno.map_or_else(|| "-".into(), |errno| one_line(errno).into_owned())
            }
        },
    }
}

/// The sign of a difference: `+` better, `−` worse, `=` none shown.
pub(super) fn sign(ratio: Option<&Ratio>) -> &'static str {
    match ratio.map(Ratio::tendency) {
        None => " ",
        Some(Tendency::Better) => "+",
        Some(Tendency::Worse) => "−",
        Some(Tendency::NoDifference) => "=",
    }
}

/// A ratio with its interval: `0.44 (0.42 to 0.46)`.
pub(super) fn interval(ratio: &Ratio) -> String {
    format!("{} ({} to {})", number(ratio.median), number(ratio.low), number(ratio.high))
}

/// How many rounds there were.
pub(super) fn rounds(comparison: &Comparison) -> String {
    match comparison.rounds {
        1 => "1 round".into(),
        many => format!("{many} rounds"),
    }
}

/// The metrics that were measured, in order.
pub(super) fn metrics(comparison: &Comparison) -> Vec<Metric> {
    let measured =
        |metric: &Metric| comparison.measured().any(|one| one.measure(*metric).is_some());
    Metric::ALL.into_iter().filter(measured).collect()
}

/// How often players had to wait, and how much failed, over all work of a transport: what medians hide.
pub(super) fn trouble(measures: &[Measure]) -> Vec<String> {
    let mut lines = Vec::new();
    for measure in measures {
        let title = measure.metric.title();
        if measure.stalls > 0 {
            lines.push(format!("{title}: {} stalls", measure.stalls));
        }
        for (errno, count) in &measure.failed {
            lines.push(format!("{title}: {count} × {}", one_line(errno)));
        }
        if measure.gave_up > 0 {
            lines.push(format!("{title}: did not end {} times", measure.gave_up));
        }
    }
    lines
}

/// What the death of a server did, in one sentence.
pub(super) fn death(death: &Death) -> String {
    let mut parts = Vec::new();
    match (&death.first_error, death.hangs, death.longest_ms >= 100.0) {
        (Some((after, errno)), ..) => parts.push(format!(
            "{} {} after the kill, {} {} failed",
            one_line(errno),
            time(*after),
            death.failed,
            if death.failed == 1 { "access" } else { "accesses" }
        )),
        (None, true, _) => parts.push("hangs".to_owned()),
        (None, false, true) => parts.push("no error".to_owned()),
        (None, false, false) => parts.push("nothing to be seen".to_owned()),
    }
    if death.longest_ms >= 100.0 {
        parts.push(format!("longest wait {}", time(death.longest_ms)));
    }
    parts.push(match (death.healed_ms, death.back_ms) {
        (_, None) => "its server did not come back".into(),
        (None, Some(_)) => "not healed as long as it was watched".into(),
        (Some(healed), Some(_)) if healed <= 0.0 => "new opens were never interrupted".into(),
        (Some(healed), Some(_)) => {
            let since = time((healed - death.restarted_ms).max(0.0));
            match death.healing {
                Healing::Reconnect => format!("healed {since} after the restart, same mount"),
                Healing::NewMount => format!("healed {since} after the restart, by the new mount"),
                Healing::Nothing => "not healed".into(),
            }
        }
    });
    parts.push(match death.held_healed_ms {
        Some(_) => "files that were open go on".into(),
        None => "files that were open stay broken".into(),
    });
    parts.join("; ")
}

/// Processor time of client and server for as much work as is usual to say: a GiB, or a thousand operations.
pub(super) fn cpu(measure: &Measure) -> Option<(f64, f64, &'static str)> {
    const GIB: f64 = 1_073_741_824.0;
    let (amount, unit) = match measure.metric {
        Metric::SequentialRate | Metric::WriteRate => (measure.bytes as f64 / GIB, "a GiB"),
        _ => (measure.operations as f64 / 1e3, "1,000 operations"),
    };
    (amount > 0.0).then(|| (measure.client.cpu_ms / amount, measure.server.cpu_ms / amount, unit))
}

/// A byte count in MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", number(bytes as f64 / 1_048_576.0))
}

/// That no difference can be shown, where there were too few rounds for it.
pub(super) fn too_few(comparison: &Comparison) -> Option<String> {
    let least = Ratio::LEAST_ROUNDS;
    (comparison.rounds < least)
        .then(|| format!("With fewer than {least} rounds no difference is called one."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_their_digits() {
        let shown = [0.000_61, 0.0042, 0.0147, 0.146, 1.467, 14.67, 1467.4, 0.0].map(number);
        assert_eq!(shown, ["0.00061", "0.0042", "0.015", "0.146", "1.47", "14.7", "1467", "0"]);
    }

    #[test]
    fn an_axis_names_its_powers_in_whole_numbers() {
        let shown = [0, 2, 3, 5, 6, 8, 9, 10].map(power);
        assert_eq!(shown, ["1 ns", "100 ns", "1 µs", "100 µs", "1 ms", "100 ms", "1 s", "10 s"]);
    }
}

//! Renderings of an invented comparison.

use std::collections::BTreeMap;

use propagation_model::comparison::*;
use propagation_model::report::Cleanup;

use super::*;
use crate::text::Detail;

fn measure(metric: Metric, median: f64, ratio: Option<(f64, f64, f64)>) -> Measure {
    Measure {
        samples: vec![Some(median); 5],
        median: Some(median),
        range: Some((median * 0.9, median * 1.2)),
        against_native: ratio.map(|(median, low, high)| Ratio { median, low, high, rounds: 5 }),
        latencies: vec![(1_000, 90), (20_000, 9), (9_000_000, 1)],
        operations: 100,
        bytes: 64 << 20,
        client: Resources { cpu_ms: 10.0, kernel_ms: 8.0, switches: 40, peak_bytes: 1 << 20 },
        server: Resources { cpu_ms: 30.0, kernel_ms: 20.0, switches: 80, peak_bytes: 8 << 20 },
        ..Measure::of(metric)
    }
}

fn span(from_ms: f64, until_ms: f64, gave: &str) -> Span {
    Span { from_ms, until_ms, gave: gave.to_owned().into(), operations: 9 }
}

fn death(gave: &str, healing: Healing) -> Death {
    Death {
        killed: "mirror".into(),
        restarted_ms: 700.0,
        back_ms: Some(720.0),
        fresh: vec![span(-500.0, 0.0, "ok"), span(3.0, 719.0, gave), span(722.0, 2_500.0, "ok")],
        held: vec![span(-500.0, 0.0, "ok"), span(3.0, 2_500.0, gave)],
        first_error: Some((3.2, gave.into())),
        longest_ms: 1.0,
        failed: 140,
        hangs: false,
        healed_ms: Some(722.0),
        held_healed_ms: None,
        healing,
    }
}

fn result(transport: Transport, measures: Vec<Measure>, death: Option<Death>) -> TransportResult {
    let how = vec![format!("program-of {transport}")];
    TransportResult { transport, how, skipped: None, ready_ms: Some(31.0), measures, death }
}

/// Native, FUSE, and an SMB that is slower in one thing and not told apart in another.
fn comparison() -> Comparison {
    use Metric::{Open, SequentialRate};
    let of = |transport, rate, open, ratio, death| {
        let measures = vec![measure(SequentialRate, rate, ratio), measure(Open, open, ratio)];
        result(transport, measures, death)
    };
    let skip = Skip {
        kind: SkipKind::KernelLacks,
        reason: "this kernel does not have cifs".into(),
        fix: None,
    };
    let fuse = death("ENOTCONN", Healing::NewMount);
    let smb = Death { longest_ms: 1_200.0, ..death("EIO", Healing::Reconnect) };
    let versus = |metric, median, low, high| Versus {
        transport: Transport::Fuse,
        against: Transport::SmbRclone,
        metric,
        ratio: Ratio { median, low, high, rounds: 5 },
    };
    Comparison {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.1.0".into(),
        run_id: "run".into(),
        started_at: "2026-11-26T17:00:00Z".into(),
        duration_ms: 41_000.0,
        seed: 1,
        rounds: 5,
        quick: false,
        cut_short: false,
        machine: Machine {
            kernel_release: "6.18.44".into(),
            architecture: "x86_64".into(),
            processors: 2,
            engine: "crun".into(),
        },
        data_set: DataSet {
            media_bytes: 64 << 20,
            entries: 10_000,
            entry_bytes: 4_096,
            medium: "the node's memory (tmpfs)".into(),
        },
        cold: "mounted anew".into(),
        transports: vec![
            of(Transport::Native, 4_000.0, 6.0, None, None),
            of(Transport::Fuse, 1_500.0, 90.0, Some((0.4, 0.38, 0.41)), Some(fuse)),
            of(Transport::SmbRclone, 300.0, 95.0, Some((0.1, 0.08, 1.2)), Some(smb)),
            TransportResult { skipped: Some(skip), ..result(Transport::SmbCifs, Vec::new(), None) },
        ],
        noise: vec![Versus {
            transport: Transport::Native,
            against: Transport::Native,
            ..versus(Open, 1.01, 0.95, 1.08)
        }],
        decision: vec![versus(SequentialRate, 5.0, 4.8, 5.3), versus(Open, 1.05, 0.9, 1.2)],
        cleanup: Cleanup::default(),
    }
}

#[test]
fn the_text_fits_a_terminal_and_holds_the_answer() {
    for detail in [Detail::Brief, Detail::Normal, Detail::Full] {
        let text = text(&comparison(), detail);
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{text}");
        assert!(text.contains("smb-cifs left out: this kernel does not have cifs"), "{text}");
    }
    insta::assert_snapshot!(text(&comparison(), Detail::Normal));
}

#[test]
fn many_transports_are_several_tables() {
    let mut comparison = comparison();
    let fuse = comparison.transports[1].clone();
    let more = [
        Transport::FusePassthrough,
        Transport::Daemon,
        Transport::SmbSmbnetfs,
        Transport::FuseSmbRclone,
    ];
    for transport in more {
        comparison.transports.push(TransportResult { transport, ..fuse.clone() });
    }
    let text = text(&comparison, Detail::Normal);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let ends = |part: &str| text.lines().any(|line| line.ends_with(part));
    assert!(text.contains("fuse-pass") && ends("  smb-  fuse-smb-"), "{text}");
    assert!(ends("  smbnetfs     rclone"), "{text}");
}

#[test]
fn what_lies_in_the_noise_is_not_ranked() {
    let answer = Answer::of(&comparison());
    assert_eq!(
        answer.speed,
        [
            "fuse against smb-rclone: better by sequential read 5.00×; no difference shown in 4 KiB open."
        ]
    );
    let mut without = comparison();
    without.decision.clear();
    assert!(Answer::of(&without).speed[0].contains("nothing can be said"));
}

#[test]
fn a_death_is_told_with_what_heals_it() {
    let answer = Answer::of(&comparison());
    assert_eq!(
        answer.death[0],
        "fuse: ENOTCONN 3.20 ms after the kill, 140 accesses failed; healed 22.0 ms after the restart, \
         by the new mount; files that were open stay broken."
    );
    assert!(answer.death[1].contains("longest wait 1.20 s"), "{:?}", answer.death);
    assert!(answer.death[1].contains("same mount"), "{:?}", answer.death);
}

#[test]
fn the_kernels_clients_are_told_with_what_they_cost() {
    let mut comparison = comparison();
    let smb = comparison.transports[2].clone();
    for transport in [Transport::Nfs, Transport::FuseSmbCifs] {
        comparison.transports.push(TransportResult { transport, ..smb.clone() });
    }
    let trade = Answer::of(&comparison).trade;
    let has = |part: &str| trade.iter().any(|line| line.contains(part));
    assert!(has("With NFS (nfs) its client connects again"), "{trade:?}");
    assert!(has("clients name. An access waited up to 1.20 s: a hard mount"), "{trade:?}");
    assert!(has("(noserverino), so that it can heal") && has("hard links"), "{trade:?}");
    for one in &mut comparison.transports {
        if let Some(death) = &mut one.death {
            (death.healed_ms, death.healing) = (None, Healing::Nothing);
        }
    }
    let trade = Answer::of(&comparison).trade.join(" ");
    assert!(trade.contains("had not healed as long as it was watched"), "{trade}");
    assert!(!trade.contains("outlives"), "{trade}");
    // Neither is told where it was not measured.
    let trade = Answer::of(&self::comparison()).trade.join(" ");
    assert!(!trade.contains("NFS") && !trade.contains("noserverino"), "{trade}");
}

#[test]
fn how_each_transport_ends_is_a_row_in_every_form() {
    let comparison = comparison();
    let row = "smb-rclone         no, EIO           for 1.20 s yes, 22.0 ms after the restart";
    assert!(text(&comparison, Detail::Normal).contains(row));
    let mut aborted = comparison.clone();
    let death = aborted.transports[1].death.as_mut().expect("a death");
    death.first_error = Some((3.2, "ECONNABORTED".into()));
    // The longest cell leaves the next one in its column.
    let row = "fuse               yes, ECONNABORTED no         no, by a new mount, 22.0 ms";
    assert!(text(&aborted, Detail::Normal).contains(row));
    let row = "| smb-rclone | no, EIO | for 1.20 s | yes, 22.0 ms after the restart |";
    assert!(markdown(&comparison).contains(row));
    let row = "<td>yes, ENOTCONN</td><td>no</td><td>no, by a new mount, 22.0 ms</td>";
    assert!(html(&comparison).contains(row));
}

#[test]
fn a_dead_server_that_hangs_is_not_said_to_give_an_error() {
    let trade = |first_error: Option<(f64, String)>, hangs| {
        let mut comparison = comparison();
        let death = comparison.transports[1].death.as_mut().expect("a death");
        (death.first_error, death.hangs) = (first_error, hangs);
        Answer::of(&comparison).trade.remove(0)
    };
    let errno = || Some((3.2, "ENOTCONN".to_owned()));
    assert!(trade(errno(), false).contains("a dead server is said at once (ENOTCONN)"));
    assert!(trade(errno(), true).contains("accesses hang too"));
    let hangs = trade(None, true);
    assert!(hangs.contains("accesses hang") && !hangs.contains("at once"), "{hangs}");
    assert!(trade(None, false).contains("no access failed"));
}

#[test]
fn nothing_of_a_comparison_becomes_markup() {
    let mut comparison = comparison();
    let hostile = "<script>alert(1)</script> | ` \u{1b}[2J";
    comparison.machine.kernel_release = hostile.into();
    comparison.transports[1].how = vec![hostile.into()];
    comparison.transports[3].skipped.as_mut().expect("skipped").reason = hostile.into();
    comparison.transports[1].measures[0].failed = BTreeMap::from([(hostile.into(), 3)]);
    let death = comparison.transports[1].death.as_mut().expect("a death");
    death.fresh[1].gave = hostile.to_owned().into();
    death.first_error = Some((1.0, hostile.into()));
    let page = html(&comparison);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
    let markdown = markdown(&comparison);
    assert!(!markdown.contains("\n<script") && !markdown.contains('\u{1b}'), "{markdown}");
    assert!(!text(&comparison, Detail::Full).contains('\u{1b}'));
}

#[test]
fn the_page_has_bars_curves_and_timelines() {
    let page = html(&comparison());
    for part in ["class=\"bars\"", "class=\"curve t-fuse\"", "class=\"gave error\"", "4000"] {
        assert!(page.contains(part), "{part}");
    }
    let document = markdown(&comparison());
    assert!(document.contains("```text\nfuse  "), "{document}");
    assert!(document.contains("^ killed, 0 of "), "{document}");
}

#[test]
fn a_comparison_of_nothing_is_rendered_too() {
    let mut comparison = comparison();
    comparison.transports.clear();
    (comparison.noise, comparison.decision) = (Vec::new(), Vec::new());
    comparison.cut_short = true;
    assert!(text(&comparison, Detail::Full).contains("cut short"));
    assert!(html(&comparison).contains("No server was killed"));
    assert!(markdown(&comparison).starts_with("# Transports"));
}

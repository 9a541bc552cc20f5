//! The answer that a decision between FUSE and SMB needs, from the figures alone.

use propagation_model::comparison::{Comparison, Metric, Tendency, Transport, Versus};

use super::figures::{cpu, death, interval, mib, number, time};

/// The answer of the figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// FUSE against SMB, one sentence for each FUSE transport.
    pub speed: Vec<String>,
    /// What happens when the server dies, one sentence for each transport.
    pub death: Vec<String>,
    /// What it costs.
    pub cost: Vec<String>,
    /// What each of the two gives up.
    pub trade: Vec<String>,
    /// The difference by chance: between two visits to the same transport.
    pub noise: String,
}

impl Answer {
    /// Of a comparison.
    pub fn of(comparison: &Comparison) -> Self {
        Self {
            speed: speed(comparison),
            death: comparison
                .measured()
                .filter_map(|one| {
                    Some(format!("{}: {}.", one.transport, death(one.death.as_ref()?)))
                })
                .collect(),
            cost: cost(comparison),
            trade: trade(comparison),
            noise: noise(comparison),
        }
    }
}

fn speed(comparison: &Comparison) -> Vec<String> {
    let fuse = comparison.measured().filter(|one| one.transport.is_fuse());
    let of = |transport: Transport| {
        let pairs: Vec<&Versus> =
            comparison.decision.iter().filter(|pair| pair.transport == transport).collect();
        let against = pairs.first()?.against;
        let list = |tendency: Tendency, words: fn(&Versus) -> String| {
            let found = pairs.iter().filter(|pair| pair.ratio.tendency() == tendency);
            found.map(|pair| words(pair)).collect::<Vec<_>>().join(", ")
        };
        let better = list(Tendency::Better, |pair| {
            format!("{} {}×", said(pair.metric), number(pair.ratio.median))
        });
        let worse = list(Tendency::Worse, |pair| {
            format!("{} {}×", said(pair.metric), number(1.0 / pair.ratio.median))
        });
        let same = list(Tendency::NoDifference, |pair| said(pair.metric));
        let mut sentence = format!("{transport} against {against}:");
        for (words, found) in
            [("better by", better), ("worse by", worse), ("no difference shown in", same)]
        {
            if !found.is_empty() {
                sentence.push_str(&format!(" {words} {found};"));
            }
        }
        Some(format!("{}.", sentence.trim_end_matches(';')))
    };
    let lines: Vec<String> = fuse.filter_map(|one| of(one.transport)).collect();
    match lines.is_empty() {
        true => vec![
            "FUSE and SMB were not both measured: nothing can be said of one against the other."
                .into(),
        ],
        false => lines,
    }
}

/// A metric's title for a sentence, in which a comma separates metrics: "64 KiB seek" for "seek, 64 KiB".
fn said(metric: Metric) -> String {
    match metric.title().split_once(", ") {
        Some((what, which)) => format!("{which} {what}"),
        None => metric.title().to_owned(),
    }
}

fn cost(comparison: &Comparison) -> Vec<String> {
    let line = |metric: Metric| {
        let parts: Vec<String> = comparison
            .measured()
            .filter_map(|one| {
                let (client, server, _) = cpu(one.measure(metric)?)?;
                let total = time(client + server);
                let share = if server > 0.0 {
                    format!(" ({} of it its programs)", time(server))
                } else {
                    String::new()
                };
                Some(format!("{} {total}{share}", one.transport))
            })
            .collect();
        let unit = comparison.measured().find_map(|one| Some(cpu(one.measure(metric)?)?.2))?;
        Some(format!("Processor time for {unit} of {}: {}.", said(metric), parts.join(", ")))
    };
    let mut lines: Vec<String> =
        [Metric::SequentialRate, Metric::Open].into_iter().filter_map(line).collect();
    let memory = comparison.measured().filter_map(|one| {
        let peak = one.measures.iter().map(|measure| measure.server.peak_bytes).max()?;
        (peak > 0).then(|| format!("{} {}", one.transport, mib(peak)))
    });
    let memory = memory.collect::<Vec<_>>().join(", ");
    if !memory.is_empty() {
        lines.push(format!("Memory of its programs at the most: {memory}."));
    }
    lines
}

fn trade(comparison: &Comparison) -> Vec<String> {
    let with_death = |filter: fn(Transport) -> bool| {
        comparison
            .measured()
            .filter(move |one| filter(one.transport))
            .find_map(|one| Some((one.transport, one.death.as_ref()?)))
    };
    let mut lines = Vec::new();
    if let Some((transport, death)) = with_death(Transport::is_fuse) {
        let says = match (&death.first_error, death.hangs) {
            (Some((_, errno)), false) => format!("a dead server is said at once ({errno})"),
            (Some((_, errno)), true) => {
                format!("a dead server is said ({errno}), but accesses hang too")
            }
            (None, true) => "accesses hang once the server is dead".into(),
            (None, false) => "no access failed while the server was dead".into(),
        };
        lines.push(format!(
            "With FUSE ({transport}) {says}, and nothing heals before \
             it has mounted anew: the producer has to take off the dead mount, and consumers need \
             HostToContainer and the directory above the mountpoint as their volume."
        ));
    }
    if let Some((transport, death)) = with_death(Transport::is_smb) {
        let heals = match death.healed_ms {
            Some(_) => "its client connects again by itself and the mount stays",
            None => "its client had not connected again as long as it was watched",
        };
        let waits = match death.longest_ms >= 100.0 {
            true => format!(", after a wait of up to {}", time(death.longest_ms)),
            false => String::new(),
        };
        lines.push(format!(
            "With SMB ({transport}) {heals}{waits}; it needs a server, credentials and a network, and \
             its permissions, links and renames are SMB's."
        ));
    }
    if lines.len() == 2 {
        lines.push(
            "FUSE by propagation takes the place of server, client, credentials and of a library \
             that consumers preload (LD_PRELOAD) to mend what SMB does not do; SMB reaches other \
             machines, which a hostPath volume does not."
                .into(),
        );
    }
    if let Some((transport, death)) = with_death(|transport| transport == Transport::Nfs) {
        let heals = match (death.hangs, death.healed_ms) {
            (true, _) => "an access had not ended as long as it was watched",
            (false, None) => "accesses had not succeeded again as long as they were watched",
            (false, Some(_)) => "its client connects again by itself and the mount stays",
        };
        lines.push(format!(
            "With NFS ({transport}) {heals}; it needs a server that may open every file by its handle, and it trusts \
             the UIDs that clients name. An access waited up to {}: a hard mount waits as long as it takes.",
            time(death.longest_ms)
        ));
    }
    if comparison.measured().any(|one| one.transport == Transport::FuseSmbCifs) {
        lines.push(
            "The kernel's CIFS client of a FUSE mount that is served (fuse-smb-cifs) makes up inode numbers \
             (noserverino), so that it can heal once smbd sees the daemon's new mount: hard links look like files of \
             their own, and a file has another number after it was dropped from the client's cache."
                .into(),
        );
    }
    if let Some((transport, death)) = with_death(Transport::is_re_export) {
        let heals = match death.healed_ms {
            Some(_) => {
                "what is served heals with the new mount of the daemon, and consumers keep theirs"
            }
            None => {
                "consumers keep a mount that had not healed as long as it was watched after the daemon had mounted anew"
            }
        };
        lines.push(format!(
            "With FUSE served again ({transport}) both have to live: {heals}; it costs what both cost."
        ));
    }
    lines
}

fn noise(comparison: &Comparison) -> String {
    let widest = comparison.noise.iter().max_by(|a, b| {
        let width = |pair: &Versus| pair.ratio.high / pair.ratio.low;
        width(a).total_cmp(&width(b))
    });
    let Some(widest) = widest else { return "The noise was not measured.".into() };
    let shown =
        comparison.noise.iter().filter(|one| one.ratio.tendency() != Tendency::NoDifference);
    let wrong: Vec<String> = shown.map(|one| said(one.metric)).collect();
    let mut text = format!(
        "The native transport against itself, in the same rounds: at the widest {} in {}.",
        interval(&widest.ratio),
        said(widest.metric)
    );
    if !wrong.is_empty() {
        text.push_str(&format!(
            " It differs from itself in {}: take small differences there for chance.",
            wrong.join(", ")
        ));
    }
    text
}

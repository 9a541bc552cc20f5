//! Observations in words.

use crate::observation::Observation;
use crate::{Class, Errno};

/// Why nothing can be read as a second user.
pub(super) const NO_SECOND_USER: &str = "this node's user namespace has no second user: newuidmap and \
                              a range in /etc/subuid would give one";

/// What another user than the mounting one gets with allow_other, and without.
pub(super) fn allow_other_gives(allow_other: bool) -> Class {
    if allow_other { Class::Ok } else { Class::Errno(Errno::EACCES) }
}

/// Who saw what, as `node, consumer-early: ok; consumer-late: ENOTCONN`; names them while they are
/// few.
pub(super) fn tally(observations: &[&Observation]) -> String {
    let mut classes: Vec<(Class, Vec<String>)> = Vec::new();
    for observation in observations {
        let class = observation.outcome.class();
        let name = observation.actor.to_string();
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, names)) => names.push(name),
            None => classes.push((class, vec![name])),
        }
    }
    let words: Vec<String> = classes
        .iter()
        .map(|(class, names)| match names.len() {
            1..=4 => format!("{}: {class}", names.join(", ")),
            count => format!("{count} actors: {class}"),
        })
        .collect();
    if words.is_empty() { "nobody looked".into() } else { words.join("; ") }
}

/// The first few observations as evidence lines.
pub(super) fn evidence(observations: &[&Observation]) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut lines: Vec<String> = observations.iter().take(SHOWN).map(ToString::to_string).collect();
    if observations.len() > SHOWN {
        lines.push(format!("… and {} more in the timeline", observations.len() - SHOWN));
    }
    lines
}

//! When each actor could read the mount: the observations as one row of states for each actor.

use std::collections::HashMap;

use super::words::{MOST_LINES, duration};
use propagation_model::Errno;
use propagation_model::observation::{Actor, Observation, Outcome, Via};
use propagation_model::plan::{Repair, Role};
use propagation_model::report::{Deed, Report};

/// What an actor could do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It reads the expected generation.
    Ok,
    /// The lower directory is there, without the mount and without an error.
    Empty,
    /// The mount is dead: `ENOTCONN` or `ESTALE`.
    Stale,
    /// Another error, such as `EACCES`.
    Error,
    /// No answer within the deadline.
    Hang,
    /// Something else than the expected generation.
    Wrong,
}

impl State {
    /// All of them, in the order of a legend.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Empty, Self::Stale, Self::Error, Self::Hang, Self::Wrong];

    /// The state that an outcome shows; none when nothing could be observed.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Ok => Some(Self::Ok),
            Outcome::Absent | Outcome::Empty => Some(Self::Empty),
            Outcome::Errno { errno: Errno::ENOTCONN | Errno::ESTALE, .. } => Some(Self::Stale),
            Outcome::Errno { .. } => Some(Self::Error),
            Outcome::Hang { .. } => Some(Self::Hang),
            Outcome::WrongContent { .. } | Outcome::Lower => Some(Self::Wrong),
            Outcome::Skipped { .. } => None,
        }
    }

    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Empty => "empty",
            Self::Stale => "stale",
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Wrong => "wrong",
        }
    }

    /// What it means, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "reads the fresh marker",
            Self::Empty => "no mount there, and no error",
            Self::Stale => "dead mount: ENOTCONN or ESTALE",
            Self::Error => "another error",
            Self::Hang => "no answer within the deadline",
            Self::Wrong => "other content than that of this generation",
        }
    }
}

/// A stretch of time in which an actor was in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The state.
    pub state: State,
    /// Its first observation, in microseconds since the start of the run.
    pub from_us: u64,
    /// Until when it was so, as far as is known.
    pub until_us: u64,
    /// The last observation of the state. The actor did not look between this and `until_us`.
    pub seen_until_us: u64,
    /// What was seen, in words.
    pub words: String,
    /// How often it was seen.
    pub looks: usize,
}

/// The states of one actor, or of many that went through the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The actor; of many, the first.
    pub actor: Actor,
    /// The user it looked as, where that is not its first one.
    pub uid: Option<u32>,
    /// How many actors went through the same states in the same steps.
    pub actors: usize,
    /// In order of time; the times belong to the first actor.
    pub spans: Vec<Span>,
}

impl Row {
    /// The actor in words, with the number of actors in the row.
    pub fn label(&self) -> String {
        let mut label = self.actor.to_string();
        if let Some(uid) = self.uid {
            label.push_str(&format!(" as uid {uid}"));
        }
        if self.actors > 1 {
            label.push_str(&format!(" and {} alike", self.actors - 1));
        }
        label
    }
}

/// What happened at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MarkKind {
    /// The fault was done.
    Fault,
    /// Something was done about it: the producer was started again, a mount was bound anew.
    Repair,
    /// Every consumer reads the new generation.
    Recovery,
}

/// A moment of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
    /// What.
    pub kind: MarkKind,
    /// In words.
    pub words: String,
}

/// The rows of all actors, with what happened between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The node first, then workloads by name, then held descriptors.
    pub rows: Vec<Row>,
    /// How many rows were left out, beyond [`MOST_LINES`].
    pub rows_left_out: usize,
    /// Faults, repairs and recoveries, in order of time.
    pub marks: Vec<Mark>,
    /// The phases and when they began, in microseconds.
    pub phases: Vec<(String, u64)>,
    /// When the run ended, in microseconds.
    pub end_us: u64,
}

impl Timeline {
    /// The timeline of a report.
    pub fn of(report: &Report) -> Self {
        let phases = report.phases.iter().filter(|phase| phase.duration_ms > 0.0);
        let phases: Vec<_> =
            phases.map(|phase| (phase.id.clone(), microseconds(phase.started_ms))).collect();
        let last = report.timeline.iter().map(|observation| observation.at_us).max();
        let end_us = microseconds(report.duration_ms).max(last.unwrap_or_default());
        let mut rows = rows(&report.timeline, end_us);
        let rows_left_out = rows.len().saturating_sub(MOST_LINES);
        rows.truncate(MOST_LINES);
        Self { rows, rows_left_out, marks: marks(report), phases, end_us }
    }

    /// The states that occur.
    pub fn states(&self) -> Vec<State> {
        let occurs =
            |state: &State| self.rows.iter().any(|r| r.spans.iter().any(|s| s.state == *state));
        State::ALL.into_iter().filter(occurs).collect()
    }
}

fn microseconds(ms: f64) -> u64 {
    // Saturates, as `as` does for floats.
    (ms * 1e3).round() as u64
}

/// An actor looking as one user.
type Viewer<'a> = (&'a Actor, u32);

fn rows(observations: &[Observation], end_us: u64) -> Vec<Row> {
    let mut order: Vec<Viewer<'_>> = Vec::new();
    let mut seen: HashMap<Viewer<'_>, Vec<&Observation>> = HashMap::new();
    for observation in observations.iter().filter(|observation| is_of_mount(observation)) {
        let viewer = (&observation.actor, observation.uid);
        seen.entry(viewer)
            .or_insert_with(|| {
                order.push(viewer);
                Vec::new()
            })
            .push(observation);
    }
    let mut first_uid: HashMap<&Actor, u32> = HashMap::new();
    for &(actor, uid) in &order {
        first_uid.entry(actor).or_insert(uid);
    }
    let mut rows: Vec<Row> = Vec::new();
    /// A row: the actor's name, and its states with their words.
    type Shown<'a> = (String, Vec<(&'a str, State)>);
    let mut alike: HashMap<Shown<'_>, usize> = HashMap::new();
    for viewer @ (actor, uid) in order {
        let looks = &seen[&viewer];
        let other_uid = (first_uid[actor] != uid).then_some(uid);
        let states = looks.iter().filter_map(|o| Some((o.step.as_str(), State::of(&o.outcome)?)));
        let states: Vec<_> = states.collect();
        // That another user sees the same is a check of its phase, not worth a row.
        if other_uid.is_some() {
            let first = &seen[&(actor, first_uid[actor])];
            let same = |(step, state): &(&str, State)| {
                first.iter().any(|o| o.step == *step && State::of(&o.outcome) == Some(*state))
            };
            if states.iter().all(same) {
                continue;
            }
        }
        let kind = match actor {
            Actor::Workload { name, .. } => format!("{name} {other_uid:?}"),
            other => format!("({other}) {other_uid:?}"),
        };
        match alike.get(&(kind.clone(), states.clone())) {
            Some(&row) => rows[row].actors += 1,
            None => {
                alike.insert((kind, states), rows.len());
                let spans = spans(looks, end_us);
                rows.push(Row { actor: actor.clone(), uid: other_uid, actors: 1, spans });
            }
        }
    }
    let kind = |actor: &Actor| match actor {
        Actor::Node | Actor::Runtime => 0,
        Actor::Workload { .. } => 1,
        Actor::HeldDescriptor { .. } => 2,
    };
    // Who was observed first differs from run to run.
    rows.sort_by(|a, b| (kind(&a.actor), &a.actor, a.uid).cmp(&(kind(&b.actor), &b.actor, b.uid)));
    rows
}

/// Whether it is of the FUSE mount. A successful look always names the mount it went through,
/// unless it was at the plain file beside the mountpoint.
fn is_of_mount(observation: &Observation) -> bool {
    let plain = observation.outcome.is_ok()
        && observation.mount.is_none()
        && observation.via == Via::Probe
        && !matches!(observation.actor, Actor::HeldDescriptor { .. });
    !plain && State::of(&observation.outcome).is_some()
}

fn spans(looks: &[&Observation], end_us: u64) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut generation = None;
    for look in looks {
        let Some(state) = State::of(&look.outcome) else { continue };
        // A hang began when the access did; everything else is known from its end on.
        let from_us = match state {
            State::Hang => look.at_us.saturating_sub(look.took_us),
            _ => look.at_us,
        };
        if let Some(last) = spans.last_mut() {
            if last.state == state && (state != State::Ok || generation == look.generation) {
                last.seen_until_us = look.at_us;
                last.until_us = look.at_us;
                last.looks += 1;
                continue;
            }
            last.until_us = from_us.max(last.seen_until_us);
            // A program that watches notices a change at once; for a probe it may be long past.
            if look.via == Via::Watch {
                last.seen_until_us = last.until_us;
            }
        }
        generation = look.generation;
        let words = match look.generation {
            Some(number) if state == State::Ok => format!("generation {number}"),
            _ => look.outcome.to_string(),
        };
        spans.push(Span {
            state,
            from_us,
            until_us: look.at_us,
            seen_until_us: look.at_us,
            words,
            looks: 1,
        });
    }
    if let Some(last) = spans.last_mut() {
        last.until_us = end_us.max(last.until_us);
    }
    spans
}

/// From what was done, as it was recorded, and from the measured time of a recovery.
fn marks(report: &Report) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut restart_us = None;
    let serves =
        |name: &String| report.plan.workload(name).is_some_and(|spec| spec.role == Role::Producer);
    for act in &report.acts {
        let (kind, at_us, words) = match &act.deed {
            Deed::Fault { .. } => {
                restart_us = None;
                (MarkKind::Fault, act.from_us, act.deed.to_string())
            }
            Deed::Repair { repair: Repair::Wait } => continue,
            Deed::Repair { .. } => (MarkKind::Repair, act.from_us, act.deed.to_string()),
            Deed::Restart { .. } if act.on.iter().all(serves) => {
                restart_us = Some(act.from_us);
                (MarkKind::Repair, act.from_us, "the producer starts again".to_owned())
            }
            Deed::Restart { .. } => {
                (MarkKind::Repair, act.from_us, format!("{} {}", act.deed, act.on.join(", ")))
            }
            Deed::Start | Deed::Stop | Deed::Publish | Deed::Unpublish | Deed::Run { .. } => {
                continue;
            }
        };
        marks.push(Mark { at_us, kind, words });
    }
    if let Some((from_us, ms)) = restart_us.zip(report.measurements.restart_to_recovery_ms) {
        let words = format!(
            "recovery: every consumer reads the new one, {} after the restart",
            duration(ms)
        );
        let at_us = from_us + microseconds(ms);
        marks.push(Mark { at_us, kind: MarkKind::Recovery, words });
    }
    marks.sort_by_key(|mark| mark.at_us);
    marks
}

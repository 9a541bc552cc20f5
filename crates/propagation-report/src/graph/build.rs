//! From a capture to a picture.

use std::collections::{HashMap, HashSet};

use super::{Card, CardMount, Link, LinkKind, Part, Picture, Standing};
use mountinfo::{DeviceId, MountEntry, MountGraph, MountPath, MountRef, MountTable};
use propagation_model::observation::{Actor, Observation};
use propagation_model::plan::{Plan, Role, WorkloadSpec};
use propagation_model::report::{Capture, Report};

/// One actor's view, before cards are made of it.
struct View<'a> {
    name: String,
    part: Part,
    path: MountPath,
    table: &'a MountTable,
    mounts: Vec<&'a MountEntry>,
}

impl View<'_> {
    /// What lies at the place of the FUSE mount.
    fn top(&self) -> Option<&MountEntry> {
        let top = self.mounts.last().copied()?;
        (top.mount_point == self.path).then_some(top)
    }

    fn fuse(&self) -> Option<&MountEntry> {
        self.top().filter(|mount| mount.is_served())
    }

    /// The topmost of its mounts that is not FUSE: on it a new mount would be made.
    fn volume(&self) -> Option<&MountEntry> {
        self.mounts.iter().rev().find(|mount| !mount.is_served()).copied()
    }
}

pub(super) fn build(report: &Report, capture: &Capture) -> Picture {
    let views = views(&report.plan, capture);
    let source = views.iter().find(|view| view.part == Part::Source);
    let host = views.iter().find(|view| view.part == Part::Host);
    let fresh = source.and_then(View::fuse).or_else(|| host.and_then(View::fuse));
    let fresh = fresh.map(|mount| mount.device);
    let graph = capture.graph();
    let accused: HashSet<&MountRef> =
        report.diagnosis.iter().flat_map(|cause| &cause.mounts).collect();
    let last_seen = last_seen(report, capture);

    let mut cards: Vec<Card> = Vec::new();
    let mut alike: HashMap<(Part, Vec<LooksLike<'_>>, Standing, Option<String>), usize> =
        HashMap::new();
    for view in &views {
        let seen = last_seen.get(view.name.as_str()).copied();
        let standing = standing(view, host, fresh, &graph, seen);
        let saw = seen.map(|observation| observation.outcome.to_string());
        let looks = view.mounts.iter().map(|mount| looks_like(mount)).collect();
        match alike.get(&(view.part, looks, standing.clone(), saw.clone())) {
            Some(&card) => cards[card].names.push(view.name.clone()),
            None => {
                let looks = view.mounts.iter().map(|mount| looks_like(mount)).collect();
                alike.insert((view.part, looks, standing.clone(), saw.clone()), cards.len());
                let mounts = view.mounts.iter().map(|mount| {
                    let accused = accused.contains(&MountRef::new(&view.name, mount.mount_id));
                    card_mount(mount, view.top(), accused)
                });
                cards.push(Card {
                    names: vec![view.name.clone()],
                    part: view.part,
                    mounts: mounts.collect(),
                    standing,
                    saw,
                });
            }
        }
    }
    let links = links(&cards);
    Picture { cards, links, fresh }
}

type LooksLike<'a> = (&'a MountPath, DeviceId, &'a MountPath, Option<u64>, Option<u64>);

fn looks_like(mount: &MountEntry) -> LooksLike<'_> {
    (&mount.mount_point, mount.device, &mount.root, mount.shared, mount.master)
}

fn card_mount(mount: &MountEntry, top: Option<&MountEntry>, accused: bool) -> CardMount {
    let hidden = top
        .is_some_and(|top| top.mount_point == mount.mount_point && top.mount_id != mount.mount_id);
    CardMount {
        mount_id: mount.mount_id,
        mount_point: mount.mount_point.clone(),
        device: mount.device,
        root: mount.root.clone(),
        fs_type: mount.fs_type.clone(),
        shared: mount.shared,
        master: mount.master,
        is_fuse: mount.is_served(),
        hidden,
        accused,
    }
}

/// The views of all actors, the node first.
fn views<'a>(plan: &Plan, capture: &'a Capture) -> Vec<View<'a>> {
    let host_path = MountPath::from(plan.bridge.fuse_path().as_str());
    let mut views: Vec<View<'a>> = Vec::new();
    for one in &capture.tables {
        let (part, path) = match &one.actor {
            Actor::Node | Actor::Runtime => (Part::Host, host_path.clone()),
            Actor::HeldDescriptor { .. } => continue,
            Actor::Workload { name, .. } => {
                let Some(spec) = spec_of(plan, name) else { continue };
                let part = match spec.role {
                    Role::Producer => Part::Source,
                    Role::Control => Part::Control,
                    _ => Part::Reader,
                };
                (part, MountPath::from(spec.paths(&plan.bridge).mount_point.as_str()))
            }
        };
        let name = one.actor.to_string();
        views.push(View { name, part, mounts: Vec::new(), path, table: &one.table });
    }
    views.sort_by_key(|view| view.part);
    let bridge = views.first().and_then(|host| covering_parent(host.table, &host.path));
    for view in &mut views {
        view.mounts = on_the_way(view.table, &view.path, bridge.map(|mount| mount.device));
    }
    views
}

/// The workload of that name; one that a phase added is like the first consumer.
fn spec_of<'a>(plan: &'a Plan, name: &str) -> Option<&'a WorkloadSpec> {
    plan.workloads
        .iter()
        .find(|workload| workload.name == name)
        .or_else(|| plan.with_role(Role::Consumer).next())
}

fn covering_parent<'a>(table: &'a MountTable, path: &MountPath) -> Option<&'a MountEntry> {
    let bytes = path.as_bytes();
    let slash = bytes.iter().rposition(|&byte| byte == b'/')?;
    table.covering(&MountPath::new(if slash == 0 { &b"/"[..] } else { &bytes[..slash] }))
}

/// The mounts that decide: the mount at `path`, and the mount below it if that has the bridge's filesystem or is
/// the only one.
fn on_the_way<'a>(
    table: &'a MountTable,
    path: &MountPath,
    bridge: Option<DeviceId>,
) -> Vec<&'a MountEntry> {
    let stack = table.stack_at(path);
    let below = covering_parent(table, path);
    let below = below.filter(|below| {
        stack.is_empty()
            || Some(below.device) == bridge
                && !stack.iter().any(|one| one.mount_id == below.mount_id)
    });
    below.into_iter().chain(stack).collect()
}

/// What each actor saw last when the capture was taken, by its name.
fn last_seen<'a>(report: &'a Report, capture: &Capture) -> HashMap<String, &'a Observation> {
    let mut seen = HashMap::new();
    let wanted: HashSet<&Actor> = capture.tables.iter().map(|one| &one.actor).collect();
    for observation in &report.timeline {
        if !wanted.contains(&observation.actor) {
            continue;
        }
        let name = observation.actor.to_string();
        if observation.at_us <= capture.at_us {
            seen.insert(name, observation);
        } else if observation.step == capture.step {
            // Its first look of this very step may end a little after the tables were read.
            seen.entry(name).or_insert(observation);
        }
    }
    seen
}

fn standing(
    view: &View<'_>,
    host: Option<&View<'_>>,
    fresh: Option<DeviceId>,
    graph: &MountGraph,
    seen: Option<&Observation>,
) -> Standing {
    let fuse = view.fuse();
    if view.part == Part::Control {
        return match fuse {
            Some(_) => Standing::Broken("it sees the mount and must not".into()),
            None => Standing::Good,
        };
    }
    if let Some(volume) = view.volume().filter(|v| view.part == Part::Host && v.shared.is_none()) {
        let (at, how) = (&volume.mount_point, volume.propagation());
        return Standing::Broken(format!("{at} is {how}: no mount made in a container reaches it"));
    }
    let Some(fresh) = fresh else { return Standing::Nothing };
    match fuse {
        None => Standing::Broken(why_absent(view)),
        Some(mount) if mount.device != fresh => Standing::Broken(format!(
            "it has {}, and {fresh} is served: another connection",
            mount.device
        )),
        Some(_) => match seen.filter(|seen| !seen.outcome.is_ok()) {
            // Without the mount under it, what was seen was the time before the mount came.
            Some(seen) if seen.mount.as_ref().is_some_and(|mount| mount.device == fresh) => {
                Standing::Dead(format!("its daemon does not answer: {}", seen.outcome))
            }
            _ => deaf(view, host, graph).map_or(Standing::Good, Standing::Deaf),
        },
    }
}

fn why_absent(view: &View<'_>) -> String {
    let Some(volume) = view.volume() else { return "no mount is there".into() };
    let at = &volume.mount_point;
    match (volume.shared, volume.master) {
        (None, None) => format!("{at} is private: no mount propagates to it"),
        (None, Some(master)) => {
            format!("{at} receives from group {master}, and the mount was not made in it")
        }
        (Some(group), _) => format!("{at} is in group {group}, and the mount was not made in it"),
    }
}

/// Why a new mount at the same place of the node would not reach it.
fn deaf(view: &View<'_>, host: Option<&View<'_>>, graph: &MountGraph) -> Option<String> {
    let host = host.filter(|host| host.name != view.name && view.part == Part::Reader)?;
    let from = host.volume()?;
    let directory = from.directory_of(&host.path)?;
    let from = MountRef::new(&host.name, from.mount_id);
    let hears = |mount: &MountEntry| {
        graph.would_see(&from, &directory, &MountRef::new(&view.name, mount.mount_id))
    };
    if view.volume().is_some_and(|volume| {
        volume.device == graph.mount(&from).map_or(volume.device, |m| m.device) && hears(volume)
    }) {
        return None;
    }
    Some(match view.volume().filter(|volume| volume.shared.or(volume.master).is_none()) {
        Some(volume) => {
            format!("{} is private: the next mount will not reach it", volume.mount_point)
        }
        None => {
            "its volume is the mountpoint itself: the next mount is made on the directory above, \
                 and will not reach it"
                .into()
        }
    })
}

fn links(cards: &[Card]) -> Vec<Link> {
    let mounts = || {
        cards.iter().enumerate().flat_map(|(card, one)| {
            one.mounts.iter().enumerate().map(move |(place, mount)| ((card, place), mount))
        })
    };
    // The node's mounts come first, so that they are the hubs.
    let mut hubs: HashMap<u64, (usize, usize)> = HashMap::new();
    for (place, mount) in mounts() {
        if let Some(group) = mount.shared {
            hubs.entry(group).or_insert(place);
        }
    }
    let mut links = Vec::new();
    for (to, mount) in mounts() {
        if let Some((group, &from)) =
            mount.shared.and_then(|group| Some((group, hubs.get(&group)?)))
            && from.0 != to.0
        {
            links.push(Link { from, to, kind: LinkKind::Peers(group) });
        }
        if let Some((group, &from)) =
            mount.master.and_then(|group| Some((group, hubs.get(&group)?)))
            && from.0 != to.0
        {
            links.push(Link { from, to, kind: LinkKind::Slave(group) });
        }
    }
    links.extend(cards.iter().enumerate().filter_map(|(place, card)| broken(cards, place, card)));
    links
}

/// The link that should be and is not.
fn broken(cards: &[Card], place: usize, card: &Card) -> Option<Link> {
    let is_broken = matches!(card.standing, Standing::Broken(_)) && card.part != Part::Control;
    if !is_broken {
        return None;
    }
    // What the node lacks it should have from the producer, everybody else from the node.
    let sender = if card.part == Part::Host { Part::Source } else { Part::Host };
    let from = cards.iter().position(|other| other.part == sender)?;
    let last = |card: &Card| card.mounts.len().checked_sub(1);
    Some(Link {
        from: (from, last(&cards[from])?),
        to: (place, last(card)?),
        kind: LinkKind::Broken,
    })
    .filter(|_| from != place)
}

//! Answers the question: if a mount is made here, which namespaces see it there, and if none does, why?

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mountinfo::{MountEntry, MountGraph, MountPath, MountPropagation, MountRef};

/// Whether a mount made in one namespace shows in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    /// The namespace in which the mount is made.
    pub from: String,
    /// Where in it.
    pub path: MountPath,
    /// The namespace that is asked about.
    pub to: String,
    /// The mount that covers `path`: it decides where the new mount propagates.
    pub covering: MountEntry,
    /// Where the mount shows in `to`, in order; empty when it does not.
    pub seen_at: Vec<MountPath>,
    /// The link at which it stops, when it does not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// A mount and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// The mount.
    #[serde(flatten)]
    pub mount: MountRef,
    /// Its mount point, in its own namespace.
    pub mount_point: MountPath,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.mount, self.mount_point)
    }
}

/// The link at which a mount stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum Broken {
    /// The covering mount sends nothing: it is private, or a slave only.
    Source {
        /// The covering mount.
        at: Place,
    },
    /// The other namespace has no mount of the filesystem that the covering mount shows.
    NoCopy,
    /// It has mounts of that filesystem, and none of them shows the directory.
    OutsideRoot {
        /// The one that comes nearest.
        at: Place,
    },
    /// Its mount of the directory is private: `None`.
    Private {
        /// That mount.
        at: Place,
    },
    /// The covering mount is a slave of its mount: mounts propagate from it, never to it. This is the
    /// case between a runtime in a slave mount namespace and its node, and across the boundary of a
    /// user namespace.
    Upstream {
        /// The mount that the covering mount is a slave of.
        at: Place,
    },
    /// Its mount of the directory belongs to another peer group, unrelated to that of the covering
    /// mount.
    OtherGroup {
        /// That mount.
        at: Place,
    },
    /// The copy is made, but another mount hides it.
    Hidden {
        /// The mount that hides it; none when that is another copy of the new mount itself.
        at: Option<Place>,
    },
}

/// Whether a mount made at `path` in the namespace `from` shows in the namespace `to`. None when
/// the graph has no such namespaces, or nothing covers the path.
///
/// The paths are as in [`MountTable`](crate::mountinfo::MountTable): absolute, without `..` and
/// symbolic links.
///
/// ```
/// use propagation_core::diagnosis::visibility;
/// use propagation_core::mountinfo::{MountGraph, MountTable};
///
/// let node = MountTable::parse(b"27 1 0:46 / /bridge rw shared:2 - tmpfs tmpfs rw\n")?;
/// let consumer = MountTable::parse(b"71 70 0:46 / /data rw - tmpfs tmpfs rw\n")?;
/// let graph = MountGraph::build([("node".into(), node), ("consumer".into(), consumer)]);
/// let answer = visibility(&graph, "node", &"/bridge/dfs".into(), "consumer").expect("both known");
/// assert!(answer.seen_at.is_empty());
/// assert!(answer.to_string().contains("consumer:71 at /data is private"));
/// # Ok::<(), propagation_core::mountinfo::ParseError>(())
/// ```
pub fn visibility(
    graph: &MountGraph,
    from: &str,
    path: &MountPath,
    to: &str,
) -> Option<Explanation> {
    ask(graph, from, graph.table(from)?.covering(path)?, path, to)
}

/// As [`visibility`], for a mount that exists already and is not seen: the mount below it is examined.
pub(super) fn visibility_of_existing(
    graph: &MountGraph,
    from: &str,
    path: &MountPath,
    to: &str,
) -> Option<Explanation> {
    let table = graph.table(from)?;
    let bottom = table.stack_at(path).into_iter().find(|mount| mount.is_served())?;
    ask(graph, from, table.by_id(bottom.parent_id)?, path, to)
}

fn ask(
    graph: &MountGraph,
    from: &str,
    covering: &MountEntry,
    path: &MountPath,
    to: &str,
) -> Option<Explanation> {
    let target = graph.table(to)?;
    let directory = covering.directory_of(path)?;
    let source = MountRef::new(from, covering.mount_id);

    let copies: Vec<&MountEntry> = target.by_device(covering.device).collect();
    let showing: Vec<&MountEntry> =
        copies.iter().filter(|entry| directory.starts_with(&entry.root)).copied().collect();
    // The new mount itself, and every copy of it, with the mount it lies on.
    let mut made: Vec<(&MountEntry, MountPath)> = showing
        .iter()
        .filter(|entry| graph.receives(&source, &MountRef::new(to, entry.mount_id)))
        .filter_map(|entry| Some((*entry, entry.path_of(&directory)?)))
        .collect();
    if from == to {
        made.push((covering, path.clone()));
    }
    // A copy is out of reach when the way to it led over another mount before, or leads over
    // another copy now.
    let reachable: Vec<&(&MountEntry, MountPath)> = made
        .iter()
        .filter(|(on, at)| target.covering(at).is_some_and(|mount| mount.mount_id == on.mount_id))
        .collect();
    let mut seen_at: Vec<MountPath> = reachable
        .iter()
        .filter(|(_, at)| !reachable.iter().any(|(_, over)| over != at && at.starts_with(over)))
        .map(|(_, at)| at.clone())
        .collect();
    seen_at.sort_unstable();
    seen_at.dedup();

    let broken = seen_at.is_empty().then(|| {
        if let Some((on, at)) = made.first() {
            let over = target.covering(at).filter(|mount| mount.mount_id != on.mount_id);
            return Broken::Hidden { at: over.map(|entry| place(to, entry)) };
        }
        if covering.shared.is_none() {
            return Broken::Source { at: place(from, covering) };
        }
        broken_at_target(graph, &source, to, &copies, &showing)
    });
    Some(Explanation {
        from: from.to_owned(),
        path: path.clone(),
        to: to.to_owned(),
        covering: covering.clone(),
        seen_at,
        broken,
    })
}

/// Why a covering mount that sends does not reach `to`.
fn broken_at_target(
    graph: &MountGraph,
    source: &MountRef,
    to: &str,
    copies: &[&MountEntry],
    showing: &[&MountEntry],
) -> Broken {
    let name = |entry: &MountEntry| MountRef::new(to, entry.mount_id);
    // The nearest is the one whose root is the longest: a volume rather than a whole filesystem.
    let nearest = |among: &[&MountEntry]| {
        among.iter().max_by_key(|entry| entry.root.as_bytes().len()).map(|entry| place(to, entry))
    };
    let Some(any) = nearest(copies) else { return Broken::NoCopy };
    let upstream: Vec<&MountEntry> =
        showing.iter().filter(|entry| graph.receives(&name(entry), source)).copied().collect();
    if let Some(at) = nearest(&upstream) {
        return Broken::Upstream { at };
    }
    let connected: Vec<&MountEntry> = showing
        .iter()
        .filter(|entry| entry.shared.is_some() || entry.master.is_some())
        .copied()
        .collect();
    if let Some(at) = nearest(&connected) {
        return Broken::OtherGroup { at };
    }
    match nearest(showing) {
        Some(at) => Broken::Private { at },
        None => Broken::OutsideRoot { at: any },
    }
}

fn place(namespace: &str, entry: &MountEntry) -> Place {
    Place {
        mount: MountRef::new(namespace, entry.mount_id),
        mount_point: entry.mount_point.clone(),
    }
}

impl Broken {
    /// The mount at which it stops, where there is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::NoCopy => None,
            Self::Hidden { at } => at.as_ref(),
            Self::Source { at }
            | Self::OutsideRoot { at }
            | Self::Private { at }
            | Self::Upstream { at }
            | Self::OtherGroup { at } => Some(at),
        }
    }
}

impl Explanation {
    /// The sentence that says why.
    fn reason(&self, broken: &Broken) -> String {
        let propagation = self.covering.propagation();
        match broken {
            Broken::Source { at } => format!(
                "{at}, which covers the path, is {propagation} and {}",
                match propagation {
                    MountPropagation::Slave => "receives mounts and sends none",
                    _ => "sends and receives nothing",
                }
            ),
            Broken::NoCopy => format!(
                "{} has no mount of the filesystem {} that covers the path",
                self.to, self.covering.device
            ),
            Broken::OutsideRoot { at } => format!(
                "the mounts of {} in {} ({at} comes nearest) do not show the directory",
                self.covering.device, self.to
            ),
            Broken::Private { at } => {
                format!("{at} is private (None): a mount made later does not reach it")
            }
            Broken::Upstream { at } => format!(
                "the covering mount {}:{} is a slave of {at}: mounts propagate down to it and \
                 never up",
                self.from, self.covering.mount_id
            ),
            Broken::OtherGroup { at } => format!(
                "{at} is in another peer group, which is not connected to the covering mount's"
            ),
            Broken::Hidden { at: Some(at) } => {
                format!("the mount arrives and {at} hides it")
            }
            Broken::Hidden { at: None } => {
                "the mount arrives and another copy of it hides it".into()
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, path, to, .. } = self;
        match &self.broken {
            None => {
                let places: Vec<String> = self.seen_at.iter().map(ToString::to_string).collect();
                write!(
                    formatter,
                    "a mount made at {path} in {from} shows in {to} at {}",
                    places.join(", ")
                )
            }
            Some(broken) => write!(
                formatter,
                "a mount made at {path} in {from} does not show in {to}: {}",
                self.reason(broken)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::MountTable;

    fn graph(views: &[(&str, &str)]) -> MountGraph {
        MountGraph::build(views.iter().map(|(label, lines)| {
            ((*label).to_owned(), MountTable::parse(lines.as_bytes()).expect("mountinfo"))
        }))
    }

    fn ask(views: &[(&str, &str)]) -> Explanation {
        visibility(&graph(views), "node", &"/b/dfs".into(), "c").expect("both are known")
    }

    const NODE: &str =
        "1 0 8:1 / / rw shared:1 - ext4 d rw\n2 1 0:46 / /b rw shared:2 - tmpfs t rw\n";

    fn node_and(consumer: &str) -> Explanation {
        ask(&[("node", NODE), ("c", &format!("7 0 0:50 / / rw - overlay o rw\n{consumer}"))])
    }

    fn at(namespace: &str, id: u64, mount_point: &str) -> Place {
        Place { mount: MountRef::new(namespace, id), mount_point: mount_point.into() }
    }

    fn volume() -> Place {
        at("c", 8, "/mnt")
    }

    #[test]
    fn a_slave_sees_it() {
        let answer = node_and("8 7 0:46 / /mnt rw master:2 - tmpfs t rw\n");
        assert_eq!((answer.seen_at, answer.broken), (vec!["/mnt/dfs".into()], None));
    }

    #[test]
    fn every_link_that_can_break_is_named() {
        for (consumer, expected) in [
            ("8 7 0:46 / /mnt rw - tmpfs t rw\n", Broken::Private { at: volume() }),
            ("8 7 0:46 /x /mnt rw master:2 - tmpfs t rw\n", Broken::OutsideRoot { at: volume() }),
            ("8 7 0:47 / /mnt rw master:2 - tmpfs t rw\n", Broken::NoCopy),
            ("8 7 0:46 / /mnt rw master:9 - tmpfs t rw\n", Broken::OtherGroup { at: volume() }),
            (
                "8 7 0:46 / /mnt rw master:2 - tmpfs t rw\n9 8 0:48 / /mnt/dfs rw - tmpfs t rw\n",
                Broken::Hidden { at: Some(at("c", 9, "/mnt/dfs")) },
            ),
        ] {
            let answer = node_and(consumer);
            assert_eq!(answer.broken, Some(expected), "{consumer}");
            assert!(answer.to_string().contains("does not show in c: "), "{answer}");
        }
    }

    #[test]
    fn a_covering_mount_that_sends_nothing_is_named_first() {
        for tags in ["", "master:9 "] {
            let node = format!("2 0 0:46 / /b rw {tags}- tmpfs t rw\n");
            let consumer = "8 7 0:46 / /mnt rw master:2 - tmpfs t rw\n";
            let answer = ask(&[("node", &node), ("c", consumer)]);
            let expected = Broken::Source { at: at("node", 2, "/b") };
            assert_eq!(answer.broken, Some(expected));
        }
    }

    #[test]
    fn a_namespace_that_only_receives_is_named() {
        let answer = ask(&[
            ("node", "2 0 0:46 / /b rw shared:5 master:2 - tmpfs t rw\n"),
            ("c", "8 0 0:46 / /mnt rw shared:2 - tmpfs t rw\n"),
        ]);
        assert_eq!(answer.broken, Some(Broken::Upstream { at: volume() }));
    }

    #[test]
    fn unknown_namespaces_have_no_answer() {
        let graph = graph(&[("node", NODE)]);
        assert_eq!(visibility(&graph, "node", &"/b".into(), "c"), None);
        assert_eq!(visibility(&graph, "c", &"/b".into(), "node"), None);
    }
}

//! What is done to the world of one experiment, drawn at random.

use proptest::prelude::*;

/// A directory that every filesystem of the world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Directory(usize);

/// The directories: a few levels, so that mounts lie below, above and beside each other.
const PATHS: [&str; 7] =
    ["/mnt", "/mnt/a", "/mnt/a/x", "/mnt/a/x/p", "/mnt/b", "/mnt/b/x", "/mnt/c"];

impl Directory {
    /// Its path, the same in every namespace.
    pub(crate) fn path(self) -> &'static str {
        PATHS[self.0]
    }

    /// All paths.
    pub(crate) fn all() -> impl Iterator<Item = &'static str> {
        PATHS.into_iter()
    }
}

/// A change of a mount's propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shared,
    Slave,
    Private,
    Unbindable,
}

/// One change of the world. One that the kernel refuses changes nothing.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// A bind mount.
    Bind { namespace: usize, from: Directory, to: Directory, recursive: bool },
    /// mount --make-...
    Propagate { namespace: usize, at: Directory, kind: Kind, recursive: bool },
    /// A new filesystem.
    Filesystem { namespace: usize, at: Directory },
    /// A lazy unmount.
    Unmount { namespace: usize, at: Directory },
    /// mount --move.
    Move { namespace: usize, from: Directory, to: Directory },
    /// A copy of a namespace, perhaps in a user namespace of its own.
    Clone { namespace: usize, user: bool },
}

/// A world and the mount that is made in it.
#[derive(Debug, Clone)]
pub(crate) struct Experiment {
    pub(crate) operations: Vec<Operation>,
    pub(crate) namespace: usize,
    pub(crate) directory: Directory,
}

/// Experiments of up to 16 operations. Numbers of namespaces count around.
pub(crate) fn experiment() -> impl Strategy<Value = Experiment> {
    (proptest::collection::vec(operation(), 1..16), 0..4_usize, directory()).prop_map(
        |(operations, namespace, directory)| Experiment { operations, namespace, directory },
    )
}

fn directory() -> impl Strategy<Value = Directory> {
    (0..PATHS.len()).prop_map(Directory)
}

fn operation() -> impl Strategy<Value = Operation> {
    let namespace = || 0..4_usize;
    let kind = prop_oneof![
        4 => Just(Kind::Shared),
        3 => Just(Kind::Slave),
        1 => Just(Kind::Private),
        1 => Just(Kind::Unbindable),
    ];
    prop_oneof![
        4 => (namespace(), directory(), directory(), any::<bool>())
            .prop_map(|(namespace, from, to, recursive)| {
                Operation::Bind { namespace, from, to, recursive }
            }),
        4 => (namespace(), directory(), kind, any::<bool>())
            .prop_map(|(namespace, at, kind, recursive)| {
                Operation::Propagate { namespace, at, kind, recursive }
            }),
        2 => (namespace(), directory())
            .prop_map(|(namespace, at)| Operation::Filesystem { namespace, at }),
        1 => (namespace(), directory())
            .prop_map(|(namespace, at)| Operation::Unmount { namespace, at }),
        1 => (namespace(), directory(), directory())
            .prop_map(|(namespace, from, to)| Operation::Move { namespace, from, to }),
        3 => (namespace(), proptest::bool::weighted(0.3))
            .prop_map(|(namespace, user)| Operation::Clone { namespace, user }),
    ]
}

//! Becoming another user.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use propagation_model::plan::User;

/// The calling process goes on as another user, for good.
pub(crate) fn become_user(user: &User) -> Result<(), Errno> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // Where setgroups(2) is denied (a user namespace without newuidmap) there are no others.
        Err(Errno::EPERM) if groups.is_empty() => {}
        result => result?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.uid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

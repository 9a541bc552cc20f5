//! What the transports of a plan's producers need of this machine.

use propagation_core::plan::{Plan, Role};
use propagation_core::protocol::transport::{Need, needs};

use crate::{filesystems, programs};

/// The first unmet need of a transport, in words; none when all are met. Whether programs may open files by their handles
/// is the word of the user who starts the run.
pub(crate) fn missing(plan: &Plan) -> Option<String> {
    let transports = plan.with_role(Role::Producer).filter_map(|spec| plan.fuse_of(spec).transport);
    transports.into_iter().find_map(|transport| {
        let unmet = needs(transport).into_iter().find_map(|need| match need {
            Need::Program(name, package) => (!programs::exists(name))
                .then(|| format!("{name} is not installed (apt-get install {package})")),
            Need::Filesystem(name) => filesystems::missing_one(name),
            Need::MachineRights if plan.node.runtime.is_builtin() => Some(
                "root of a user namespace may not mount it, and the built-in engine makes one: use an OCI runtime \
                 (`node: {runtime: {engine: crun}}`)"
                    .into(),
            ),
            Need::MachineRights | Need::FilesByHandle => None,
        });
        unmet.map(|reason| format!("{transport}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use propagation_core::comparison::Transport;

    use super::*;

    fn plan(transport: Option<Transport>) -> Plan {
        Plan::default().with(|plan| plan.fuse.transport = transport)
    }

    #[test]
    fn a_transport_is_refused_for_what_it_lacks() {
        assert_eq!(missing(&plan(None)), None);
        // Neither needs more than the agent, but the second has to be in the machine's user namespace.
        assert_eq!(missing(&plan(Some(Transport::Fuse))), None);
        let reason = missing(&plan(Some(Transport::FusePassthrough))).expect("no rights");
        assert!(reason.starts_with("fuse-passthrough: root of a user namespace"), "{reason}");
        let cifs = missing(&plan(Some(Transport::SmbCifs))).expect("neither a kernel nor rights");
        assert!(cifs.starts_with("smb-cifs: "), "{cifs}");
    }
}

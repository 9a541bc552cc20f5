//! Producers whose mount is made by a transport: a server and its client.

use std::time::Duration;

use super::problem::Problem;
use super::{Fault, FuseSpec, Plan, Stale, WorkloadSpec};
use crate::comparison::Transport;

/// The least time for consumers to recover where the mount is the client of a server: it connects again at its own pace.
/// `rclone` waits up to 2 s between two tries and has up to ten tries of all readers before the next; the kernel tries
/// every 3 s, and a server of NFS has a grace period.
const RECONNECT: Duration = Duration::from_secs(30);

impl Plan {
    /// The transport of the first producer, if its mount is the client of a server.
    pub fn served_by(&self) -> Option<Transport> {
        let producer = self.producer()?;
        self.fuse_of(producer).transport.filter(|transport| transport.has_server())
    }

    /// A fault in words: it hits a server where that is what dies.
    pub fn words_of(&self, fault: &Fault) -> String {
        let words = fault.to_string();
        match self.served_by() {
            Some(transport) if !transport.is_re_export() => {
                words.replace("the daemon", "the server")
            }
            _ => words,
        }
    }

    /// Whether a supervisor outlives the daemon of a producer: where the workload says so, and for every transport.
    pub fn is_supervised(&self, spec: &WorkloadSpec) -> bool {
        spec.supervised || self.fuse_of(spec).transport.is_some()
    }

    /// Deadline for existing consumers to recover by themselves: what the plan says, and at least 30 s where their mount is
    /// the client of a server.
    ///
    /// ```
    /// use propagation_model::Plan;
    /// use propagation_model::comparison::Transport;
    ///
    /// let mut plan = Plan::default();
    /// assert_eq!(plan.recovery_deadline().as_secs(), 2);
    /// plan.fuse.transport = Some(Transport::SmbCifs);
    /// assert_eq!(plan.recovery_deadline().as_secs(), 30);
    /// ```
    pub fn recovery_deadline(&self) -> Duration {
        let deadline = Duration::from_millis(self.deadlines.recovery_ms);
        if self.served_by().is_some() { deadline.max(RECONNECT) } else { deadline }
    }
}

/// What contradicts a transport.
pub(super) fn transport_problem(
    at: &str,
    fuse: &FuseSpec,
    workload: &WorkloadSpec,
) -> Option<Problem> {
    let transport = fuse.transport?;
    let reason = match transport {
        Transport::Native => "native mounts nothing",
        Transport::Daemon => "daemon is any program, which `command` names",
        _ => "",
    };
    if !reason.is_empty() {
        let fix = "use smb-rclone, smb-smbnetfs, smb-cifs, nfs or another transport with a mount";
        return Some(Problem::new(format!("{at}.transport"), reason, fix));
    }
    let usual = FuseSpec::default();
    let own = [
        ("command", fuse.command != usual.command),
        ("prepare", fuse.prepare != usual.prepare),
        ("environment", fuse.environment != usual.environment),
        ("marker", fuse.marker != usual.marker),
        ("allow_other", !fuse.allow_other),
        ("read_only", fuse.read_only),
        ("stale", fuse.stale != Stale::Unmount),
    ];
    if let Some((key, _)) = own.into_iter().find(|(_, given)| *given) {
        let reason = format!("{transport} is made as `propagation compare` makes it");
        return Some(Problem::new(
            format!("{at}.{key}"),
            reason,
            format!("leave out `{key}`, or say everything in `command`"),
        ));
    }
    (workload.uid != 0).then(|| {
        let reason = format!("the server and the client of {transport} need root");
        Problem::new(format!("{at}.transport"), reason, "use uid 0 for the producer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(transport: Transport, change: impl FnOnce(&mut Plan)) -> Vec<Problem> {
        let mut plan = Plan::default();
        plan.fuse.transport = Some(transport);
        change(&mut plan);
        plan.problems()
    }

    #[test]
    fn a_transport_with_a_mount_is_a_producer() {
        for transport in Transport::ALL {
            let mounts = !matches!(transport, Transport::Native | Transport::Daemon);
            assert_eq!(with(transport, |_| {}).is_empty(), mounts, "{transport}");
        }
    }

    #[test]
    fn what_contradicts_a_transport_is_refused() {
        let refused = |change: fn(&mut Plan)| !with(Transport::SmbRclone, change).is_empty();
        assert!(refused(|plan| plan.fuse.command = vec!["bindfs".into()]));
        assert!(refused(|plan| plan.fuse.prepare = vec![vec!["true".into()]]));
        assert!(refused(|plan| plan.fuse.allow_other = false));
        assert!(refused(|plan| plan.fuse.stale = Stale::Stack));
        assert!(refused(|plan| plan.fuse.keeper = true));
        assert!(refused(|plan| plan.workloads[0].uid = 1000));
    }

    #[test]
    fn a_server_is_supervised_and_its_clients_have_time() {
        let mut plan = Plan::default();
        assert!(plan.served_by().is_none() && !plan.is_supervised(&plan.workloads[0]));
        plan.fuse.transport = Some(Transport::FusePassthrough);
        assert!(plan.served_by().is_none() && plan.is_supervised(&plan.workloads[0]));
        plan.fuse.transport = Some(Transport::Nfs);
        plan.deadlines.recovery_ms = 90_000;
        assert_eq!(plan.served_by(), Some(Transport::Nfs));
        assert_eq!(plan.words_of(&Fault::Kill), "kill (SIGKILL to the server)");
        assert_eq!(plan.recovery_deadline(), Duration::from_secs(90));
    }
}

//! The five phases over transports: SMB by userspace clients, and what others lack.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use propagation_core::diagnosis::CauseId;
use propagation_core::plan::Repair;
use propagation_core::report::{CheckId, Report, Status};

use crate::support::{PASSED, TestResult, output, scratch, skip, stderr, stdout};

/// The five phases where a server and its client are in the producer's place: the server dies, its client stays, and the
/// same mount answers once the server is back. Nothing of it is told in the words of FUSE.
fn five_phases_over(transport: &str, fs_type: &str, programs: &[&str]) -> TestResult {
    let there =
        |name: &&&str| ["/usr/sbin", "/usr/bin"].iter().any(|at| Path::new(at).join(name).exists());
    if let Some(missing) = programs.iter().find(|name| !there(name)) {
        return skip(missing, &format!("{missing} is not installed"));
    }
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--transport", transport, "--format", "json"]);
    // An access that waits for its server is a hang, and no full success.
    let code = result.status.code();
    if !matches!(code, Some(0 | 3)) {
        return Err(format!("{code:?}: {}{}", stdout(&result), stderr(&result)).into());
    }
    let report: Report = serde_json::from_slice(&result.stdout)?;
    let summary = report.verdict.summary();
    let by_itself = report.measurements.smallest_intervention == Some(Repair::Wait);
    let cause = report.diagnosis.first().map(|cause| cause.id.clone());
    let away = [CauseId::ServerAway, CauseId::NothingWrong];
    if !summary.starts_with(&format!("Propagation of {transport} works"))
        || summary.contains("FUSE propagation")
        || !by_itself
        || !cause.as_ref().is_some_and(|cause| away.contains(cause))
    {
        return Err(format!("{summary}; by itself: {by_itself}; {cause:?}").into());
    }
    let seen = report.timeline.iter().filter(|seen| seen.outcome.is_ok());
    let mounts = seen.filter_map(|seen| seen.mount.as_ref());
    let mounts: BTreeSet<_> = mounts
        .filter(|mount| mount.is_served())
        .map(|mount| (mount.device, mount.fs_type.clone()))
        .collect();
    if mounts.len() != 1 || mounts.iter().any(|(_, there)| there != fs_type) {
        return Err(format!("not one mount of {fs_type}: {mounts:?}").into());
    }
    let failed: Vec<String> = report
        .phases
        .iter()
        .flat_map(|phase| &phase.checks)
        .filter(|check| check.status == Status::Failed && check.id != CheckId::NoHang)
        .map(|check| format!("{}: {}", check.id, check.observed))
        .collect();
    if failed.is_empty() { PASSED } else { Err(failed.join("; ").into()) }
}

pub(crate) fn the_five_phases_run_over_smb_by_rclone() -> TestResult {
    five_phases_over("smb-rclone", "fuse.rclone", &["smbd", "smbpasswd", "rclone"])
}

pub(crate) fn the_five_phases_run_over_smb_by_smbnetfs() -> TestResult {
    five_phases_over("smb-smbnetfs", "fuse.smbnetfs", &["smbd", "smbpasswd", "smbnetfs"])
}

pub(crate) fn the_five_phases_run_over_fuse_that_smbd_serves_again() -> TestResult {
    five_phases_over("fuse-smb-rclone", "fuse.rclone", &["smbd", "smbpasswd", "rclone"])
}

pub(crate) fn what_a_transport_lacks_is_said_before_anything_runs() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("nfs.yaml");
    fs::write(&file, "node: {runtime: {engine: crun}}\nfuse: {transport: nfs}\n")?;
    // Where the kernel has no NFS that is said; elsewhere, that nobody has allowed what its server needs.
    let result = output(scratch.path(), &["run", "--scenario", &file.display().to_string()]);
    let said = format!("{}{}", stdout(&result), stderr(&result));
    let reasons = ["nfs: ", "files by their handles", "that needs root", "it is not installed"];
    if result.status.code() != Some(5) || !reasons.iter().any(|reason| said.contains(reason)) {
        return Err(format!("{:?}: {said}", result.status.code()).into());
    }
    PASSED
}

//! A clean-up that is left to a process in the background.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::args::cluster::ClusterOptions;
use crate::log::Log;

/// Starts the clean-up of a run in the background; what goes on, in words.
pub(crate) fn clean_in_background(options: &ClusterOptions, run: &str, log: &Log) -> String {
    let by_hand = format!("propagation clean --backend k8s --run-id {run}");
    match start_clean(options, run, log) {
        Ok(process) => format!(
            "everything, for process {process} in the background, which removes it; should that be ended before: \
             {by_hand}"
        ),
        Err(error) => {
            format!("everything: no process could be started ({error}); remove it: {by_hand}")
        }
    }
}

fn start_clean(options: &ClusterOptions, run: &str, log: &Log) -> std::io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["clean", "--backend", "k8s", "--run-id", run]);
    for (name, value) in [
        ("--kubeconfig", options.kubeconfig.as_ref().map(|path| path.as_os_str())),
        ("--context", options.context.as_ref().map(OsStr::new)),
        ("--namespace", options.namespace.as_ref().map(OsStr::new)),
        ("--ssh-config", options.ssh_config.as_ref().map(|path| path.as_os_str())),
        ("--ssh-user", options.ssh_user.as_ref().map(OsStr::new)),
        ("--ssh-domain", options.ssh_domain.as_ref().map(OsStr::new)),
    ] {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(path) = log.path() {
        let file = OpenOptions::new().append(true).open(path)?;
        command.stderr(file.try_clone()?).stdout(file);
    }
    // The signals of the terminal are not for it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(|child| child.id())
}

//! The nodes of a real cluster, over ssh.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;

use super::{expect_code, stdout};

/// Runs kubectl.
pub fn kubectl(words: &[&str]) -> io::Result<Output> {
    Command::new("kubectl").args(words).output()
}

/// Runs kubectl, which has to succeed; what it printed.
pub fn kubectl_says(words: &[&str]) -> Result<String, Failed> {
    let output = kubectl(words)?;
    expect_code(&output, 0)?;
    Ok(stdout(&output))
}

/// The names of the nodes.
pub fn names() -> Result<Vec<String>, Failed> {
    let text = kubectl_says(&["get", "nodes", "--output", "name"])?;
    Ok(text.lines().map(|line| line.trim_start_matches("node/").to_owned()).collect())
}

/// Runs a shell line on a node.
pub fn on_node(ssh_config: &Path, node: &str, line: &str) -> Result<String, Failed> {
    let ssh = Command::new("ssh").arg("-F").arg(ssh_config).args([node, line]).output()?;
    expect_code(&ssh, 0)?;
    Ok(stdout(&ssh))
}

/// Nothing of any run is in the cluster or on a node.
pub fn expect_nothing_left(ssh_config: &Path) -> Result<(), Failed> {
    let ours = "app.kubernetes.io/managed-by=propagation,propagation/run-id";
    let mut left = kubectl_says(&["get", "namespaces", "--output", "name", "--selector", ours])?;
    for node in names()? {
        let line = "ls -d /var/lib/propagation /tmp/fuse-test-* 2>/dev/null; \
                    grep fuse.propagation /proc/self/mountinfo; true";
        for found in on_node(ssh_config, &node, line)?.lines() {
            left.push_str(&format!("{node}: {found}\n"));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("left: {left}").into()) }
}

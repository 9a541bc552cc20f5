//! The options of the backend.

use std::path::PathBuf;

#[cfg(unix)]
use crate::link::ssh::SshOptions;
use crate::toleration::Toleration;
use propagation_core::report::ClusterAccess;

/// How to reach the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Over ssh if the ssh configuration has the node, otherwise through a host pod.
    #[default]
    Found,
    /// Over ssh.
    Ssh,
    /// Through a privileged pod that shares the node's process ids.
    Pod,
}

/// Options of runs on a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct K8sOptions {
    /// The kubeconfig; none uses `$KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Its context; none uses the current one.
    pub context: Option<String>,
    /// The node; none takes the first that is ready and takes ordinary pods.
    pub node: Option<String>,
    /// The namespace; none makes one for the run. An existing namespace must have this program's
    /// label.
    pub namespace: Option<String>,
    /// An image with the agent, for nodes that the agent cannot be sent to otherwise.
    pub image: Option<String>,
    /// An image with the programs that scenarios start in containers; none gives these containers the node's own
    /// programs, read-only.
    pub program_image: Option<String>,
    /// How to reach the node itself.
    pub access: Access,
    /// Options of ssh.
    #[cfg(unix)]
    pub ssh: SshOptions,
    /// Over ssh: import an image that is made of the agent, instead of putting the agent into
    /// containers of an image that the node has.
    pub import_image: bool,
    /// Taints to tolerate.
    pub tolerations: Vec<Toleration>,
    /// Put `user_allow_other` into the node's `/etc/fuse.conf` for the time of the run.
    pub apply: bool,
}

impl K8sOptions {
    /// What a repetition of the run has to know.
    pub(crate) fn access(&self, over_ssh: bool) -> ClusterAccess {
        let path = |path: &PathBuf| path.display().to_string();
        let mut access = ClusterAccess::default();
        access.over_ssh = over_ssh;
        access.kubeconfig = self.kubeconfig.as_ref().map(path);
        access.context.clone_from(&self.context);
        access.namespace.clone_from(&self.namespace);
        access.image.clone_from(&self.image);
        access.program_image.clone_from(&self.program_image);
        access.import_image = self.import_image;
        access.tolerations = self.tolerations.iter().map(taint).collect();
        access.apply = self.apply;
        #[cfg(unix)]
        {
            access.ssh_config = self.ssh.config.as_ref().map(path);
            access.ssh_user.clone_from(&self.ssh.user);
            access.ssh_domain.clone_from(&self.ssh.domain);
        }
        access
    }
}

/// A toleration as [`parse_toleration`] reads it.
fn taint(toleration: &Toleration) -> String {
    let Some(key) = &toleration.key else { return "*".into() };
    let value = toleration.value.as_ref().map(|value| format!("={value}"));
    let effect = toleration.effect.as_ref().map(|effect| format!(":{effect}"));
    format!("{key}{}{}", value.unwrap_or_default(), effect.unwrap_or_default())
}

/// A toleration as it is written: `KEY[=VALUE][:EFFECT]`, or `*` for every taint.
///
/// # Errors
/// In words, when the key is absent.
pub fn parse_toleration(text: &str) -> Result<Toleration, String> {
    if text == "*" {
        return Ok(Toleration::everything());
    }
    let (taint, effect) = match text.rsplit_once(':') {
        Some((taint, effect)) => (taint, Some(effect)),
        None => (text, None),
    };
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if let Some(effect) = effect.filter(|effect| !known.contains(effect)) {
        return Err(format!("{effect:?} is not an effect: use one of {}", known.join(", ")));
    }
    let (key, value) = match taint.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (taint, None),
    };
    if key.is_empty() {
        return Err("write KEY, KEY=VALUE, KEY=VALUE:EFFECT, or * for every taint".into());
    }
    let name = match key.split_once('/') {
        Some((prefix, name)) if is_dns_name(prefix) => name,
        Some(_) => "",
        None => key,
    };
    if name.is_empty() || !is_label_value(name) || !value.is_none_or(is_label_value) {
        return Err(format!(
            "{taint:?} is not a taint: its key and its value are words of a label"
        ));
    }
    Ok(Toleration {
        key: Some(key.into()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.into()),
        value: value.map(ToOwned::to_owned),
        effect: effect.map(ToOwned::to_owned),
    })
}

/// Whether a text can be the value of a label, as in `kubernetes.io/hostname`: at most 63 letters, digits, `-`, `_` and
/// `.`, with a letter or a digit at both ends.
pub fn is_label_value(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = text.as_bytes();
    let mut ends = bytes.first().into_iter().chain(bytes.last());
    text.len() <= 63
        && bytes.iter().all(|byte| inside(*byte))
        && ends.all(u8::is_ascii_alphanumeric)
}

/// Whether a text can be a name in DNS (RFC 1123), as the prefix of a label: labels of small letters, digits and `-`.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Whether a text can be the name of a namespace: at most 63 small letters, digits and `-`, with a letter or a digit at
/// both ends.
pub fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && is_label_value(text)
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_written_as_taints() {
        let all = parse_toleration("*").expect("every taint");
        assert_eq!((all.key, all.operator.as_deref()), (None, Some("Exists")));
        let one = parse_toleration("dedicated=media:NoSchedule").expect("a taint");
        assert_eq!(one.key.as_deref(), Some("dedicated"));
        assert_eq!(one.value.as_deref(), Some("media"));
        assert_eq!(one.effect.as_deref(), Some("NoSchedule"));
        assert!(parse_toleration("node.kubernetes.io/disk=a_b.c:NoExecute").is_ok());
        for bad in ["a b", "a=b c", "-a", "A.b/c", "/c", "a/"] {
            assert!(parse_toleration(bad).is_err(), "{bad}");
        }
        for text in ["*", "dedicated=media:NoSchedule", "spot", "spot:NoExecute"] {
            assert_eq!(taint(&parse_toleration(text).expect("a taint")), text);
        }
        let key = parse_toleration("node-role.kubernetes.io/control-plane").expect("a key");
        assert_eq!(key.operator.as_deref(), Some("Exists"));
        assert!(parse_toleration("a:Sometimes").is_err() && parse_toleration("").is_err());
    }
}

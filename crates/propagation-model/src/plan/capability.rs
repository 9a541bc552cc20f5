//! Names of the kernel's capabilities.

/// The capabilities of capabilities(7), without their prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Why a word names no capability; none for one, with its prefix or without. The fix is the second.
pub(super) fn unknown(word: &str) -> Option<(String, String)> {
    let name = word.strip_prefix("CAP_").unwrap_or(word);
    if NAMES.contains(&name) {
        return None;
    }
    let meant = crate::suggest::nearest(&name.to_uppercase(), NAMES);
    let fix = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "use a name of capabilities(7), such as SYS_ADMIN".to_owned(),
    };
    Some((format!("unknown capability {word:?}"), fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_with_their_prefix_and_without() {
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "CHECKPOINT_RESTORE"] {
            assert_eq!(unknown(name), None);
        }
        let fix = |word| unknown(word).map(|(_, fix)| fix).unwrap_or_default();
        assert_eq!(fix("sys_admin"), "did you mean SYS_ADMIN?");
        assert!(fix("FOO").contains("capabilities(7)"));
    }
}

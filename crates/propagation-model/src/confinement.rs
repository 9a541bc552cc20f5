//! Security modules that can deny FUSE mounts on a node, and what they go by.

use serde::{Deserialize, Serialize};

/// A profile or mode that can stand in the way of FUSE mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// The program that looked runs under this enforced AppArmor profile, and so do the programs that it starts.
    Own(String),
    /// An enforced AppArmor profile for containers is loaded: those of Docker, containerd, CRI-O and Podman deny
    /// every mount.
    Containers(String),
    /// An enforced AppArmor profile for fusermount3 is loaded: it lists the directories that may be mounted on.
    Helper(String),
    /// SELinux enforces its policy.
    SelinuxEnforcing,
    /// SELinux is there and denies nothing.
    SelinuxPermissive,
}

/// How the names of the profiles begin that runtimes give containers which are not privileged.
const OF_CONTAINERS: [&str; 4] =
    ["docker-default", "cri-containerd.apparmor.d", "crio-default", "containers-default-"];

impl Confinement {
    /// That of a line of `/sys/kernel/security/apparmor/profiles`; none for profiles that are not enforced or
    /// concern neither containers nor fusermount3.
    ///
    /// ```
    /// use propagation_model::confinement::Confinement;
    ///
    /// let found = Confinement::of_profile("docker-default (enforce)");
    /// assert_eq!(found, Some(Confinement::Containers("docker-default".into())));
    /// assert_eq!(Confinement::of_profile("fusermount3 (complain)"), None);
    /// ```
    pub fn of_profile(line: &str) -> Option<Self> {
        let name = line.trim().strip_suffix(" (enforce)")?;
        let program = name.rsplit('/').next().unwrap_or(name);
        match program {
            "fusermount3" | "fusermount" => Some(Self::Helper(name.to_owned())),
            _ if OF_CONTAINERS.iter().any(|prefix| name.starts_with(prefix)) => {
                Some(Self::Containers(name.to_owned()))
            }
            _ => None,
        }
    }

    /// What it means for FUSE mounts.
    pub fn words(&self) -> String {
        match self {
            Self::Own(profile) => {
                format!(
                    "this program runs under the AppArmor profile {profile}, and so does what it starts"
                )
            }
            Self::Containers(profile) => format!(
                "the AppArmor profile {profile} denies mounts in containers that are not privileged: EACCES"
            ),
            Self::Helper(profile) => format!(
                "the AppArmor profile {profile} lists where fusermount3 may mount; elsewhere it is EACCES"
            ),
            Self::SelinuxEnforcing => {
                "SELinux enforces its policy: containers may be denied mounts and FUSE files".into()
            }
            Self::SelinuxPermissive => "SELinux is permissive: it logs, and denies nothing".into(),
        }
    }

    /// How it is got out of the way; none where it is not in it.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Own(_) => Some("run it unconfined: aa-exec -p unconfined -- propagation …"),
            Self::Containers(_) => Some(
                "securityContext.appArmorProfile.type: Unconfined for the producer, or \
                 --security-opt apparmor=unconfined",
            ),
            Self::Helper(_) => Some(
                "mount fstype=fuse.* -> /YOUR/DIRECTORY/**, in /etc/apparmor.d/local/fusermount3, then \
                 apparmor_parser -r /etc/apparmor.d/fusermount3",
            ),
            Self::SelinuxEnforcing => Some(
                "securityContext.seLinuxOptions.type: spc_t for the container, or --security-opt label=disable",
            ),
            Self::SelinuxPermissive => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_known_by_their_names() {
        let of = Confinement::of_profile;
        assert_eq!(
            of("/usr/bin/fusermount3 (enforce)"),
            Some(Confinement::Helper("/usr/bin/fusermount3".into()))
        );
        assert!(matches!(
            of("cri-containerd.apparmor.d (enforce)"),
            Some(Confinement::Containers(_))
        ));
        assert!(matches!(
            of("containers-default-0.44.4 (enforce)"),
            Some(Confinement::Containers(_))
        ));
        assert_eq!(of("docker-default (unconfined)"), None);
        assert_eq!(of("/usr/sbin/ntpd (enforce)"), None);
    }
}

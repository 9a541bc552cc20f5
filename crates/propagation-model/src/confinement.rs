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
    /// SELinux denies a domain something that FUSE needs: this is the policy's answer, asked from the kernel.
    SelinuxDenies(DomainDenied),
}

/// What SELinux denies a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DomainDenied {
    /// The domain, such as `container_t`: the type in the context of a process.
    pub domain: String,
    /// Whether the program that looked is in it, and so are the programs that it starts.
    pub own: bool,
    /// What it may not, and FUSE needs.
    pub what: Vec<FuseNeed>,
    /// The boolean of the policy that by its name lets this domain use FUSE filesystems, and is off.
    pub boolean: Option<String>,
}

/// What SELinux compares with its policy before a FUSE filesystem is mounted or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FuseNeed {
    /// Opening `/dev/fuse` for reading and writing.
    Device,
    /// Mounting a filesystem of the type `fusefs_t`.
    Mount,
    /// Searching directories and reading files of the type `fusefs_t`, which all of a FUSE mount have.
    Files,
}

impl FuseNeed {
    fn words(self) -> &'static str {
        match self {
            Self::Device => "/dev/fuse",
            Self::Mount => "FUSE mounts",
            Self::Files => "the files of FUSE mounts (fusefs_t)",
        }
    }
}

impl DomainDenied {
    fn words(&self) -> String {
        let what: Vec<&str> = self.what.iter().map(|need| need.words()).collect();
        let own = if self.own { ", in which this program runs," } else { "" };
        format!("SELinux denies the domain {}{own} {}: EACCES", self.domain, what.join(", "))
    }

    /// How its processes come to read FUSE mounts: words, and a command where the policy has a boolean for it.
    pub fn fix_of_files(&self) -> (String, Option<String>) {
        match &self.boolean {
            Some(boolean) => (
                format!("switch on the boolean that lets {} use FUSE filesystems", self.domain),
                Some(format!("setsebool -P {boolean} on")),
            ),
            None => (
                format!(
                    "mount with -o context= and a label that {} may read, run its program in another domain, or \
                     add a rule to the policy",
                    self.domain
                ),
                None,
            ),
        }
    }
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
                "SELinux enforces its policy: what it denies is EACCES, and in the kernel's log"
                    .into()
            }
            Self::SelinuxPermissive => "SELinux is permissive: it logs, and denies nothing".into(),
            Self::SelinuxDenies(denied) => denied.words(),
        }
    }

    /// How it is got out of the way; none where it is not in it.
    pub fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Own(_) => "run it unconfined: aa-exec -p unconfined -- propagation …",
            Self::Containers(_) => {
                "securityContext.appArmorProfile.type: Unconfined for the producer, or \
                 --security-opt apparmor=unconfined"
            }
            Self::Helper(_) => {
                "mount fstype=fuse.* -> /YOUR/DIRECTORY/**, in /etc/apparmor.d/local/fusermount3, then \
                 apparmor_parser -r /etc/apparmor.d/fusermount3"
            }
            Self::SelinuxEnforcing => {
                "for a container that is denied: securityContext.seLinuxOptions.type: spc_t, or \
                 --security-opt label=disable"
            }
            Self::SelinuxPermissive => return None,
            Self::SelinuxDenies(denied) if denied.what == [FuseNeed::Files] => {
                let (words, command) = denied.fix_of_files();
                return Some(command.unwrap_or(words));
            }
            Self::SelinuxDenies(denied) if denied.own => {
                "run it in another domain: runcon -t unconfined_t -- propagation …"
            }
            Self::SelinuxDenies(_) => {
                "securityContext.seLinuxOptions.type: spc_t for the producer, or --security-opt label=disable"
            }
        };
        Some(fix.to_owned())
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

    #[test]
    fn a_domain_has_the_fix_for_what_it_is_denied() {
        let denied = |what: &[FuseNeed], boolean: Option<&str>| {
            let (domain, what, boolean) =
                ("httpd_t".to_owned(), what.to_vec(), boolean.map(Into::into));
            Confinement::SelinuxDenies(DomainDenied { domain, own: false, what, boolean })
        };
        let files = denied(&[FuseNeed::Files], Some("httpd_use_fusefs"));
        assert_eq!(files.fix().as_deref(), Some("setsebool -P httpd_use_fusefs on"));
        assert!(files.words().contains("httpd_t the files"), "{}", files.words());
        let without = denied(&[FuseNeed::Files], None).fix().expect("a fix");
        assert!(without.contains("context=") && !without.contains("setsebool"), "{without}");
        let mounts = denied(&[FuseNeed::Device, FuseNeed::Mount], None).fix().expect("a fix");
        assert!(mounts.contains("spc_t"), "{mounts}");
    }
}

//! What SELinux denies that FUSE needs. The kernel is asked for the answer of its policy, as it is asked for
//! `/sys/fs/selinux/access` by libselinux's security_compute_av(3).

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use propagation_model::confinement::{DomainDenied, FuseNeed};

const ROOT: &str = "/sys/fs/selinux";

/// The domain of a container that is not privileged, in Fedora's policy and in Debian's.
const OF_CONTAINERS: &str = "container_t";

/// The label of every FUSE filesystem that is mounted without one (genfscon of both policies).
const FUSE_FILES: &str = "fusefs_t";

/// What this process' own domain and that of containers are denied; nothing where SELinux is not there or does not
/// enforce. The kernel is asked once, and a simulated node before it is made: its `/sys` is read-only, and an answer
/// is read from a file that is written to.
pub(crate) fn denied() -> &'static [DomainDenied] {
    static ANSWERS: OnceLock<Vec<DomainDenied>> = OnceLock::new();
    ANSWERS.get_or_init(ask)
}

fn ask() -> Vec<DomainDenied> {
    let enforces = read("enforce").is_some_and(|mode| mode == "1");
    let Some(own) = own_context().filter(|_| enforces) else { return Vec::new() };
    let containers = own.replace_domain("system_u", "system_r", OF_CONTAINERS);
    let mut found: Vec<DomainDenied> = domain_denied(&own, true).into_iter().collect();
    if containers.domain() != own.domain() {
        found.extend(domain_denied(&containers, false));
    }
    found
}

/// What this process' own domain is denied.
pub(crate) fn denied_here() -> Option<&'static DomainDenied> {
    denied().iter().find(|one| one.own)
}

/// `user:role:type`, with `:level` where the policy has levels (selinux(8)).
struct Context(String);

impl Context {
    fn domain(&self) -> &str {
        self.0.split(':').nth(2).unwrap_or_default()
    }

    fn replace_domain(&self, user: &str, role: &str, domain: &str) -> Self {
        let level = if self.0.split(':').count() > 3 { ":s0" } else { "" };
        Self(format!("{user}:{role}:{domain}{level}"))
    }
}

fn own_context() -> Option<Context> {
    let text = fs::read_to_string("/proc/self/attr/current").ok()?;
    Some(Context(text.trim_end_matches(['\0', '\n']).to_owned()))
}

fn domain_denied(context: &Context, own: bool) -> Option<DomainDenied> {
    let files = context.replace_domain("system_u", "object_r", FUSE_FILES);
    let denies = |target: &str, class: &str, permissions: &[&str]| {
        allows(&context.0, target, class, permissions) == Some(false)
    };
    let needs = [
        (
            FuseNeed::Device,
            label("/dev/fuse")
                .is_some_and(|device| denies(&device, "chr_file", &["open", "read", "write"])),
        ),
        (FuseNeed::Mount, denies(&files.0, "filesystem", &["mount"])),
        (
            FuseNeed::Files,
            denies(&files.0, "dir", &["search"]) || denies(&files.0, "file", &["open", "read"]),
        ),
    ];
    let what: Vec<FuseNeed> =
        needs.into_iter().filter(|(_, denied)| *denied).map(|(need, _)| need).collect();
    let domain = context.domain().to_owned();
    let boolean = what.contains(&FuseNeed::Files).then(|| boolean_for(&domain)).flatten();
    (!what.is_empty()).then_some(DomainDenied { domain, own, what, boolean })
}

/// Whether the policy allows all of these permissions; none where it does not know one of the names.
fn allows(source: &str, target: &str, class: &str, permissions: &[&str]) -> Option<bool> {
    /// The domain by itself is permissive (AVD_FLAGS_PERMISSIVE).
    const PERMISSIVE: u32 = 1;
    let index = read(&format!("class/{class}/index"))?;
    let mut wanted = 0;
    for name in permissions {
        let number: u32 = read(&format!("class/{class}/perms/{name}"))?.parse().ok()?;
        wanted |= 1_u32.checked_shl(number.checked_sub(1)?)?;
    }
    let mut access = fs::OpenOptions::new().read(true).write(true).open(format!("{ROOT}/access"));
    let access = access.as_mut().ok()?;
    access.write_all(format!("{source} {target} {index}").as_bytes()).ok()?;
    let mut answer = String::new();
    access.read_to_string(&mut answer).ok()?;
    // allowed decided auditallow auditdeny seqno flags
    let words: Vec<&str> = answer.split_whitespace().collect();
    let hexadecimal = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let (allowed, flags) = (hexadecimal(0)?, hexadecimal(5).unwrap_or_default());
    Some(flags & PERMISSIVE != 0 || allowed & wanted == wanted)
}

/// The label of a file.
fn label(path: &str) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut buffer).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// The boolean that is off and by its name belongs to the domain: `httpd_use_fusefs` to `httpd_t`.
fn boolean_for(domain: &str) -> Option<String> {
    let names = fs::read_dir(format!("{ROOT}/booleans")).ok()?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut off: Vec<String> = names
        .filter(|name| belongs(name, domain))
        .filter(|name| read(&format!("booleans/{name}")).is_some_and(|now| now.starts_with('0')))
        .collect();
    off.sort();
    off.into_iter().next()
}

fn belongs(boolean: &str, domain: &str) -> bool {
    let stem = domain.strip_suffix("_t").unwrap_or(domain);
    // Containers were a kind of libvirt's guests (svirt_lxc_net_t), and their boolean is still named so.
    let of_guests = domain == OF_CONTAINERS || domain.starts_with("svirt");
    boolean.ends_with("_fusefs")
        && (boolean.strip_prefix(stem).is_some_and(|rest| rest.starts_with('_'))
            || of_guests && boolean.starts_with("virt_"))
}

fn read(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("{ROOT}/{name}")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_belong_to_domains_by_name() {
        assert!(belongs("httpd_use_fusefs", "httpd_t"));
        assert!(belongs("container_use_fusefs", "container_t"));
        assert!(belongs("virt_sandbox_use_fusefs", "container_t"));
        assert!(belongs("virt_use_fusefs", "svirt_lxc_net_t"));
        assert!(!belongs("httpd_use_fusefs", "container_t"));
        assert!(!belongs("httpd_use_nfs", "httpd_t"));
        assert!(!belongs("httpdx_use_fusefs", "httpd_t"));
    }

    #[test]
    fn a_context_keeps_whether_it_has_a_level() {
        let with = Context("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023".into());
        let other = with.replace_domain("system_u", "system_r", "container_t");
        assert_eq!(
            (with.domain(), other.0.as_str()),
            ("unconfined_t", "system_u:system_r:container_t:s0")
        );
        let without = Context("system_u:system_r:init_t".into());
        assert_eq!(without.replace_domain("a", "b", "c_t").0, "a:b:c_t");
    }
}

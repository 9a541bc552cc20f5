//! Transports: what each needs, its programs, and how they start. Comparisons and runs make them alike.

mod served;

use std::net::{Ipv4Addr, SocketAddr};

use propagation_model::comparison::Transport;

/// The agent, for programs that a process of the agent executes.
pub const AGENT: &str = "/proc/self/exe";

/// What a transport needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A program, and the package of Debian that has it.
    Program(&'static str, &'static str),
    /// A filesystem of the kernel.
    Filesystem(&'static str),
    /// Containers in the machine's own user namespace.
    MachineRights,
    /// Opening the machine's files by their handles, as servers of NFS do.
    FilesByHandle,
}

/// Where a transport is made, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// By which its processes are known.
    pub tag: &'a str,
    /// The directory that it shows.
    pub source: &'a str,
    /// Where it is mounted in the producer's container, and so for consumers.
    pub mountpoint: &'a str,
    /// A directory for files of its own.
    pub work: &'a str,
    /// A file or directory of the source that shows that it is there.
    pub shows: &'a str,
    /// Where the node mounts it, and has its files, if the node is the client of a filesystem of its kernel; otherwise
    /// the producer's container mounts that too.
    pub on_node: Option<(&'a str, &'a str)>,
    /// Where its server listens; none for an address of its own on the loopback device.
    pub server: Option<Ipv4Addr>,
    /// The command of [`Transport::Daemon`].
    pub producer_command: &'a str,
    /// Whether clients of SMB get a wrong password.
    pub wrong_credentials: bool,
    /// Whether a client that is the kernel answers from what it has cached, as clients do that are fast.
    pub cached: bool,
}

/// What a program does when it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It listens at an address.
    Listens(SocketAddr),
    /// Something new is mounted, and what it shows can be looked at.
    Mounted {
        /// Where.
        at: String,
        /// What can be looked at.
        shows: String,
    },
}

/// A program of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// By which its processes are known.
    pub tag: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it finds its configuration.
    pub home: String,
    /// Where it mounts, if it does.
    pub mountpoint: Option<String>,
    /// What shows that it is ready.
    pub ready: Ready,
    /// Where it prints.
    pub log: String,
    /// Whether it is a program of the node and not of the producer's container.
    pub on_node: bool,
}

impl Program {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self.command.as_slice() {
            [agent, program, ..] if agent == AGENT => program,
            [_, flag, script, ..] if flag == "-c" => {
                script.trim_start_matches("exec ").split_whitespace().next().unwrap_or_default()
            }
            [program, ..] => program,
            [] => "",
        }
    }

    /// As a command line.
    fn shown(&self) -> String {
        match self.command.as_slice() {
            [shell, flag, script] if shell == "/bin/sh" && flag == "-c" => {
                script.trim_start_matches("exec ").to_owned()
            }
            [agent, rest @ ..] if agent == AGENT => format!("propagation-agent {}", rest.join(" ")),
            command => command.join(" "),
        }
    }
}

/// How a transport is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The transport.
    pub transport: Transport,
    /// Its needs, what nobody can mend first.
    pub needs: Vec<Need>,
    /// A program that runs before, to its end.
    pub prepare: Option<Vec<String>>,
    /// The FUSE filesystem that the server serves again.
    pub below: Option<Program>,
    /// What serves without mounting.
    pub server: Option<Program>,
    /// What mounts.
    pub client: Option<Program>,
    /// Where consumers find what it shows.
    pub path: String,
    tag: String,
    work: String,
    shows: String,
    on_node: Option<(String, String)>,
    /// Where its server listens.
    address: Ipv4Addr,
    cached: bool,
}

impl Recipe {
    /// The recipe of a transport.
    pub fn of(transport: Transport, given: Given<'_>) -> Self {
        let Given { source, wrong_credentials, server, .. } = given;
        let on_node = given.on_node.map(|(at, files)| (at.to_owned(), files.to_owned()));
        let recipe = Self {
            transport,
            needs: Vec::new(),
            prepare: None,
            below: None,
            server: None,
            client: None,
            path: given.mountpoint.to_owned(),
            tag: given.tag.to_owned(),
            work: given.work.to_owned(),
            shows: given.shows.to_owned(),
            on_node,
            address: server.unwrap_or_else(|| loopback(transport)),
            cached: given.cached,
        };
        match transport {
            Transport::Native => Self { path: source.to_owned(), ..recipe },
            Transport::Fuse | Transport::FusePassthrough => {
                let mut command = words(&[AGENT, "mirror", source, "--mountpoint", &recipe.path]);
                let mut needs = Vec::new();
                if transport == Transport::FusePassthrough {
                    command.push("--passthrough".into());
                    needs.push(Need::MachineRights);
                }
                let client = Some(recipe.client(command));
                Self { needs, client, ..recipe }
            }
            Transport::Daemon => {
                let command = given.producer_command;
                let command = command
                    .replace("{source}", source)
                    .replace("{mountpoint}", &recipe.path)
                    .replace("{work}", &recipe.work);
                let make = words(&["mkdir", "-p", &recipe.work]);
                let command = words(&["/bin/sh", "-c", &format!("exec {command}")]);
                let client = Some(recipe.client(command));
                Self { prepare: Some(make), client, ..recipe }
            }
            Transport::SmbRclone => recipe.by_smbd(source, wrong_credentials).mounted_by_rclone(),
            Transport::SmbSmbnetfs => {
                recipe.by_smbd(source, wrong_credentials).mounted_by_smbnetfs()
            }
            Transport::SmbCifs => recipe.by_smbd(source, wrong_credentials).mounted_as_cifs(),
            Transport::Nfs => recipe.by_ganesha(source).mounted_as_nfs(),
            Transport::FuseSmbRclone => {
                let (recipe, shared) = recipe.with_fuse_below(source);
                recipe.by_smbd(&shared, wrong_credentials).mounted_by_rclone()
            }
            Transport::FuseSmbCifs => {
                let (recipe, shared) = recipe.with_fuse_below(source);
                recipe.by_smbd(&shared, wrong_credentials).mounted_as_cifs()
            }
            Transport::FuseNfs => {
                let (recipe, shared) = recipe.with_fuse_below(source);
                recipe.by_ganesha(&shared).mounted_as_nfs()
            }
        }
    }

    /// A program that mounts at a path; its content is there when what it shows can be looked at.
    fn mounting(&self, role: &str, command: Vec<String>, at: &str) -> Program {
        Program {
            tag: format!("{}.{role}", self.tag),
            command,
            home: format!("{}/home", self.work),
            mountpoint: Some(at.to_owned()),
            ready: Ready::Mounted { at: at.to_owned(), shows: format!("{at}/{}", self.shows) },
            log: format!("/tmp/{}.{role}.log", self.tag),
            on_node: false,
        }
    }

    /// The program that mounts for consumers.
    fn client(&self, command: Vec<String>) -> Program {
        self.mounting("client", command, &self.path)
    }

    /// What dies when the server is killed: the FUSE daemon of a re-export, the server where there is one, the
    /// FUSE daemon otherwise.
    pub fn victim(&self) -> Option<&Program> {
        self.below.as_ref().or(self.server.as_ref()).or(self.client.as_ref())
    }

    /// Its programs, in the order in which they start.
    pub fn programs(&self) -> impl DoubleEndedIterator<Item = &Program> {
        self.below.iter().chain(&self.server).chain(&self.client)
    }

    /// Its programs as command lines.
    pub fn how(&self) -> Vec<String> {
        self.programs().map(Program::shown).collect()
    }
}

/// What a transport needs of the machine, what nobody can mend first.
pub fn needs(transport: Transport) -> Vec<Need> {
    let given = Given {
        tag: "",
        source: "",
        mountpoint: "",
        work: "",
        shows: "",
        on_node: None,
        server: None,
        producer_command: "",
        wrong_credentials: false,
        cached: true,
    };
    Recipe::of(transport, given).needs
}

/// The address of a transport's server on the loopback device of the node: each has its own, so that all have the port
/// that clients know.
fn loopback(transport: Transport) -> Ipv4Addr {
    let number = (10..).zip(Transport::ALL).find(|(_, one)| *one == transport);
    Ipv4Addr::new(127, 0, 0, number.map_or(0, |(number, _)| number))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(transport: Transport, producer_command: &str) -> Recipe {
        Recipe::of(transport, given(producer_command))
    }

    fn given(producer_command: &str) -> Given<'_> {
        Given {
            tag: "r",
            source: "/mnt/data",
            mountpoint: "/mnt/there",
            work: "/mnt/work",
            shows: "entries",
            on_node: None,
            server: None,
            producer_command,
            wrong_credentials: false,
            cached: true,
        }
    }

    #[test]
    fn the_producers_command_gets_its_paths() {
        let command = "rclone mount {source} {mountpoint} --cache-dir {work}";
        let recipe = recipe(Transport::Daemon, command);
        assert_eq!(recipe.how(), ["rclone mount /mnt/data /mnt/there --cache-dir /mnt/work"]);
        assert_eq!(recipe.victim(), recipe.client.as_ref());
    }

    #[test]
    fn of_a_re_export_the_filesystem_below_dies() {
        let recipe = recipe(Transport::FuseSmbRclone, "");
        let names: Vec<&str> = recipe.programs().map(Program::name).collect();
        assert_eq!(names, ["mirror", "smbd", "rclone"]);
        assert_eq!(recipe.victim(), recipe.below.as_ref());
    }

    #[test]
    fn of_a_served_directory_the_server_dies_and_its_client_stays() {
        for (transport, server) in [
            (Transport::SmbRclone, "smbd"),
            (Transport::SmbSmbnetfs, "smbd"),
            (Transport::SmbCifs, "smbd"),
            (Transport::Nfs, "ganesha.nfsd"),
        ] {
            let recipe = recipe(transport, "");
            assert_eq!(recipe.victim().map(Program::name), Some(server), "{transport}");
            assert_ne!(recipe.victim(), recipe.client.as_ref(), "{transport}");
        }
    }

    #[test]
    fn only_of_a_re_export_cifs_makes_up_inode_numbers() {
        let makes_up = |transport| recipe(transport, "").how().join(" ").contains(",noserverino");
        assert!(makes_up(Transport::FuseSmbCifs));
        assert!(!makes_up(Transport::SmbCifs));
    }

    #[test]
    fn a_client_of_the_kernel_asks_its_server_each_time_where_it_has_no_cache() {
        for (transport, option) in [
            (Transport::SmbCifs, ",cache=none,"),
            (Transport::FuseSmbCifs, ",cache=none,"),
            (Transport::Nfs, ",noac,"),
            (Transport::FuseNfs, ",noac,"),
        ] {
            let asks = |cached| {
                let recipe = Recipe::of(transport, Given { cached, ..given("") });
                recipe.how().join(" ").contains(option)
            };
            assert!(asks(false) && !asks(true), "{transport}");
        }
    }

    #[test]
    fn the_kernels_clients_are_mounted_by_the_node_where_it_has_a_place_for_them() {
        let server = Some(Ipv4Addr::new(10, 42, 1, 7));
        let on_node = Some(("/run/b/smb-cifs", "/run/b/work/smb-cifs"));
        let given = Given { on_node, server, ..given("") };
        let recipe = Recipe::of(Transport::SmbCifs, given);
        let client = recipe.client.as_ref().expect("a client");
        assert!(client.on_node && client.log.starts_with("/run/b/work/smb-cifs/"), "{client:?}");
        assert_eq!(client.mountpoint.as_deref(), Some("/run/b/smb-cifs"));
        assert!(client.shown().contains("//10.42.1.7/data --type cifs"), "{}", client.shown());
        let server = recipe.server.as_ref().expect("smbd");
        let listens = Ready::Listens("10.42.1.7:445".parse().expect("an address"));
        assert!(!server.on_node && server.ready == listens, "{server:?}");
        // Consumers have the volume at its own path, and the other clients run in the producer.
        assert_eq!(recipe.path, "/mnt/there");
        let rclone = Recipe::of(Transport::SmbRclone, given);
        assert!(rclone.programs().all(|program| !program.on_node));
    }

    #[test]
    fn the_producer_mounts_at_its_mountpoint_what_the_node_does_not() {
        for transport in Transport::ALL.into_iter().filter(|one| *one != Transport::Native) {
            let recipe = recipe(transport, "");
            assert!(recipe.programs().all(|program| !program.on_node), "{transport}");
            let client = recipe.client.expect("a client");
            assert_eq!(client.mountpoint.as_deref(), Some("/mnt/there"), "{transport}");
        }
    }

    #[test]
    fn what_only_the_kernel_can_mend_is_needed_first() {
        for (transport, name) in [(Transport::SmbCifs, "cifs"), (Transport::FuseNfs, "nfs4")] {
            let needs = recipe(transport, "").needs;
            assert_eq!(needs[..2], [Need::Filesystem(name), Need::MachineRights]);
        }
        let needs = recipe(Transport::SmbRclone, "").needs;
        assert!(needs.iter().all(|need| matches!(need, Need::Program(..))), "{needs:?}");
    }

    #[test]
    fn servers_have_addresses_of_their_own() {
        let of = |transport| recipe(transport, "").server.expect("smbd").ready;
        assert_ne!(of(Transport::SmbRclone), of(Transport::SmbSmbnetfs));
    }
}

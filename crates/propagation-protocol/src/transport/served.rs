//! Transports with a server of their own: smbd or nfs-ganesha, of the directory itself or of a FUSE mount of it, and
//! their clients.

use super::{AGENT, Need, Program, Ready, Recipe, words};

/// The version of SMB that the kernel speaks with smbd.
const SMB_VERSION: &str = "3.1.1";

/// The version of NFS: a single port, no portmapper.
const NFS_VERSION: &str = "4.1";

impl Recipe {
    /// With the built-in filesystem below what is served; where the server finds it.
    pub(super) fn with_fuse_below(mut self, source: &str) -> (Self, String) {
        let at = format!("{}/below", self.work);
        let command = words(&[AGENT, "mirror", source, "--mountpoint", &at]);
        self.below = Some(self.mounting("below", command, &at));
        (self, at)
    }

    /// Served by smbd, with credentials of the run.
    pub(super) fn by_smbd(mut self, shared: &str, wrong_credentials: bool) -> Self {
        let directory = self.work.clone();
        let (script, address) = (include_str!("samba.sh"), self.address.to_string());
        let mut prepare =
            words(&["/bin/sh", "-c", script, "samba.sh", &directory, shared, &address]);
        prepare.extend(wrong_credentials.then(|| "wrong".to_owned()));
        let config = format!("{directory}/smb.conf");
        self.needs.push(Need::Program("smbd", "samba"));
        self.needs.push(Need::Program("smbpasswd", "samba-common-bin"));
        self.prepare = Some(prepare);
        let command =
            ["smbd", "--foreground", "--no-process-group", "--debug-stdout", "-s", &config];
        self.server = Some(self.listening(words(&command), 445));
        self
    }

    /// Served by nfs-ganesha.
    pub(super) fn by_ganesha(mut self, shared: &str) -> Self {
        let (directory, port) = (self.work.clone(), self.nfs_port());
        let (script, number) = (include_str!("ganesha.sh"), port.to_string());
        self.needs.push(Need::Program("ganesha.nfsd", "nfs-ganesha-vfs"));
        self.needs.push(Need::FilesByHandle);
        self.prepare =
            Some(words(&["/bin/sh", "-c", script, "ganesha.sh", &directory, shared, &number]));
        let (config, pid) =
            (format!("{directory}/ganesha.conf"), format!("{directory}/ganesha.pid"));
        let command =
            ["ganesha.nfsd", "-F", "-L", "/dev/stdout", "-f", &config, "-p", &pid, "-N", "WARN"];
        self.server = Some(self.listening(words(&command), port));
        self
    }

    /// Each server of NFS has a port of its own: nfs-ganesha listens at every address.
    fn nfs_port(&self) -> u16 {
        2049 + u16::from(self.below.is_some())
    }

    fn listening(&self, command: Vec<String>, port: u16) -> Program {
        Program {
            tag: format!("{}.server", self.tag),
            command,
            home: format!("{}/home", self.work),
            mountpoint: None,
            ready: Ready::Listens((self.address, port).into()),
            log: format!("/tmp/{}.server.log", self.tag),
            on_node: false,
        }
    }

    /// Mounted by `rclone mount`.
    pub(super) fn mounted_by_rclone(mut self) -> Self {
        let config = format!("{}/home/rclone.conf", self.work);
        let command =
            ["rclone", "--config", &config, "mount", "smb:data", &self.path, "--allow-other"];
        self.needs.push(Need::Program("rclone", "rclone"));
        self.client = Some(self.client(words(&command)));
        self
    }

    /// Mounted by smbnetfs, which shows the servers of a network; libfuse shows the one share alone.
    pub(super) fn mounted_by_smbnetfs(mut self) -> Self {
        let config = format!("config={}/home/.smb/smbnetfs.conf", self.work);
        let share = format!("modules=subdir,subdir=/{}/data", self.address);
        let command =
            ["smbnetfs", &self.path, "-f", "-o", "allow_other", "-o", &config, "-o", &share];
        self.needs.push(Need::Program("smbnetfs", "smbnetfs"));
        self.client = Some(self.client(words(&command)));
        self
    }

    /// Mounted by the kernel with CIFS. Of a FUSE mount that is served the client makes up the inode numbers: the next
    /// mount has others, and with those of the server its root would be ESTALE for good.
    pub(super) fn mounted_as_cifs(self) -> Self {
        let address = &self.address;
        let source = format!("//{address}/data");
        let mut options =
            format!("ip={address},unc=\\\\{address}\\data,user=root,vers={SMB_VERSION}");
        if self.below.is_some() {
            options.push_str(",noserverino");
        }
        if !self.cached {
            options.push_str(",cache=none,actimeo=0,nolease");
        }
        let files = self.on_node.as_ref().map_or(&self.work, |(_, files)| files);
        let secret = format!("pass={files}/home/password");
        self.mounted_by_the_kernel("cifs", &source, &options, &["--secret", &secret])
    }

    /// Mounted by the kernel with NFS; without a cache also soft, so that no process of a run waits for good.
    pub(super) fn mounted_as_nfs(self) -> Self {
        let (address, port) = (&self.address, self.nfs_port());
        let source = format!("{address}:/data");
        let mut options = format!(
            "addr={address},clientaddr=127.0.0.1,vers={NFS_VERSION},proto=tcp,port={port},sec=sys"
        );
        if !self.cached {
            options.push_str(",noac,lookupcache=none,soft,timeo=20,retrans=1");
        }
        self.mounted_by_the_kernel("nfs4", &source, &options, &[])
    }

    /// Mounted by the node at the volume's path, as by the driver of a volume, where it has a place for that: the mount
    /// propagates into the consumer. Otherwise the producer mounts it.
    fn mounted_by_the_kernel(
        mut self,
        filesystem: &'static str,
        source: &str,
        options: &str,
        secret: &[&str],
    ) -> Self {
        let at = self.on_node.as_ref().map_or(&self.path, |(at, _)| at).clone();
        let mut command = words(&[AGENT, "kernel-mount", source, "--type", filesystem]);
        command.extend(words(&["--mountpoint", &at, "--options", options]));
        command.extend(words(secret));
        // What nobody can mend is said first.
        self.needs.insert(0, Need::Filesystem(filesystem));
        self.needs.insert(1, Need::MachineRights);
        let client = self.mounting("client", command, &at);
        self.client = Some(match &self.on_node {
            Some((_, files)) => Program {
                home: format!("{files}/home"),
                log: format!("{files}/client.log"),
                on_node: true,
                ..client
            },
            None => client,
        });
        self
    }
}

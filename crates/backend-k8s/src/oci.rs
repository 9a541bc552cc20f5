//! The agent as an image: an OCI archive, made without an engine or a registry.

use std::collections::BTreeMap;

use propagation_core::{Error, ErrorKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Directories that a container wants to be there, with their modes.
const DIRECTORIES: [(&str, u32); 5] =
    [("dev/", 0o755), ("etc/", 0o755), ("mnt/", 0o755), ("proc/", 0o555), ("tmp/", 0o1777)];

/// The name of the image: complete, because a runtime completes no names in OCI archives.
pub fn image_name() -> String {
    propagation_core::probed_consumer::agent_image()
}

/// The archive of the agent that this program carries.
///
/// # Errors
/// [`ErrorKind::Environment`] when it carries none.
pub fn own_archive() -> Result<Vec<u8>, Error> {
    let architecture = crate::agent::own_architecture();
    archive(crate::agent::for_architecture(architecture)?, architecture)
}

/// The archive for `ctr images import`, `docker load`, `podman load` or `skopeo`: one layer, in it
/// the static agent and empty directories. The same agent gives the same bytes.
///
/// # Errors
/// [`ErrorKind::Internal`] when the archive cannot be built in memory.
pub fn archive(agent: &[u8], architecture: &str) -> Result<Vec<u8>, Error> {
    let failed =
        |error: std::io::Error| Error::from_source(ErrorKind::Internal, "build the image", error);
    build(agent, architecture).map_err(failed)
}

fn build(agent: &[u8], architecture: &str) -> std::io::Result<Vec<u8>> {
    let layer = layer(agent)?;
    let config = bytes(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/propagation-agent"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    }));
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    let version = env!("CARGO_PKG_VERSION");
    described["platform"] = json!({ "architecture": architecture, "os": "linux" });
    described["annotations"] = json!({
        // containerd takes the first name, others the second.
        "io.containerd.image.name": image_name(),
        "org.opencontainers.image.ref.name": version,
    });
    let index = bytes(&json!({ "schemaVersion": 2, "manifests": [described] }));
    let mut files = BTreeMap::from([
        ("index.json".to_owned(), index),
        ("oci-layout".to_owned(), bytes(&json!({ "imageLayoutVersion": "1.0.0" }))),
    ]);
    for blob in [layer, config, manifest] {
        files.insert(format!("blobs/sha256/{}", hex(&blob)), blob);
    }
    let mut archive = Builder::new(Vec::new());
    for directory in ["blobs/", "blobs/sha256/"] {
        add(&mut archive, directory, EntryType::Directory, 0o755, &[])?;
    }
    for (name, content) in &files {
        add(&mut archive, name, EntryType::Regular, 0o644, content)?;
    }
    archive.into_inner()
}

fn layer(agent: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (name, mode) in DIRECTORIES {
        add(&mut layer, name, EntryType::Directory, mode, &[])?;
    }
    add(&mut layer, "propagation-agent", EntryType::Regular, 0o755, agent)?;
    layer.into_inner()
}

/// Without a time, so that equal contents are equal archives.
fn add(
    archive: &mut Builder<Vec<u8>>,
    name: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(content))
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_agent_gives_the_same_archive_and_every_blob_is_what_it_is_called() {
        let archive = archive(b"an agent", "amd64").expect("an archive");
        assert_eq!(archive, super::archive(b"an agent", "amd64").expect("again"));
        let mut blobs = 0;
        let mut read = tar::Archive::new(archive.as_slice());
        for entry in read.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("its content");
            if let Some(called) = name.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty())
            {
                assert_eq!(called, hex(&content));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3, "layer, configuration, manifest");
    }
}

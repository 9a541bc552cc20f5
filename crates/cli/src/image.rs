//! `propagation image`: the agent as an OCI archive.

use std::fs;

use propagation_backend_k8s::oci;
use propagation_core::{Error, ErrorKind};

use crate::args::ImageOptions;
use crate::exit::Exit;
use crate::output;

pub(crate) fn main(options: &ImageOptions) -> Result<Exit, Error> {
    let archive = oci::own_archive()?;
    let path = &options.file;
    fs::write(path, &archive).map_err(|error| {
        let operation = format!("write {}", path.display());
        Error::from_source(ErrorKind::InvalidInput, operation, error)
            .with_fix("name a file that can be written")
    })?;
    let image = oci::image_name();
    output::text(&format!(
        "{}: {} bytes, image {image}\nk3s:        k3s ctr images import {0}\ncontainerd: ctr -n \
         k8s.io images import {0}\ndocker:     docker load --input {0}",
        path.display(),
        archive.len()
    ))?;
    Ok(Exit::Success)
}

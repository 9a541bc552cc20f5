//! Builds the agent as a static binary, small, in a target directory of its own that all profiles
//! share, so that it is built once however this crate is built.
//!
//! `PROPAGATION_AGENT_BINARY` names a ready one instead, for packagers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=PROPAGATION_AGENT_BINARY");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let embedded = out.join("propagation-agent");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        fs::write(&embedded, b"").expect("write an empty agent");
        return;
    }
    let binary = match env::var_os("PROPAGATION_AGENT_BINARY") {
        Some(path) => {
            // What is built here is not watched: it is newer than the run that built it.
            println!("cargo:rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build(&out),
    };
    fs::copy(&binary, &embedded).unwrap_or_else(|error| {
        panic!("copy the agent from {}: {error}", binary.display());
    });
}

fn build(out: &Path) -> PathBuf {
    // Not of when this script was compiled: checkouts may share a target directory.
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = own.parent().expect("the crates directory");
    let workspace = crates.parent().expect("the workspace");
    for source in ["agent", "mountinfo", "propagation-model", "propagation-protocol"] {
        for part in ["src", "Cargo.toml"] {
            println!("cargo:rerun-if-changed={}", crates.join(source).join(part).display());
        }
    }
    println!("cargo:rerun-if-changed={}", workspace.join("Cargo.toml").display());
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target_directory =
        out.ancestors().nth(4).expect("the target directory").join("static-agent");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--profile", "agent", "--package", "propagation-agent"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // What the outer cargo says of itself is not for the inner one: clippy's wrapper, coverage
    // flags, the job server.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC",
        "RUSTDOC",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("run cargo for the agent");
    assert!(status.success(), "building the agent failed: {status}");
    target_directory.join(target).join("agent").join("propagation-agent")
}

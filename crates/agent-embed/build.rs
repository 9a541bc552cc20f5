//! Builds the agent as a static binary, small, in a target directory of its own that all profiles
//! share, so that it is built once however this crate is built.
//!
//! In the workspace its sources are beside this crate. Elsewhere the agent is a package of the same version, which
//! cargo finds as it finds every other: in the registry, or where `.cargo/config.toml` says.
//! `PROPAGATION_AGENT_BINARY` names a ready one instead, for packagers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The packages of this workspace that the agent consists of, each with its directory here.
const PARTS: [(&str, &str); 4] = [
    ("propagation-agent", "agent"),
    ("propagation-mountinfo", "mountinfo"),
    ("propagation-model", "propagation-model"),
    ("propagation-protocol", "propagation-protocol"),
];

fn main() {
    println!("cargo:rerun-if-env-changed=PROPAGATION_AGENT_BINARY");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let embedded = out.join("propagation-agent");
    let linux = env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    // docs.rs builds without a network, and runs nothing.
    if !linux || env::var_os("DOCS_RS").is_some() {
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
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target_directory =
        out.ancestors().nth(4).expect("the target directory").join("static-agent");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    choose_sources(&mut cargo, out);
    cargo
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

/// The directory in which cargo builds the agent, and where the sources of its parts are.
fn choose_sources(cargo: &mut Command, out: &Path) {
    // Not of when this script was compiled: checkouts may share a target directory.
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let beside = own.parent().expect("a directory of packages");
    if beside.join("agent/Cargo.toml").is_file() {
        let workspace = beside.parent().expect("the workspace");
        for (_, part) in PARTS {
            for file in ["src", "Cargo.toml"] {
                println!("cargo:rerun-if-changed={}", beside.join(part).join(file).display());
            }
        }
        println!("cargo:rerun-if-changed={}", workspace.join("Cargo.toml").display());
        cargo.current_dir(workspace);
        return;
    }
    println!("cargo:rerun-if-changed=agent.toml");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let package = out.join("package");
    fs::create_dir_all(package.join("src")).expect("make a package");
    fs::write(package.join("src/lib.rs"), "").expect("write an empty library");
    let manifest = include_str!("agent.toml").replace("VERSION", &version);
    fs::write(package.join("Cargo.toml"), manifest).expect("write a manifest");
    cargo.current_dir(package);
    // Unpacked side by side, as `cargo package` has them before any of them is published.
    let unpacked = |name: &str| beside.join(format!("{name}-{version}"));
    if PARTS.iter().all(|(name, _)| unpacked(name).is_dir()) {
        for (name, _) in PARTS {
            let path = unpacked(name);
            cargo.arg("--config").arg(format!("patch.crates-io.{name}.path={path:?}"));
        }
    }
}

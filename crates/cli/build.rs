//! Makes the program smaller, by what the linker can leave out.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    // Of another machine's C library nothing is known.
    let is_native = env::var("HOST").is_ok_and(|host| host == target);
    if !is_native || !target.ends_with("-linux-gnu") {
        return;
    }
    // Relative relocations are 1 MB unpacked; glibc reads packed ones from 2.36 on.
    if glibc() >= Some((2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // The profile `release` aborts on a panic: nobody looks an unwind table up.
    if profile().as_deref() == Some("release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        // Functions with the same code become one; only lld can.
        if links_with_lld(&target) {
            println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

/// The directory of the profile: `OUT_DIR` is `<target>/<profile>/build/<package>/out`.
fn profile() -> Option<String> {
    let out = env::var("OUT_DIR").ok()?;
    Some(Path::new(&out).ancestors().nth(3)?.file_name()?.to_str()?.to_owned())
}

/// Whether rustc links with the lld that it brings, as it does here from 1.90 on unless it is told otherwise.
fn links_with_lld(target: &str) -> bool {
    let is_told = |name: &str| env::var(name).is_ok_and(|value| value.contains("link"));
    if target != "x86_64-unknown-linux-gnu" || is_told("CARGO_ENCODED_RUSTFLAGS") {
        return false;
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = Command::new(rustc).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = || text.strip_prefix("rustc 1.")?.split('.').next()?.parse::<u32>().ok();
    env::var_os("RUSTC_LINKER").is_none() && minor().is_some_and(|minor| minor >= 90)
}

/// The version of this machine's glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

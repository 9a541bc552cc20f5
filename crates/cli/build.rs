//! Makes the program smaller, by what the linker can leave out.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

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
        // Functions with the same code become one; of the usual linkers only lld does it.
        let fold = "-Wl,--icf=all";
        if links_with(fold) {
            println!("cargo:rustc-link-arg-bins={fold}");
        }
    }
}

/// The directory of the profile: `OUT_DIR` is `<target>/<profile>/build/<package>/out`.
fn profile() -> Option<String> {
    let out = env::var("OUT_DIR").ok()?;
    Some(Path::new(&out).ancestors().nth(3)?.file_name()?.to_str()?.to_owned())
}

/// Whether the linker that rustc uses here takes an option: a program of one line is linked with it.
fn links_with(option: &str) -> bool {
    let program = || {
        let out = Path::new(&env::var_os("OUT_DIR")?).join("linked");
        let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let mut rustc = Command::new(env::var_os("RUSTC")?);
        rustc.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            rustc.arg(format!("-Clinker={linker}"));
        }
        rustc.args(["--crate-name", "linked", "-", "-o"]).arg(out);
        rustc.arg(format!("-Clink-arg={option}")).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut linking = rustc.spawn().ok()?;
        linking.stdin.take()?.write_all(b"fn main() {}").ok()?;
        Some(linking.wait().ok()?.success())
    };
    program().unwrap_or(false)
}

/// The version of this machine's glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

//! What embedders see of each crate that is published, item by item, is what `docs/api/` has, so that a change of
//! the public surface is part of a change's diff. `BLESS=1` writes the files anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that embedders use, by package. What backends and agents say to each other is not for them.
const LIBRARIES: [(&str, &str); 6] = [
    ("propagation-mountinfo", "mountinfo"),
    ("propagation-model", "propagation_model"),
    ("propagation-core", "propagation_core"),
    ("propagation-report", "propagation_report"),
    ("propagation-backend-local", "propagation_backend_local"),
    ("propagation-backend-k8s", "propagation_backend_k8s"),
];

#[test]
fn the_public_surface_is_what_the_files_say() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let target = rustdoc_json(workspace);
    let mut changed = Vec::new();
    for (_, library) in LIBRARIES {
        let surface = surface(&target.join("doc").join(format!("{library}.json")));
        let file = workspace.join("docs/api").join(format!("{library}.txt"));
        if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
            fs::write(&file, surface).expect("write the surface");
        } else if fs::read_to_string(&file).unwrap_or_default() != surface {
            changed.push(file);
        }
    }
    let bless = "BLESS=1 cargo test --package propagation-examples --test surface writes them";
    assert!(changed.is_empty(), "these files say otherwise: {changed:#?}; {bless}");
}

/// Lets rustdoc describe the libraries, in the target directory that this test is of.
fn rustdoc_json(workspace: &Path) -> PathBuf {
    let program = std::env::current_exe().expect("the program's path");
    let target = program.ancestors().nth(3).expect("<target>/<profile>/deps/<test>").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["doc", "--quiet", "--no-deps", "--all-features", "--lib", "--target-dir"])
        .arg(&target)
        .args(LIBRARIES.iter().flat_map(|(package, _)| ["--package", package]))
        .env("RUSTDOC", workspace.join("scripts/rustdoc-as-json"));
    assert!(cargo.status().expect("run cargo").success(), "cargo doc failed");
    target
}

/// The items of a crate, one a line, without what every type has.
fn surface(json: &Path) -> String {
    let builder = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true);
    let api = builder.build().unwrap_or_else(|error| panic!("read {}: {error}", json.display()));
    api.items().map(|item| format!("{item}\n")).collect()
}

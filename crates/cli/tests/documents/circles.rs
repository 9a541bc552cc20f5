//! Files of different subjects do not import each other in a circle: each can be read with what it stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use libtest_mimic::{Completion, Failed};
use syn::visit::{self, Visit};

use crate::literals::{files, is_for_tests};

/// A module by its names below the crate.
type Module = Vec<String>;

/// The modules that each file imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// In every crate: that no file leads back to itself. In a planted one: that the circle is found.
pub(crate) fn files_do_not_import_each_other_in_a_circle() -> Result<Completion, Failed> {
    let planted = [
        ("", "mod a; mod b; mod c; pub use a::A;"),
        ("a", "use crate::b::{self, B}; mod inner;"),
        ("a::inner", "use super::helper; use crate::c::C;"),
        ("b", "fn f() { crate::c::g() }"),
        ("c", "use super::a::A; #[cfg(test)] mod tests { use crate::b::B; }"),
    ];
    let sources = planted.map(|(name, source)| (module(name), source.to_owned()));
    let found = circles(&imports(&sources)?);
    let expected = [BTreeSet::from(["a", "b", "c"].map(module))];
    if found != expected {
        return Err(format!("of a planted crate: {found:?}").into());
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for of in fs::read_dir(crates)? {
        let root = of?.path().join("src");
        let mut sources = Vec::new();
        for file in files(&root) {
            let inside = file.strip_prefix(&root)?.with_extension("");
            let mut name: Module =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            name.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
            sources.push((name, fs::read_to_string(&file)?));
        }
        for circle in circles(&imports(&sources)?) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            wrong.push(format!("{}: {}", root.display(), names.join(", ")));
        }
    }
    match wrong.is_empty() {
        true => Ok(Completion::Completed),
        false => {
            let fix = "move what both need to a file of its own";
            Err(format!("imports in a circle; {fix}:\n{}", wrong.join("\n")).into())
        }
    }
}

fn module(name: &str) -> Module {
    name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What every file imports from files of other subjects: a file and those below it are one subject.
fn imports(sources: &[(Module, String)]) -> Result<Imports, Failed> {
    let known: BTreeSet<&Module> = sources.iter().map(|(name, _)| name).collect();
    let mut imports = Imports::new();
    for (name, source) in sources {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(source)?);
        let own = imports.entry(name.clone()).or_default();
        let targets = paths.found.iter().filter_map(|path| target(name, path, &known));
        own.extend(targets.filter(|to| !to.starts_with(name) && !name.starts_with(to)));
    }
    Ok(imports)
}

/// The file that a path of a module leads to.
fn target(from: &Module, path: &[String], known: &BTreeSet<&Module>) -> Option<Module> {
    let (first, mut rest) = path.split_first()?;
    let mut full = match first.as_str() {
        "crate" => Module::new(),
        "self" => from.clone(),
        "super" => from.split_last()?.1.to_vec(),
        _ => return None,
    };
    while let Some(("super", more)) = rest.split_first().map(|(one, more)| (one.as_str(), more)) {
        full.pop()?;
        rest = more;
    }
    full.extend_from_slice(rest);
    while !known.contains(&full) {
        full.pop()?;
    }
    Some(full)
}

/// The sets of files that lead to each other.
fn circles(imports: &Imports) -> Vec<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|from| (from, reachable(from, imports))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (from, to) in &reached {
        let circle: BTreeSet<Module> = to
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(from)))
            .map(|other| (*other).clone())
            .collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reachable<'a>(from: &Module, imports: &'a Imports) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = imports.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}

/// The paths that a source names, outside its tests.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    fn note_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.found.push(with(&name.ident)),
            syn::UseTree::Rename(name) => self.found.push(with(&name.ident)),
            syn::UseTree::Glob(_) => self.found.push(before.to_vec()),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(before, tree));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // Paths in a module within a file begin elsewhere.
        if module.content.is_none() || !module.attrs.iter().any(is_for_tests) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !item.attrs.iter().any(is_for_tests) {
            self.note_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.found.push(names.collect());
        visit::visit_path(self, path);
    }
}

//! Ids and outcomes are compared as types: no source of core, report and command line compares one with a literal.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Failed};
use propagation_core::plan::{Fault, PhaseName, Repair};
use propagation_core::report::CheckId;
use propagation_core::{Class, Signal};
use syn::visit::{self, Visit};

const SOURCES: [&str; 3] = ["propagation-core/src", "propagation-report/src", "cli/src"];

/// In every source file: that none compares a word of ours with a literal. On a planted one: that it is found.
pub(crate) fn ids_and_outcomes_are_compared_as_types() -> Result<Completion, Failed> {
    const PLANTED: &str = r#"
        fn planted(word: &str, step: &str) -> bool {
            match word { "ENOTCONN" | "hang" => true, other => other == "create_error" }
                || matches!(step, "recovery")
                || ["reads:c"].contains(&word)
        }
        #[cfg(test)]
        mod tests { fn fine(word: &str) -> bool { word == "hang" } }
    "#;
    let found = literals(PLANTED)?;
    let expected = ["ENOTCONN", "hang", "create_error", "recovery", "reads:c"];
    if found != expected {
        return Err(format!("of a planted source, {expected:?} are to be found: {found:?}").into());
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for file in SOURCES.iter().flat_map(|sources| files(&crates.join(sources))) {
        let of_tests = file.file_stem().is_some_and(|stem| stem == "tests");
        if of_tests {
            continue;
        }
        let found = literals(&fs::read_to_string(&file)?)?;
        wrong.extend(found.into_iter().map(|word| format!("{}: {word:?}", file.display())));
    }
    match wrong.is_empty() {
        true => Ok(Completion::Completed),
        false => Err(format!(
            "compare with a value of Class, CheckId, PhaseName, Fault or Repair instead of a literal:\n{}",
            wrong.join("\n")
        )
        .into()),
    }
}

/// The sources below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The words of ours that a source compares something with.
fn literals(source: &str) -> Result<Vec<String>, Failed> {
    let file = syn::parse_file(source)?;
    let mut comparisons = Comparisons::default();
    comparisons.visit_file(&file);
    Ok(comparisons.found)
}

#[derive(Default)]
struct Comparisons {
    found: Vec<String>,
}

impl Comparisons {
    fn note(&mut self, word: &syn::LitStr) {
        let word = word.value();
        if is_ours(&word) {
            self.found.push(word);
        }
    }

    fn note_operand(&mut self, operand: &syn::Expr) {
        match operand {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(word), .. }) => self.note(word),
            syn::Expr::Reference(reference) => self.note_operand(&reference.expr),
            syn::Expr::Array(array) => array.elems.iter().for_each(|one| self.note_operand(one)),
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Comparisons {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !module.attrs.iter().any(is_for_tests) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr_binary(&mut self, comparison: &'ast syn::ExprBinary) {
        if matches!(comparison.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            self.note_operand(&comparison.left);
            self.note_operand(&comparison.right);
        }
        visit::visit_expr_binary(self, comparison);
    }

    fn visit_pat(&mut self, pattern: &'ast syn::Pat) {
        if let syn::Pat::Lit(syn::ExprLit { lit: syn::Lit::Str(word), .. }) = pattern {
            self.note(word);
        }
        visit::visit_pat(self, pattern);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "contains" && matches!(*call.receiver, syn::Expr::Array(_)) {
            self.note_operand(&call.receiver);
        }
        visit::visit_expr_method_call(self, call);
    }

    /// `matches!` is a pattern too.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.is_ident("matches") {
            let words = call.tokens.clone().into_iter().filter_map(|token| {
                syn::parse2::<syn::LitStr>(std::iter::once(token).collect()).ok()
            });
            words.for_each(|word| self.note(&word));
        }
        visit::visit_macro(self, call);
    }
}

/// Whether an attribute is `cfg(test)`.
pub(crate) fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let of = |list: &syn::MetaList| list.tokens.to_string().contains("test");
    attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(of)
}

/// Whether a word is an outcome, the id of a check or of a phase, a fault or a repair.
fn is_ours(word: &str) -> bool {
    let names = |value: serde_json::Value| serde_json::from_value::<Fault>(value).is_ok();
    let check = |text: &str| !matches!(CheckId::from(text), CheckId::Custom(_));
    word.parse::<Class>().is_ok()
        || word.parse::<Signal>().is_ok_and(|signal| signal.name().is_some())
        || check(word)
        || check(&format!("{word}:x"))
        || PhaseName::ALL.iter().any(|phase| phase.as_str() == word)
        || names(word.into())
        || serde_json::from_value::<Repair>(word.into()).is_ok()
}

//! The documents are true: every command in `docs/` is run, and what they show is what it printed.
//!
//! A block of commands has the line `<!-- run -->` above it, or `<!-- run: cluster -->` when it needs
//! one; a block that follows under `<!-- output -->` is its standard output. With `BLESS=1` the
//! outputs and the generated parts are written anew.

#[path = "documents/circles.rs"]
mod circles;
#[path = "documents/literals.rs"]
mod literals;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use propagation_conformance::cluster_named;
use propagation_core::consumer_log::ConsumerLine;
use regex::Regex;
use support::nodes;
use support::{PASSED, PROPAGATION, TestResult, is_root, skip, tests};

fn main() {
    let mut tests = tests![
        the_consumer_log_is_explained,
        links_lead_somewhere,
        a_checkout_below_tmp_stays_where_it_is,
        literals::ids_and_outcomes_are_compared_as_types,
        circles::files_do_not_import_each_other_in_a_circle,
        paths_in_the_documents_for_contributors_exist
    ];
    for name in documents() {
        let title = |what: &str| format!("{what}_of_{}", name.replace('-', "_"));
        let (plain, cluster) = (name.clone(), name.clone());
        tests.push(Trial::ignorable_test(title("commands"), move || commands(&plain)));
        if read(&name).is_ok_and(|text| text.contains("<!-- run: cluster -->")) {
            tests.push(Trial::ignorable_test(title("cluster_commands"), move || {
                cluster_commands(&cluster)
            }));
        }
    }
    support::main(tests);
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn documents() -> Vec<String> {
    let files = fs::read_dir(directory()).expect("docs");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect();
    names.sort();
    names
}

fn read(name: &str) -> Result<String, Failed> {
    Ok(fs::read_to_string(directory().join(format!("{name}.md")))?)
}

/// Where a block of commands runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Here,
    Cluster,
}

/// A block of commands and what is shown of it.
#[derive(Debug)]
struct Block {
    place: Where,
    commands: String,
    /// The first line of the output and the one after its last, where one is shown.
    output: Option<(usize, usize)>,
}

/// The blocks of a document. Commands that nobody runs are an error.
fn blocks(text: &str) -> Result<Vec<Block>, Failed> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks: Vec<Block> = Vec::new();
    let mut place = None;
    let mut shows = false;
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index];
        index += 1;
        match line {
            "<!-- run -->" => place = Some(Where::Here),
            "<!-- run: cluster -->" => place = Some(Where::Cluster),
            "<!-- output -->" => shows = true,
            _ if line.starts_with("```") && line.len() > 3 => {
                let end = (index..lines.len()).find(|&end| lines[end] == "```");
                let end = end.ok_or_else(|| format!("line {index}: the block has no end"))?;
                if line == "```sh" {
                    let place = place.take();
                    let place =
                        place.ok_or_else(|| format!("line {index}: nobody runs this block"))?;
                    let commands = lines[index..end].join("\n");
                    blocks.push(Block { place, commands, output: None });
                } else if std::mem::take(&mut shows) {
                    let block = blocks.last_mut().ok_or("an output without commands")?;
                    block.output = Some((index, end));
                }
                index = end + 1;
            }
            _ => {}
        }
    }
    Ok(blocks)
}

fn commands(name: &str) -> TestResult {
    if !is_root() {
        return skip("root", "the commands run in a mount namespace with an /etc of its own");
    }
    let text = read(name)?;
    let blocks: Vec<Block> =
        blocks(&text)?.into_iter().filter(|block| block.place == Where::Here).collect();
    let outputs = run_all(name, &blocks, "")?;
    compare(name, &text, &blocks, &outputs)
}

/// What the commands of a cluster find on a k3s server: its kubeconfig, a node with a label, and `k3s`
/// on the node.
const ON_A_SERVER: &str = r#"
mkdir -p /etc/rancher/k3s ../bin
cp "$KUBECONFIG" /etc/rancher/k3s/k3s.yaml
kubectl label node "$SECOND" storage=yes --overwrite > /dev/null
cat > ../bin/k3s <<'END'
#!/bin/sh
exec ssh -F "$PROPAGATION_SSH_CONFIG" "$SECOND" "ctr -n k8s.io images import -" < "$4"
END
chmod +x ../bin/k3s
# For the commands alone: the program goes on finding no node in a configuration of ssh.
ssh() { command ssh -F "$PROPAGATION_SSH_CONFIG" "$@"; }
export -f ssh
PATH=$PWD/../bin:$PATH
"#;

fn cluster_commands(name: &str) -> TestResult {
    if let Err(reason) = cluster_named() {
        return skip("k8s", reason);
    }
    let ssh_config = std::env::var_os("PROPAGATION_SSH_CONFIG");
    let ssh_config = ssh_config.ok_or("PROPAGATION_SSH_CONFIG names no ssh configuration")?;
    let names = nodes::names()?;
    let first = names.first().ok_or("the cluster has no nodes")?;
    let second = names.get(1).unwrap_or(first);
    let text = read(name)?;
    let mut blocks: Vec<Block> =
        blocks(&text)?.into_iter().filter(|block| block.place == Where::Cluster).collect();
    for block in &mut blocks {
        block.commands = block.commands.replace("k3s-w1", first).replace("k3s-w2", second);
    }
    let prelude = format!("export SECOND={second}\n{ON_A_SERVER}");
    let outputs = run_all(&format!("{name}-cluster"), &blocks, &prelude)?;
    compare(name, &text, &blocks, &outputs)?;
    nodes::expect_nothing_left(Path::new(&ssh_config))?;
    PASSED
}

/// Runs the blocks one after the other in one scratch directory. They see an `/etc` and a `/tmp` of
/// their own, and no processes but theirs.
fn run_all(name: &str, blocks: &[Block], prelude: &str) -> Result<Vec<String>, Failed> {
    let scratch = tempfile::Builder::new()
        .prefix(&format!("documents-{name}"))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let at = |file: String| scratch.path().join(file);
    let programs = Path::new(PROPAGATION).parent().ok_or("the program is in a directory")?;
    let tmp = own_tmp(&[scratch.path(), programs, &directory().join("..").canonicalize()?]);
    let mut script = format!(
        "set -eu\nmkdir work home\ncp -a /etc etc\nmount --bind etc /etc\n{tmp}\
         cd \"$SCRATCH/work\"\n{prelude}"
    );
    for (index, block) in blocks.iter().enumerate() {
        fs::write(at(format!("{index}.sh")), &block.commands)?;
        // Those of a cluster show no output that would tell of a command that failed midway.
        let options = if block.place == Where::Cluster { "-e" } else { "" };
        let _ = writeln!(
            script,
            "status=0; timeout 300 bash {options} ../{index}.sh > ../{index}.out 2> ../{index}.err || status=$?\n\
             echo $status > ../{index}.status"
        );
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"])
        .args(["bash", "-c", &script])
        .current_dir(scratch.path())
        .env("SCRATCH", scratch.path())
        .env("PATH", path)
        .env("HOME", at("home".into()))
        .env_remove("XDG_STATE_HOME")
        .env_remove("NO_COLOR")
        .output()?;
    support::expect_code(&ran, 0)?;
    let mut outputs = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let file = |kind: &str| fs::read_to_string(at(format!("{index}.{kind}")));
        let (status, output) = (file("status")?, file("out")?);
        if status.trim() != "0" {
            let commands = &block.commands;
            let error = file("err")?;
            return Err(
                format!("{name}: exit status {status}of\n{commands}\n{output}{error}").into()
            );
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Shell lines that lay an empty, shared `/tmp` over the machine's, made in the current directory. What
/// is `needed` of the one below stays where it is.
fn own_tmp(needed: &[&Path]) -> String {
    let mut lines = String::from("mkdir tmp\nmount -t tmpfs tmp tmp\n");
    for path in needed {
        if let Ok(rest) = path.strip_prefix("/tmp") {
            let _ = writeln!(
                lines,
                "mkdir -p tmp/'{0}'\nmount --bind /tmp/'{0}' tmp/'{0}'",
                rest.display()
            );
        }
    }
    lines + "mount --move tmp /tmp\nmount --make-shared /tmp\n"
}

/// A checkout may lie below `/tmp`.
fn a_checkout_below_tmp_stays_where_it_is() -> TestResult {
    if !is_root() {
        return skip("root", "only root can mount");
    }
    let [checkout, scratch, other] =
        [(); 3].map(|()| tempfile::Builder::new().prefix("documents-checkout").tempdir_in("/tmp"));
    let (checkout, scratch, other) = (checkout?, scratch?, other?);
    fs::write(checkout.path().join("file"), "is there")?;
    let tmp = own_tmp(&[checkout.path(), scratch.path()]);
    let script = format!(
        "set -eu\n{tmp}cat \"$CHECKOUT/file\"\necho\ncd \"$SCRATCH\"\nls -A /tmp | sort\n\
         findmnt --noheadings --output FSTYPE,PROPAGATION --target /tmp\n"
    );
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", &script])
        .current_dir(scratch.path())
        .env("CHECKOUT", checkout.path())
        .env("SCRATCH", scratch.path())
        .output()?;
    support::expect_code(&ran, 0)?;
    let mut names = [checkout.path(), scratch.path()].map(|path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    });
    names.sort();
    let expected = ["is there", &names[0], &names[1], "tmpfs shared"];
    let said = support::stdout(&ran);
    let lines: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    drop(other);
    if lines == expected { PASSED } else { Err(format!("{lines:?}, not {expected:?}").into()) }
}

fn compare(name: &str, text: &str, blocks: &[Block], outputs: &[String]) -> TestResult {
    let lines: Vec<&str> = text.lines().collect();
    let mut wrong = Vec::new();
    let mut blessed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    for (block, output) in blocks.iter().zip(outputs).rev() {
        let Some((first, end)) = block.output else { continue };
        if output.contains("```") {
            return Err(format!("{} prints a fence, which ends the block", block.commands).into());
        }
        let shown = lines[first..end].join("\n");
        if steady(&shown) != steady(output) {
            wrong.push(format!(
                "{}\nshows\n{}\nand printed\n{}",
                block.commands,
                steady(&shown),
                steady(output)
            ));
        }
        blessed.splice(first..end, output.trim_end().lines().map(str::to_owned));
    }
    if wrong.is_empty() {
        return PASSED;
    }
    if support::blessing() {
        fs::write(directory().join(format!("{name}.md")), blessed.join("\n") + "\n")?;
        return PASSED;
    }
    wrong.push("BLESS=1 writes the outputs anew".into());
    Err(wrong.join("\n\n").into())
}

/// An output without what differs from run to run and from machine to machine.
fn steady(output: &str) -> String {
    let filters = [
        (r"\d{8}t\d{6}-[0-9a-f]{8}", "<run>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<timestamp>"),
        (r"\b\d+ min \d+ s\b|\b\d+(\.\d+)? (ms|s)\b", "<time>"),
        // The time before a mount, or between two, may be glimpsed or not.
        (r"\| empty \(absent\) at <time> → ok", "| ok"),
        (r" → empty \(absent\) at <time>( → ok)", "$1"),
        // Nothing waits for the recovery of a consumer that came during the fault.
        (
            r"(\| consumer-during-fault \| stale \(ENOTCONN from open\) at <time>)( → (empty \(absent\)|ok \(generation 2\)) at <time>)* \|",
            "$1 <until the last look> |",
        ),
        (r"(\d+ \d+ )?\b\d+:\d+\b", "<device>"),
        (r"\b(shared|master)(:)\d+|\b(group)( )\d+", "$1$3$2$4<group>"),
        (r"nonce=[0-9a-f]+", "nonce=<nonce>"),
        (r"Linux \S+ (x86_64|aarch64)", "Linux <release>"),
        (r"\(Linux [^)]+\)", "(Linux <release>)"),
        (r"security modules: .*", "security modules: <some>"),
        (r"On this host .*", "On this host <what covers the bridge>"),
        (r"cgroup (v1|v2|hybrid|none)", "cgroup <version>"),
        (r"process \d+|\d+ processes|(pgrep --parent) \d+", "$1<processes>"),
    ];
    let mut text = output.trim().to_owned();
    for (pattern, name) in filters {
        let pattern = Regex::new(pattern).expect("a regular expression");
        text = pattern.replace_all(&text, name).into_owned();
    }
    // How often a consumer looked in vain or with success differs.
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.dedup();
    lines.join("\n")
}

/// The table of a consumer's log lines, from the strings that the agent prints.
fn the_consumer_log_is_explained() -> TestResult {
    let mut table = String::from("\n| line | meaning |\n|---|---|\n");
    for line in ConsumerLine::ALL {
        let _ = writeln!(table, "| `{line}` | {} |", line.meaning());
    }
    let text = read("test-plan")?;
    let (start, end) = ("<!-- generated: consumer log -->\n", "\n<!-- end -->");
    let (before, rest) = text.split_once(start).ok_or("no generated part")?;
    let (found, after) = rest.split_once(&end[1..]).ok_or("the generated part has no end")?;
    let wanted = format!("{table}\n");
    if found == wanted {
        return PASSED;
    }
    if support::blessing() {
        let text = format!("{before}{start}{wanted}{}{after}", &end[1..]);
        fs::write(directory().join("test-plan.md"), text)?;
        return PASSED;
    }
    Err(format!("the table is another; BLESS=1 writes it anew:\n{wanted}").into())
}

/// Files beside the documents that they link to.
fn links_lead_somewhere() -> TestResult {
    let link = Regex::new(r"\]\(([^)#]+)(#[^)]*)?\)").expect("a regular expression");
    for name in documents() {
        let text = read(&name)?;
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if !target.contains("://") && !directory().join(target).exists() {
                return Err(format!("{name}.md leads to {target}, which is not there").into());
            }
        }
    }
    PASSED
}

/// Files of the repository that the documents for contributors name.
fn paths_in_the_documents_for_contributors_exist() -> TestResult {
    let root = directory().join("..");
    let quoted = Regex::new(r"`((crates|docs|examples|scenarios|scripts|benches)/[^` ]*)`")
        .expect("a regular expression");
    let mut wrong = Vec::new();
    let mut found = 0;
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md"] {
        let text = fs::read_to_string(root.join(name))?;
        for path in quoted.captures_iter(&text).flat_map(|found| alternatives(&found[1])) {
            found += 1;
            if !root.join(&path).exists() {
                wrong.push(format!("{name} names {path}, which is not there"));
            }
        }
    }
    if found == 0 {
        return Err("no path was found".into());
    }
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((words, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    words.split(',').flat_map(|word| alternatives(&format!("{before}{word}{after}"))).collect()
}

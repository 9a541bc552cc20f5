//! Reports as other programs take them: a browser, a reader of JUnit XML, Graphviz.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use propagation_core::Report;
use propagation_report::Decision;
use propagation_report::text::{Detail, Style, render};
use serde_json::{Value, json};
use support::chromium::{CHROMIUM, Chromium};
use support::{PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stdout, tests};

fn main() {
    support::main(tests![
        every_format_is_written_and_printed,
        trouble_ends_on_one_screen,
        the_printed_probe_runs_in_an_image_without_this_program,
        junit_is_accepted_by_its_schema,
        graphviz_draws_the_graph,
        the_command_in_a_report_does_the_same_again,
        the_plan_in_a_report_does_the_same_again,
        many_scenarios_get_an_index,
        a_page_says_everything_and_asks_for_nothing,
        a_page_is_readable_light_dark_and_on_paper,
        a_page_is_used_by_keyboard,
        a_hostile_report_runs_nothing,
        ten_thousand_consumers_open
    ]);
}

/// A run with its report directory.
fn run(scratch: &Path, options: &[&str], code: i32) -> Result<PathBuf, libtest_mimic::Failed> {
    let directory = scratch.join("report");
    let mut arguments = vec!["run", "--report", directory.to_str().expect("UTF-8")];
    arguments.extend(options);
    expect_code(&output(scratch, &arguments), code)?;
    Ok(directory)
}

fn every_format_is_written_and_printed() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--volume", "mountpoint"], 3)?;
    let json = directory.join("report.json");
    let json = json.to_str().expect("UTF-8");
    for (format, file, part) in [
        ("text", "report.txt", "Verdict: partial_success"),
        ("json", "report.json", "\"schema_version\""),
        ("markdown", "report.md", "# FUSE propagation test: `partial_success`, scenario B"),
        ("html", "report.html", "<h1>"),
        ("junit", "junit.xml", "<testsuites"),
    ] {
        let saved = fs::read_to_string(directory.join(file))?;
        expect_part(&saved, part)?;
        let printed = output(scratch.path(), &["report", json, "--format", format, "--evidence"]);
        expect_code(&printed, 3)?;
        if stdout(&printed).trim_end() != saved.trim_end() {
            return Err(format!("{format} is another when it is rendered again").into());
        }
    }
    expect_part(&fs::read_to_string(directory.join("run.log"))?, "verdict partial_success")?;
    PASSED
}

/// Lines and columns of the screen that everybody has; one line is the prompt's.
const SCREEN: (usize, usize) = (24, 80);

/// One cause, one change and what the experiment measured stand on one screen.
fn trouble_ends_on_one_screen() -> TestResult {
    for options in [
        &["--volume", "mountpoint"][..],
        &["--propagation", "None"],
        &["--fault", "stop"],
        &["--no-allow-other"],
    ] {
        let scratch = scratch();
        let arguments =
            [&["run", "--format", "json", "--experiments", "all"][..], options].concat();
        let printed = output(scratch.path(), &arguments);
        let report = Report::from_json(&printed.stdout)?;
        let style = Style { width: Some(SCREEN.1), ..Style::plain(Detail::Normal) };
        let text = render(&report, style);
        let (_, end) = text.rsplit_once("\nVerdict: ").ok_or("no verdict")?;
        for part in
            ["\n  Cause: ", "proven", "\n  Fix: ", ": tried, all", " single changes were tried"]
        {
            expect_part(&end.replace("\n    ", " "), part)?;
        }
        if end.lines().count() >= SCREEN.0 {
            return Err(format!("{} lines for {options:?}:\n{end}", end.lines().count()).into());
        }
    }
    PASSED
}

/// A mount that is there, dead, fresh, and gone, as the printed liveness probe finds it in a consumer.
fn the_printed_probe_runs_in_an_image_without_this_program() -> TestResult {
    let scratch = scratch();
    let arguments = ["run", "--volume", "mountpoint", "--format", "json", "--experiments", "off"];
    let report = Report::from_json(&output(scratch.path(), &arguments).stdout)?;
    let probe = Decision::of(&report).and_then(|decision| decision.liveness_probe);
    let probe = probe.ok_or("no probe is printed")?;
    let (_, command) = probe.split_once("command: [sh, -c, '").ok_or("no command for a shell")?;
    let (command, _) = command.split_once("']\n").ok_or("the command has no end")?;
    let command = serde_json::to_string(&command.replace("''", "'"))?;
    let look = |outcome: &str| {
        format!(
            "  - {{run: [sh, -c, {command}], in: app, expect: {{run: {{outcome: {outcome}}}}}}}\n"
        )
    };
    let (ok, error) = (look("ok"), look("error"));
    let scenario = format!(
        "workloads:\n  - {{name: d, role: producer}}\n  - {{name: app, role: consumer}}\nsteps:\n  - start: all\n\
         {ok}  - fault: kill\n{error}  - repair: lazy_unmount_mount\n{ok}  - fault: exit\n{error}"
    );
    let file = scratch.path().join("probe.yaml");
    fs::write(&file, scenario)?;
    expect_code(&output(scratch.path(), &["run", "--scenario", &file.to_string_lossy()]), 0)?;
    PASSED
}

fn junit_is_accepted_by_its_schema() -> TestResult {
    if !support::has_xmllint() {
        return skip("xmllint", "there is no /usr/bin/xmllint");
    }
    let scratch = scratch();
    let directory = run(scratch.path(), &["--covering", "private"], 5)?;
    let hostile = scratch.path().join("hostile.json");
    fs::write(&hostile, hostile_json(&directory.join("report.json"))?)?;
    let printed =
        output(scratch.path(), &["report", hostile.to_str().expect("UTF-8"), "--format", "junit"]);
    let second = scratch.path().join("hostile.xml");
    fs::write(&second, &printed.stdout)?;
    for file in [directory.join("junit.xml"), second] {
        support::expect_junit(&file)?;
    }
    let json: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    let phases = json["phases"].as_array().ok_or("no phases")?;
    let checks: usize = phases.iter().map(|p| p["checks"].as_array().map_or(0, Vec::len)).sum();
    let skipped = phases.iter().filter(|phase| phase["status"] == "skipped").count();
    let cases = fs::read_to_string(directory.join("junit.xml"))?.matches("<testcase ").count();
    if cases != checks + skipped {
        return Err(format!("{cases} cases of {checks} checks and {skipped} skipped phases").into());
    }
    PASSED
}

fn graphviz_draws_the_graph() -> TestResult {
    if !Path::new("/usr/bin/dot").exists() {
        return skip("graphviz", "there is no /usr/bin/dot");
    }
    let scratch = scratch();
    let directory = run(scratch.path(), &[], 0)?;
    let hostile = scratch.path().join("hostile.json");
    fs::write(&hostile, hostile_json(&directory.join("report.json"))?)?;
    for json in [directory.join("report.json"), hostile] {
        let printed =
            output(scratch.path(), &["report", json.to_str().expect("UTF-8"), "--format", "dot"]);
        let file = scratch.path().join("graph.dot");
        fs::write(&file, &printed.stdout)?;
        let drawn = Command::new("dot").arg("-Tsvg").arg(&file).output()?;
        expect_code(&drawn, 0)?;
        expect_part(&stdout(&drawn), "group")?;
    }
    PASSED
}

fn the_command_in_a_report_does_the_same_again() -> TestResult {
    let scratch = scratch();
    let bridge = "/tmp/it's a bridge";
    let options =
        ["--bridge", bridge, "--fault", "terminate", "--consumers", "3", "--timeout", "90s"];
    let directory = run(scratch.path(), &options, 0)?;
    let text = fs::read_to_string(directory.join("report.txt"))?;
    let command = text.lines().find_map(|line| line.strip_prefix("Reproduce: propagation "));
    let command = command.ok_or("the report has no command")?;
    let again = Command::new("sh")
        .args(["-c", &format!("exec \"$0\" {command} --format json"), support::PROPAGATION])
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    expect_code(&again, 0)?;
    let first: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    let second: Value = serde_json::from_slice(&again.stdout)?;
    if first["plan"] != second["plan"] {
        return Err(format!("{command} has another plan").into());
    }
    PASSED
}

/// The plan out of a report, under another name, as a scenario file.
fn plan_file(scratch: &Path, report: &Path, name: &str) -> Result<PathBuf, libtest_mimic::Failed> {
    let json = report.join("report.json");
    let printed = output(scratch, &["report", json.to_str().expect("UTF-8"), "--format", "plan"]);
    let mut plan: Value = serde_json::from_slice(&printed.stdout)?;
    plan["name"] = name.into();
    let file = scratch.join(format!("{name}.yaml"));
    fs::write(&file, plan.to_string())?;
    Ok(file)
}

fn the_plan_in_a_report_does_the_same_again() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--fault", "terminate"], 0)?;
    let file = plan_file(scratch.path(), &directory, "again")?;
    let path = file.to_str().expect("UTF-8");
    let again = output(scratch.path(), &["run", "--scenario", path, "--format", "json"]);
    expect_code(&again, 0)?;
    let mut second: Value = serde_json::from_slice(&again.stdout)?;
    let first: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    second["plan"].as_object_mut().ok_or("no plan")?.remove("name");
    if first["plan"] != second["plan"] {
        return Err(format!("another plan: {}", second["plan"]).into());
    }
    PASSED
}

fn many_scenarios_get_an_index() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--fault", "terminate"], 0)?;
    let files = [
        plan_file(scratch.path(), &directory, "first")?,
        plan_file(scratch.path(), &directory, "second")?,
    ];
    let all = scratch.path().join("all");
    let [one, two, all_name] =
        [&files[0], &files[1], &all].map(|path| path.to_str().expect("UTF-8"));
    let arguments = ["run", "--scenario", one, "--scenario", two, "--report", all_name];
    expect_code(&output(scratch.path(), &arguments), 0)?;
    let index = fs::read_to_string(all.join("index.html"))?;
    for name in ["first", "second"] {
        expect_part(&index, &format!("<a href=\"{name}/report.html\">{name}</a>"))?;
        expect_part(&fs::read_to_string(all.join(name).join("report.html"))?, "Full success")?;
    }
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    page.open(&all.join("index.html"))?;
    expect_quiet(&page)?;
    expect_value(&mut page, "document.querySelectorAll('tbody tr').length", &json!(2))?;
    PASSED
}

/// A page in a browser; none where there is no browser.
fn browser(scratch: &Path) -> Result<Option<Chromium>, libtest_mimic::Failed> {
    Path::new(CHROMIUM).exists().then(|| Chromium::start(scratch)).transpose()
}

fn no_browser() -> TestResult {
    skip("chromium", &format!("there is no {CHROMIUM}"))
}

/// Nothing was complained of, nothing but the file was asked for.
fn expect_quiet(page: &Chromium) -> Result<(), libtest_mimic::Failed> {
    let complaints = page.complaints();
    if !complaints.is_empty() {
        return Err(format!("the browser complains: {complaints:?}").into());
    }
    let foreign: Vec<String> = page
        .requests()
        .into_iter()
        .filter(|url| !url.starts_with("file://") && !url.starts_with("data:"))
        .collect();
    if foreign.is_empty() { Ok(()) } else { Err(format!("it asks for {foreign:?}").into()) }
}

fn expect_value(
    page: &mut Chromium,
    script: &str,
    wanted: &Value,
) -> Result<(), libtest_mimic::Failed> {
    let found = page.evaluate(script)?;
    if found == *wanted { Ok(()) } else { Err(format!("{script}: {found}, not {wanted}").into()) }
}

fn a_page_says_everything_and_asks_for_nothing() -> TestResult {
    let scratch = scratch();
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    let directory = run(scratch.path(), &["--volume", "mountpoint"], 3)?;
    page.open(&directory.join("report.html"))?;
    expect_quiet(&page)?;
    let text = page.evaluate("document.body.innerText")?;
    for part in ["Partial success", "scenario B", "livenessProbe:", "new_consumer_starts"] {
        expect_part(text.as_str().unwrap_or_default(), part)?;
    }
    for (script, wanted) in [
        ("document.querySelectorAll('h1').length", json!(1)),
        ("document.querySelectorAll('main section').length >= 7", json!(true)),
        ("document.querySelectorAll('header, nav, main, footer').length", json!(4)),
        (
            "[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th'))",
            json!(true),
        ),
        (
            "[...document.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label'))",
            json!(true),
        ),
        ("document.querySelectorAll('svg.timeline .bar.stale').length > 0", json!(true)),
        ("document.querySelectorAll('svg.timeline .mark').length", json!(4)),
        ("document.querySelectorAll('svg.mounts .missing').length > 0", json!(true)),
        ("document.querySelectorAll('.check').length > 20", json!(true)),
        ("document.querySelectorAll('.check.failed[open]').length", json!(2)),
        ("document.documentElement.lang", json!("en")),
        // Headings go down by one level at a time.
        (
            "(() => { let last = 1; return [...document.querySelectorAll('h1,h2,h3,h4')].every(h => \
             { const level = +h.tagName[1]; const ok = level <= last + 1; last = level; return ok }) })()",
            json!(true),
        ),
        // No id is there twice: labels and links would lead to the wrong place.
        (
            "(() => { const ids = [...document.querySelectorAll('body [id]')].map(e => e.id); return \
             ids.filter((id, n) => ids.indexOf(id) !== n) })()",
            json!([]),
        ),
        (
            "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))",
            json!(true),
        ),
    ] {
        expect_value(&mut page, script, &wanted)?;
    }
    PASSED
}

/// Every text against what lies behind it: the smallest contrast, and of which text.
const CONTRAST: &str = r"(() => {
  const colour = text => { const c = document.createElement('canvas').getContext('2d');
    c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data] };
  const light = ([r, g, b]) => { const l = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * l(r) + .7152 * l(g) + .0722 * l(b) };
  const behind = element => { for (let e = element; e; e = e.parentElement) {
    const c = colour(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c } return [255, 255, 255, 255] };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (!e.checkVisibility() || e.closest('defs, desc, title')) continue;
    const svg = e.closest('svg');
    if (svg && svg.classList.contains('timeline') && e.closest('.mark, .state')) continue;
    const front = light(colour(svg ? getComputedStyle(e).fill : getComputedStyle(e).color));
    const back = light(behind(svg || e));
    const ratio = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 120)];
  }
  return worst })()";

fn a_page_is_readable_light_dark_and_on_paper() -> TestResult {
    let scratch = scratch();
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    let directory = run(scratch.path(), &["--volume", "mountpoint"], 3)?;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-pictures");
    fs::create_dir_all(&pictures)?;
    let width = 1280;
    let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
    page.call("Emulation.setDeviceMetricsOverride", size)?;
    let mut backgrounds = Vec::new();
    for (medium, scheme) in [("screen", "light"), ("screen", "dark"), ("print", "dark")] {
        page.emulate(medium, scheme)?;
        page.open(&directory.join("report.html"))?;
        let worst = page.evaluate(CONTRAST)?;
        if worst[0].as_f64().is_none_or(|ratio| ratio < 4.5) {
            return Err(format!("{medium} {scheme}: text of too little contrast: {worst}").into());
        }
        backgrounds.push(page.evaluate("getComputedStyle(document.body).backgroundColor")?);
        page.screenshot(&pictures.join(format!("{medium}-{scheme}.png")), width)?;
        expect_quiet(&page)?;
    }
    if backgrounds[0] == backgrounds[1] || backgrounds[0] == backgrounds[2] {
        return Err(format!("light, dark and paper have the backgrounds {backgrounds:?}").into());
    }
    // On paper nothing can be unfolded: everything is.
    let hidden = "[...document.querySelectorAll('details > *:not(summary)')].filter(e => \
                  e.getBoundingClientRect().height === 0).length";
    expect_value(&mut page, hidden, &json!(0))?;
    let wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    page.emulate("screen", "light")?;
    for width in [1280, 390] {
        let size =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        page.call("Emulation.setDeviceMetricsOverride", size)?;
        expect_value(&mut page, wide, &json!(true))?;
    }
    PASSED
}

fn a_page_is_used_by_keyboard() -> TestResult {
    let scratch = scratch();
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    let directory = run(scratch.path(), &[], 0)?;
    page.open(&directory.join("report.html"))?;
    page.press("Tab")?;
    expect_value(&mut page, "document.activeElement.className", &json!("skip"))?;
    page.press("Enter")?;
    expect_value(&mut page, "location.hash", &json!("#content"))?;
    let mut unfolded = 0;
    for _ in 0..60 {
        page.press("Tab")?;
        let outlined = "document.activeElement === document.body || \
                        getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        expect_value(&mut page, outlined, &json!(true))?;
        let summary = "document.activeElement.matches('summary')";
        if page.evaluate(summary)? == json!(true) {
            let open = "document.activeElement.parentElement.open";
            let before = page.evaluate(open)?;
            page.press("Enter")?;
            expect_value(&mut page, open, &json!(before != json!(true)))?;
            unfolded += 1;
        }
    }
    if unfolded < 10 {
        return Err(format!("the keyboard reaches {unfolded} parts that unfold").into());
    }
    PASSED
}

fn a_hostile_report_runs_nothing() -> TestResult {
    let scratch = scratch();
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    let directory = run(scratch.path(), &["--volume", "mountpoint"], 3)?;
    let hostile = scratch.path().join("hostile.json");
    fs::write(&hostile, hostile_json(&directory.join("report.json"))?)?;
    let path = hostile.to_str().expect("UTF-8").to_owned();
    for (format, file) in [("html", "hostile.html"), ("svg", "hostile.svg")] {
        let printed = output(scratch.path(), &["report", &path, "--format", format]);
        let file = scratch.path().join(file);
        fs::write(&file, &printed.stdout)?;
        page.open(&file)?;
        expect_quiet(&page)?;
        let counts = "document.querySelectorAll('script, img, iframe, object, embed, form').length";
        expect_value(&mut page, counts, &json!(0))?;
        let handlers = "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => \
                        /^on/i.test(a.name) || /^javascript:/i.test(a.value))).length";
        expect_value(&mut page, handlers, &json!(0))?;
        let text = page.evaluate("document.documentElement.textContent")?;
        expect_part(text.as_str().unwrap_or_default(), "<script>alert(1)</script>")?;
    }
    // A page that trusts nobody needs no policy; that there is one all the same is a second wall.
    let ran = "(() => { const s = document.createElementNS('http://www.w3.org/1999/xhtml', 'script'); \
               s.textContent = 'window.ran = true'; document.documentElement.append(s); return !!window.ran })()";
    page.open(&directory.join("report.html"))?;
    expect_value(&mut page, ran, &json!(false))?;
    PASSED
}

fn ten_thousand_consumers_open() -> TestResult {
    let scratch = scratch();
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    let directory = run(scratch.path(), &["--consumers", "10000"], 0)?;
    let file = directory.join("report.html");
    let bytes = fs::metadata(&file)?.len();
    if bytes > 5_000_000 {
        return Err(format!("the page has {bytes} bytes").into());
    }
    page.open(&file)?;
    expect_quiet(&page)?;
    let text = page.evaluate("document.body.innerText")?;
    expect_part(text.as_str().unwrap_or_default(), "alike")?;
    PASSED
}

/// A saved report in which every text that may be anything is hostile.
fn hostile_json(file: &Path) -> Result<Vec<u8>, libtest_mimic::Failed> {
    const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`]]>&lt;--><!-- \
        |\u{202e}\u{1b}[31m\u{0}\r\n\u{fffe}</pre></style></svg><a href=\"javascript:alert(3)\">";
    let mut json: Value = serde_json::from_slice(&fs::read(file)?)?;
    let mut pointers = Vec::new();
    for field in [
        "run_id",
        "node",
        "started_at",
        "verdict",
        "phases",
        "logs",
        "cleanup",
        "diagnosis",
        "environment",
    ] {
        if let Some(value) = json.get(field) {
            strings(value, format!("/{field}"), &mut pointers);
        }
    }
    for pointer in pointers {
        let Some(place) = json.pointer_mut(&pointer) else { continue };
        let before = std::mem::replace(place, HOSTILE.into());
        if serde_json::from_value::<propagation_core::Report>(json.clone()).is_err() {
            // A word of a fixed set, or in a notation of its own.
            *json.pointer_mut(&pointer).ok_or("it was there")? = before;
        }
    }
    // Actors have names too, which have to agree.
    let text = json.to_string().replace("consumer-late", "<script>alert(1)</script>");
    Ok(text.into_bytes())
}

fn strings(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, item)| strings(item, format!("{at}/{n}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| strings(field, format!("{at}/{name}"), found));
        }
        _ => {}
    }
}

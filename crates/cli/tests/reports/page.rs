//! The page in a real browser.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::formats::{hostile_json, run};
use crate::support::chromium::{CHROMIUM, Chromium};
use crate::support::{PASSED, TestResult, expect_part, output, scratch, skip};

/// A page as a browser shows it, or nothing on a machine without one.
pub(crate) fn browser(scratch: &Path) -> Result<Option<Chromium>, libtest_mimic::Failed> {
    Path::new(CHROMIUM).exists().then(|| Chromium::start(scratch)).transpose()
}

pub(crate) fn no_browser() -> TestResult {
    skip("chromium", &format!("there is no {CHROMIUM}"))
}

/// Nothing was complained of, nothing but the file was asked for.
pub(crate) fn expect_quiet(page: &Chromium) -> Result<(), libtest_mimic::Failed> {
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

pub(crate) fn expect_value(
    page: &mut Chromium,
    script: &str,
    wanted: &Value,
) -> Result<(), libtest_mimic::Failed> {
    let found = page.evaluate(script)?;
    if found == *wanted { Ok(()) } else { Err(format!("{script}: {found}, not {wanted}").into()) }
}

pub(crate) fn a_page_says_everything_and_asks_for_nothing() -> TestResult {
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

pub(crate) fn a_page_is_readable_light_dark_and_on_paper() -> TestResult {
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

pub(crate) fn a_page_is_used_by_keyboard() -> TestResult {
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

pub(crate) fn a_hostile_report_runs_nothing() -> TestResult {
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

pub(crate) fn ten_thousand_consumers_open() -> TestResult {
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

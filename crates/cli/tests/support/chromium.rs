//! A headless Chromium, driven over its debugging pipe: JSON messages that end with a NUL byte, on
//! descriptors 3 and 4.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::{Value, json};

/// Where Debian has it.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// How long one answer may take. A machine that builds at the same time is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Chromium {
    child: Child,
    pipe: File,
    messages: Receiver<Value>,
    next_id: u64,
    session: String,
    /// All events so far.
    pub events: Vec<Value>,
}

impl Chromium {
    /// Starts it, its profile in `scratch`.
    pub fn start(scratch: &Path) -> Result<Self, Failed> {
        let (input, output) = (scratch.join("to-chromium"), scratch.join("from-chromium"));
        let made = Command::new("mkfifo").args([&input, &output]).status()?;
        if !made.success() {
            return Err("mkfifo failed".into());
        }
        let profile = format!("--user-data-dir={}", scratch.join("profile").display());
        let child = Command::new("sh")
            .args(["-c", "in=$1 out=$2; shift 2; exec \"$@\" 3< \"$in\" 4> \"$out\"", "sh"])
            .args([&input, &output])
            .args([CHROMIUM, "--headless", "--remote-debugging-pipe", "--no-sandbox"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", &profile])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The shell opens the two in the same order.
        let pipe = File::options().write(true).open(&input)?;
        let answers = File::open(&output)?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let message = message.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let Some(message) = message else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let session = String::new();
        let mut browser = Self { child, pipe, messages, next_id: 1, session, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failed> {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.pipe.write_all(message.to_string().as_bytes())?;
        self.pipe.write_all(&[0])?;
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.receive(until, method)?;
            if answer["id"] == id {
                return match answer.get("error") {
                    Some(error) => Err(format!("{method}: {error}").into()),
                    None => Ok(answer["result"].clone()),
                };
            }
            self.events.push(answer);
        }
    }

    fn receive(&self, until: Instant, what: &str) -> Result<Value, Failed> {
        let left = until.saturating_duration_since(Instant::now());
        self.messages.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no answer to {what} in {PATIENCE:?}").into(),
            RecvTimeoutError::Disconnected => format!("the browser ended during {what}").into(),
        })
    }

    /// Opens a file and waits until it is loaded; how long that took.
    pub fn open(&mut self, file: &Path) -> Result<Duration, Failed> {
        self.events.clear();
        let started = Instant::now();
        let url = format!("file://{}", fs::canonicalize(file)?.display());
        self.call("Page.navigate", json!({ "url": url }))?;
        let until = started + PATIENCE;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive(until, "the end of loading")?;
            self.events.push(event);
        }
        // The first frame is drawn when a script that waited for one answers.
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")?;
        Ok(started.elapsed())
    }

    /// The value of a JavaScript expression.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, Failed> {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters)?;
        if let Some(exception) = answer.get("exceptionDetails") {
            return Err(format!("{expression}: {exception}").into());
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Lets the page believe in a medium (`screen`, `print`) and a colour scheme.
    pub fn emulate(&mut self, medium: &str, scheme: &str) -> Result<(), Failed> {
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "media": medium, "features": feature }))?;
        Ok(())
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: &str) -> Result<(), Failed> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            other => return Err(format!("no such key here: {other}").into()),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let parameters = json!({ "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", parameters)?;
        }
        Ok(())
    }

    /// A picture of the whole page as a PNG file.
    pub fn screenshot(&mut self, file: &Path, width: u32) -> Result<(), Failed> {
        let height = self.evaluate("document.documentElement.scrollHeight")?;
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let parameters = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", parameters)?;
        fs::write(file, decode(answer["data"].as_str().unwrap_or_default())?)?;
        Ok(())
    }

    /// What the page complained of: exceptions, console errors, log entries, dialogs.
    pub fn complaints(&self) -> Vec<String> {
        let bad = |event: &&Value| match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Page.javascriptDialogOpening" => true,
            "Runtime.consoleAPICalled" => event["params"]["type"] != "log",
            "Log.entryAdded" => true,
            _ => false,
        };
        self.events.iter().filter(bad).map(ToString::to_string).collect()
    }

    /// The addresses that were asked for.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        sent.map(|e| e["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

impl Drop for Chromium {
    /// Ends the browser, and with it the processes that it started.
    fn drop(&mut self) {
        let _ = self.call("Browser.close", json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64 as the protocol writes pictures.
fn decode(text: &str) -> Result<Vec<u8>, Failed> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Ok(u32::from(byte - b'A')),
        b'a'..=b'z' => Ok(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Ok(u32::from(byte - b'0') + 52),
        b'+' => Ok(62),
        b'/' => Ok(63),
        _ => Err(Failed::from(format!("not base64: {byte}"))),
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut word = 0;
        for &byte in chunk {
            word = word << 6 | value(byte)?;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend(&word.to_be_bytes()[1..chunk.len()]);
    }
    Ok(bytes)
}

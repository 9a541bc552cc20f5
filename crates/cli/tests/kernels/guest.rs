//! A machine with another kernel, emulated: its root has this machine's `/usr`, and a directory that both share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::support::PROPAGATION;

/// Files of `/etc` without which programs of this machine do not run in a guest.
const ETC: [&str; 12] = [
    "passwd",
    "group",
    "nsswitch.conf",
    "ld.so.cache",
    "alternatives",
    "ssl",
    "hosts",
    "fuse.conf",
    "netconfig",
    "protocols",
    "rpc",
    "services",
];

/// What every kernel is told. Mitigations cost an emulated processor time and protect nobody there; its clock is the
/// machine's.
const BOOT: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable";

/// A boot gets so long for its first line. It needs 6 s of a processor, and a machine may have other work.
const TO_FIRST_LINE: Duration = Duration::from_secs(180);

/// Boots of all guests, and those that did not reach their first line.
static BOOTS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// How many boots there were, and how many were lost, in words.
pub(super) fn boots() -> String {
    let [all, lost] = BOOTS.each_ref().map(|count| count.load(Ordering::Relaxed));
    format!("{all} boots, {lost} lost and tried again")
}

/// A kernel with the files that start it, as `scripts/fetch-kernels` leaves them.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// The release, as uname(2) says it.
    pub(super) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// That of a directory, which is named after it.
    pub(super) fn new(directory: &str) -> Self {
        let directory = PathBuf::from(directory);
        let release = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { release, directory }
    }

    /// The numbers of the release, to compare by.
    pub(super) fn version(&self) -> Vec<u32> {
        let numbers = self.release.split(|character: char| !character.is_ascii_digit());
        numbers.map_while(|number| number.parse().ok()).collect()
    }
}

/// What a guest has said, and whether it had to be started again.
pub(super) struct Ended {
    /// Everything that was printed on its console.
    pub(super) console: String,
    /// How often it did not reach its first line. One more boot is tried.
    pub(super) lost_boots: u32,
}

/// Starts a guest that runs `script` as root and shares `work` with it as `/work`, and waits until it is
/// switched off. The kernel gets further options.
///
/// # Errors
/// When it does not come up twice, is not done after so many seconds, or `script` fails; with its console.
pub(super) fn run(
    kernel: &Kernel,
    work: &Path,
    script: &str,
    options: &str,
    seconds: u32,
) -> Result<Ended, Failed> {
    let main = work.join("main");
    fs::write(&main, script)?;
    fs::set_permissions(&main, fs::Permissions::from_mode(0o755))?;
    copy_etc(&work.join("etc"))?;
    for lost_boots in 0..=1 {
        BOOTS[0].fetch_add(1, Ordering::Relaxed);
        let Some(console) = boot(kernel, work, options, seconds)? else {
            BOOTS[1].fetch_add(1, Ordering::Relaxed);
            continue;
        };
        return match fs::read_to_string(work.join("status")) {
            Ok(status) if status.trim() == "0" => Ok(Ended { console, lost_boots }),
            Ok(status) => Err(format!("ended with {}:\n{console}", status.trim()).into()),
            Err(_) => Err(format!("not done after {seconds} s:\n{console}").into()),
        };
    }
    Err("two boots did not reach the first line of the guest".into())
}

/// One start of the emulator, without acceleration: no machine that runs tests needs to have any. What its console
/// printed; none where that does not have the first line of the guest.
fn boot(
    kernel: &Kernel,
    work: &Path,
    options: &str,
    seconds: u32,
) -> Result<Option<String>, Failed> {
    let console = work.join("console");
    let first_line = format!("guest: {}", kernel.release);
    let printed = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    let share = |path: &Path, tag: &str, more: &str| {
        let path = path.display();
        [
            "-virtfs".to_owned(),
            format!("local,path={path},mount_tag={tag},security_model=none{more}"),
        ]
    };
    let mut emulator = Command::new("timeout");
    emulator
        .args(["--signal=KILL", &seconds.to_string(), "qemu-system-x86_64"])
        .args(["-accel", "tcg", "-smp", "1", "-m", "3072", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-serial", &format!("file:{}", console.display())])
        .arg("-kernel")
        .arg(kernel.directory.join("vmlinux"))
        .arg("-initrd")
        .arg(kernel.directory.join("initrd"))
        .args(["-append", &format!("{BOOT} {options}")])
        .args(share(Path::new("/usr"), "usr", ",readonly=on,multidevs=remap"))
        .args(share(work, "work", ""));
    let mut emulator = emulator.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let began = Instant::now();
    while emulator.try_wait()?.is_none() && !printed().contains(&first_line) {
        if began.elapsed() > TO_FIRST_LINE {
            Command::new("kill").arg(emulator.id().to_string()).output()?;
            emulator.wait()?;
            return Ok(None);
        }
        thread::park_timeout(Duration::from_millis(200));
    }
    let output = emulator.wait_with_output()?;
    let text = printed();
    if !output.status.success() && text.is_empty() {
        return Err(format!("qemu: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(text.contains(&first_line).then_some(text))
}

/// Copies the program under test, without what only a debugger reads: a guest copies it once more.
pub(super) fn copy_program(work: &Path) -> Result<(), Failed> {
    let stripped = Command::new("strip")
        .args(["-o".as_ref(), work.join("propagation").as_path(), Path::new(PROPAGATION)])
        .output()?;
    if stripped.status.success() {
        return Ok(());
    }
    Err(format!("strip: {}", String::from_utf8_lossy(&stripped.stderr)).into())
}

fn copy_etc(target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for name in ETC {
        let source = Path::new("/etc").join(name);
        if source.exists() {
            Command::new("cp").arg("-aL").arg(source).arg(target).output()?;
        }
    }
    let user = "tester:x:54321:54321::/home:/bin/sh\n";
    let mut users = fs::read_to_string(target.join("passwd"))?;
    users.push_str(user);
    fs::write(target.join("passwd"), users)?;
    for name in ["subuid", "subgid"] {
        fs::write(target.join(name), "tester:100000:65536\n")?;
    }
    Ok(())
}

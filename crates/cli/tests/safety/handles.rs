//! Opening files by their handles: with the machine's rights it reaches every file of a filesystem.

use std::path::Path;

use crate::files::{quoted, run, scenario, step};
use crate::hung::needs_python;
use crate::support::{PASSED, TestResult, expect_code, output, scratch, skip};

/// Opens a directory by its handle; the errno, 0 where it is open.
const BY_HANDLE: &str = "import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
handle, mount = ctypes.create_string_buffer(b\"\\x80\", 136), ctypes.c_int()
path = sys.argv[1].encode()
assert libc.name_to_handle_at(-100, path, handle, ctypes.byref(mount), 0) == 0
opened = libc.open_by_handle_at(os.open(path, os.O_RDONLY), handle, os.O_RDONLY)
print(\"errno\", ctypes.get_errno() if opened < 0 else 0)";

/// A node of a scenario does not have it, and one of a comparison only for a transport that its user has named.
pub(crate) fn files_are_opened_by_their_handles_only_for_a_transport_that_is_named() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|program| Path::new(program).exists()) {
        return skip("runc", "it is not installed");
    }
    let scratch = scratch();
    // A daemon that says it, and ends instead of mounting.
    let says = format!("python3 -c {} {{source}} {{mountpoint}}", quoted(BY_HANDLE));
    for (transports, wanted) in
        [("daemon,smb-cifs", libc::ENOSYS), ("daemon,nfs", 0), ("daemon,fuse-nfs", 0)]
    {
        let words =
            ["compare", "--quick", "--rounds", "1", "--workloads", "open", "--format", "json"];
        let more = ["--transports", transports, "--producer-command", &says];
        let result = output(scratch.path(), &[&words[..], &more].concat());
        expect_code(&result, 0)?;
        let compared: serde_json::Value = serde_json::from_slice(&result.stdout)?;
        let found = compared["transports"].as_array().ok_or("no transports")?;
        let daemon = found.iter().find(|one| one["transport"] == "daemon").ok_or("no daemon")?;
        let reason = daemon["skipped"]["reason"].as_str().unwrap_or_default();
        if !reason.ends_with(&format!(": errno {wanted}")) {
            return Err(format!("{transports}: {reason:?}, expected errno {wanted}").into());
        }
    }
    let text = format!("test \"$(python3 -c {} /tmp)\" = 'errno 38'", quoted(BY_HANDLE));
    let steps = format!("node: {{runtime: {{engine: runc}}}}\nsteps:\n{}", step("node", &text));
    expect_code(&run(scratch.path(), &scenario(scratch.path(), &steps)), 0)?;
    PASSED
}

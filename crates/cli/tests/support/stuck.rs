//! A daemon that no signal ends.

/// A FUSE daemon that tells the kernel to forget an entry, from the thread that has to answer the lookup
/// which holds it: both wait in the kernel for good.
pub const DAEMON: &str = r#"
import ctypes, os, struct, sys
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
kind = b"fuse.stuck"
assert ctypes.CDLL(None).mount(kind, sys.argv[1].encode(), kind, 6, options) == 0
attributes = struct.pack("<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
def write(unique, error, body=b""):
    os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
while True:
    request = os.read(fd, 1 << 18)
    _, code, unique = struct.unpack_from("<IIQ", request)
    if code == 26:
        write(unique, 0, struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 32, *[0] * 9))
    elif code == 3:
        write(unique, 0, struct.pack("<QII", 0, 0, 0) + attributes)
    elif code == 1:
        write(0, 3, struct.pack("<QII", 1, 1, 0) + b"x\0")
        write(unique, -2)
    else:
        write(unique, -38)
"#;

/// A daemon in Python as the `fuse` of a scenario, its lines indented.
pub fn fuse_of(daemon: &str, indent: &str) -> String {
    let daemon = daemon.replace('\n', &format!("\n{indent}      "));
    format!(
        "type: fuse.stuck\n{indent}  command:\n{indent}    - python3\n{indent}    - -c\n{indent}    - |\
         {daemon}\n{indent}    - \"{{mountpoint}}\""
    )
}

# A control group that may not open /dev/fuse, as a container without a device plugin: EPERM for root too, and said.
cat > /tmp/deny.py <<'PYTHON'
"""Moves itself into a control group whose program denies /dev/fuse, and becomes another program."""
import ctypes, os, struct, sys

BPF, LOAD, ATTACH, CGROUP_DEVICE = 321, 5, 8, 15
ATTACH_CGROUP_DEVICE = 6
group = "/sys/fs/cgroup/without-fuse"


def instruction(code, destination=0, source=0, offset=0, value=0):
    return struct.pack("<BBhi", code, destination | source << 4, offset, value)


# r2 = ctx->major; r3 = ctx->minor; return !(r2 == 10 && r3 == 229)
program = b"".join([
    instruction(0x61, 2, 1, 4), instruction(0x61, 3, 1, 8), instruction(0xB7, 0, value=1),
    instruction(0x55, 2, offset=2, value=10), instruction(0x55, 3, offset=1, value=229),
    instruction(0xB7, 0, value=0), instruction(0x95),
])
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf {command}")
    return result


code = ctypes.create_string_buffer(program, len(program))
licence = ctypes.create_string_buffer(b"GPL")
loaded = bpf(LOAD, struct.pack(
    "<IIQQ", CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence)))
os.makedirs(group, exist_ok=True)
directory = os.open(group, os.O_RDONLY)
bpf(ATTACH, struct.pack("<IIII", directory, loaded, ATTACH_CGROUP_DEVICE, 0))
with open(f"{group}/cgroup.procs", "w") as processes:
    processes.write(str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
PYTHON
expect 2 python3 /tmp/deny.py sh -c 'exec 3<> /dev/fuse'
expect 5 python3 /tmp/deny.py $PROPAGATION doctor
says "EPERM"
expect 5 python3 /tmp/deny.py $PROPAGATION run --experiments off
says "EPERM"
expect 0 $PROPAGATION run --experiments off

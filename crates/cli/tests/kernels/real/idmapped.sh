# Volumes of a pod with a user namespace of its own (hostUsers: false): the runtime idmaps the whole tree. A FUSE mount in
# it refuses that (EINVAL) unless its daemon allows it, so that the container cannot be made after the mount; made before,
# it receives the mount, which is not idmapped.
cat > /tmp/idmapped.py <<'PYTHON'
"""Binds a tree at another directory, its users 0 to 65535 shown as 100000 and up."""
import ctypes, os, struct, sys

MOUNT_SETATTR, OPEN_TREE, MOVE_MOUNT = 442, 428, 429
CLONE, RECURSIVE, EMPTY_PATH, IDMAP = 1, 0x8000, 0x1000, 0x100000
libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        sys.exit(f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


inside, ready = os.pipe()
user = os.fork()
if user == 0:
    os.close(ready)
    if libc.unshare(0x10000000):
        os._exit(1)
    os.read(inside, 1)
    os._exit(0)
while os.readlink(f"/proc/{user}/ns/user") == os.readlink("/proc/self/ns/user"):
    pass
for kind in ("uid", "gid"):
    with open(f"/proc/{user}/{kind}_map", "w") as file:
        file.write("0 100000 65536")
namespace = os.open(f"/proc/{user}/ns/user", os.O_RDONLY)
tree = call(OPEN_TREE, -100, sys.argv[1].encode(), CLONE | RECURSIVE)
# struct mount_attr: attr_set, attr_clr, propagation, userns_fd
call(MOUNT_SETATTR, tree, b"", EMPTY_PATH | RECURSIVE, struct.pack("<QQQQ", IDMAP, 0, 0, namespace), 32)
call(MOVE_MOUNT, tree, b"", -100, sys.argv[2].encode(), 4)
os.close(ready)
PYTHON
mkdir -p /srv/idmapped /tmp/source /mnt/before /mnt/after
mount -t tmpfs idmapped /srv/idmapped
mount --make-shared /srv/idmapped
mkdir /srv/idmapped/data
echo "user data" > /tmp/source/file
expect 0 python3 /tmp/idmapped.py /srv/idmapped /mnt/before
[ "$(stat -c %u /mnt/before/data)" = 100000 ] || { echo "/mnt/before is not idmapped"; exit 1; }
expect 0 bindfs /tmp/source /srv/idmapped/data
expect 1 python3 /tmp/idmapped.py /srv/idmapped /mnt/after
says "Invalid argument"
expect 0 cat /mnt/before/data/file
[ "$(stat -c %u /mnt/before/data)" = 0 ] || { echo "the FUSE mount is idmapped"; exit 1; }
expect 0 $PROPAGATION probe /mnt/before/data
umount /srv/idmapped/data /mnt/before /srv/idmapped

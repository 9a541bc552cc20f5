# The machine's root is the initramfs, which pivot_root(2) refuses (EINVAL): nodes and containers are made nevertheless.
grep -q "^rootfs / rootfs" /proc/mounts || { cat /proc/mounts; exit 1; }
expect 0 $PROPAGATION run
says "full_success"

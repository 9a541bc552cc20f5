# SELinux with the policy of Debian 13, permissive and then enforcing. With it a domain for tests was compiled, which may
# use FUSE filesystems once its booleans are on (selinux-test-domain.cil). Files get the labels that udev and an
# engine give them.
selinux=/sys/fs/selinux
in_test="runcon system_u:system_r:fuse_test_t:s0"
in_container="runcon system_u:system_r:container_t:s0"

# logged DOMAIN TYPE MODE: the kernel has logged that the domain was denied something of that type.
logged() {
    dmesg > /tmp/log
    grep 'avc: *denied' /tmp/log | grep "scontext=[^ ]*:$1:" | grep "tcontext=[^ ]*:$2:" | grep -q "permissive=$3" && return
    echo "the kernel has not logged what $1 was denied of $2:"
    tail -n 20 /tmp/log
    exit 1
}

switch_on() {
    echo 1 > "$selinux/booleans/$1"
    echo 1 > $selinux/commit_pending_bools
}

# The kernel prints ten messages of this kind in five seconds and drops the rest.
echo 0 > /proc/sys/kernel/printk_ratelimit
[ -e $selinux/enforce ] || mount -t selinuxfs selinuxfs $selinux
[ -e /sys/kernel/security/lsm ] || mount -t securityfs securityfs /sys/kernel/security
dd if=/work/policy of=$selinux/load bs=16M iflag=fullblock > /tmp/said 2>&1 || { cat /tmp/said; exit 1; }
mkdir -p /etc/selinux /container/dfs /tmp/labelled /tmp/source
echo SELINUXTYPE=default > /etc/selinux/config
# Nobody may write to the directory that is shared with the machine: it has no label.
trap 'echo 0 > $selinux/enforce' EXIT
chcon system_u:object_r:fuse_device_t:s0 /dev/fuse
chcon system_u:object_r:null_device_t:s0 /dev/null
cp /usr/bin/busybox /container/busybox
chcon -R system_u:object_r:container_file_t:s0 /container
echo "user data" > /tmp/source/file

# Permissive: everything works, and the kernel logs what would be denied.
[ "$(cat $selinux/enforce)" = 0 ] || { echo "SELinux is not permissive"; exit 1; }
expect 0 $in_test $PROPAGATION run --experiments off
logged fuse_test_t fusefs_t 1
expect 0 $in_container /container/busybox sh -c 'exec 3<> /dev/fuse'
logged container_t fuse_device_t 1
expect 0 $in_test $PROPAGATION doctor
says "SELinux is permissive"

# Enforcing: doctor has the policy's answers, for this domain and for that of containers.
echo 1 > $selinux/enforce
expect 0 $in_test $PROPAGATION doctor
says "SELinux enforces its policy"
says "domain fuse_test_t, in which this program runs, FUSE mounts, the files of FUSE mounts (fusefs_t): EACCES"
says "domain container_t /dev/fuse, FUSE mounts: EACCES"
# The answers are right: a container of this policy may not open the device, and reads the files of a FUSE mount.
refused $in_container /container/busybox sh -c 'exec 3<> /dev/fuse'
logged container_t fuse_device_t 0
expect 0 bindfs /tmp/source /container/dfs
expect 0 $in_container /container/busybox cat /container/dfs/file

# The mount is denied.
expect 5 $in_test $PROPAGATION run --experiments off
says "lsm-denies"
says "does not let the domain fuse_test_t mount FUSE filesystems"
logged fuse_test_t fusefs_t 0

# The mount is there, and its files are denied, until their boolean is on or the mount has a label that the domain may read.
switch_on fuse_test_mount_fusefs
refused $in_test $PROPAGATION run --experiments off
says "lsm-denies"
says "setsebool -P fuse_test_use_fusefs on"
refused $in_test $PROPAGATION probe /container/dfs
says "SELinux denies the domain fuse_test_t files of FUSE mounts; setsebool -P fuse_test_use_fusefs on"
expect 0 bindfs -o context=system_u:object_r:tmp_t:s0 /tmp/source /tmp/labelled
expect 0 $in_test $PROPAGATION probe /tmp/labelled
switch_on fuse_test_use_fusefs
expect 0 $in_test $PROPAGATION probe /container/dfs
expect 0 $in_test $PROPAGATION run --experiments off
umount /tmp/labelled /container/dfs

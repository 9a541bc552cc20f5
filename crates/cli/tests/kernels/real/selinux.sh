# SELinux, permissive and without a policy: it is told, nothing is denied, and the five phases succeed.
[ -e /sys/fs/selinux/enforce ] || mount -t selinuxfs selinuxfs /sys/fs/selinux
[ "$(cat /sys/fs/selinux/enforce)" = 0 ] || { echo "SELinux is not permissive"; exit 1; }
expect 0 $PROPAGATION run --experiments off
[ -e /sys/kernel/security/lsm ] || mount -t securityfs securityfs /sys/kernel/security
$PROPAGATION doctor > /tmp/said
says "selinux"

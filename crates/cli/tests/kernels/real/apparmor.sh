# A profile that denies FUSE mounts: EACCES, although root mounts, and the cause is named. Then one for fusermount3 that
# allows it other directories, as that of Debian 13 and Ubuntu does.
[ -e /sys/kernel/security/lsm ] || mount -t securityfs securityfs /sys/kernel/security
[ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] || { echo "AppArmor is not enabled"; exit 1; }
cat > /tmp/no-fuse <<'PROFILE'
profile no-fuse flags=(attach_disconnected, mediate_deleted) {
  capability, network, file, signal, ptrace, unix, dbus, umount, pivot_root, change_profile,
  mount,
  deny mount fstype=fuse,
  deny mount fstype=fuse.*,
}
PROFILE
apparmor_parser --add --skip-cache /tmp/no-fuse || exit 1
expect 5 aa-exec -p no-fuse -- $PROPAGATION run --experiments off
says "EACCES"
says "lsm-denies"
expect 0 $PROPAGATION run --experiments off

cat > /tmp/helper <<'PROFILE'
profile fusermount3 /usr/bin/fusermount3 flags=(attach_disconnected) {
  capability, network, file, signal, unix, umount,
  mount fstype=(fuse, fuse.*) -> /home/**,
  mount fstype=(fuse, fuse.*) -> /tmp/**,
}
PROFILE
cat > /tmp/scenario.yaml <<'YAML'
name: helper-with-a-profile
node: {fuse_conf: "user_allow_other\n", container_fuse_conf: "user_allow_other\n"}
workloads:
  - {name: daemon, role: producer, uid: 1000}
steps:
  - start: daemon
    expect: {daemon: {outcome: mount_error, text: "Permission denied"}}
YAML
apparmor_parser --add --skip-cache /tmp/helper || exit 1
expect 0 $PROPAGATION run --patience 3 --scenario /tmp/scenario.yaml --experiments off
says "lsm-denies"
expect 0 $PROPAGATION doctor
says "fusermount3"
apparmor_parser --remove /tmp/helper /tmp/no-fuse

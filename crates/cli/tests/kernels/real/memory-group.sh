# Control groups of version 2: the kernel kills the daemon that outgrows its limit, and says so in memory.events.
[ -e /sys/fs/cgroup/cgroup.controllers ] || { echo "control groups are not of version 2"; exit 1; }
cat > /tmp/scenario.yaml <<'YAML'
name: daemon-outgrows-its-group
workloads:
  - {name: daemon, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
  - fault: oom
    expect: {daemon.program: SIGKILL, app: ENOTCONN}
  - repair: remount
    expect: {app: ok}
YAML
echo -memory > /sys/fs/cgroup/cgroup.subtree_control
expect 0 $PROPAGATION run --scenario /tmp/scenario.yaml --experiments off --format json
says "groups below /sys/fs/cgroup have no memory controller"
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
expect 0 $PROPAGATION run --scenario /tmp/scenario.yaml --experiments off --format json
says "memory.events: oom_kill 1"

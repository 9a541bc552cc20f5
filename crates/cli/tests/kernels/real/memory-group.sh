# Control groups of version 2: the kernel kills the daemon that outgrows its limit, and says so in memory.events. A consumer
# that outgrows its own ends alone: its group counts it, and the mount is as it was.
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
expect 0 $PROPAGATION run --patience 3 --scenario /tmp/scenario.yaml --experiments off --format json
says "groups below /sys/fs/cgroup have no memory controller"
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
expect 0 $PROPAGATION run --patience 3 --scenario /tmp/scenario.yaml --experiments off --format json
says "memory.events: oom_kill 1"

group=/sys/fs/cgroup/consumer
mkdir -p $group /srv/oom-data /srv/oom
echo "user data" > /srv/oom-data/file
expect 0 bindfs /srv/oom-data /srv/oom
echo 50M > $group/memory.max
cat > /tmp/consumer.py <<'PYTHON'
"""Enters a control group, opens a file of a mount, and needs ever more memory."""
import os, sys

with open(f"{sys.argv[1]}/cgroup.procs", "w") as processes:
    processes.write(str(os.getpid()))
file = open(sys.argv[2])
kept = [bytearray(b"x" * (1 << 20)) for _ in range(200)]
PYTHON
expect 137 python3 /tmp/consumer.py $group /srv/oom/file
grep -q "^oom_kill 1$" $group/memory.events || { cat $group/memory.events; exit 1; }
expect 0 $PROPAGATION probe /srv/oom
expect 0 cat /srv/oom/file
umount /srv/oom
rmdir $group

# Transports whose client is the kernel, which are left out where it has none: CIFS and NFS, of a directory and of a FUSE
# mount, measured, and while their server dies. An emulated processor's times say nothing of a real one.
transports="native smb-cifs nfs fuse-smb-cifs fuse-nfs"
expect 0 $PROPAGATION compare --quick --rounds 1 --workloads scan,open,die \
    --transports "$(echo "$transports" | tr ' ' ,)" --report /work/comparison
cat /tmp/said
cat > /tmp/measured.py <<'PYTHON'
import json, sys

comparison = json.load(open(sys.argv[1]))
for one in comparison["transports"]:
    print(one["transport"], json.dumps(one.get("skipped")), json.dumps(one.get("death")))
    if one.get("skipped"):
        sys.exit(f"{one['transport']} was left out")
PYTHON
expect 0 python3 /tmp/measured.py /work/comparison/comparison.json
cat /tmp/said

# Transports whose client is the kernel, which are left out where it has none: CIFS of a directory and of a FUSE mount,
# measured, and while their server dies; NFS, which is named. An emulated processor's times say nothing of a real one.
expect 0 $PROPAGATION compare --quick --rounds 1 --workloads scan,open,die \
    --transports native,smb-cifs,fuse-smb-cifs,nfs --report /work/comparison
cat > /tmp/measured.py <<'PYTHON'
import json, sys

comparison = json.load(open(sys.argv[1]))
for one in comparison["transports"]:
    name, skipped, death = one["transport"], one.get("skipped"), one.get("death")
    assert not skipped, (name, skipped)
    assert any(measure.get("median") for measure in one["measures"]), one
    if name != "native":
        assert death and death["restarted_ms"] > 0, (name, death)
PYTHON
expect 0 python3 /tmp/measured.py /work/comparison/comparison.json

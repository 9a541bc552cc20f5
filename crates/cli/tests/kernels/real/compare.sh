# Transports whose client is the kernel, which are left out where it has none: CIFS and NFS of a directory and of a FUSE
# mount, mounted by the node, measured, and while their server dies, one after the other. The client of SMB finds its
# server again by itself. NFS has the rights and the client that it needs, and is measured; of a FUSE mount nfs-ganesha
# may not get ready. An emulated processor's times say nothing of a real one.
cat > /tmp/measured.py <<'PYTHON'
import json, sys

comparison = json.load(open(sys.argv[1]))
for one in comparison["transports"]:
    name, skipped, death = one["transport"], one.get("skipped"), one.get("death")
    if name == "native":
        continue
    if name == "fuse-nfs" and skipped:
        assert skipped["kind"] == "not_ready", skipped
        print(name, skipped)
        continue
    assert not skipped, (name, skipped)
    how = " ".join(one["how"])
    assert (",noserverino" in how) == (name == "fuse-smb-cifs"), how
    assert all(measure.get("median") for measure in one["measures"]), one
    print(name, {key: value for key, value in death.items() if key not in ("fresh", "held")})
    print([(round(span["from_ms"]), span["gave"]) for span in death["fresh"]])
    assert death["restarted_ms"] > 0, (name, death)
    if name == "smb-cifs":
        assert death["healing"] == "reconnect" and death["healed_ms"] > 0, (name, death)
PYTHON
for each in smb-cifs fuse-smb-cifs nfs fuse-nfs; do
    expect 0 $PROPAGATION compare --rounds 1 --workloads open,die --transports "$each" --report "/work/$each"
    expect 0 python3 /tmp/measured.py "/work/$each/comparison.json"
    cat /tmp/said
done

# Nobody has named a server that opens files by their handles.
expect 0 $PROPAGATION compare --quick --rounds 1 --workloads open --transports all --format json
cp /tmp/said /tmp/all.json
for each in nfs fuse-nfs; do
    expect 0 grep -F "name $each among the transports" /tmp/all.json
done

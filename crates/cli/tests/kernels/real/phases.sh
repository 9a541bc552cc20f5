# Phases over the kernel's clients of SMB and NFS, which this machine may lack: the server is killed and started again under
# a mount that stays. Accesses wait or fail meanwhile, and the same mount answers afterwards.
for each in smb-cifs nfs; do
    expect 0 $PROPAGATION run --scenario /work/phases-$each.yaml --files-by-handle --patience 6
    says "Verdict: as_expected"
done

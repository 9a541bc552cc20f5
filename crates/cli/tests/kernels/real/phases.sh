# Phases over the kernel's client of SMB, which this machine may lack: smbd is killed and started again under a mount that
# stays. Accesses wait or fail meanwhile, and the same mount answers afterwards.
expect 0 $PROPAGATION run --scenario /work/phases-smb-cifs.yaml --patience 6
says "Verdict: as_expected"

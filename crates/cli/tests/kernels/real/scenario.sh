# The file of the library that needs a client of the kernel, and is skipped where there is none.
expect 0 $PROPAGATION run --scenario /work/scenario.yaml --patience 3
says "Verdict: as_expected"

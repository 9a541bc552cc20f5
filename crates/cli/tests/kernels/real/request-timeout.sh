# A daemon that is stopped makes everybody wait; with a request timeout its connection ends, and it is ENOTCONN. The
# kernel looks every 15 s for requests that are older than the timeout: a look that gives up earlier takes its request
# back, and nothing ends.
sysctl -w fs.fuse.default_request_timeout=15 || exit 1
cat > /tmp/scenario.yaml <<'YAML'
name: stopped-with-a-request-timeout
deadlines: {probe_ms: 60000}
looks: asked
workloads:
  - {name: daemon, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
  - fault: stop
    expect: {app: [ECONNABORTED, ENOTCONN]}
  - observe: true
    expect: {app: ENOTCONN, node: ENOTCONN}
YAML
expect 0 $PROPAGATION run --patience 3 --scenario /tmp/scenario.yaml --experiments off

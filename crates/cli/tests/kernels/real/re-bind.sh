# Readers in a consumer see no directory underneath while it is re-bound, from Linux 6.5 on.
cat > /tmp/scenario.yaml <<'YAML'
name: re-binds-under-load
looks: asked
workloads:
  - {name: daemon, role: producer}
  - {name: app, role: consumer, propagation: None, readers: 8}
steps:
  - {start: all, expect: {app: ok}}
  - {repeat: 100, steps: [{repair: rebind_consumer}]}
  - {observe: true, expect: {app.load: {failed_at_most: 0}}}
YAML
expect 0 $PROPAGATION run --patience 3 --scenario /tmp/scenario.yaml --experiments off --format json
says "at no time could the directory under the replaced mount be seen"
[ "$(grep -c "for a moment the directory under" /tmp/said)" = 0 ] || { echo "a hole was seen"; exit 1; }

//! A consumer with a liveness probe, as a manifest that can be applied as it is.

use crate::marker::MARKER_FILE;
use crate::plan::Bridge;

/// The name of the image with the agent, as `propagation image` writes it.
pub fn agent_image() -> String {
    format!("localhost/propagation-agent:{}", env!("CARGO_PKG_VERSION"))
}

/// The manifest of a pod whose consumer is restarted within 40 s after its mount is stale or hangs: 3 failed looks, 10 s
/// apart, 5 s each at the most. With `sentinel` an empty directory is a failure too. An init container brings the
/// program of the probe, so that the consumer's image needs nothing.
///
/// A container restart binds the volume anew, so it heals a consumer whose volume is the bridge or an ancestor; while
/// the source itself is stale the start is refused until it is unmounted.
///
/// ```
/// use propagation_model::plan::Bridge;
/// use propagation_model::probed_consumer::probed_consumer;
///
/// let manifest = probed_consumer(&Bridge::default(), false);
/// assert!(manifest.contains("livenessProbe:") && manifest.contains("initContainers:"));
/// ```
pub fn probed_consumer(bridge: &Bridge, sentinel: bool) -> String {
    let Bridge { path, mountpoint } = bridge;
    let (path, image) = (serde_json::Value::from(path.as_str()), agent_image());
    let mount = serde_json::Value::from(format!("/mnt/{mountpoint}"));
    let sentinel = if sentinel { format!(", --sentinel, {MARKER_FILE}") } else { String::new() };
    format!(
        "\
apiVersion: v1
kind: Pod
metadata:
  name: probed-consumer
spec:
  initContainers:
    - name: bring-probe
      image: {image}
      command: [/propagation-agent, install, /probe]
      volumeMounts: [{{name: probe, mountPath: /probe}}]
  containers:
    # Yours, with its own image and command.
    - name: consumer
      image: {image}
      command: [/propagation-agent, consumer, --mountpoint, {mount}]
      volumeMounts:
        - {{name: probe, mountPath: /probe, readOnly: true}}
        - {{name: bridge, mountPath: /mnt, mountPropagation: HostToContainer}}
      livenessProbe:
        exec:
          command: [/probe/propagation-agent, probe, {mount}{sentinel}, --timeout, 4s]
        initialDelaySeconds: 10
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
  volumes:
    - {{name: probe, emptyDir: {{}}}}
    - {{name: bridge, hostPath: {{path: {path}}}}}
"
    )
}

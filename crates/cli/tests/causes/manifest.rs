//! A fragment of YAML that a fix prints, applied to the file of an incident as a person applies it to a manifest.

use libtest_mimic::Failed;
use propagation_core::scenario;
use serde_json::{Map, Value, json};

/// The file with the fragment at the workloads `on`, and with other steps.
pub(crate) fn applied(
    fragment: &str,
    file: &str,
    on: &[String],
    steps: &str,
) -> Result<String, Failed> {
    let mut file: Value = scenario::parse_as("the incident", file)?;
    let parts: Value = scenario::parse_as("the fragment", fragment)?;
    let mut steps: Value = scenario::parse_as("the steps", steps)?;
    if let Some(command) = comment(fragment, "# on the node, first: ") {
        let steps = steps["steps"].as_array_mut().ok_or("steps are a list")?;
        steps.insert(0, json!({"run": ["sh", "-c", command]}));
    }
    file["steps"] = steps["steps"].take();
    let bridge = file["bridge"]["path"].as_str().unwrap_or("/tmp/fuse-test-bridge").to_owned();
    for (key, part) in parts.as_object().ok_or("a fragment is a mapping")? {
        match key.as_str() {
            "node" => merge(entry(&mut file, key), part),
            "livenessProbe" => {
                let seconds = part["timeoutSeconds"].as_u64().ok_or("a probe has a limit")?;
                entry(&mut file, "deadlines")["probe_ms"] = json!(seconds * 1000);
            }
            // The time at which it begins does not belong to the incident.
            "startupProbe" => {}
            "fuse" if on.iter().all(|name| workload(&mut file, name)["fuse"].is_null()) => {
                merge(entry(&mut file, key), part);
            }
            _ => {
                for name in on {
                    change(workload(&mut file, name), key, part, &bridge)?;
                }
            }
        }
    }
    if let Some(place) = comment(fragment, "# and none at ") {
        for name in on {
            let volumes = entry(workload(&mut file, name), "volumes").as_array_mut();
            volumes.ok_or("no other volume")?.retain(|one| one["destination"] != place);
        }
    }
    Ok(file.to_string())
}

/// What a comment of a fragment says.
fn comment<'t>(fragment: &'t str, begins: &str) -> Option<&'t str> {
    fragment.lines().find_map(|line| Some(line.split_once(begins)?.1.trim()))
}

fn entry<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    let map = value.as_object_mut().expect("a mapping");
    map.entry(key).or_insert_with(|| Value::Object(Map::new()))
}

fn merge(value: &mut Value, part: &Value) {
    match part.as_object() {
        Some(parts) => parts.iter().for_each(|(key, part)| merge(entry(value, key), part)),
        None => *value = part.clone(),
    }
}

fn workload<'v>(file: &'v mut Value, name: &str) -> &'v mut Value {
    let workloads = file["workloads"].as_array_mut().expect("a list of workloads");
    workloads.iter_mut().find(|one| one["name"] == name).expect("a workload of the file")
}

/// Applies one part of a manifest to a workload.
fn change(workload: &mut Value, key: &str, part: &Value, bridge: &str) -> Result<(), Failed> {
    let remove = |workload: &mut Value, key: &str| {
        workload.as_object_mut().expect("a mapping").remove(key);
    };
    match key {
        "fuse" => merge(entry(workload, key), part),
        "hostUsers" => workload["user_namespace"] = json!(part != true),
        "securityContext" => {
            for (key, value) in part.as_object().ok_or("a security context is a mapping")? {
                let own = match key.as_str() {
                    "privileged" => "privileged",
                    "runAsUser" => "uid",
                    other => return Err(format!("{other} is not known here").into()),
                };
                workload[own] = value.clone();
            }
        }
        "volumes" => {
            let volume = &part[0];
            if volume["bind"]["recursive"] == "enabled" {
                remove(workload, "bind");
                remove(workload, "propagation");
            } else {
                let path = volume["hostPath"]["path"].as_str().ok_or("a hostPath has a path")?;
                remove(workload, "volume");
                remove(workload, "sub_path");
                if path != bridge {
                    workload["volume"] = json!({"path": path});
                }
            }
        }
        "volumeMounts" => {
            let mount = &part[0];
            if let Some(propagation) = mount.get("mountPropagation") {
                workload["propagation"] = propagation.clone();
            }
            if mount["readOnly"] == false {
                remove(workload, "bind");
            }
            if mount["recursiveReadOnly"] == "Disabled" {
                remove(entry(workload, "bind"), "recursive_read_only");
            }
        }
        other => return Err(format!("{other} is not known here").into()),
    }
    Ok(())
}

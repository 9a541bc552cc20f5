//! The reverse experiment: what a change removes is added to a set-up that works.

use serde_json::Value;

use crate::plan::{NodeSpec, Plan, Role, WorkloadSpec};

/// A plan whose node and workloads have the defaults of their roles, with the steps, the fault and the programs of
/// another.
pub(super) fn plain(plan: &Plan) -> Plan {
    let mut plain = plan.clone();
    plain.node = NodeSpec { runtime: plan.node.runtime.clone(), ..NodeSpec::default() };
    plain.node.runtime.namespace = NodeSpec::default().runtime.namespace;
    plain.node.runtime.user_namespace = false;
    plain.fuse.allow_other = true;
    for spec in &mut plain.workloads {
        let role = match spec.role {
            Role::Producer => WorkloadSpec::producer(),
            Role::Consumer => WorkloadSpec::consumer(spec.name.clone(), spec.order),
            Role::Control => WorkloadSpec::control(),
        };
        *spec = role.with(|workload| {
            workload.name = spec.name.clone();
            workload.order = spec.order;
            workload.also_read_as = spec.also_read_as.clone();
            workload.fuse = spec.fuse.clone();
            workload.liveness_probe = spec.liveness_probe;
        });
    }
    plain
}

/// `to` with that in which `with` differs from `without`; none where that makes no valid plan.
pub(super) fn add(to: &Plan, with: &Plan, without: &Plan) -> Option<Plan> {
    let mut value = serde_json::to_value(to).ok()?;
    let (with, without) = (serde_json::to_value(with).ok()?, serde_json::to_value(without).ok()?);
    transplant(&mut value, &with, &without);
    let plan: Plan = serde_json::from_value(value).ok()?;
    plan.problems().is_empty().then_some(plan)
}

fn transplant(to: &mut Value, with: &Value, without: &Value) {
    if with == without {
        return;
    }
    match (to, with, without) {
        (Value::Object(to), Value::Object(with), Value::Object(without)) => {
            for (key, value) in with {
                match (to.get_mut(key), without.get(key)) {
                    (Some(to), Some(without)) => transplant(to, value, without),
                    (_, Some(without)) if value == without => {}
                    _ => {
                        to.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in without.keys().filter(|key| !with.contains_key(*key)) {
                to.remove(key);
            }
        }
        (Value::Array(to), Value::Array(with), Value::Array(without))
            if to.len() == with.len() && with.len() == without.len() =>
        {
            for ((to, with), without) in to.iter_mut().zip(with).zip(without) {
                transplant(to, with, without);
            }
        }
        (to, with, _) => *to = with.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Covering, Propagation, Volume};

    /// The set-up of one trouble, in which more than that is unusual.
    fn unusual() -> Plan {
        let mut plan = Plan::default();
        plan.node.covering = Covering::Tmpfs;
        plan.workloads[1].volume = Volume::Mountpoint;
        plan.workloads[1].propagation = Propagation::Bidirectional;
        plan
    }

    #[test]
    fn only_what_a_change_removes_is_added() {
        let with = unusual();
        let mut without = with.clone();
        without.workloads[1].volume = Volume::Bridge;
        let plain = plain(&without);
        assert_eq!(plain, Plan::default());
        let mut wanted = Plan::default();
        wanted.workloads[1].volume = Volume::Mountpoint;
        assert_eq!(add(&plain, &with, &without), Some(wanted));
        assert_eq!(add(&without, &with, &without), Some(with));
    }

    #[test]
    fn what_a_change_adds_is_taken_away_again() {
        let with = Plan::default();
        let mut without = with.clone();
        without.node.fuse_conf = Some("user_allow_other\n".to_owned());
        without.workloads[0].sub_path = Some("dfs".to_owned());
        assert_eq!(add(&without, &with, &without), Some(with));
    }
}

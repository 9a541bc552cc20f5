//! `propagation doctor --backend k8s`: the same examination on nodes of a cluster. Nothing is mounted there, and what is
//! brought there to look is removed again.

use std::io;

use futures_util::StreamExt;
use propagation_backend_k8s::K8sBackend;
use propagation_core::mountinfo::MountTable;
use propagation_core::observation::Actor;
use propagation_core::plan::Plan;
use propagation_core::report::Cleanup;
use propagation_core::{Backend, Error, Node, Run, RunId};
use propagation_report::text::{lay_out, one_line};
use serde_json::json;

use super::{Examination, Mounts};
use crate::args::{DoctorOptions, Format};
use crate::exit::Exit;
use crate::output;
use crate::targets::{connect, names};

/// What was found on a node.
struct Found {
    node: String,
    result: Result<(Examination, Cleanup), Error>,
}

pub(super) fn main(options: &DoctorOptions, plan: &Plan) -> Result<Exit, Error> {
    options.cluster.refuse_those_of_runs()?;
    let found = crate::runtime()?.block_on(async {
        let backend = connect(&options.cluster).await?;
        let mut nodes: Vec<Option<String>> = vec![None];
        if !options.cluster.is_one_node() {
            nodes = names(&backend, &options.cluster).await?.into_iter().map(Some).collect();
        }
        let looks = nodes.into_iter().map(|node| {
            let backend = node.as_ref().map_or_else(|| backend.clone(), |it| backend.for_node(it));
            async move {
                let (name, result) = examine(&backend, plan).await;
                Found { node: name.or(node).unwrap_or_default(), result }
            }
        });
        let limit = options.cluster.at_a_time();
        let found: Vec<_> = futures_util::stream::iter(looks).buffered(limit).collect().await;
        backend.settle().await;
        Ok::<_, Error>(found)
    })?;
    show(options, found)
}

/// Opens a node, looks, and closes it; its name, once that is known.
async fn examine(
    backend: &K8sBackend,
    plan: &Plan,
) -> (Option<String>, Result<(Examination, Cleanup), Error>) {
    let run = match RunId::generate() {
        Ok(id) => Run::new(id),
        Err(error) => return (None, Err(error)),
    };
    let node = match backend.open(plan, &run).await {
        Ok(node) => node,
        Err(error) => return (None, Err(error)),
    };
    let looked = look(&*node, plan).await;
    let cleanup = node.close().await;
    (Some(node.name().to_owned()), looked.map(|examination| (examination, cleanup)))
}

async fn look(node: &dyn Node, plan: &Plan) -> Result<Examination, Error> {
    let mut plan = plan.clone();
    plan.resolve(&node.resolved());
    let facts = node.facts().await?;
    let tables = node.mount_tables(&[Actor::Node, Actor::Runtime]).await?;
    let mut tables = tables.into_iter().map(Option::unwrap_or_default);
    let (node, runtime) = (tables.next().unwrap_or_default(), tables.next().unwrap_or_default());
    let is_apart = ids(&node) != ids(&runtime);
    let runtime = is_apart.then(|| ("the runtime".to_owned(), runtime));
    Ok(Examination::new(facts, &Mounts { node, own_namespace: false, runtime }, &plan))
}

/// Mounts have ids of their own in every mount namespace.
fn ids(table: &MountTable) -> Vec<u64> {
    table.iter().map(|mount| mount.mount_id).collect()
}

fn show(options: &DoctorOptions, found: Vec<Found>) -> Result<Exit, Error> {
    let (mut exit, mut documents) = (Exit::Success, Vec::new());
    let only_one = found.len() == 1;
    for Found { node, result } in found {
        let (examination, cleanup) = match result {
            Ok(found) => found,
            Err(error) if only_one => return Err(error),
            Err(error) => {
                exit = Exit::Failed;
                match options.format {
                    Format::Json => {
                        documents.push(json!({ "node": node, "error": error.to_string() }))
                    }
                    Format::Text => {
                        output::text(&format!("Node {}\n  {error}\n", one_line(&node)))?
                    }
                }
                continue;
            }
        };
        let in_order = examination.is_in_order();
        match exit {
            Exit::Failed => {}
            _ if !cleanup.could_not.is_empty() => exit = Exit::Left,
            Exit::Success if !in_order => exit = Exit::NotInOrder,
            _ => {}
        }
        match options.format {
            Format::Json => {
                let mut document = examination.to_json()?;
                document["node"] = node.into();
                document["could_not_clean_up"] = json!(cleanup.could_not);
                documents.push(document);
            }
            Format::Text => {
                let stdout = io::stdout();
                let mut text = format!("Node {}\n", one_line(&node));
                text.push_str(&examination.render(output::colour(&stdout)));
                for line in &cleanup.could_not {
                    text.push_str(&format!("  could not clean up: {}\n", one_line(line)));
                }
                output::text(&lay_out(&text, output::width(&stdout)))?;
            }
        }
    }
    match (options.format, only_one) {
        (Format::Text, _) => {}
        (Format::Json, true) => output::json(&documents.remove(0))?,
        (Format::Json, false) => output::json(&json!(documents))?,
    }
    Ok(exit)
}

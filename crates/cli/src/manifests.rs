//! `propagation manifests`: the plan as files for `kubectl apply -k`.

use propagation_backend_k8s::objects::manifests::{Choices, files};
use propagation_backend_k8s::{is_dns_label, is_label_value, parse_toleration};
use propagation_core::plan::Plan;
use propagation_core::{Error, ErrorKind};

use crate::args::manifests::ManifestsOptions;
use crate::exit::Exit;
use crate::files::Directory;
use crate::output;
use crate::targets::bad_toleration;

pub(crate) fn main(options: &ManifestsOptions) -> Result<Exit, Error> {
    let refuse = |what: &str, reason: String| Error::new(ErrorKind::InvalidInput, what, reason);
    let plan = Plan::default().with(|plan| plan.bridge.path.clone_from(&options.bridge));
    plan.validate()?;
    if !is_dns_label(&options.namespace) {
        let reason = format!("{:?} cannot be the name of a namespace", options.namespace);
        return Err(refuse("read --namespace", reason)
            .with_fix("use at most 63 of a-z, 0-9 and -, not starting or ending with -"));
    }
    if let Some(node) =
        options.node.as_ref().filter(|node| node.is_empty() || !is_label_value(node))
    {
        let reason = format!("{node:?} cannot be the name of a node");
        return Err(refuse("read --node", reason).with_fix("see `kubectl get nodes`"));
    }
    let tolerations = options.tolerate.iter().map(|text| parse_toleration(text));
    let tolerations = tolerations.collect::<Result<_, _>>().map_err(bad_toleration)?;
    let mut node_selector = Vec::new();
    node_selector
        .extend(options.node.iter().map(|n| ("kubernetes.io/hostname".to_owned(), n.clone())));
    for label in options.selector.iter().flat_map(|labels| labels.split(',')) {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            refuse("read --selector", format!("{label:?} is not KEY=VALUE"))
                .with_fix("pods choose nodes by equal labels only: write KEY=VALUE")
        })?;
        node_selector.push((key.to_owned(), value.to_owned()));
    }
    let choices = Choices {
        namespace: options.namespace.clone(),
        image: options.image.clone(),
        node_selector: node_selector.into_iter().collect(),
        tolerations,
        liveness_probe: options.liveness_probe,
        sidecar: options.sidecar,
    };
    let directory = &options.directory;
    let failed = |what: String, error: std::io::Error| {
        Error::from_source(ErrorKind::InvalidInput, what, error)
            .with_fix("name a directory of your own, or one that is not there yet")
    };
    let directory = Directory::make(directory)
        .map_err(|error| failed(format!("make {}", directory.display()), error))?;
    for (name, content) in files(&plan, &choices)? {
        let path = directory.join(name);
        directory
            .write(name, content.as_bytes())
            .map_err(|error| failed(format!("write {}", path.display()), error))?;
        output::text(&path.display().to_string())?;
    }
    Ok(Exit::Success)
}

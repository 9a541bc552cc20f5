//! Clusters that a real one cannot be made to be: what the API server says is made up at the seam
//! where requests leave the client.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions};
use propagation_core::{Backend, Error, ErrorKind, Plan, Run, RunId};
use serde_json::{Value, json};

const RUN: &str = "20260228t100000-ab12cd34";

/// Answers a request: its method and path.
type Answer = fn(&Method, &str) -> Option<(u16, Value)>;

/// A backend on a cluster that answers as `first` says, and otherwise as a good one does; and what it
/// is asked.
fn cluster(first: Answer, options: K8sOptions) -> (K8sBackend, Arc<Mutex<Vec<String>>>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    // It ends with its requests.
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            log.lock().expect("the log").push(format!("{method} {path}"));
            let watches = request.uri().query().is_some_and(|query| query.contains("watch="));
            let answer =
                if watches { status(503, "", "no watch now") } else { first(&method, &path) };
            let (code, body) = answer.unwrap_or_else(|| good(&method, &path));
            let body = Body::from(serde_json::to_vec(&body).expect("JSON"));
            let response = Response::builder().status(code).body(body).expect("a response");
            send.send_response(response);
        }
    });
    (K8sBackend::with_client(Client::new(service, "default"), options), asked)
}

/// Opens a node on such a cluster; the error, and what was asked.
async fn open(first: Answer, plan: Plan) -> (Error, Vec<String>) {
    let options = K8sOptions {
        node: Some("w1".into()),
        namespace: Some("ours".into()),
        access: Access::Pod,
        image: Some("agent:1".into()),
        ..K8sOptions::default()
    };
    let (backend, asked) = cluster(first, options);
    let run = Run::new(RunId::parse(RUN).expect("a run id"));
    let error = match backend.open(&plan, &run).await {
        Ok(_) => panic!("a node was opened on a cluster that is not one"),
        Err(error) => error,
    };
    let asked = asked.lock().expect("the log").clone();
    (error, asked)
}

fn status(code: u16, reason: &str, message: &str) -> Option<(u16, Value)> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message,
    });
    Some((code, status))
}

fn node(ready: &str, taints: Value) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": { "name": "w1" },
        "spec": { "taints": taints },
        "status": {
            "conditions": [{ "type": "Ready", "status": ready, "message": "kubelet stopped" }],
            "images": [{ "names": ["busybox:1"], "sizeBytes": 1 }],
        },
    })
}

/// A cluster in order.
fn good(method: &Method, path: &str) -> (u16, Value) {
    let namespace = json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": {
            "name": "ours", "labels": { "app.kubernetes.io/managed-by": "propagation" },
        },
    });
    match (method, path) {
        (_, "/api/v1/nodes/w1") => (200, node("True", json!([]))),
        (_, "/api/v1/namespaces/ours") => (200, namespace),
        (&Method::GET, _) => {
            (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] }))
        }
        (&Method::DELETE, _) => (404, status(404, "NotFound", "not found").expect("a status").1),
        (_, path) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            (200, json!({ "metadata": { "name": name } }))
        }
    }
}

fn fix(error: &Error) -> &str {
    error.fix().unwrap_or_default()
}

#[tokio::test]
async fn expired_credentials_are_named() {
    let (error, _) =
        open(|_, _| status(401, "Unauthorized", "Unauthorized"), Plan::default()).await;
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(fix(&error).contains("renew the credentials"), "{error}");
}

#[tokio::test]
async fn a_missing_right_is_named_with_verb_and_resource() {
    let forbid: Answer = |method, path| {
        (method == Method::PATCH && path.contains("/configmaps/")).then(|| {
            let message = "configmaps \"run\" is forbidden: User \"u\" cannot patch resource \
                           \"configmaps\" in API group \"\" in the namespace \"ours\"";
            status(403, "Forbidden", message)
        })?
    };
    let (error, asked) = open(forbid, Plan::default()).await;
    assert!(error.reason().contains("cannot patch resource \"configmaps\""), "{error}");
    assert!(fix(&error).contains("rbac.yaml"), "{}", fix(&error));
    assert!(
        !asked.iter().any(|line| line.contains("PATCH") && line.contains("/pods/")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_node_that_is_not_there_is_not_looked_for_further() {
    let none: Answer = |_, path| {
        (path == "/api/v1/nodes/w1").then(|| status(404, "NotFound", "nodes \"w1\" not found"))?
    };
    let (error, asked) = open(none, Plan::default()).await;
    assert!(error.to_string().contains("nodes \"w1\" not found"), "{error}");
    assert!(fix(&error).contains("kubectl get nodes"));
    assert_eq!(asked, ["GET /api/v1/nodes/w1"], "nothing was made");
}

#[tokio::test]
async fn a_node_that_is_not_ready_is_refused_before_anything_is_made() {
    let not_ready: Answer =
        |_, path| (path == "/api/v1/nodes/w1").then(|| (200, node("Unknown", json!([]))));
    let (error, asked) = open(not_ready, Plan::default()).await;
    assert!(error.reason().contains("not Ready: kubelet stopped"), "{error}");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_taint_is_refused_with_the_option_that_tolerates_it() {
    let tainted: Answer = |_, path| {
        let taints = json!([{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }]);
        (path == "/api/v1/nodes/w1").then(|| (200, node("True", taints)))
    };
    let (error, _) = open(tainted, Plan::default()).await;
    assert!(fix(&error).contains("--tolerate 'gpu=yes:NoSchedule'"), "{}", fix(&error));
}

#[tokio::test]
async fn a_namespace_of_somebody_else_is_not_touched() {
    let theirs: Answer = |_, path| {
        let space =
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "ours" } });
        (path == "/api/v1/namespaces/ours").then_some((200, space))
    };
    let (error, asked) = open(theirs, Plan::default()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.reason().contains("has not made it"), "{error}");
    assert!(asked.iter().all(|line| line.starts_with("GET")), "{asked:?}");
}

#[tokio::test]
async fn a_full_quota_and_pod_security_are_told_apart() {
    let quota: Answer = |method, path| {
        (method == Method::PATCH && path.contains("/pods/")).then(|| {
            status(
                403,
                "Forbidden",
                "pods \"host\" is forbidden: exceeded quota: compute, used: pods=1",
            )
        })?
    };
    let (error, asked) = open(quota, Plan::default()).await;
    assert!(fix(&error).contains("raise the quota"), "{error}");
    assert!(
        asked.iter().any(|line| line.contains("GET") && line.contains("configmaps")),
        "cleaned"
    );
    let security: Answer = |method, path| {
        (method == Method::PATCH && path.contains("/pods/")).then(|| {
            let message = "pods \"host\" is forbidden: violates PodSecurity \"restricted:latest\": \
                           privileged (container \"agent\" must not set privileged=true)";
            status(403, "Forbidden", message)
        })?
    };
    let (error, _) = open(security, Plan::default()).await;
    assert!(fix(&error).contains("pod-security.kubernetes.io/enforce=privileged"), "{error}");
}

#[tokio::test]
async fn a_plan_that_shapes_the_node_is_refused() {
    let mut plan = Plan::default();
    plan.node.without_host_tools = true;
    let (error, asked) = open(|_, _| None, plan).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test]
async fn an_api_server_that_cannot_be_reached_says_so() {
    let directory = std::env::temp_dir().join(format!("propagation-mock-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("kubeconfig");
    // Port 1 of this machine has no server.
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
                contexts: [{name: t, context: {cluster: t, user: t}}]\n\
                clusters: [{name: t, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
                users: [{name: t, user: {token: very-secret}}]\n";
    std::fs::write(&path, text).expect("a kubeconfig");
    let options = K8sOptions { kubeconfig: Some(path), ..K8sOptions::default() };
    let error = K8sBackend::connect(options).await.expect_err("nobody is there");
    std::fs::remove_dir_all(&directory).expect("clean up");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(fix(&error).contains("--context"), "{}", fix(&error));
    assert!(!format!("{error:?}").contains("very-secret"));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_a_finalizer_keeps_says_which() {
    let stuck: Answer = |_, path| {
        let words = "Some content in the namespace has finalizers remaining: example.com/keep in 1 \
                     resource instances";
        let condition = json!({
            "type": "NamespaceFinalizersRemaining", "status": "True", "message": words,
            "reason": "SomeFinalizersRemain", "lastTransitionTime": "2026-02-28T10:00:00Z",
        });
        let space = json!({
            "kind": "Namespace", "apiVersion": "v1",
            "metadata": {
                "name": "fuse-test-x", "uid": "1", "resourceVersion": "1",
                "deletionTimestamp": "2026-02-28T10:00:00Z",
                "labels": {
                    "app.kubernetes.io/managed-by": "propagation", "propagation/run-id": RUN,
                },
            },
            "status": { "phase": "Terminating", "conditions": [condition] },
        });
        match path {
            "/api/v1/namespaces" => Some((
                200,
                json!({
                    "kind": "NamespaceList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" },
                    "items": [space],
                }),
            )),
            "/api/v1/namespaces/fuse-test-x" => Some((200, space)),
            _ => None,
        }
    };
    let (backend, _) = cluster(stuck, K8sOptions::default());
    let left = backend.leftovers().await.expect("the cluster tells");
    assert_eq!(left.len(), 1, "{left:?}");
    let cleanup = backend.remove(&left[0]).await;
    let words = cleanup.could_not.join("; ");
    assert!(words.contains("example.com/keep"), "{cleanup:?}");
}

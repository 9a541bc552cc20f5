//! Requests to the API server about objects of one kind.

use std::borrow::Cow;
use std::marker::PhantomData;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use kube::api::{
    ApiResource, AttachParams, AttachedProcess, DeleteParams, Execute, ListParams, ObjectMeta,
    Patch, PatchParams, PostParams,
};
use kube::core::DynamicResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::kinds::{Kind, Pod};
use crate::objects::FIELD_MANAGER;

/// The objects of a kind, in a namespace or in the whole cluster.
///
/// The client of kube is generic over what it reads. It reads [`Raw`] objects only, so that it is compiled once and
/// not for every kind.
#[derive(Debug, Clone)]
pub(crate) struct Api<K> {
    objects: kube::Api<Raw>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Api<K> {
    /// Those of the whole cluster.
    pub(crate) fn all(client: Client) -> Self {
        Self { objects: kube::Api::all_with(client, &resource::<K>()), kind: PhantomData }
    }

    /// Those of a namespace.
    pub(crate) fn namespaced(client: Client, namespace: &str) -> Self {
        let objects = kube::Api::namespaced_with(client, namespace, &resource::<K>());
        Self { objects, kind: PhantomData }
    }

    pub(crate) async fn get(&self, name: &str) -> kube::Result<K> {
        read(self.objects.get(name).await?)
    }

    /// The object, if it is there.
    pub(crate) async fn get_opt(&self, name: &str) -> kube::Result<Option<K>> {
        self.objects.get_opt(name).await?.map(read).transpose()
    }

    pub(crate) async fn list(&self, parameters: &ListParams) -> kube::Result<Vec<K>> {
        self.objects.list(parameters).await?.items.into_iter().map(read).collect()
    }

    /// Makes an object that is not there yet.
    pub(crate) async fn create(&self, manifest: &Value) -> kube::Result<K> {
        let object = Raw::from(manifest.clone());
        read(self.objects.create(&PostParams::default(), &object).await?)
    }

    /// Applies an object on the server's side, over what others have applied.
    pub(crate) async fn apply(&self, name: &str, manifest: &Value) -> kube::Result<K> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        read(self.objects.patch(name, &parameters, &Patch::Apply(manifest)).await?)
    }

    /// Changes the fields that are named.
    pub(crate) async fn merge(&self, name: &str, fields: &Value) -> kube::Result<K> {
        let patch = Patch::Merge(fields);
        read(self.objects.patch(name, &PatchParams::default(), &patch).await?)
    }

    /// Begins to delete an object.
    pub(crate) async fn delete(&self, name: &str, parameters: &DeleteParams) -> kube::Result<()> {
        self.objects.delete(name, parameters).await.map(drop)
    }

    /// What happens to objects; after an error the watch begins again.
    pub(crate) fn watch(
        self,
        config: watcher::Config,
    ) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let events = watcher(self.objects, config).default_backoff().boxed();
        events.and_then(async |event| typed(event)).boxed()
    }

    /// An object whenever it has changed, and nothing when it is not there; after an error the watch begins again.
    pub(crate) fn watch_object(
        &self,
        name: &str,
    ) -> BoxStream<'static, watcher::Result<Option<K>>> {
        let states = watcher::watch_object(self.objects.clone(), name).default_backoff().boxed();
        states.and_then(async |object| object.map(read).transpose().map_err(unread)).boxed()
    }
}

impl Api<Pod> {
    /// Executes a command in a pod.
    pub(crate) async fn exec(
        &self,
        name: &str,
        command: Vec<String>,
        parameters: &AttachParams,
    ) -> kube::Result<AttachedProcess> {
        self.objects.exec(name, command, parameters).await
    }
}

/// An object as the API server sends it.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    value: Value,
    /// Its version alone: watches need it.
    metadata: ObjectMeta,
}

impl From<Value> for Raw {
    fn from(value: Value) -> Self {
        let version = value["metadata"]["resourceVersion"].as_str().map(ToOwned::to_owned);
        Self { value, metadata: ObjectMeta { resource_version: version, ..ObjectMeta::default() } }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Execute for Raw {}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What kube has to know of a kind.
fn resource<K: Kind>() -> ApiResource {
    let (group, version) = (K::GROUP.to_owned(), "v1".to_owned());
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    ApiResource { group, version, api_version, kind: K::KIND.into(), plural: K::PLURAL.into() }
}

fn read<K: Kind>(object: Raw) -> kube::Result<K> {
    serde_json::from_value(object.value).map_err(kube::Error::SerdeError)
}

fn unread(error: kube::Error) -> watcher::Error {
    watcher::Error::WatchFailed(error)
}

fn typed<K: Kind>(event: Event<Raw>) -> watcher::Result<Event<K>> {
    Ok(match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object).map_err(unread)?),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object).map_err(unread)?),
        Event::Delete(object) => Event::Delete(read(object).map_err(unread)?),
    })
}

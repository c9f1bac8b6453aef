//! Which models there are; loading them and letting them go.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::guard::Caller;
use super::{ApiError, App};
use crate::models::Backend;
use crate::models::ModelError;

/// Models as OpenAI's clients list them.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    object: &'static str,
    /// The models.
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub struct Model {
    /// What requests call it.
    id: String,
    /// `model`.
    object: &'static str,
    /// Not known: 0.
    created: u64,
    /// `huatuo`.
    owned_by: &'static str,
    /// `loaded`, `not_loaded`, or `upstream` for those that other servers compute.
    status: &'static str,
    /// Most tokens of prompt and answer together, of a loaded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<usize>,
    /// What it computes on, of a loaded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

impl Model {
    fn new(id: String, backend: Option<&Backend>) -> Self {
        let (status, engine) = match backend {
            None => ("not_loaded", None),
            Some(Backend::Local(engine)) => ("loaded", Some(engine)),
            Some(Backend::Upstream(_)) => ("upstream", None),
        };
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: "huatuo",
            status,
            max_model_len: engine.map(|engine| engine.most_tokens()),
            device: engine.map(|engine| engine.device().to_owned()),
        }
    }
}

/// A model's name in a path; bytes that are no text name no route.
pub struct Name(String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|_| ApiError::Route)
    }
}

/// One of the operator's keys: other clients' answers depend on what is loaded.
pub struct Admin;

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let is_admin = parts.extensions.get::<Caller>().is_some_and(|caller| caller.is_admin);
        if is_admin { Ok(Self) } else { Err(ApiError::Admin) }
    }
}

/// All models that are served.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = ModelList)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    let models = app.models.list().into_iter().map(|(name, backend)| Model::new(name, backend.as_ref()));
    Json(ModelList { object: "list", data: models.collect() })
}

/// One model.
#[utoipa::path(
    get, path = "/v1/models/{name}", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Model))
)]
pub async fn show(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<Model>, ApiError> {
    let found = app.models.list().into_iter().find(|(known, _)| *known == name);
    let (name, backend) = found.ok_or(ModelError::Unknown { name })?;
    Ok(Json(Model::new(name, backend.as_ref())))
}

/// Loads a model of the configuration, for one of the operator's keys; answers once it is loaded. No name is ever a path.
#[utoipa::path(
    post, path = "/v1/models/{name}/load", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Model))
)]
pub async fn load(State(app): State<Arc<App>>, _: Admin, Name(name): Name) -> Result<Json<Model>, ApiError> {
    let (loader, wanted) = (Arc::clone(&app), name.clone());
    let loaded = tokio::task::spawn_blocking(move || loader.models.load(&wanted)).await;
    loaded.map_err(|error| ApiError::Failed(error.to_string()))??;
    show(State(app), Name(name)).await
}

/// Lets a model go once the texts that it writes are done, for one of the operator's keys.
#[utoipa::path(
    post, path = "/v1/models/{name}/unload", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Model))
)]
pub async fn unload(State(app): State<Arc<App>>, _: Admin, Name(name): Name) -> Result<Json<Model>, ApiError> {
    app.models.unload(&name)?;
    show(State(app), Name(name)).await
}

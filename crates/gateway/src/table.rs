//! Every route of the contract (api.md Appendix A) and of the operators, once. What a route needs and
//! whether this build serves it stands here; nothing else decides it.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use futures_util::future::BoxFuture;

use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::routes::{
    agents, archives, credentials, egress, environments, events, master_key, models, operate,
    place, replicas, sandbox_exec, sandbox_execs, sandbox_files, sandbox_forward, sandbox_logs,
    sandbox_rules, sandboxes, sessions, snapshots, templates, threads, vaults, volumes, why,
};

/// The `anthropic-beta` values of which a route needs one (api.md §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beta {
    /// None.
    Free,
    /// Managed agents.
    Managed,
    /// Memory stores; managed agents do as well.
    Memory,
    /// Dreams.
    Dreams,
    /// Tunnels.
    Tunnels,
    /// User profiles.
    Profiles,
    /// Webhooks of the organization.
    Webhooks,
    /// Telemetry destinations of the organization.
    Telemetry,
    /// `/v1/x`: no beta, no version, but an operator.
    Operator,
    /// `/v1/x`: no beta, no version; a key sees its own workspace, an operator all.
    Own,
}

impl Beta {
    /// The values, the one to recommend first; empty if none is needed.
    pub(crate) const fn values(self) -> &'static [&'static str] {
        match self {
            Self::Free | Self::Operator | Self::Own => &[],
            Self::Managed => &["managed-agents-2026-04-01"],
            Self::Memory => &["agent-memory-2026-07-22", "managed-agents-2026-04-01"],
            Self::Dreams => &["dreaming-2026-04-21"],
            Self::Tunnels => &["mcp-tunnels-2026-06-22"],
            Self::Profiles => &["user-profiles-2026-08-18"],
            Self::Webhooks => &["webhooks-2026-10-07"],
            Self::Telemetry => &["telemetry-destinations-2026-08-11"],
        }
    }
}

/// What serves a route.
pub(crate) type Handler = fn(Arc<Gateway>, Call) -> BoxFuture<'static, Result<Response, Failure>>;

/// One route.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// With `{name}` for each parameter.
    pub(crate) path: &'static str,
    pub(crate) beta: Beta,
    /// `None`: in the contract, not in this build.
    pub(crate) handler: Option<Handler>,
}

/// The routes (of POST) that have a secret in their bodies or answers.
const SECRET: [&str; 3] = [
    "/v1/vaults/{vault_id}/credentials",
    "/v1/vaults/{vault_id}/credentials/{credential_id}",
    "/v1/x/keys",
];

impl Route {
    /// Whether its body or its answer has a secret in it.
    pub(crate) fn is_secret(&self) -> bool {
        self.method == Method::POST && SECRET.contains(&self.path)
    }
}

macro_rules! routes {
    ($name:ident: $($method:ident $path:literal $beta:ident => $($handler:ident)::+;)*) => {
        pub(crate) static $name: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            beta: Beta::$beta,
            handler: routes!(@ $($handler)::+),
        }),*];
    };
    (@ unbuilt) => { None };
    (@ $($handler:ident)::+) => {
        Some(|gateway, call| Box::pin($($handler)::+(gateway, call)))
    };
}

routes! { PUBLIC:
    POST "/v1/agents" Managed => agents::create;
    GET "/v1/agents/{agent_id}" Managed => agents::get;
    POST "/v1/agents/{agent_id}" Managed => agents::update;
    GET "/v1/agents" Managed => agents::list;
    POST "/v1/agents/{agent_id}/archive" Managed => agents::archive;
    GET "/v1/agents/{agent_id}/versions" Managed => agents::versions;

    POST "/v1/environments" Managed => environments::create;
    GET "/v1/environments/{environment_id}" Managed => environments::get;
    POST "/v1/environments/{environment_id}" Managed => environments::update;
    GET "/v1/environments" Managed => environments::list;
    DELETE "/v1/environments/{environment_id}" Managed => environments::delete;
    POST "/v1/environments/{environment_id}/archive" Managed => environments::archive;
    GET "/v1/environments/{environment_id}/work/{work_id}" Managed => unbuilt;
    POST "/v1/environments/{environment_id}/work/{work_id}" Managed => unbuilt;
    GET "/v1/environments/{environment_id}/work" Managed => unbuilt;
    POST "/v1/environments/{environment_id}/work/{work_id}/ack" Managed => unbuilt;
    POST "/v1/environments/{environment_id}/work/{work_id}/heartbeat" Managed => unbuilt;
    GET "/v1/environments/{environment_id}/work/poll" Managed => unbuilt;
    GET "/v1/environments/{environment_id}/work/stats" Managed => unbuilt;
    POST "/v1/environments/{environment_id}/work/{work_id}/stop" Managed => unbuilt;

    POST "/v1/sessions" Managed => sessions::create;
    GET "/v1/sessions/{session_id}" Managed => sessions::get;
    POST "/v1/sessions/{session_id}" Managed => sessions::update;
    GET "/v1/sessions" Managed => sessions::list;
    DELETE "/v1/sessions/{session_id}" Managed => sessions::delete;
    POST "/v1/sessions/{session_id}/archive" Managed => sessions::archive;
    GET "/v1/sessions/{session_id}/events" Managed => events::list;
    POST "/v1/sessions/{session_id}/events" Managed => events::send;
    GET "/v1/sessions/{session_id}/events/stream" Managed => events::stream;
    GET "/v1/sessions/{session_id}/resources/{resource_id}" Managed => unbuilt;
    POST "/v1/sessions/{session_id}/resources/{resource_id}" Managed => unbuilt;
    GET "/v1/sessions/{session_id}/resources" Managed => unbuilt;
    DELETE "/v1/sessions/{session_id}/resources/{resource_id}" Managed => unbuilt;
    POST "/v1/sessions/{session_id}/resources" Managed => unbuilt;
    GET "/v1/sessions/{session_id}/threads/{thread_id}" Managed => threads::get;
    GET "/v1/sessions/{session_id}/threads" Managed => threads::list;
    POST "/v1/sessions/{session_id}/threads/{thread_id}/archive" Managed => threads::archive;
    GET "/v1/sessions/{session_id}/threads/{thread_id}/events" Managed => threads::events;
    GET "/v1/sessions/{session_id}/threads/{thread_id}/stream" Managed => threads::stream;

    POST "/v1/vaults" Managed => vaults::create;
    GET "/v1/vaults/{vault_id}" Managed => vaults::get;
    POST "/v1/vaults/{vault_id}" Managed => vaults::update;
    GET "/v1/vaults" Managed => vaults::list;
    DELETE "/v1/vaults/{vault_id}" Managed => vaults::delete;
    POST "/v1/vaults/{vault_id}/archive" Managed => vaults::archive;
    POST "/v1/vaults/{vault_id}/credentials" Managed => credentials::create;
    GET "/v1/vaults/{vault_id}/credentials/{credential_id}" Managed => credentials::get;
    POST "/v1/vaults/{vault_id}/credentials/{credential_id}" Managed => credentials::update;
    GET "/v1/vaults/{vault_id}/credentials" Managed => credentials::list;
    DELETE "/v1/vaults/{vault_id}/credentials/{credential_id}" Managed => credentials::delete;
    POST "/v1/vaults/{vault_id}/credentials/{credential_id}/archive" Managed => credentials::archive;
    POST "/v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate" Managed => credentials::validate;

    GET "/v1/files" Free => unbuilt;
    DELETE "/v1/files/{file_id}" Free => unbuilt;
    GET "/v1/files/{file_id}/content" Free => unbuilt;
    GET "/v1/files/{file_id}" Free => unbuilt;
    POST "/v1/files" Free => unbuilt;

    POST "/v1/skills" Free => unbuilt;
    GET "/v1/skills/{skill_id}" Free => unbuilt;
    GET "/v1/skills" Free => unbuilt;
    DELETE "/v1/skills/{skill_id}" Free => unbuilt;
    POST "/v1/skills/{skill_id}/versions" Free => unbuilt;
    GET "/v1/skills/{skill_id}/versions/{version}" Free => unbuilt;
    GET "/v1/skills/{skill_id}/versions" Free => unbuilt;
    DELETE "/v1/skills/{skill_id}/versions/{version}" Free => unbuilt;
    GET "/v1/skills/{skill_id}/versions/{version}/content" Free => unbuilt;

    POST "/v1/deployments" Managed => unbuilt;
    GET "/v1/deployments/{deployment_id}" Managed => unbuilt;
    POST "/v1/deployments/{deployment_id}" Managed => unbuilt;
    GET "/v1/deployments" Managed => unbuilt;
    POST "/v1/deployments/{deployment_id}/archive" Managed => unbuilt;
    POST "/v1/deployments/{deployment_id}/pause" Managed => unbuilt;
    POST "/v1/deployments/{deployment_id}/run" Managed => unbuilt;
    POST "/v1/deployments/{deployment_id}/unpause" Managed => unbuilt;

    GET "/v1/deployment_runs/{deployment_run_id}" Managed => unbuilt;
    GET "/v1/deployment_runs" Managed => unbuilt;

    POST "/v1/memory_stores" Memory => unbuilt;
    GET "/v1/memory_stores/{memory_store_id}" Memory => unbuilt;
    POST "/v1/memory_stores/{memory_store_id}" Memory => unbuilt;
    GET "/v1/memory_stores" Memory => unbuilt;
    DELETE "/v1/memory_stores/{memory_store_id}" Memory => unbuilt;
    POST "/v1/memory_stores/{memory_store_id}/archive" Memory => unbuilt;
    POST "/v1/memory_stores/{memory_store_id}/memories" Memory => unbuilt;
    GET "/v1/memory_stores/{memory_store_id}/memories/{memory_id}" Memory => unbuilt;
    POST "/v1/memory_stores/{memory_store_id}/memories/{memory_id}" Memory => unbuilt;
    GET "/v1/memory_stores/{memory_store_id}/memories" Memory => unbuilt;
    DELETE "/v1/memory_stores/{memory_store_id}/memories/{memory_id}" Memory => unbuilt;
    GET "/v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}" Memory => unbuilt;
    GET "/v1/memory_stores/{memory_store_id}/memory_versions" Memory => unbuilt;
    POST "/v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}/redact" Memory => unbuilt;

    POST "/v1/dreams" Dreams => unbuilt;
    GET "/v1/dreams/{dream_id}" Dreams => unbuilt;
    GET "/v1/dreams" Dreams => unbuilt;
    POST "/v1/dreams/{dream_id}/archive" Dreams => unbuilt;
    POST "/v1/dreams/{dream_id}/cancel" Dreams => unbuilt;

    POST "/v1/user_profiles" Profiles => unbuilt;
    GET "/v1/user_profiles/{user_profile_id}" Profiles => unbuilt;
    POST "/v1/user_profiles/{user_profile_id}" Profiles => unbuilt;
    GET "/v1/user_profiles" Profiles => unbuilt;
    DELETE "/v1/user_profiles/{user_profile_id}" Profiles => unbuilt;
    POST "/v1/user_profiles/{user_profile_id}/enrollment_url" Profiles => unbuilt;
    POST "/v1/user_profiles/{user_profile_id}/action_urls" Profiles => unbuilt;

    POST "/v1/tunnels" Tunnels => unbuilt;
    GET "/v1/tunnels/{tunnel_id}" Tunnels => unbuilt;
    GET "/v1/tunnels" Tunnels => unbuilt;
    POST "/v1/tunnels/{tunnel_id}/archive" Tunnels => unbuilt;
    POST "/v1/tunnels/{tunnel_id}/reveal_token" Tunnels => unbuilt;
    POST "/v1/tunnels/{tunnel_id}/rotate_token" Tunnels => unbuilt;
    POST "/v1/tunnels/{tunnel_id}/certificates" Tunnels => unbuilt;
    GET "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}" Tunnels => unbuilt;
    GET "/v1/tunnels/{tunnel_id}/certificates" Tunnels => unbuilt;
    POST "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}/archive" Tunnels => unbuilt;

    GET "/v1/models/{model_id}" Free => models::get;
    GET "/v1/models" Free => models::list;

    POST "/v1/organizations/webhooks" Webhooks => unbuilt;
    GET "/v1/organizations/webhooks/{webhook_endpoint_id}" Webhooks => unbuilt;
    POST "/v1/organizations/webhooks/{webhook_endpoint_id}" Webhooks => unbuilt;
    GET "/v1/organizations/webhooks" Webhooks => unbuilt;
    DELETE "/v1/organizations/webhooks/{webhook_endpoint_id}" Webhooks => unbuilt;
    POST "/v1/organizations/webhooks/{webhook_endpoint_id}/regenerate_signing_secret" Webhooks => unbuilt;

    POST "/v1/organizations/telemetry_destinations" Telemetry => unbuilt;
    GET "/v1/organizations/telemetry_destinations/{destination_id}" Telemetry => unbuilt;
    POST "/v1/organizations/telemetry_destinations/{destination_id}" Telemetry => unbuilt;
    GET "/v1/organizations/telemetry_destinations" Telemetry => unbuilt;
    DELETE "/v1/organizations/telemetry_destinations/{destination_id}" Telemetry => unbuilt;
    POST "/v1/organizations/telemetry_destinations/{destination_id}/test" Telemetry => unbuilt;
    GET "/v1/organizations/telemetry_destinations/{destination_id}/workspaces" Telemetry => unbuilt;
    POST "/v1/organizations/telemetry_destinations/{destination_id}/workspaces/{workspace_id}" Telemetry => unbuilt;
    DELETE "/v1/organizations/telemetry_destinations/{destination_id}/workspaces/{workspace_id}" Telemetry => unbuilt;
}

routes! { OPERATE:
    GET "/v1/x/status" Operator => operate::status;
    GET "/v1/x/replicas" Operator => replicas::list;
    POST "/v1/x/backup" Operator => place::backup;
    GET "/v1/x/master_key" Operator => master_key::get;
    POST "/v1/x/master_key/rotate" Operator => master_key::rotate;
    GET "/v1/x/usage" Own => place::usage;
    GET "/v1/x/sessions/{session_id}/binding" Own => place::binding;
    GET "/v1/x/sessions/{session_id}/timeline" Own => place::timeline;
    GET "/v1/x/sessions/{session_id}/why" Own => why::why;
    GET "/v1/x/egress_audit" Own => egress::list;
    GET "/v1/x/egress_audit/stream" Own => egress::stream;
    GET "/v1/x/sandboxes" Own => sandboxes::list;
    POST "/v1/x/sandboxes" Operator => sandboxes::create;
    GET "/v1/x/sandboxes/{sandbox_id}" Own => sandboxes::get;
    DELETE "/v1/x/sandboxes/{sandbox_id}" Own => sandboxes::delete;
    POST "/v1/x/sandboxes/{sandbox_id}/pause" Own => sandboxes::pause;
    POST "/v1/x/sandboxes/{sandbox_id}/resume" Own => sandboxes::resume;
    POST "/v1/x/sandboxes/{sandbox_id}/stop" Own => sandboxes::stop;
    GET "/v1/x/sandboxes/{sandbox_id}/logs" Own => sandbox_logs::logs;
    GET "/v1/x/sandboxes/{sandbox_id}/egress/explain" Own => egress::explain;
    GET "/v1/x/sandboxes/{sandbox_id}/egress/rules" Own => sandbox_rules::get;
    POST "/v1/x/sandboxes/{sandbox_id}/egress/rules" Own => sandbox_rules::set;
    GET "/v1/x/sandboxes/{sandbox_id}/processes" Own => sandboxes::processes;
    GET "/v1/x/sandboxes/{sandbox_id}/exec" Own => sandbox_execs::list;
    POST "/v1/x/sandboxes/{sandbox_id}/exec" Own => sandbox_exec::exec;
    GET "/v1/x/sandboxes/{sandbox_id}/exec/{exec_id}" Own => sandbox_execs::get;
    DELETE "/v1/x/sandboxes/{sandbox_id}/exec/{exec_id}" Own => sandbox_execs::delete;
    POST "/v1/x/sandboxes/{sandbox_id}/forward" Own => sandbox_forward::forward;
    GET "/v1/x/sandboxes/{sandbox_id}/files" Own => sandbox_files::look;
    DELETE "/v1/x/sandboxes/{sandbox_id}/files" Own => sandbox_files::remove;
    GET "/v1/x/sandboxes/{sandbox_id}/files/watch" Own => sandbox_files::watch;
    POST "/v1/x/sandboxes/{sandbox_id}/directories" Own => sandbox_files::make_directory;
    POST "/v1/x/sandboxes/{sandbox_id}/move" Own => sandbox_files::rename;
    GET "/v1/x/sandboxes/{sandbox_id}/content" Own => sandbox_files::download;
    POST "/v1/x/sandboxes/{sandbox_id}/content" Own => sandbox_files::upload;
    GET "/v1/x/sandboxes/{sandbox_id}/snapshots" Own => snapshots::of_sandbox;
    POST "/v1/x/sandboxes/{sandbox_id}/snapshots" Own => snapshots::create;
    POST "/v1/x/sandboxes/{sandbox_id}/fork" Own => snapshots::fork;
    POST "/v1/x/sandboxes/{sandbox_id}/restore" Own => snapshots::restore;
    GET "/v1/x/sandboxes/{sandbox_id}/export" Own => archives::of_sandbox;
    POST "/v1/x/sandboxes/{sandbox_id}/import" Own => archives::import;
    GET "/v1/x/snapshots" Own => snapshots::list;
    GET "/v1/x/snapshots/{snapshot_id}" Own => snapshots::get;
    DELETE "/v1/x/snapshots/{snapshot_id}" Own => snapshots::delete;
    GET "/v1/x/snapshots/{snapshot_id}/export" Own => archives::of_snapshot;
    GET "/v1/x/volumes" Own => volumes::list;
    POST "/v1/x/volumes" Own => volumes::create;
    GET "/v1/x/volumes/{volume_id}" Own => volumes::get;
    DELETE "/v1/x/volumes/{volume_id}" Own => volumes::delete;
    GET "/v1/x/templates" Own => templates::list;
    GET "/v1/x/templates/{template_id}" Own => templates::get;
    DELETE "/v1/x/templates/{template_id}" Operator => templates::delete;
    GET "/v1/x/workspaces" Operator => operate::list_workspaces;
    POST "/v1/x/workspaces" Operator => operate::create_workspace;
    POST "/v1/x/workspaces/{workspace_id}/archive" Operator => operate::archive_workspace;
    GET "/v1/x/keys" Operator => operate::list_keys;
    POST "/v1/x/keys" Operator => operate::create_key;
    POST "/v1/x/keys/{key_id}/revoke" Operator => operate::revoke_key;
}

/// A route of the contract, for documentation and tests.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for each parameter.
    pub path: &'static str,
    /// The `anthropic-beta` values of which it needs one; empty for none.
    pub beta: &'static [&'static str],
    /// Whether this build serves it; if not it answers 501.
    pub built: bool,
}

/// Every route of the contract (api.md Appendix A), served or not.
pub fn routes() -> impl Iterator<Item = RouteInfo> {
    PUBLIC.iter().map(|route| RouteInfo {
        method: route.method.clone(),
        path: route.path,
        beta: route.beta.values(),
        built: route.handler.is_some(),
    })
}

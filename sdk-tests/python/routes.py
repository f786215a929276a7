"""What the routes that are served send and receive: our name, and the names of the types in both SDKs."""

# our name: (TypeScript, Python)
REQUESTS = {
    "CreateAgent": ("agents/agents:AgentCreateParams", "agent_create_params:AgentCreateParams"),
    "UpdateAgent": ("agents/agents:AgentUpdateParams", "agent_update_params:AgentUpdateParams"),
    "CreateEnvironment": ("environments/environments:EnvironmentCreateParams", "environment_create_params:EnvironmentCreateParams"),
    "UpdateEnvironment": ("environments/environments:EnvironmentUpdateParams", "environment_update_params:EnvironmentUpdateParams"),
    "CreateSession": ("sessions/sessions:SessionCreateParams", "session_create_params:SessionCreateParams"),
    "UpdateSession": ("sessions/sessions:SessionUpdateParams", "session_update_params:SessionUpdateParams"),
    "SendEvents": ("sessions/events:EventSendParams", "sessions.event_send_params:EventSendParams"),
    "CreateVault": ("vaults/vaults:VaultCreateParams", "vault_create_params:VaultCreateParams"),
    "UpdateVault": ("vaults/vaults:VaultUpdateParams", "vault_update_params:VaultUpdateParams"),
    "CreateCredential": ("vaults/credentials:CredentialCreateParams", "vaults.credential_create_params:CredentialCreateParams"),
    "UpdateCredential": ("vaults/credentials:CredentialUpdateParams", "vaults.credential_update_params:CredentialUpdateParams"),
}

OBJECTS = {
    "Agent": ("agents/agents:BetaManagedAgentsAgent", ":BetaManagedAgentsAgent"),
    "Environment": ("environments/environments:BetaEnvironment", ":BetaEnvironment"),
    "Session": ("sessions/sessions:BetaManagedAgentsSession", ":BetaManagedAgentsSession"),
    "SessionThread": ("sessions/threads/threads:BetaManagedAgentsSessionThread", "sessions:BetaManagedAgentsSessionThread"),
    "Vault": ("vaults/vaults:BetaManagedAgentsVault", ":BetaManagedAgentsVault"),
    "Credential": ("vaults/credentials:BetaManagedAgentsCredential", "vaults:BetaManagedAgentsCredential"),
    "ModelInfo": ("models:BetaModelInfo", ":BetaModelInfo"),
    "Event": ("sessions/events:BetaManagedAgentsSessionEvent", "sessions:BetaManagedAgentsSessionEvent"),
    "Streamed": ("sessions/events:BetaManagedAgentsStreamSessionEvents", "sessions:BetaManagedAgentsStreamSessionEvents"),
    "DeletedEnvironment": ("environments/environments:BetaEnvironmentDeleteResponse", ":BetaEnvironmentDeleteResponse"),
    "DeletedSession": ("sessions/sessions:BetaManagedAgentsDeletedSession", ":BetaManagedAgentsDeletedSession"),
    "DeletedVault": ("vaults/vaults:BetaManagedAgentsDeletedVault", ":BetaManagedAgentsDeletedVault"),
    "DeletedCredential": ("vaults/credentials:BetaManagedAgentsDeletedCredential", "vaults:BetaManagedAgentsDeletedCredential"),
}

QUERIES = {
    "agents/agents:AgentRetrieveParams": ("GetAgent", "agent_retrieve_params:AgentRetrieveParams"),
    "agents/agents:AgentListParams": ("ListAgents", "agent_list_params:AgentListParams"),
    "agents/versions:VersionListParams": ("ListVersions", "agents.version_list_params:VersionListParams"),
    "environments/environments:EnvironmentListParams": ("ListArchivable", "environment_list_params:EnvironmentListParams"),
    "sessions/sessions:SessionListParams": ("ListSessions", "session_list_params:SessionListParams"),
    "sessions/events:EventListParams": ("ListEvents", "sessions.event_list_params:EventListParams"),
    "sessions/events:EventStreamParams": ("StreamEvents", "sessions.event_stream_params:EventStreamParams"),
    "sessions/threads/threads:ThreadListParams": ("ListThreads", "sessions.thread_list_params:ThreadListParams"),
    "sessions/threads/events:EventListParams": ("ListThreadEvents", "sessions.threads.event_list_params:EventListParams"),
    "sessions/threads/events:EventStreamParams": ("StreamEvents", "sessions.threads.event_stream_params:EventStreamParams"),
    "vaults/vaults:VaultListParams": ("ListArchivable", "vault_list_params:VaultListParams"),
    "vaults/credentials:CredentialListParams": ("ListArchivable", "vaults.credential_list_params:CredentialListParams"),
    "models:ModelListParams": ("ListModels", "model_list_params:ModelListParams"),
}

# The kinds of errors: (TypeScript, Python).
ERRORS = ("../shared:ErrorType", "..:ErrorType")

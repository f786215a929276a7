"""What the core routes send and receive, served or not: our name, and the names of the types in both SDKs."""

# our name: (TypeScript, Python, None if it does not declare it)
REQUESTS = {
    "CreateAgent": ("agents/agents:AgentCreateParams", "agent_create_params:AgentCreateParams"),
    "UpdateAgent": ("agents/agents:AgentUpdateParams", "agent_update_params:AgentUpdateParams"),
    "CreateEnvironment": ("environments/environments:EnvironmentCreateParams", "environment_create_params:EnvironmentCreateParams"),
    "UpdateEnvironment": ("environments/environments:EnvironmentUpdateParams", "environment_update_params:EnvironmentUpdateParams"),
    "UpdateWork": ("environments/work:WorkUpdateParams", "environments.work_update_params:WorkUpdateParams"),
    "StopWork": ("environments/work:WorkStopParams", "environments.work_stop_params:WorkStopParams"),
    "CreateSession": ("sessions/sessions:SessionCreateParams", "session_create_params:SessionCreateParams"),
    "UpdateSession": ("sessions/sessions:SessionUpdateParams", "session_update_params:SessionUpdateParams"),
    "SendEvents": ("sessions/events:EventSendParams", "sessions.event_send_params:EventSendParams"),
    "AddResource": ("sessions/resources:ResourceAddParams", "sessions.resource_add_params:ResourceAddParams"),
    "UpdateResource": ("sessions/resources:ResourceUpdateParams", "sessions.resource_update_params:ResourceUpdateParams"),
    "CreateVault": ("vaults/vaults:VaultCreateParams", "vault_create_params:VaultCreateParams"),
    "UpdateVault": ("vaults/vaults:VaultUpdateParams", "vault_update_params:VaultUpdateParams"),
    "CreateCredential": ("vaults/credentials:CredentialCreateParams", "vaults.credential_create_params:CredentialCreateParams"),
    "UpdateCredential": ("vaults/credentials:CredentialUpdateParams", "vaults.credential_update_params:CredentialUpdateParams"),
    "CreateMemoryStore": ("memory-stores/memory-stores:MemoryStoreCreateParams", "memory_store_create_params:MemoryStoreCreateParams"),
    "UpdateMemoryStore": ("memory-stores/memory-stores:MemoryStoreUpdateParams", "memory_store_update_params:MemoryStoreUpdateParams"),
    "CreateMemory": ("memory-stores/memories:MemoryCreateParams", "memory_stores.memory_create_params:MemoryCreateParams"),
    "UpdateMemory": ("memory-stores/memories:MemoryUpdateParams", "memory_stores.memory_update_params:MemoryUpdateParams"),
    "CreateDeployment": ("deployments:DeploymentCreateParams", "deployment_create_params:DeploymentCreateParams"),
    "UpdateDeployment": ("deployments:DeploymentUpdateParams", "deployment_update_params:DeploymentUpdateParams"),
    "CreateDream": ("dreams:DreamCreateParams", "dream_create_params:DreamCreateParams"),
}

OBJECTS = {
    "Agent": ("agents/agents:BetaManagedAgentsAgent", ":BetaManagedAgentsAgent"),
    "Environment": ("environments/environments:BetaEnvironment", ":BetaEnvironment"),
    "Work": ("environments/work:BetaSelfHostedWork", "environments:BetaSelfHostedWork"),
    "Heartbeat": ("environments/work:BetaSelfHostedWorkHeartbeatResponse", "environments:BetaSelfHostedWorkHeartbeatResponse"),
    "WorkStats": ("environments/work:BetaSelfHostedWorkQueueStats", "environments:BetaSelfHostedWorkQueueStats"),
    "WorkSecret": ("environments/work:BetaWorkSecret", None),
    "HeartbeatFailed": ("environments/work:BetaHeartbeatPreconditionFailedErrorDetails", "environments:BetaHeartbeatPreconditionFailedErrorDetails"),
    "Session": ("sessions/sessions:BetaManagedAgentsSession", ":BetaManagedAgentsSession"),
    "SessionThread": ("sessions/threads/threads:BetaManagedAgentsSessionThread", "sessions:BetaManagedAgentsSessionThread"),
    "Resource": ("sessions/resources:BetaManagedAgentsSessionResource", "sessions:BetaManagedAgentsSessionResource"),
    "Vault": ("vaults/vaults:BetaManagedAgentsVault", ":BetaManagedAgentsVault"),
    "Credential": ("vaults/credentials:BetaManagedAgentsCredential", "vaults:BetaManagedAgentsCredential"),
    "Validation": ("vaults/credentials:BetaManagedAgentsCredentialValidation", "vaults:BetaManagedAgentsCredentialValidation"),
    "File": ("files:BetaFileMetadata", ":BetaFileMetadata"),
    "Skill": ("skills/skills:BetaSkill", ":BetaSkill"),
    "SkillVersion": ("skills/versions:BetaSkillVersion", "skills:BetaSkillVersion"),
    "MemoryStore": ("memory-stores/memory-stores:BetaManagedAgentsMemoryStore", ":BetaManagedAgentsMemoryStore"),
    "Memory": ("memory-stores/memories:BetaManagedAgentsMemory", "memory_stores:BetaManagedAgentsMemory"),
    "MemoryItem": ("memory-stores/memories:BetaManagedAgentsMemoryListItem", "memory_stores:BetaManagedAgentsMemoryListItem"),
    "MemoryVersion": ("memory-stores/memory-versions:BetaManagedAgentsMemoryVersion", "memory_stores:BetaManagedAgentsMemoryVersion"),
    "MemoryPathConflict": ("memory-stores/memories:BetaManagedAgentsMemoryPathConflictErrorObject", None),
    "MemoryPreconditionFailed": ("memory-stores/memories:BetaManagedAgentsMemoryPreconditionFailedErrorObject", None),
    "Deployment": ("deployments:BetaManagedAgentsDeployment", ":BetaManagedAgentsDeployment"),
    "DeploymentRun": ("deployment-runs:BetaManagedAgentsDeploymentRun", ":BetaManagedAgentsDeploymentRun"),
    "Dream": ("dreams:BetaDream", ":BetaDream"),
    "ModelInfo": ("models:BetaModelInfo", ":BetaModelInfo"),
    "Event": ("sessions/events:BetaManagedAgentsSessionEvent", "sessions:BetaManagedAgentsSessionEvent"),
    "Streamed": ("sessions/events:BetaManagedAgentsStreamSessionEvents", "sessions:BetaManagedAgentsStreamSessionEvents"),
    "StreamedOfThread": ("sessions/threads/threads:BetaManagedAgentsStreamSessionThreadEvents", "sessions:BetaManagedAgentsStreamSessionThreadEvents"),
    "SentEvents": ("sessions/events:BetaManagedAgentsSendSessionEvents", "sessions:BetaManagedAgentsSendSessionEvents"),
    "DeletedEnvironment": ("environments/environments:BetaEnvironmentDeleteResponse", ":BetaEnvironmentDeleteResponse"),
    "DeletedSession": ("sessions/sessions:BetaManagedAgentsDeletedSession", ":BetaManagedAgentsDeletedSession"),
    "DeletedVault": ("vaults/vaults:BetaManagedAgentsDeletedVault", ":BetaManagedAgentsDeletedVault"),
    "DeletedCredential": ("vaults/credentials:BetaManagedAgentsDeletedCredential", "vaults:BetaManagedAgentsDeletedCredential"),
    "DeletedResource": ("sessions/resources:BetaManagedAgentsDeleteSessionResource", "sessions:BetaManagedAgentsDeleteSessionResource"),
    "DeletedFile": ("files:BetaDeletedFile", ":BetaDeletedFile"),
    "DeletedSkill": ("skills/skills:BetaDeletedSkill", ":BetaDeletedSkill"),
    "DeletedSkillVersion": ("skills/versions:BetaDeletedSkillVersion", "skills:BetaDeletedSkillVersion"),
    "DeletedMemoryStore": ("memory-stores/memory-stores:BetaManagedAgentsDeletedMemoryStore", ":BetaManagedAgentsDeletedMemoryStore"),
    "DeletedMemory": ("memory-stores/memories:BetaManagedAgentsDeletedMemory", "memory_stores:BetaManagedAgentsDeletedMemory"),
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
    "sessions/resources:ResourceListParams": ("ListResources", "sessions.resource_list_params:ResourceListParams"),
    "environments/work:WorkListParams": ("ListWork", "environments.work_list_params:WorkListParams"),
    "environments/work:WorkPollParams": ("PollWork", "environments.work_poll_params:WorkPollParams"),
    "environments/work:WorkHeartbeatParams": ("HeartbeatWork", "environments.work_heartbeat_params:WorkHeartbeatParams"),
    "files:FileListParams": ("ListFiles", "file_list_params:FileListParams"),
    "skills/skills:SkillListParams": ("ListSkills", "skill_list_params:SkillListParams"),
    "skills/versions:VersionListParams": ("ListSkillVersions", "skills.version_list_params:VersionListParams"),
    "memory-stores/memory-stores:MemoryStoreListParams": ("ListMemoryStores", "memory_store_list_params:MemoryStoreListParams"),
    "memory-stores/memories:MemoryRetrieveParams": ("GetMemory", "memory_stores.memory_retrieve_params:MemoryRetrieveParams"),
    "memory-stores/memories:MemoryCreateParams": ("WriteMemory", "memory_stores.memory_create_params:MemoryCreateParams"),
    "memory-stores/memories:MemoryUpdateParams": ("WriteMemory", "memory_stores.memory_update_params:MemoryUpdateParams"),
    "memory-stores/memories:MemoryDeleteParams": ("DeleteMemory", "memory_stores.memory_delete_params:MemoryDeleteParams"),
    "memory-stores/memories:MemoryListParams": ("ListMemories", "memory_stores.memory_list_params:MemoryListParams"),
    "memory-stores/memory-versions:MemoryVersionRetrieveParams": ("GetMemory", "memory_stores.memory_version_retrieve_params:MemoryVersionRetrieveParams"),
    "memory-stores/memory-versions:MemoryVersionListParams": ("ListMemoryVersions", "memory_stores.memory_version_list_params:MemoryVersionListParams"),
    "deployments:DeploymentListParams": ("ListDeployments", "deployment_list_params:DeploymentListParams"),
    "deployment-runs:DeploymentRunListParams": ("ListDeploymentRuns", "deployment_run_list_params:DeploymentRunListParams"),
    "dreams:DreamListParams": ("ListDreams", "dream_list_params:DreamListParams"),
}

# Calls that send a form. Only the names of its parts are compared: all of them are texts or files.
FORMS = {
    "files:FileUploadParams": ("UploadFile", "file_upload_params:FileUploadParams"),
    "skills/skills:SkillCreateParams": ("CreateSkill", "skill_create_params:SkillCreateParams"),
    "skills/versions:VersionCreateParams": ("CreateSkillVersion", "skills.version_create_params:VersionCreateParams"),
}

# What the parameters of a call hold beside its body, by the name of their type: what stands in its path, and in
# its query if it has a body too.
IN_PATH = {
    "CredentialUpdateParams": {"vault_id"},
    "EventListParams": {"session_id"},
    "EventStreamParams": {"session_id"},
    "MemoryDeleteParams": {"memory_store_id"},
    "MemoryRetrieveParams": {"memory_store_id"},
    "MemoryUpdateParams": {"memory_store_id"},
    "MemoryVersionRetrieveParams": {"memory_store_id"},
    "ResourceUpdateParams": {"session_id"},
    "WorkHeartbeatParams": {"environment_id"},
    "WorkStopParams": {"environment_id"},
    "WorkUpdateParams": {"environment_id"},
}
IN_QUERY = {
    "MemoryCreateParams": {"view"},
    "MemoryUpdateParams": {"view"},
}

# The kinds of errors: (TypeScript, Python).
ERRORS = ("../shared:ErrorType", "..:ErrorType")

# What of the SDK's folders the core is.
CORE = (
    "agents", "deployment-runs", "deployments", "dreams", "environments", "files", "memory-stores", "models", "sessions",
    "skills", "vaults",
)  # fmt: skip
# Names of answers that are an object of above under another name, a part of one, or bytes.
OTHER_NAMES = {
    "BetaManagedAgentsFileResource", "ResourceRetrieveResponse", "ResourceUpdateResponse", "Response",
}  # fmt: skip

//! Every limit of the contract, with its unit and where it comes from. Lengths of text are in Unicode
//! characters unless the name says bytes.

/// Bytes of a request body (hosted: 32 MB, then 413).
pub const BODY_BYTES: usize = 32 * 1024 * 1024;

/// Pairs in a metadata bag (api.md §1.5).
pub const METADATA_PAIRS: usize = 16;
/// Characters of a metadata key (api.md §1.5).
pub const METADATA_KEY: usize = 64;
/// Characters of a metadata value (api.md §1.5).
pub const METADATA_VALUE: usize = 512;

/// Characters of an agent's name (behaviours §2).
pub const AGENT_NAME: usize = 256;
/// Characters of a description of an agent, environment or tool default (behaviours §2).
pub const DESCRIPTION: usize = 2_048;
/// Characters of an agent's system prompt (behaviours §2).
pub const SYSTEM: usize = 100_000;
/// Characters of a model id (ours: any id is accepted, so it needs a bound).
pub const MODEL_ID: usize = 256;
/// Tools of one agent over all toolsets (api.md §3.3).
pub const TOOLS: usize = 256;
/// Characters of a custom tool's name (api.md §3.3).
pub const TOOL_NAME: usize = 128;
/// Characters of a custom tool's description (ours: a generous page of prose).
pub const TOOL_DESCRIPTION: usize = 16_384;
/// Characters of a property name in a custom tool's schema (behaviours §10).
pub const PROPERTY_NAME: usize = 64;
/// MCP servers of one agent (api.md §3.4).
pub const MCP_SERVERS: usize = 20;
/// Characters of an MCP server's name (api.md §3.4).
pub const MCP_SERVER_NAME: usize = 255;
/// Skills of one agent (behaviours §2: 500 per session over all its agents).
pub const SKILLS: usize = 500;
/// Characters of a skill id or version (ours).
pub const SKILL_ID: usize = 256;
/// Entries of a roster or of `predefined_agents` (api.md §3.7).
pub const ROSTER: usize = 20;
/// Characters of a role ARN (api.md §3.6).
pub const ROLE_ARN: usize = 2_048;
/// Domains in one list of a web tool (behaviours §8).
pub const WEB_DOMAINS: usize = 64;
/// Characters of one domain of a web tool (behaviours §8).
pub const WEB_DOMAIN: usize = 255;
/// Names in one filter of URL sources (api.md §3.3).
pub const URL_SOURCE_TOOLS: usize = 128;

/// Characters of an environment's name (ours, as agents).
pub const ENVIRONMENT_NAME: usize = 256;
/// Hosts that a limited environment may list (ours: the egress policy compiles each).
pub const ALLOWED_HOSTS: usize = 256;
/// Packages of one package manager (ours).
pub const PACKAGES: usize = 256;
/// Characters of one package requirement (ours).
pub const PACKAGE: usize = 256;
/// Characters of a host pattern (RFC 1035: 253 octets, and a leading `*.`).
pub const HOST: usize = 255;

/// Characters of a volume's name (ours: it is a directory name in sandboxes).
pub const VOLUME_NAME: usize = 63;
/// Volumes of one sandbox (ours: each is a mount more that a start waits for).
pub const VOLUMES: usize = 16;

/// Characters of a session's title (ours; the contract names none).
pub const TITLE: usize = 1_024;
/// Events in `initial_events` (api.md §7.1).
pub const INITIAL_EVENTS: usize = 50;
/// Resources of a session (behaviours §26: 500 files).
pub const RESOURCES: usize = 500;
/// Vaults of a session (behaviours §26).
pub const VAULTS: usize = 50;
/// Characters of a memory store's instructions (api.md §3.11).
pub const INSTRUCTIONS: usize = 4_096;
/// Characters of a mount path (PATH_MAX).
pub const MOUNT_PATH: usize = 4_096;
/// Digits of an amount of money (ours: keeps it below 2^63 minor units).
pub const AMOUNT_DIGITS: usize = 15;

/// Events in one send (ours; the contract names none).
pub const EVENTS_PER_SEND: usize = 1_000;
/// Blocks in one event (behaviours §26 for `system.message`; the same for all).
pub const BLOCKS: usize = 1_000;
/// Characters of a rubric (api.md §3.10).
pub const RUBRIC: usize = 262_144;
/// Most iterations of an outcome (api.md §8.1).
pub const OUTCOME_ITERATIONS: u32 = 20;

/// Characters of a vault's or credential's display name (api.md §12).
pub const DISPLAY_NAME: usize = 255;
/// Active credentials of one vault (behaviours §12); the store counts them.
pub const CREDENTIALS_PER_VAULT: usize = 20;
/// Characters of a URL (behaviours §11).
pub const URL: usize = 2_048;
/// Bytes of one secret (ours: larger than any token seen, small enough for a header).
pub const SECRET_BYTES: usize = 16 * 1024;
/// Characters of the name of an environment variable (ours).
pub const SECRET_NAME: usize = 256;
/// Hosts of an environment-variable credential (api.md §12.3).
pub const CREDENTIAL_HOSTS: usize = 16;
/// Characters of an OAuth client id, scope or resource (ours).
pub const OAUTH_TEXT: usize = 2_048;

/// Characters of a file's name (behaviours §15).
pub const FILE_NAME: usize = 255;
/// Shortest and longest life of a file that expires, in seconds (api.md §13).
pub const FILE_EXPIRY: (u32, u32) = (3_600, 7_776_000);
/// Files that a list may be asked for by id (api.md §13).
pub const FILE_IDS: usize = 100;

/// Characters of a skill's display name (api.md §14).
pub const SKILL_DISPLAY_NAME: usize = 255;
/// Characters of the name that a skill gives itself (behaviours §16).
pub const SKILL_NAME: usize = 64;
/// Characters of the description that a skill gives itself (behaviours §16).
pub const SKILL_DESCRIPTION: usize = 1_024;
/// Files of one version of a skill (ours).
pub const SKILL_FILES: usize = 1_000;

/// Characters of a memory store's name (api.md §17.1).
pub const MEMORY_STORE_NAME: usize = 255;
/// Characters of a memory store's description (api.md §17.1).
pub const MEMORY_STORE_DESCRIPTION: usize = 1_024;
/// Bytes of a memory (api.md §17.2).
pub const MEMORY_BYTES: usize = 102_400;
/// Bytes of a memory's path (api.md §17.2).
pub const MEMORY_PATH: usize = 1_024;
/// Segments of a memory's path (api.md §17.2).
pub const MEMORY_SEGMENTS: usize = 20;

/// Characters of a deployment's name (ours, as agents).
pub const DEPLOYMENT_NAME: usize = 256;
/// Characters of a cron expression (ours).
pub const CRON: usize = 256;
/// Characters of the name of a time zone (ours).
pub const TIME_ZONE: usize = 64;

/// Longest wait of a poll for work, in milliseconds (api.md §6.5).
pub const POLL_BLOCK_MS: u32 = 999;
/// Longest time after which a poll takes back what nobody acknowledged, in milliseconds (ours: an hour).
pub const POLL_RECLAIM_MS: u32 = 3_600_000;
/// Longest lease that a worker may ask for, in seconds (ours: an hour).
pub const WORK_TTL_SECONDS: u32 = 3_600;
/// Characters of the `expected_last_heartbeat` of a heartbeat (ours).
pub const HEARTBEAT: usize = 64;

/// Sessions that one dream may read (api.md §18).
pub const DREAM_SESSIONS: usize = 100;
/// Characters of a dream's instructions (api.md §18).
pub const DREAM_INSTRUCTIONS: usize = 4_096;

/// Default and largest page of most lists (api.md §4.4).
pub const PAGE: (u32, u32) = (20, 100);
/// Default and largest page of sessions (design.md §6).
pub const SESSIONS_PAGE: (u32, u32) = (20, 1_000);
/// Default and largest page of events (behaviours §26).
pub const EVENTS_PAGE: (u32, u32) = (1_000, 1_000);
/// Default and largest page of the egress audit.
pub const AUDIT_PAGE: (u32, u32) = (100, 1_000);
/// Default and largest page of threads (api.md §10.1).
pub const THREADS_PAGE: (u32, u32) = (1_000, 1_000);
/// Default and largest page of models (api.md §22).
pub const MODELS_PAGE: (u32, u32) = (20, 1_000);
/// Default and largest page of files, skills and versions of skills (api.md §13, §14).
pub const FILES_PAGE: (u32, u32) = (20, 1_000);
/// Default and largest page of deployment runs (api.md §16).
pub const RUNS_PAGE: (u32, u32) = (20, 1_000);
/// Default and largest page of a session's resources; the default is all that it can have (api.md §11).
pub const RESOURCES_PAGE: (u32, u32) = (1_000, 1_000);
/// Default and largest page of memories with their content (api.md §17.2).
pub const FULL_PAGE: (u32, u32) = (20, 20);
/// Values of `event_deltas[]` (behaviours §7.3).
pub const EVENT_DELTAS: usize = 100;
/// Values of any other repeated query key (ours; there are 42 event types).
pub const QUERY_VALUES: usize = 100;
/// Characters of a page cursor (ours).
pub const CURSOR: usize = 1_024;

const _: () = assert!(SYSTEM * 4 < BODY_BYTES);
const _: () = assert!(RESOURCES <= RESOURCES_PAGE.1 as usize);
const _: () = assert!(INITIAL_EVENTS <= EVENTS_PER_SEND);

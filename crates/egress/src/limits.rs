//! Every limit of this crate, with its unit and its reason. No logic stands here.

use std::time::Duration;

/// Bytes of a name in its canonical form: RFC 1035 §2.3.4 less the root's dot.
pub const NAME: usize = 253;
/// Bytes of one label: RFC 1035 §2.3.4.
pub const LABEL: usize = 63;
/// Bytes of a name as it was written. Non-ASCII names shrink and grow on the way to their canonical form.
pub const NAME_AS_WRITTEN: usize = 1_024;
/// Bytes of a request's path: what common servers accept, with room.
pub const PATH: usize = 8_192;

/// Rules of one policy, the contract's included. A bigger one is a generated list: put its hosts in one
/// rule.
pub const RULES: usize = 10_000;
/// Hosts and ranges of one policy, over all rules: some 30 MB when compiled.
pub const TARGETS: usize = 100_000;
/// Rules that a sandbox may have of its own: what a person writes, and half of [`RULES_PER_TARGET`], so that the
/// operator's have room beside it.
pub const SANDBOX_RULES: usize = 32;
/// Rules that name the same host or range: with it a decision has a fixed bound.
pub const RULES_PER_TARGET: usize = 64;
/// Ports or ranges of ports of one rule.
pub const PORTS: usize = 64;
/// Methods, path prefixes or tools of one rule, each.
pub const CONDITIONS: usize = 256;
/// Ranges that the operator lifts out of the always-denied set; each decision on an address looks at all.
pub const LIFTED: usize = 64;
/// Bytes of a rule's name, which stands in answers and in the audit.
pub const RULE_NAME: usize = 128;

/// Bytes of a DNS query that is read: a question, EDNS with padding to 468 bytes (RFC 8467), with room.
pub const DNS_QUERY: usize = 1_232;
/// Bytes over UDP that our answers say we take: what passes everywhere unfragmented.
pub const DNS_PAYLOAD: u16 = 1_232;
/// Seconds for which a client may keep a virtual address.
pub const DNS_TTL: u32 = 60;
/// Names that a sandbox may have in use at one time: some 6 MB if each is as long as names get.
pub const POOL_NAMES: usize = 16_384;
/// Ports for which a name is judged to know whether all are denied (`dns_deny = "refuse"`): it bounds what
/// one query may cost.
pub const PORTS_OF_A_NAME: usize = 256;
/// Seconds after its last use for which an address keeps its name. Clients keep answers for longer than
/// they are told.
pub const POOL_REUSE_AFTER: u64 = 3_600;

/// Bytes of a ClientHello: with post-quantum key shares they have some 2 KB, with tickets more.
pub const HELLO: usize = 16_384;
/// Bytes on the wire within which a ClientHello ends, cut into records of any size that is sent.
pub const HELLO_BYTES: usize = 32_768;
/// Extensions of a ClientHello; browsers send 20.
pub const HELLO_EXTENSIONS: usize = 64;

/// Bytes of a request's head, its last empty line included: what nginx takes in all.
pub const HEAD: usize = 32_768;
/// Header fields of a request.
pub const HEADERS: usize = 128;
/// Bytes of a method; the longest registered one has 17.
pub const METHOD: usize = 32;
/// Bytes by which credentials may make a request's head longer: seven of the longest; no server takes as much.
pub const PUT_IN_HEAD: usize = 128 << 10;
/// Bytes by which credentials may make a body longer that is read before it is sent: 64 of the longest.
pub const PUT_IN_BODY: usize = 1 << 20;

/// For one address to answer: what interactive clients wait, with room.
pub const CONNECT: Duration = Duration::from_secs(10);
/// For a client to say enough that it can be judged, when it must be.
pub const FIRST_BYTES: Duration = Duration::from_secs(10);
/// For which a client that has begun a line may say nothing before it counts as one that waits for the server.
pub const PAUSE: Duration = Duration::from_secs(2);
/// For a client that is refused to say what it speaks, so that it can be told why in that.
pub const REFUSED_BYTES: Duration = Duration::from_millis(500);
/// For a request's head to be all there.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// For a client to read why it was refused.
pub const DRAIN: Duration = Duration::from_secs(2);
/// Bytes that are taken from it meanwhile.
pub const DRAIN_BYTES: usize = 1 << 20;
/// Bytes in one direction of a connection that are held here at one time.
pub const COPY: usize = 16 << 10;
/// The same of one that has always more to say: the kernel hands that on, through a pipe that holds so much.
pub const PIPE: usize = 256 << 10;
/// Directions that may have a pipe at one time: 16 MB in all, a quarter of what a user may have (pipe(7)).
pub const PIPES: usize = 64;
/// Connections of one sandbox at one time; the next is reset.
pub const FLOWS: usize = 1_024;
/// For the egress process to answer a server.
pub const ASK: Duration = Duration::from_secs(5);
/// For a server to say whether it has another token than one that was refused: a question to a token endpoint takes up to
/// 20 s.
pub const RENEWAL: Duration = Duration::from_secs(25);
/// For an egress process to begin, or to end.
pub const START: Duration = Duration::from_secs(5);
/// After which an egress process ends that no server asks and no sandbox uses.
pub const IDLE: Duration = Duration::from_secs(60);
/// Descriptors that are no connection's: the database, sockets of sandboxes, the runtime's own, pipes.
pub const OTHER_FILES: u64 = 256 + 2 * PIPES as u64;

/// Authorities that wait for the sandboxes to come; a few KB each.
pub const AUTHORITIES: usize = 8;
/// Names for which the certificates of one sandbox are kept; some 10 KB each.
pub const LEAVES: usize = 256;
/// Sessions of TLS that are kept to be resumed: of one name towards clients, of one sandbox towards servers.
pub const TLS_SESSIONS: usize = 32;

/// Records that wait to be written: some 4 MB, and a fraction of a second of heavy traffic.
pub const AUDIT_QUEUE: usize = 4_096;
/// Records of one transaction.
pub const AUDIT_BATCH: usize = 512;
/// Bytes of one text in a record; a longer one is cut.
pub const AUDIT_TEXT: usize = 2_048;
/// Bytes of a record as JSON, where a byte of a text takes at most six.
pub const AUDIT_RECORD: usize = 131_072;

/// Records that one search looks at before it answers with what it has: some 50 ms.
pub const AUDIT_SCAN: usize = 20_000;
/// Bytes of records that one search answers with.
pub const AUDIT_PAGE_BYTES: usize = 8 << 20;
/// Searches at one time; the next one waits.
pub const AUDIT_SEARCHES: usize = 4;
/// Records that one transaction removes: whoever writes waits for some 20 ms.
pub const AUDIT_TRIM: u64 = 5_000;
/// How often it is looked whether records are too old or too many.
pub const AUDIT_KEEP: Duration = Duration::from_secs(60);

const _: () = assert!(7 * 6 * (AUDIT_TEXT + 3) + 4_096 < AUDIT_RECORD);
const _: () = assert!(PATH < HEAD);
const _: () = assert!(6 * contract::limits::SECRET_BYTES < PUT_IN_HEAD);
const _: () = assert!(PAUSE.as_secs() < FIRST_BYTES.as_secs());
const _: () = assert!(HELLO < HELLO_BYTES);
const _: () = assert!(POOL_NAMES < 1 << 17, "198.18.0.0/15 has room");
const _: () = assert!(DNS_TTL as u64 * 10 <= POOL_REUSE_AFTER);
const _: () = assert!(RULES <= TARGETS, "a rule has at least one target");
const _: () = assert!(NAME < NAME_AS_WRITTEN);
const _: () = assert!(SANDBOX_RULES * 2 <= RULES_PER_TARGET);

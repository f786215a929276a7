//! Tests of `egress`: names, paths, policies, and the readers of DNS, TLS hellos and HTTP heads, and the audit.

// clippy.toml allows these in test functions; the helpers beside them are tests as well
#![allow(clippy::unwrap_used, clippy::panic)]

mod attack_addresses;
mod attack_dns;
mod attack_http;
mod attack_names;
mod attack_protocols;
mod audit;
mod audit_search;
mod bombs;
mod carrying;
mod changes;
mod clients;
#[allow(dead_code, reason = "the store's suite uses the rest")]
#[path = "../../../testkit/src/cluster.rs"]
mod cluster;
mod corpus;
mod dns;
mod explained;
mod fuzz;
mod ground;
mod hellos;
mod http1;
mod http1_attacks;
mod identity;
mod injected;
mod injected_certificates;
mod injected_clients;
mod injected_cut;
mod injected_postgres;
mod injected_redis;
mod injected_renewal;
mod injected_repository;
mod injected_secrets;
mod injected_templates;
mod looked_into;
mod names;
mod offline;
mod outer;
mod paths;
mod policies;
mod policy_input;
mod policy_properties;
mod programs;
mod requests;
mod telltale;
mod tproxy;
mod trusted;
mod upstreams;

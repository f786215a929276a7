//! What each kind of rule allows and denies, and what it says about it.

use egress::Target;
use egress::policy::{Attempt, Cause, Mcp, Policy, Request, RuleSet, Seen, Verdict, read_policy};

fn policy(text: &str) -> Policy {
    read_policy(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The verdict on a URL after all steps, and the rule that decided.
fn judged(policy: &Policy, method: &str, url: &str) -> (bool, String) {
    let (decision, explanation) = policy.judge_url(url, method, None, None).unwrap();
    (decision.verdict == Verdict::Allow, explanation.rule)
}

fn allows(policy: &Policy, url: &str) -> bool {
    judged(policy, "GET", url).0
}

const LIMITED: &str = r#"
    [networking]
    type = "limited"
    allowed_hosts = ["api.example.com", "*.wild.example.com", "93.184.216.34"]
"#;

#[test]
fn a_limited_network_reaches_what_is_listed_and_nothing_else() {
    let policy = policy(LIMITED);
    for url in [
        "https://api.example.com/",
        "https://API.EXAMPLE.COM./x",
        "https://a.wild.example.com/",
        "https://a.b.wild.example.com/",
        "https://93.184.216.34/",
    ] {
        assert!(allows(&policy, url), "{url}");
    }
    for url in [
        "https://example.com/",
        "https://wild.example.com/",
        "https://api.example.com.evil.test/",
        "https://xapi.example.com/",
        "https://93.184.216.35/",
        "https://registry.npmjs.org/",
        "https://mcp.example.com/",
        "http://api.example.com/",
        "tcp://api.example.com:22",
    ] {
        assert!(!allows(&policy, url), "{url}");
    }
}

#[test]
fn the_flags_of_a_limited_network_add_registries_mcp_servers_and_repositories() {
    let text = |flags: &str| {
        format!(
            "[networking]\ntype = \"limited\"\n{flags}\n[attached]\n\
             mcp_servers = [\"https://mcp.example.com:8443/sse\"]\n\
             repositories = [\"https://git.example.com/o/r\"]\n"
        )
    };
    let without = policy(&text(""));
    let with = policy(&text(
        "allow_package_managers = true\nallow_mcp_servers = true",
    ));
    for url in [
        "https://registry.npmjs.org/left-pad",
        "https://pypi.org/simple/",
        "https://index.crates.io/config.json",
        "http://deb.debian.org/debian/",
        "https://proxy.golang.org/x",
        "https://rubygems.org/x",
        "https://mcp.example.com:8443/sse",
    ] {
        assert!(allows(&with, url), "{url}");
        assert!(!allows(&without, url), "{url}");
    }
    assert!(allows(&without, "https://git.example.com/o/r"));
    assert!(
        !allows(&with, "https://mcp.example.com/sse"),
        "another port"
    );
    assert!(
        !allows(&with, "https://github.com/"),
        "a preset that is no package manager"
    );
}

#[test]
fn an_unrestricted_network_reaches_all_but_the_always_denied_set() {
    let policy = policy("[networking]\ntype = \"unrestricted\"");
    assert!(allows(&policy, "https://anything.test/"));
    assert!(allows(&policy, "tcp://anything.test:22"));
    assert!(allows(&policy, "https://93.184.216.34/"));
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
    ] {
        let (allowed, rule) = judged(&policy, "GET", &format!("http://{host}/"));
        assert!(!allowed && rule == "always-denied", "{host}");
    }
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    for policy in [
        Policy::nothing(),
        Policy::compile(RuleSet::default()).unwrap(),
        policy(""),
    ] {
        assert!(!allows(&policy, "https://example.com/"));
        assert!(!allows(&policy, "https://93.184.216.34/"));
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_the_operators_come_first() {
    let policy = policy(
        r#"
        networking = { type = "limited", allowed_hosts = ["listed.test", "blocked.test", "*.x.test"] }
        [[rules]]
        name = "exception"
        action = "allow"
        to = ["good.blocked.test"]
        [[rules]]
        name = "block"
        action = "deny"
        to = ["blocked.test", "*.blocked.test"]
        [[sandbox_rules]]
        name = "mine"
        action = "allow"
        to = ["extra.test", "blocked.test"]
        [[sandbox_rules]]
        name = "not mine"
        action = "deny"
        to = ["a.x.test"]
    "#,
    );
    let get = |url| judged(&policy, "GET", url);
    assert_eq!(
        get("https://good.blocked.test/"),
        (true, "exception".into())
    );
    assert_eq!(get("https://bad.blocked.test/"), (false, "block".into()));
    assert_eq!(get("https://blocked.test/"), (false, "block".into()));
    assert_eq!(get("https://extra.test/"), (true, "mine".into()));
    assert_eq!(get("https://a.x.test/"), (false, "not mine".into()));
    assert_eq!(get("https://b.x.test/"), (true, "allowed_hosts".into()));
    assert_eq!(get("https://listed.test/"), (true, "allowed_hosts".into()));
    assert_eq!(get("https://other.test/"), (false, "default".into()));
}

#[test]
fn only_an_operators_rule_that_names_the_address_lifts_the_set() {
    let rule = |list: &str, to: &str| {
        policy(&format!(
            "[[{list}]]\nname = \"db\"\naction = \"allow\"\nto = [\"{to}\"]\nports = [5432]"
        ))
    };
    assert!(allows(&rule("rules", "10.1.2.3"), "tcp://10.1.2.3:5432"));
    assert!(allows(&rule("rules", "10.0.0.0/8"), "tcp://10.1.2.3:5432"));
    assert!(allows(
        &rule("rules", "10.0.0.0/8"),
        "tcp://[::ffff:10.1.2.3]:5432"
    ));
    assert!(!allows(&rule("rules", "10.1.2.3"), "tcp://10.1.2.3:5433"));
    assert!(!allows(&rule("rules", "10.1.2.3"), "tcp://10.1.2.4:5432"));
    assert!(!allows(&rule("rules", "*"), "tcp://10.1.2.3:5432"));
    assert!(!allows(
        &rule("sandbox_rules", "10.1.2.3"),
        "tcp://10.1.2.3:5432"
    ));
    let lifted =
        policy("allow_private = [\"10.0.0.0/8\"]\nnetworking = { type = \"unrestricted\" }");
    assert!(allows(&lifted, "https://10.1.2.3/") && !allows(&lifted, "https://192.168.0.1/"));
}

#[test]
fn a_lift_for_some_requests_is_none_for_others() {
    let policy = policy(
        r#"
        networking = { type = "unrestricted" }
        [[rules]]
        name = "health"
        action = "allow"
        to = ["10.1.2.3"]
        methods = ["GET"]
        paths = ["/health"]
    "#,
    );
    assert_eq!(
        judged(&policy, "GET", "http://10.1.2.3/health"),
        (true, "health".into())
    );
    for (method, url) in [
        ("POST", "http://10.1.2.3/health"),
        ("GET", "http://10.1.2.3/"),
        ("GET", "tcp://10.1.2.3:22"),
    ] {
        assert_eq!(
            judged(&policy, method, url),
            (false, "always-denied".into()),
            "{method} {url}"
        );
    }
}

#[test]
fn a_rule_about_requests_makes_the_connection_be_looked_into() {
    let policy = policy(
        r#"
        networking = { type = "unrestricted" }
        [[rules]]
        name = "no deletes"
        action = "deny"
        to = ["api.test"]
        methods = ["DELETE"]
        paths = ["/v1"]
    "#,
    );
    let target = Target::parse("api.test").unwrap();
    let verdict = |seen| {
        policy
            .decide(&Attempt {
                target: &target,
                port: 443,
                seen,
            })
            .verdict
    };
    assert_eq!(verdict(Seen::Nothing), Verdict::Look);
    assert_eq!(verdict(Seen::Tls), Verdict::Inspect);
    assert_eq!(
        verdict(Seen::Opaque),
        Verdict::Deny,
        "what cannot be looked into"
    );
    assert_eq!(
        judged(&policy, "DELETE", "https://api.test/v1/x"),
        (false, "no deletes".into())
    );
    assert!(!judged(&policy, "DELETE", "https://api.test/a/%2e%2e/v1/x").0);
    assert!(!judged(&policy, "DELETE", "https://api.test/v1;p/x").0);
    assert!(!judged(&policy, "DELETE", "https://api.test//v1/x").0);
    assert!(judged(&policy, "DELETE", "https://api.test/v2").0);
    assert!(judged(&policy, "GET", "https://api.test/v1/x").0);
    assert!(judged(&policy, "DELETE", "https://other.test/v1/x").0);
}

#[test]
fn tools_of_an_mcp_server_are_allowed_one_by_one() {
    let policy = policy(
        r#"
        [[rules]]
        name = "no drop"
        action = "deny"
        to = ["mcp.test"]
        mcp_tools = ["drop"]
        [[rules]]
        name = "some"
        action = "allow"
        to = ["mcp.test"]
        mcp_tools = ["search", "drop"]
    "#,
    );
    let target = Target::parse("mcp.test").unwrap();
    let path = egress::Path::parse("/mcp").unwrap();
    let allowed = |mcp| {
        let request = Request {
            method: "POST",
            path: &path,
            mcp,
        };
        let seen = Seen::RequestInTls(request);
        policy
            .decide(&Attempt {
                target: &target,
                port: 443,
                seen,
            })
            .verdict
            == Verdict::Allow
    };
    assert!(allowed(Mcp::Session) && allowed(Mcp::Call("search")));
    assert!(!allowed(Mcp::Call("drop")) && !allowed(Mcp::Call("other")) && !allowed(Mcp::No));
}

#[test]
fn a_rule_asks_for_its_protocol() {
    let policy = policy(
        "[[rules]]\nname = \"tls\"\naction = \"allow\"\nto = [\"a.test\"]\nprotocol = \"tls\"",
    );
    assert!(allows(&policy, "https://a.test/"));
    assert!(!allows(&policy, "http://a.test/") && !allows(&policy, "tcp://a.test:443"));
}

#[test]
fn an_address_of_an_allowed_name_is_held_to_the_set_and_to_earlier_rules() {
    let policy = policy(
        r#"
        networking = { type = "unrestricted" }
        [[rules]]
        name = "trusted"
        action = "allow"
        to = ["trusted.test"]
        [[rules]]
        name = "not there"
        action = "deny"
        to = ["93.184.0.0/16"]
        [[rules]]
        name = "db"
        action = "allow"
        to = ["10.1.2.3"]
        ports = [443]
    "#,
    );
    let judged = |url: &str, ip: &str| {
        let (d, e) = policy
            .judge_url(url, "GET", None, Some(ip.parse().unwrap()))
            .unwrap();
        (d.verdict == Verdict::Allow, e.rule)
    };
    assert_eq!(
        judged("https://x.test/", "127.0.0.1"),
        (false, "always-denied".into())
    );
    assert_eq!(
        judged("https://trusted.test/", "169.254.169.254"),
        (false, "always-denied".into())
    );
    assert_eq!(
        judged("https://x.test/", "::ffff:10.0.0.1"),
        (false, "always-denied".into())
    );
    assert_eq!(
        judged("https://x.test/", "93.184.216.34"),
        (false, "not there".into())
    );
    assert_eq!(
        judged("https://trusted.test/", "93.184.216.34"),
        (true, "trusted".into())
    );
    assert_eq!(
        judged("https://x.test/", "10.1.2.3"),
        (true, "default".into())
    );
    assert_eq!(
        judged("https://x.test:80/", "10.1.2.3"),
        (false, "always-denied".into())
    );
}

#[test]
fn observing_lets_through_what_rules_deny_and_never_the_set() {
    let policy = policy(&format!("mode = \"observe\"\n{LIMITED}"));
    let (decision, explanation) = policy
        .judge_url("https://other.test/", "GET", None, None)
        .unwrap();
    assert!(decision.observed && decision.verdict == Verdict::Allow);
    assert!(
        explanation.reason.contains("would be denied"),
        "{}",
        explanation.reason
    );
    let (decision, _) = policy
        .judge_url("https://api.example.com/", "GET", None, None)
        .unwrap();
    assert!(!decision.observed);
    assert_eq!(
        judged(&policy, "GET", "http://10.0.0.1/"),
        (false, "always-denied".into())
    );
    let ip = Some("127.0.0.1".parse().unwrap());
    let (decision, _) = policy
        .judge_url("https://other.test/", "GET", None, ip)
        .unwrap();
    assert_eq!(decision.verdict, Verdict::Deny);
}

#[test]
fn an_explanation_names_the_rule_and_what_to_do() {
    let policy = policy(LIMITED);
    let reason = |url: &str| policy.judge_url(url, "GET", None, None).unwrap().1.reason;
    assert_eq!(
        reason("https://a.wild.example.com/"),
        "a.wild.example.com:443 allowed: the environment's `allowed_hosts` (*.wild.example.com)"
    );
    assert_eq!(
        reason("https://other.test/"),
        "other.test:443 denied: networking is limited and nothing lists other.test; add it to \
         `allowed_hosts`"
    );
    assert_eq!(
        reason("http://api.example.com/"),
        "api.example.com:80 denied: the environment's `allowed_hosts` (api.example.com) speaks of it, \
         but only on port 443"
    );
    assert_eq!(
        reason("http://169.254.169.254/"),
        "169.254.169.254:80 denied: 169.254.169.254 is a cloud metadata address; only the operator can \
         allow it"
    );
}

#[test]
fn a_decision_names_the_place_of_its_rule() {
    let policy = policy(LIMITED);
    let target = Target::parse("api.example.com").unwrap();
    let attempt = Attempt {
        target: &target,
        port: 443,
        seen: Seen::Nothing,
    };
    assert_eq!(
        policy.decide(&attempt).cause,
        Cause::Rule { rule: 0, target: 0 }
    );
}

//! A wrong policy is refused whole, naming the field; a big one is bounded.

use egress::policy::{Base, Policy, RuleSet, read_policy};

#[test]
fn a_wrong_policy_is_refused_with_the_field_and_the_reason() {
    let hosts = |host: &str| {
        format!("networking = {{ type = \"limited\", allowed_hosts = [\"ok.test\", \"{host}\"] }}")
    };
    let rule = |rest: &str| format!("[[rules]]\nname = \"r\"\naction = \"allow\"\n{rest}\n");
    for (text, error) in [
        (
            hosts("a.*.test"),
            "networking.allowed_hosts[1]: a wildcard stands alone",
        ),
        (
            hosts("*.com"),
            "networking.allowed_hosts[1]: `*.com` would be all of a top-level domain",
        ),
        (
            hosts("*"),
            "networking.allowed_hosts[1]: `*` is for the operator's rules",
        ),
        (
            hosts("https://a.test"),
            "networking.allowed_hosts[1]: \"https://a.test\" is a URL",
        ),
        (
            hosts("a.test:80"),
            "networking.allowed_hosts[1]: \"a.test:80\" is no host",
        ),
        (
            hosts("0x7f.1"),
            "networking.allowed_hosts[1]: \"0x7f.1\" is no host: this is an address",
        ),
        (rule(""), "rules[0]: has neither `to` nor `presets`"),
        (
            rule("to = [\"10.0.0.1/8\"]"),
            "rules[0].to[0]: \"10.0.0.1/8\" is no range",
        ),
        (
            rule("to = [\"*\"]\nports = [0]"),
            "rules[0].ports[0]: \"0\" is no port",
        ),
        (
            rule("to = [\"*\"]\nports = [\"9-1\"]"),
            "rules[0].ports[0]: \"9-1\" is no port",
        ),
        (
            rule("to = [\"*\"]\nmethods = [\"get\"]"),
            "rules[0].methods[0]: \"get\" is no HTTP method",
        ),
        (
            rule("to = [\"*\"]\npaths = [\"x\"]"),
            "rules[0].paths[0]: \"x\" is no path prefix",
        ),
        (
            rule("to = [\"*\"]").repeat(2),
            "rules[1].name: another rule has the name \"r\"",
        ),
        (rule("to = [\"*\"]\nunknown = 1"), "unknown field `unknown`"),
        (
            "allow_private = [\"10.1.2.3\"]".into(),
            "lacks the prefix length",
        ),
    ] {
        let found = read_policy(&text).map(|_| ()).unwrap_err().to_string();
        assert!(found.contains(error), "{text}\n{found}");
    }
}

#[test]
fn a_policy_is_bounded() {
    let hosts = |n: usize| RuleSet {
        base: Base::Limited {
            allowed_hosts: (0..n).map(|i| format!("h{i}.test")).collect(),
            package_managers: false,
            mcp_servers: Vec::new(),
            repositories: Vec::new(),
        },
        ..RuleSet::default()
    };
    assert!(Policy::compile(hosts(10_000)).is_ok());
    assert!(Policy::compile(hosts(100_001)).is_err());
    let rules = |n: usize| {
        let rule =
            |i| format!("[[rules]]\nname = \"r{i}\"\naction = \"deny\"\nto = [\"a.test\"]\n");
        read_policy(&(0..n).map(rule).collect::<String>())
    };
    let many = |n: usize| {
        let rule =
            |i| format!("[[rules]]\nname = \"r{i}\"\naction = \"deny\"\nto = [\"h{i}.test\"]\n");
        read_policy(&(0..n).map(rule).collect::<String>())
    };
    assert!(many(10_000).is_ok());
    let error = many(10_001).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("10000"), "{error}");
    assert!(rules(64).is_ok());
    let error = rules(65).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("a.test stands in more than 64 rules"),
        "{error}"
    );
}

//! The index decides like a plain walk over the rules, and the always-denied set holds whatever is said.

use egress::policy::{Attempt, Cause, Policy, PolicyFile, Seen, Verdict, read_policy};
use egress::{HostPattern, Name, Target};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Said {
    allow: bool,
    to: Vec<String>,
    port: Option<u16>,
    /// What else it says, as in a file.
    more: &'static str,
}

fn host() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]", 1..4).prop_map(|labels| format!("{}.test", labels.join(".")))
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => host(),
        3 => host().prop_map(|host| format!("*.{host}")),
        1 => Just("*".to_owned()),
        1 => Just("*.test".to_owned()),
        1 => Just("10.0.0.0/8".to_owned()),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let port = prop::option::of(prop_oneof![Just(80u16), Just(443)]);
    (any::<bool>(), prop::collection::vec(pattern(), 1..4), port).prop_map(|(allow, to, port)| {
        Said {
            allow,
            to,
            port,
            more: "",
        }
    })
}

/// The same, with rules about protocols and requests among them.
fn said_of_requests() -> impl Strategy<Value = Said> {
    let more = prop::sample::select(vec![
        "",
        "protocol = 'tls'",
        "protocol = 'http'",
        "methods = ['GET']",
        "protocol = 'http'\npaths = ['/x']",
        "protocol = 'tls'\npaths = ['/x']",
        "mcp_tools = ['read']",
    ]);
    (said(), more).prop_map(|(said, more)| Said { more, ..said })
}

fn compile(list: &str, rules: &[Said], base: &str) -> Policy {
    read_policy(&text(list, rules, base)).unwrap()
}

fn text(list: &str, rules: &[Said], base: &str) -> String {
    let mut text = format!("networking = {{ type = \"{base}\" }}\n");
    for (index, rule) in rules.iter().enumerate() {
        let action = if rule.allow { "allow" } else { "deny" };
        let ports = rule.port.map_or(String::new(), |port| port.to_string());
        text += &format!(
            "[[{list}]]\nname = \"r{index}\"\naction = \"{action}\"\nto = {:?}\nports = [{ports}]\n{}\n",
            rule.to, rule.more
        );
    }
    text
}

/// The rule that decides, found the slow way.
fn walked(rules: &[Said], name: &Name, port: u16) -> Option<usize> {
    let covers =
        |to: &String| to == "*" || HostPattern::parse(to).is_ok_and(|pattern| pattern.covers(name));
    rules
        .iter()
        .position(|rule| rule.port.is_none_or(|p| p == port) && rule.to.iter().any(covers))
}

proptest! {
    #[test]
    fn the_index_finds_the_rule_that_a_walk_finds(
        rules in prop::collection::vec(said(), 0..12),
        host in host(),
        port in prop_oneof![Just(80u16), Just(443)],
        unrestricted in any::<bool>(),
    ) {
        let base = if unrestricted { "unrestricted" } else { "limited" };
        let policy = compile("rules", &rules, base);
        let name = Name::parse(&host).unwrap();
        let target = Target::Name(name.clone());
        let decision = policy.decide(&Attempt { target: &target, port, seen: Seen::Nothing });
        let (allowed, rule) = match walked(&rules, &name, port) {
            Some(at) => (rules[at].allow, Some(at)),
            None => (unrestricted, None),
        };
        prop_assert_eq!(decision.verdict == Verdict::Allow, allowed);
        let found = match decision.cause {
            Cause::Rule { rule, .. } => Some(rule as usize),
            Cause::Base | Cause::AlwaysDenied(_) => None,
        };
        prop_assert_eq!(found, rule);
        let explained = policy.explain(&Attempt { target: &target, port, seen: Seen::Nothing });
        prop_assert_eq!(explained.0, decision);
        let named = rule.map_or("default".to_owned(), |at| format!("r{at}"));
        prop_assert_eq!(explained.1.rule, named);
    }

    #[test]
    fn nothing_that_a_tenant_says_reaches_the_always_denied_set(
        rules in prop::collection::vec(said(), 0..12),
        last in any::<[u8; 3]>(),
        port in any::<u16>(),
        mapped in any::<bool>(),
    ) {
        let policy = compile("sandbox_rules", &rules, "unrestricted");
        let v4 = std::net::Ipv4Addr::new(10, last[0], last[1], last[2]);
        let ip = if mapped { v4.to_ipv6_mapped().into() } else { v4.into() };
        let attempt = |target| Attempt { target, port, seen: Seen::Nothing };
        let literal = Target::Address(ip);
        let decision = policy.decide(&attempt(&literal));
        prop_assert_eq!(decision.verdict, Verdict::Deny);
        let name = Target::parse("a.test").unwrap();
        let by = policy.decide(&attempt(&name));
        prop_assert_eq!(policy.judge_address(&attempt(&name), &by, ip).verdict, Verdict::Deny);
    }

    #[test]
    fn what_is_looked_into_belongs_to_a_policy_that_says_so(
        rules in prop::collection::vec(said_of_requests(), 0..6),
        host in host(),
        port in prop_oneof![Just(80u16), Just(443)],
        of_sandbox in any::<bool>(),
    ) {
        let list = if of_sandbox { "sandbox_rules" } else { "rules" };
        let text = text(list, &rules, "unrestricted");
        let file: PolicyFile = toml::from_str(&text).unwrap();
        let target = Target::parse(&host).unwrap();
        let decided = read_policy(&text).unwrap().decide(&Attempt { target: &target, port, seen: Seen::Tls });
        // Programs are told to trust the sandbox's authority by what the file says.
        prop_assert!(decided.verdict != Verdict::Inspect || file.looks_into_tls(), "{}", text);
        let about_requests = |rule: &Said| rule.more.ends_with(']') && !rule.more.contains("http");
        prop_assert_eq!(file.looks_into_tls(), rules.iter().any(about_requests));
    }

    #[test]
    fn no_text_makes_a_name_that_is_not_its_own_form(text in "\\PC{0,40}") {
        if let Ok(name) = Name::parse(&text) {
            prop_assert_eq!(&Name::parse(name.as_str()).unwrap(), &name);
            prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            let ascii = url::Host::parse(name.as_str());
            prop_assert!(matches!(ascii, Ok(url::Host::Domain(d)) if d == name.as_str()));
        }
    }
}

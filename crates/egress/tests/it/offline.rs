//! The offline test of a policy reports what traffic would get, and why a case failed.

use egress::policy::test_policy;

const POLICY: &str = r#"
    networking = { type = "limited", allowed_hosts = ["api.example.com"] }
    [[rules]]
    name = "read only"
    action = "deny"
    to = ["api.example.com"]
    methods = ["POST"]
"#;

#[test]
fn cases_that_hold_pass_and_the_others_say_what_was_found() {
    let report = test_policy(
        POLICY,
        r#"
        [[cases]]
        to = "https://api.example.com/v1"
        expect = "allow"
        rule = "allowed_hosts"
        [[cases]]
        name = "no writes"
        to = "https://api.example.com/v1"
        method = "POST"
        expect = "deny"
        rule = "read only"
        [[cases]]
        name = "rebinding"
        to = "https://api.example.com/"
        resolves_to = "127.0.0.1"
        expect = "deny"
        rule = "always-denied"
        [[cases]]
        name = "ambiguous"
        to = "https://api.example.com/a%2fb"
        expect = "deny"
        [[cases]]
        name = "wrong"
        to = "https://other.test/"
        expect = "allow"
        [[cases]]
        name = "by another rule"
        to = "https://other.test/"
        expect = "deny"
        rule = "read only"
    "#,
    )
    .unwrap();
    assert!(!report.passed());
    assert_eq!(
        report.to_string(),
        "\
ok     https://api.example.com/v1: api.example.com:443 allowed: the environment's `allowed_hosts` (api.example.com)
ok     no writes: api.example.com:443 denied: the operator's rule `read only` (api.example.com)
ok     rebinding: api.example.com:443 denied: api.example.com resolves to a loopback address; only the operator can allow it
ok     ambiguous: \"https://api.example.com/a%2fb\": an encoded slash or backslash in a path is ambiguous
FAILED wrong: expected allow; other.test:443 denied: networking is limited and nothing lists other.test; add it to `allowed_hosts`
FAILED by another rule: expected the rule `read only`; other.test:443 denied: networking is limited and nothing lists other.test; add it to `allowed_hosts`
6 cases, 2 failed"
    );
}

#[test]
fn a_case_that_cannot_be_read_is_refused_with_its_line() {
    let error = test_policy(
        POLICY,
        "[[cases]]\nto = \"https://a.test\"\nexpect = \"maybe\"",
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("line 3") && error.contains("maybe"),
        "{error}"
    );
    let error = test_policy("rules = 1", "cases = []")
        .unwrap_err()
        .to_string();
    assert!(error.contains("rules"), "{error}");
}

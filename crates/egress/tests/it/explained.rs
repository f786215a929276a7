//! What `explain` says is what traffic gets: every policy with every URL, from inside a real sandbox.

use std::net::Ipv4Addr;

use egress::policy::PolicyFile;

use crate::ground::{
    OTHER, PRIVATE, SERVER, hello, limited, on_ground, policy, python, unrestricted,
};

/// Policies that decide for different reasons, each in its last moment: by name, port, protocol, path, address.
fn policies() -> Vec<PolicyFile> {
    let rules = [
        "",
        "[[rules]]\nname = 'r'\naction = 'deny'\nto = ['allowed.test']\n[networking]\ntype = 'unrestricted'\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['allowed.test']\nports = [80]\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['*.test']\nprotocol = 'http'\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['*.test']\nprotocol = 'tls'\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['allowed.test']\nports = [80]\npaths = ['/docs']\n",
        "[[rules]]\nname = 'r'\naction = 'deny'\nto = ['*']\npaths = ['/docs']\n[networking]\ntype = 'unrestricted'\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['10.0.0.0/8']\n[networking]\ntype = 'unrestricted'\n",
        "[[rules]]\nname = 'r'\naction = 'deny'\nto = ['198.51.100.0/24']\n[networking]\ntype = 'unrestricted'\n",
        "[[rules]]\nname = 'r'\naction = 'allow'\nto = ['private.test']\n",
        "mode = 'observe'\n[networking]\ntype = 'limited'\nallowed_hosts = ['other.test']\n",
    ];
    let mut policies: Vec<_> = rules.into_iter().map(policy).collect();
    let limited = PolicyFile {
        contract_ports: [80_u16, 443].as_slice().into(),
        ..limited(&["allowed.test"])
    };
    policies.extend([unrestricted(), limited]);
    policies
}

const URLS: [(&str, &str, &str); 9] = [
    ("allowed.test", "80", "/"),
    ("allowed.test", "80", "/docs/a"),
    ("allowed.test", "80", "/docs/../x"),
    ("allowed.test", "8080", "/"),
    ("other.test", "80", "/"),
    ("private.test", "80", "/"),
    ("mixed.test", "80", "/"),
    (SERVER, "80", "/"),
    (PRIVATE[1], "80", "/"),
];

#[test]
fn what_explain_says_is_what_traffic_gets() {
    on_ground(unrestricted(), |ground| async move {
        let mut servers = Vec::new();
        for (ip, port) in [(SERVER, 80), (SERVER, 8080), (OTHER, 80), (PRIVATE[1], 80)] {
            servers.push(ground.serve(ip, port, hello));
        }
        ground.name("private.test", &[PRIVATE[1]]);
        // The first address is refused and the second one is not: it is reached.
        ground.name("mixed.test", &[PRIVATE[1], OTHER]);
        let sandbox = ground.sandbox("explained").await;
        let asks: Vec<String> = URLS
            .iter()
            .map(|(host, port, path)| format!("http('{host}', {port}, '{path}')[9:12]"))
            .collect();
        let program = format!("print({})", asks.join(", "));
        let (mut allowed, mut denied) = (0, 0);
        for (number, policy) in policies().into_iter().enumerate() {
            ground.set_policy("explained", &policy).await;
            let said = python(&sandbox, &program).await;
            for ((host, port, path), got) in URLS.iter().zip(said.split(' ')) {
                let url = format!("http://{host}:{port}{path}");
                let explained = ground
                    .carrier
                    .explain("explained", &url, "GET")
                    .await
                    .unwrap();
                let wanted = if explained.allowed { "200" } else { "403" };
                assert_eq!(got, wanted, "policy {number}, {url}: {explained:?}");
                if explained.allowed {
                    allowed += 1
                } else {
                    denied += 1
                }
                if !explained.allowed {
                    // The rule that explain names is the one in the audit.
                    let target = host.parse::<Ipv4Addr>().map_or(Some(*host), |_| None);
                    let is = |it: &egress::audit::Record| {
                        it.rule == explained.rule
                            && (target.is_none() || it.name.as_deref() == target)
                    };
                    ground
                        .recorded(&format!("{url} denied by {}", explained.rule), is)
                        .await;
                }
            }
        }
        assert!(allowed > 20 && denied > 20, "{allowed} {denied}");
    });
}

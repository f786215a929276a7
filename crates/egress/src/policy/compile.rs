//! From what is said to what decides: each rule is read once, strictly, and put into the index. It must
//! never drop a rule that it does not understand: the whole policy is refused then.

use std::collections::HashSet;
use std::net::IpAddr;

use dial::Net;

use super::error::{PolicyError, Problem, at, count};
use super::preset::PACKAGE_MANAGERS;
use super::rule::{Action, Base, Mode, Origin, PortSpec, Ports, Protocol, Rule, RuleSet};
use super::table::{Table, To};
use crate::dns::OnDenied;
use crate::limits;
use crate::name::{HostPattern, Target};
use crate::path::Path;

/// A compiled policy. It is shared and never changes; a changed policy is another one.
#[derive(Debug)]
pub struct Policy {
    pub(super) mode: Mode,
    pub(super) rules: Vec<Compiled>,
    pub(super) table: Table,
    pub(super) base: BaseKind,
    pub(super) lifted: dial::Policy,
    dns_deny: OnDenied,
}

/// What decides when no rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseKind {
    Nothing,
    Unrestricted,
    Limited,
}

/// One rule, read.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Box<str>,
    pub(super) origin: Origin,
    pub(super) action: Action,
    /// Both ends included; none is every port.
    pub(super) ports: Box<[(u16, u16)]>,
    pub(super) protocol: Protocol,
    pub(super) conditions: Option<Box<Conditions>>,
    /// As written, for explanations.
    pub(super) targets: Vec<Box<str>>,
}

/// What only a request can tell.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) methods: Vec<String>,
    pub(super) paths: Vec<Path>,
    pub(super) tools: Vec<String>,
}

impl Policy {
    /// Compiles what is said.
    ///
    /// # Errors
    /// [`PolicyError`] naming the field. There is no partial policy: use [`Policy::nothing`] then.
    pub fn compile(set: RuleSet) -> Result<Self, PolicyError> {
        count(
            "allow_private",
            set.lifted.allow_private.len(),
            limits::LIFTED,
        )?;
        let mut compiler = Compiler::default();
        for (list, origin, rules) in [
            ("rules", Origin::Operator, &set.operator),
            ("sandbox_rules", Origin::Sandbox, &set.sandbox),
        ] {
            count(list, rules.len(), limits::RULES)?;
            // Whoever writes one list need not know the other.
            compiler.names.clear();
            for (index, rule) in rules.iter().enumerate() {
                compiler.rule(&format!("{list}[{index}]"), origin, rule)?;
            }
        }
        let base = compiler.base(&set.base, &set.contract_ports)?;
        count("rules", compiler.rules.len(), limits::RULES)?;
        Ok(Self {
            mode: set.mode,
            rules: compiler.rules,
            table: compiler.table,
            base,
            lifted: set.lifted,
            dns_deny: set.dns_deny,
        })
    }

    /// The policy of a sandbox whose policy is missing or cannot be read: it denies all.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            mode: Mode::Enforce,
            rules: Vec::new(),
            table: Table::default(),
            base: BaseKind::Nothing,
            lifted: dial::Policy::default(),
            dns_deny: OnDenied::default(),
        }
    }

    /// What a denied name is answered.
    #[must_use]
    pub fn on_denied(&self) -> OnDenied {
        self.dns_deny
    }
}

#[derive(Default)]
struct Compiler {
    rules: Vec<Compiled>,
    table: Table,
    targets: usize,
    names: HashSet<String>,
}

impl Compiler {
    fn rule(&mut self, path: &str, origin: Origin, rule: &Rule) -> Result<(), PolicyError> {
        self.name(path, &rule.name)?;
        if rule.to.is_empty() && rule.presets.is_empty() {
            return Err(at(path, Problem::NoTarget));
        }
        let ports = read_ports(&format!("{path}.ports"), &rule.ports)?;
        if !rule.to.is_empty() {
            let targets = read_targets(&format!("{path}.to"), &rule.to)?;
            let compiled = self.blank(origin, rule, ports.clone());
            let conditions = read_conditions(path, rule)?;
            self.push(
                path,
                Compiled {
                    conditions,
                    ..compiled
                },
                &targets,
            )?;
        }
        for preset in &rule.presets {
            let targets = known(preset.hosts());
            let ports = if ports.is_empty() {
                preset.ports().iter().map(|port| (*port, *port)).collect()
            } else {
                ports.clone()
            };
            let compiled = self.blank(origin, rule, ports);
            let conditions = read_conditions(path, rule)?;
            self.push(
                path,
                Compiled {
                    conditions,
                    ..compiled
                },
                &targets,
            )?;
        }
        Ok(())
    }

    fn name(&mut self, path: &str, name: &str) -> Result<(), PolicyError> {
        let path = format!("{path}.name");
        let good = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'"' | b'`' | b'\'');
        if name.trim().is_empty() || name.len() > limits::RULE_NAME || !name.bytes().all(good) {
            return Err(at(path, Problem::RuleName));
        }
        if !self.names.insert(name.to_owned()) {
            let name = name.to_owned();
            return Err(at(path, Problem::SameName { name }));
        }
        Ok(())
    }

    fn blank(&self, origin: Origin, rule: &Rule, ports: Box<[(u16, u16)]>) -> Compiled {
        Compiled {
            name: rule.name.as_str().into(),
            origin,
            action: rule.action,
            ports,
            protocol: rule.protocol,
            conditions: None,
            targets: Vec::new(),
        }
    }

    /// Puts a rule behind the others.
    fn push(&mut self, path: &str, rule: Compiled, to: &[To]) -> Result<(), PolicyError> {
        self.targets += to.len();
        count(path, self.targets, limits::TARGETS)?;
        let id = index(self.rules.len());
        let mut rule = rule;
        for (target, to) in to.iter().enumerate() {
            self.table
                .add(to, id, index(target))
                .map_err(|problem| at(path, problem))?;
            rule.targets.push(to.to_string().into());
        }
        self.rules.push(rule);
        Ok(())
    }

    /// The contract's lists, as rules that allow.
    fn base(&mut self, base: &Base, ports: &Ports) -> Result<BaseKind, PolicyError> {
        let Base::Limited {
            allowed_hosts,
            package_managers,
            mcp_servers,
            repositories,
        } = base
        else {
            return Ok(match base {
                Base::Nothing => BaseKind::Nothing,
                Base::Unrestricted | Base::Limited { .. } => BaseKind::Unrestricted,
            });
        };
        let mut ports = read_ports("contract_ports", ports)?;
        if ports.is_empty() {
            ports = Box::new([(443, 443)]);
        }
        let path = "networking.allowed_hosts";
        let hosts = read_targets(path, allowed_hosts)?;
        for (index, to) in hosts.iter().enumerate() {
            for_tenants(&format!("{path}[{index}]"), to)?;
        }
        self.push(path, listed("allowed_hosts", ports), &hosts)?;
        for (name, urls) in [("mcp_servers", mcp_servers), ("repositories", repositories)] {
            for (index, url) in urls.iter().enumerate() {
                let path = format!("{name}[{index}]");
                let (to, port) = read_url(&path, url)?;
                self.push(&path, listed(name, Box::new([(port, port)])), &[to])?;
            }
        }
        if *package_managers {
            for preset in PACKAGE_MANAGERS {
                let ports = preset.ports().iter().map(|port| (*port, *port)).collect();
                let hosts = known(preset.hosts());
                self.push(path, listed("allow_package_managers", ports), &hosts)?;
            }
        }
        Ok(BaseKind::Limited)
    }
}

/// A rule of the contract: it allows these hosts.
fn listed(name: &str, ports: Box<[(u16, u16)]>) -> Compiled {
    Compiled {
        name: name.into(),
        origin: Origin::Contract,
        action: Action::Allow,
        ports,
        protocol: Protocol::Tcp,
        conditions: None,
        targets: Vec::new(),
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("limits::TARGETS is far below 2^32")
}

fn known(hosts: &[&str]) -> Vec<To> {
    let read = |host: &&str| HostPattern::parse(host).ok().map(To::Host);
    hosts.iter().filter_map(read).collect()
}

fn read_targets(path: &str, texts: &[String]) -> Result<Vec<To>, PolicyError> {
    count(path, texts.len(), limits::TARGETS)?;
    let read = |(index, text): (usize, &String)| {
        read_target(text).map_err(|problem| at(format!("{path}[{index}]"), problem))
    };
    texts.iter().enumerate().map(read).collect()
}

fn read_target(text: &str) -> Result<To, Problem> {
    let owned = || text.to_owned();
    if text == "*" {
        return Ok(To::Everything);
    }
    if text.contains("://") {
        return Err(Problem::Url { text: owned() });
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return single(ip).map(To::Net);
    }
    if text.contains('/') {
        return text.parse().map(To::Net).map_err(Problem::Range);
    }
    match HostPattern::parse(text) {
        Ok(pattern) => Ok(To::Host(pattern)),
        Err(_) if text.trim_start_matches("*.").contains('*') => {
            Err(Problem::Wildcard { text: owned() })
        }
        // A decimal or octal form is no way to write an address in a policy.
        Err(why) => Err(Problem::Host { text: owned(), why }),
    }
}

fn single(ip: IpAddr) -> Result<Net, Problem> {
    let length = if ip.is_ipv4() { 32 } else { 128 };
    format!("{ip}/{length}").parse().map_err(Problem::Range)
}

/// What only rules may say, and not the contract's list.
fn for_tenants(path: &str, to: &To) -> Result<(), PolicyError> {
    match to {
        To::Everything => Err(at(path, Problem::Everything)),
        To::Host(HostPattern::Below(suffix)) if !suffix.as_str().contains('.') => {
            let suffix = suffix.to_string();
            Err(at(path, Problem::TopLevel { suffix }))
        }
        To::Host(_) | To::Net(_) => Ok(()),
    }
}

fn read_url(path: &str, text: &str) -> Result<(To, u16), PolicyError> {
    let wrong = || {
        at(
            path,
            Problem::NoUrl {
                text: text.to_owned(),
            },
        )
    };
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let host = Target::parse(url.host_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
    let to = match host {
        Target::Name(name) => To::Host(HostPattern::Exact(name)),
        Target::Address(ip) => To::Net(single(ip).map_err(|problem| at(path, problem))?),
    };
    Ok((to, port))
}

fn read_ports(path: &str, ports: &Ports) -> Result<Box<[(u16, u16)]>, PolicyError> {
    count(path, ports.0.len(), limits::PORTS)?;
    let read = |(index, spec): (usize, &PortSpec)| {
        let wrong = |text: String| at(format!("{path}[{index}]"), Problem::Port { text });
        let range = match spec {
            PortSpec::One(port) => Some((*port, *port)),
            PortSpec::Range(text) => match text.split_once('-') {
                Some((low, high)) => low.parse().ok().zip(high.parse().ok()),
                None => text.parse().ok().map(|port| (port, port)),
            },
        };
        match (range, spec) {
            (Some((low, high)), _) if 0 < low && low <= high => Ok((low, high)),
            (_, PortSpec::One(port)) => Err(wrong(port.to_string())),
            (_, PortSpec::Range(text)) => Err(wrong(text.clone())),
        }
    };
    ports.0.iter().enumerate().map(read).collect()
}

fn read_conditions(path: &str, rule: &Rule) -> Result<Option<Box<Conditions>>, PolicyError> {
    for (field, list) in [
        ("methods", &rule.methods),
        ("paths", &rule.paths),
        ("mcp_tools", &rule.mcp_tools),
    ] {
        count(&format!("{path}.{field}"), list.len(), limits::CONDITIONS)?;
    }
    for (index, method) in rule.methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            let text = method.clone();
            return Err(at(
                format!("{path}.methods[{index}]"),
                Problem::Method { text },
            ));
        }
    }
    for (index, tool) in rule.mcp_tools.iter().enumerate() {
        if tool.is_empty() {
            return Err(at(format!("{path}.mcp_tools[{index}]"), Problem::Tool));
        }
    }
    let read = |(index, text): (usize, &String)| {
        let problem = |why| Problem::Path {
            text: text.clone(),
            why,
        };
        Path::parse(text).map_err(|why| at(format!("{path}.paths[{index}]"), problem(why)))
    };
    let paths = rule
        .paths
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    if !rule.names_requests() {
        return Ok(None);
    }
    Ok(Some(Box::new(Conditions {
        methods: rule.methods.clone(),
        paths,
        tools: rule.mcp_tools.clone(),
    })))
}

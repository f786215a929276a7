//! What a case is, and the proof of one. It knows no attack.

use std::process::{Command, Stdio};

use serde_json::json;

use super::debugger;
use super::defence::Defence;
use super::stage::{Outside, Stage};
use super::{READY, RESULT, SUBJECTS};
use crate::support::{PRELUDE, host_with, id, python};
use sandbox::{Allowance, Provider};

/// One attack.
pub struct Case {
    pub name: &'static str,
    /// What it tries, for the table.
    pub tries: &'static str,
    /// What is made ready for it outside.
    pub stage: Stage,
    /// A Python program that prints one line; `{secret}` and the like are the stage's.
    pub attack: &'static str,
    /// What it prints when all is in force.
    pub denied: &'static str,
    /// Each of what stops it, and what the attack prints when only that stands.
    pub stops: &'static [(Defence, &'static str)],
    /// What it prints when none of those stands.
    pub reached: &'static str,
    /// Whether a kernel may lack what is attacked: then the attack must fail on the bare host, too.
    pub optional: bool,
}

/// Declares the cases of one subject, each with a test of its name.
macro_rules! cases {
    ($($name:ident { tries: $tries:expr, stage: $stage:expr, attack: $attack:expr, denied: $denied:expr,
        stops: $stops:expr, reached: $reached:expr $(, optional: $optional:expr)? $(,)? })*) => {
        /// The cases of this subject.
        pub const CASES: &[$crate::corpus::case::Case] = &[$($crate::corpus::case::Case {
            name: stringify!($name),
            tries: $tries,
            stage: $stage,
            attack: $attack,
            denied: $denied,
            stops: $stops,
            reached: $reached,
            optional: false $(|| $optional)?,
        }),*];
        $(
            #[tokio::test]
            async fn $name() {
                $crate::corpus::case::prove(stringify!($name)).await;
            }
        )*
    };
}

/// Shows that a case is denied by each of its defences, and by nothing else.
pub async fn prove(name: &'static str) {
    let case = find(name);
    let outside = Outside::prepare(case.stage).await;
    assert_eq!(
        attacked(case, outside.values()).await,
        case.denied,
        "with all defences in force"
    );
    if case.is_out_of_reach() {
        println!("no control: this kernel lacks what {name} attacks");
        return;
    }
    let all: Vec<Defence> = case.stops.iter().map(|(defence, _)| *defence).collect();
    for (left, denied) in case.stops.iter().filter(|_| all.len() > 1) {
        let others = all.iter().copied().filter(|defence| defence != left);
        let seen = without(case, &outside, others.collect()).await;
        assert_eq!(seen, *denied, "with {left:?} alone");
    }
    let seen = without(case, &outside, all.clone()).await;
    assert_eq!(seen, outside.fill(case.reached), "without {all:?}");
}

/// A case by its name.
pub fn find(name: &str) -> &'static Case {
    let mut cases = SUBJECTS.iter().flat_map(|(_, cases)| cases.iter());
    cases.find(|case| case.name == name).unwrap()
}

impl Case {
    /// Whether the kernel of this host has nothing to attack.
    pub fn is_out_of_reach(&self) -> bool {
        self.optional && on_the_bare_host(self.attack) != self.reached
    }
}

fn on_the_bare_host(attack: &str) -> String {
    let ran = Command::new("/usr/bin/python3")
        .args(["-c", &format!("{PRELUDE}{attack}")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
}

/// Attacks a sandbox of this process.
async fn attacked(case: &Case, values: &serde_json::Value) -> String {
    let host = host_with(|config| {
        config.allowance = Allowance {
            memory_bytes: 256 << 20,
            cpu_millis: 4000,
            processes: 300,
            ..Allowance::default()
        };
    });
    let leak = case.stage.before(values);
    let sandbox = host.attach("attacked").await;
    case.stage
        .inside(&sandbox, &host.path("sandboxes/attacked"))
        .await;
    let seen = python(&sandbox, &super::stage::fill(case.attack, values)).await;
    drop(leak);
    sandbox.stop().await.unwrap();
    drop(sandbox);
    host.local.delete(&id("attacked")).await.unwrap();
    host.local.shutdown().await;
    // What the sandbox says of memory that ran out stands below.
    seen.lines().next().unwrap_or_default().to_owned()
}

/// Attacks a sandbox of another process, made without these defences.
async fn without(case: &'static Case, outside: &Outside, removed: Vec<Defence>) -> String {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .args([
            "--exact",
            "corpus::case::debugged",
            "--ignored",
            "--nocapture",
        ])
        .stderr(Stdio::inherit());
    let line = json!({"case": case.name, "values": outside.values()}).to_string();
    let run = move || debugger::run(program, line, removed);
    let said = tokio::task::spawn_blocking(run).await.unwrap();
    let (_, seen) = said.split_once(RESULT).unwrap_or_default();
    serde_json::from_str(seen).unwrap_or_default()
}

#[tokio::test]
#[ignore = "the body of the process that the debugger follows"]
async fn debugged() {
    println!("{READY}");
    let told = std::io::read_to_string(std::io::stdin()).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let case = find(told["case"].as_str().unwrap());
    let seen = attacked(case, &told["values"]).await;
    println!("{RESULT}{}", json!(seen));
}

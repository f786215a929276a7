//! The platform's prompt against its golden file: a change of wording is made on purpose, with the
//! version, or not at all.

use harness::judge;
use harness::native::{compact, prompt};
use harness::{Brief, BuiltinTool, Networking};

fn brief() -> Brief {
    Brief {
        model: "claude-sonnet-5-5".to_owned(),
        effort: None,
        max_tokens: 8_192,
        max_input_tokens: 200_000,
        judged: std::collections::BTreeSet::new(),
        system: Some("You are a careful programmer.".to_owned()),
        operator_prompt: Some("Never promise a date.".to_owned()),
        builtin: BuiltinTool::ALL.to_vec(),
        custom: Vec::new(),
        team: None,
        networking: Networking::Unrestricted,
        date: "2026-11-21".to_owned(),
    }
}

#[test]
fn the_platforms_prompt_is_the_golden_one() {
    let golden = include_str!("prompt.v2.txt");
    assert_eq!(prompt::VERSION, 2, "a new version brings a new golden file");
    let actual = prompt::system(&brief());
    assert_eq!(actual, golden, "\n--- the prompt is now ---\n{actual}");
}

#[test]
fn what_is_said_of_the_network_is_what_there_is() {
    let told = |networking| {
        let text = prompt::system(&Brief {
            networking,
            ..brief()
        });
        let of_it = |line: &&str| line.contains("network") || line.contains("reaches");
        text.lines().find(of_it).unwrap_or_default().to_owned()
    };
    assert!(told(Networking::Off).starts_with("The sandbox has no network"));
    assert!(told(Networking::Unrestricted).starts_with("The sandbox reaches the internet"));
    assert!(told(Networking::Limited).starts_with("The sandbox reaches only the hosts"));
}

#[test]
fn the_order_of_tools_does_not_reach_the_prompt() {
    let mut turned = brief();
    turned.builtin.reverse();
    assert_eq!(prompt::system(&turned), prompt::system(&brief()));
}

#[test]
fn an_agent_without_sandbox_tools_is_told_nothing_of_a_sandbox() {
    let plain = Brief {
        builtin: Vec::new(),
        ..brief()
    };
    let text = prompt::system(&plain);
    assert!(!text.contains("sandbox"), "{text}");
    assert!(text.contains("You are a careful programmer."));
}

#[test]
fn what_the_judge_is_told_is_the_golden_text() {
    let golden = include_str!("judge.v1.txt");
    assert_eq!(judge::VERSION, 1, "a new version brings a new golden file");
    assert_eq!(
        judge::PROMPT,
        golden,
        "\n--- it is now ---\n{}",
        judge::PROMPT
    );
}

#[test]
fn what_a_summary_is_asked_for_with_is_the_golden_text() {
    let golden = include_str!("compact.v1.txt");
    assert_eq!(
        compact::VERSION,
        1,
        "a new version brings a new golden file"
    );
    assert_eq!(
        compact::PROMPT,
        golden,
        "\n--- it is now ---\n{}",
        compact::PROMPT
    );
}

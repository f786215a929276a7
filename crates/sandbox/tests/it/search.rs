//! The glob and grep tools.

use std::sync::Arc;

use sandbox::{Sandbox, Tool};
use serde_json::{Value, json};

use crate::support::{call, host, ok, text};

async fn find(sandbox: &Arc<dyn Sandbox>, tool: Tool, input: Value) -> String {
    let output = call(sandbox, tool, input).await;
    assert!(!output.is_error, "{output:?}");
    text(&output)
}

#[tokio::test]
async fn glob_gives_absolute_paths_newest_first() {
    let host = host();
    let sandbox = host.attach("glob").await;
    ok(&sandbox, "mkdir -p src/deep .git .hidden; touch -d @100 src/a.rs; touch -d @300 src/deep/b.rs; touch -d @200 c.rs .hidden/d.rs .git/e.rs src/f.txt").await;
    let glob = async |input| find(&sandbox, Tool::Glob, input).await;
    assert_eq!(
        glob(json!({"pattern": "**/*.rs"})).await,
        "/workspace/src/deep/b.rs\n/workspace/.hidden/d.rs\n/workspace/c.rs\n/workspace/src/a.rs"
    );
    assert_eq!(glob(json!({"pattern": "*.rs"})).await, "/workspace/c.rs");
    assert_eq!(
        glob(json!({"pattern": "*.rs", "path": "src"})).await,
        "/workspace/src/a.rs"
    );
    assert_eq!(
        glob(json!({"pattern": "src/*.{rs,txt}"})).await,
        "/workspace/src/f.txt\n/workspace/src/a.rs"
    );
    assert_eq!(glob(json!({"pattern": "*.none"})).await, "No files found");
}

#[tokio::test]
async fn glob_gives_at_most_a_hundred_and_says_so() {
    let host = host();
    let sandbox = host.attach("many").await;
    ok(&sandbox, "touch f{1..101}").await;
    let found = find(&sandbox, Tool::Glob, json!({"pattern": "f*"})).await;
    assert_eq!(found.lines().count(), 101);
    assert!(found.lines().last().unwrap().contains("truncated"));
    ok(&sandbox, "rm f101").await;
    let found = find(&sandbox, Tool::Glob, json!({"pattern": "f*"})).await;
    assert_eq!(
        found
            .lines()
            .filter(|line| line.starts_with("/workspace/f"))
            .count(),
        100
    );
    assert!(!found.contains("truncated"));
}

#[tokio::test]
async fn grep_gives_the_files_that_match() {
    let host = host();
    let sandbox = host.attach("grep").await;
    ok(
        &sandbox,
        "git init -q .; mkdir src; echo 'fn main' > src/a.rs; echo 'fn other' > b.rs; touch -d @100 src/a.rs; \
         printf 'fn\\0main' > bin; echo skipped > .gitignore; echo 'fn main' > skipped; echo 'fn main' > .env; touch -d @50 .env; ln -s src/a.rs link",
    )
    .await;
    let grep = async |input| find(&sandbox, Tool::Grep, input).await;
    assert_eq!(
        grep(json!({"pattern": "fn\\s+main"})).await,
        "/workspace/src/a.rs\n/workspace/.env"
    );
    assert_eq!(
        grep(json!({"pattern": "^fn", "path": "src"})).await,
        "/workspace/src/a.rs"
    );
    assert_eq!(
        grep(json!({"pattern": "other", "path": "/workspace/b.rs"})).await,
        "/workspace/b.rs"
    );
    assert_eq!(grep(json!({"pattern": "nowhere"})).await, "No files found");
}

#[tokio::test]
async fn a_bad_pattern_or_place_is_answered_by_the_tool() {
    let host = host();
    let sandbox = host.attach("bad").await;
    for (tool, input, says) in [
        (Tool::Glob, json!({}), "glob: pattern is required"),
        (
            Tool::Glob,
            json!({"pattern": "/etc/*"}),
            "glob: pattern must be relative",
        ),
        (
            Tool::Glob,
            json!({"pattern": "../*"}),
            "glob: pattern must be relative",
        ),
        (
            Tool::Glob,
            json!({"pattern": "a["}),
            "glob: invalid pattern",
        ),
        (
            Tool::Glob,
            json!({"pattern": "*", "path": "none"}),
            "glob: /workspace/none: no such file",
        ),
        (
            Tool::Glob,
            json!({"pattern": "*", "path": "/etc"}),
            "glob: /etc is outside",
        ),
        (Tool::Grep, json!({"pattern": "("}), "grep: invalid regex"),
        (
            Tool::Grep,
            json!({"pattern": "x", "path": 1}),
            "grep: path must be a string",
        ),
        (
            Tool::Grep,
            json!({"pattern": "x", "path": "/proc"}),
            "grep: /proc is outside",
        ),
    ] {
        let output = call(&sandbox, tool, input.clone()).await;
        assert!(
            output.is_error && text(&output).starts_with(says),
            "{input}: {output:?}"
        );
    }
}

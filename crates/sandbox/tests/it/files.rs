//! The read, write and edit tools.

use std::sync::Arc;

use sandbox::{Content, Sandbox, Tool, ToolOutput};
use serde_json::{Value, json};

use crate::support::{call, host, ok, text};

async fn read(sandbox: &Arc<dyn Sandbox>, input: Value) -> ToolOutput {
    call(sandbox, Tool::Read, input).await
}

fn refused(output: &ToolOutput, says: &str) {
    assert!(output.is_error, "{output:?}");
    assert_eq!(text(output), says);
}

#[tokio::test]
async fn written_text_is_read_back_verbatim() {
    let host = host();
    let sandbox = host.attach("files").await;
    let content = "é line\n\n  two\ttabs";
    let output = call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "a/b/c.txt", "content": content}),
    )
    .await;
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (false, "wrote 18 bytes to /workspace/a/b/c.txt")
    );
    assert_eq!(
        text(&read(&sandbox, json!({"file_path": "/workspace/a/b/c.txt"})).await),
        content
    );
    let output = call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "a/b/c.txt", "content": ""}),
    )
    .await;
    assert!(!output.is_error);
    assert_eq!(
        ok(&sandbox, "stat -c '%s %a %U' a/b/c.txt").await,
        "0 644 root"
    );
    let output = call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "/mnt/session/outputs/o", "content": "x"}),
    )
    .await;
    assert!(!output.is_error);
}

#[tokio::test]
async fn writing_keeps_an_existing_files_mode() {
    let host = host();
    let sandbox = host.attach("mode").await;
    ok(&sandbox, "echo long content > s.sh; chmod 755 s.sh").await;
    call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "s.sh", "content": "x"}),
    )
    .await;
    assert_eq!(ok(&sandbox, "stat -c '%s %a' s.sh").await, "1 755");
}

#[tokio::test]
async fn a_range_of_lines_is_counted_from_one_and_inclusive() {
    let host = host();
    let sandbox = host.attach("range").await;
    ok(&sandbox, "seq 1 5 > f; seq 1 200000 > big").await;
    for (range, wanted) in [
        ([2, 3], "2\n3\n"),
        ([5, -1], "5\n"),
        ([4, 0], "4\n5\n"),
        ([4, 99], "4\n5\n"),
        ([9, 10], ""),
    ] {
        assert_eq!(
            text(&read(&sandbox, json!({"file_path": "f", "view_range": range})).await),
            wanted
        );
    }
    for range in [[0, 2], [3, 2], [-1, 4]] {
        let output = read(&sandbox, json!({"file_path": "f", "view_range": range})).await;
        refused(
            &output,
            "read: view_range must be [start, end] with 1 <= start <= end, or end <= 0",
        );
    }
    assert_eq!(
        text(
            &read(
                &sandbox,
                json!({"file_path": "big", "view_range": [199999, 0]})
            )
            .await
        ),
        "199999\n200000\n"
    );
    let output = read(&sandbox, json!({"file_path": "big"})).await;
    refused(
        &output,
        "read: /workspace/big is 1288895 bytes, exceeds 262144-byte limit. Use the view_range parameter to read part of the file",
    );
    let output = read(&sandbox, json!({"file_path": "big", "view_range": [1, -1]})).await;
    assert!(output.is_error && text(&output).contains("Use a smaller view_range"));
    refused(
        &read(&sandbox, json!({"file_path": "f", "view_range": [1]})).await,
        "read: view_range must be an array of two whole numbers",
    );
}

#[tokio::test]
async fn images_and_documents_come_as_blocks() {
    let host = host();
    let sandbox = host.attach("images").await;
    ok(&sandbox, "printf PNG > a.PNG; printf PDF > b.pdf; head -c 4000000 /dev/zero > big.jpg; truncate -s 21000000 big.pdf").await;
    let output = read(&sandbox, json!({"file_path": "a.PNG"})).await;
    assert_eq!(
        output.content,
        [Content::Image {
            media_type: "image/png".into(),
            data: "UE5H".into()
        }]
    );
    let output = read(&sandbox, json!({"file_path": "b.pdf"})).await;
    assert_eq!(
        output.content,
        [Content::Document {
            media_type: "application/pdf".into(),
            data: "UERG".into()
        }]
    );
    for big in ["big.jpg", "big.pdf"] {
        let output = read(&sandbox, json!({"file_path": big})).await;
        assert!(
            output.is_error && text(&output).contains("exceeds"),
            "{output:?}"
        );
    }
    ok(&sandbox, "truncate -s 20971520 most.pdf").await;
    assert!(
        !read(&sandbox, json!({"file_path": "most.pdf"}))
            .await
            .is_error
    );
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let host = host();
    let sandbox = host.attach("cannot").await;
    ok(
        &sandbox,
        "printf '\\xff\\xfe' > bin; mkdir d; mkfifo pipe; ln -s loop loop",
    )
    .await;
    for (path, says) in [
        (
            "missing",
            "read: /workspace/missing: no such file or directory",
        ),
        ("bin", "read: /workspace/bin is not UTF-8 text"),
        ("d", "read: /workspace/d is not a regular file"),
        ("pipe", "read: /workspace/pipe is not a regular file"),
        ("loop", "read: /workspace/loop: too many symbolic links"),
        ("bin/x", "read: /workspace/bin/x: not a directory"),
        ("", "read: path is empty"),
        ("a\0b", "read: path contains a NUL byte"),
    ] {
        refused(&read(&sandbox, json!({"file_path": path})).await, says);
    }
    refused(
        &read(&sandbox, json!({})).await,
        "read: file_path is required",
    );
    let output = call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "/mnt/session/uploads/x", "content": "x"}),
    )
    .await;
    refused(
        &output,
        "write: /mnt/session/uploads/x: read-only file system",
    );
    let output = call(
        &sandbox,
        Tool::Write,
        json!({"file_path": "d", "content": "x"}),
    )
    .await;
    refused(&output, "write: /workspace/d: is a directory");
    refused(
        &call(&sandbox, Tool::Write, json!({"file_path": "x"})).await,
        "write: content is required",
    );
}

#[tokio::test]
async fn edit_replaces_one_exact_place_or_all() {
    let host = host();
    let sandbox = host.attach("edit").await;
    ok(&sandbox, "printf 'a b a' > f").await;
    let edit = async |input: Value| call(&sandbox, Tool::Edit, input).await;
    refused(
        &edit(json!({"file_path": "f", "old_string": "x", "new_string": "y"})).await,
        "edit: old_string not found in /workspace/f",
    );
    refused(
        &edit(json!({"file_path": "f", "old_string": "a", "new_string": "y"})).await,
        "edit: old_string appears 2 times in /workspace/f (must be unique)",
    );
    refused(
        &edit(json!({"file_path": "f", "old_string": "", "new_string": "y"})).await,
        "edit: old_string must not be empty",
    );
    refused(
        &edit(json!({"file_path": "g", "old_string": "a", "new_string": "y"})).await,
        "edit: /workspace/g: no such file or directory",
    );
    let output = edit(json!({"file_path": "f", "old_string": "b", "new_string": "'$&"})).await;
    assert_eq!(text(&output), "edited /workspace/f (1 replacement(s))");
    let output =
        edit(json!({"file_path": "f", "old_string": "a", "new_string": "", "replace_all": true}))
            .await;
    assert_eq!(text(&output), "edited /workspace/f (2 replacement(s))");
    assert_eq!(ok(&sandbox, "cat f").await, " '$& ");
}

//! The tools that `native` offers and how a call reaches the sandbox. Descriptions and schemas are part
//! of the prefix: the same bytes in the same order, whatever order the agent named them in.

use contract::content::{Block, Source};
use contract::ids::EventId;
use model::ToolSpec;
use sandbox::{Content, Sandbox, Tool, ToolCall, ToolOutput};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::brief::{Brief, BuiltinTool};
use crate::plane::Plane;

/// Everything on offer, sorted by name.
pub(crate) fn offered(brief: &Brief) -> Vec<ToolSpec> {
    let builtin = BuiltinTool::ALL
        .into_iter()
        .filter(|t| brief.builtin.contains(t));
    let mut tools = builtin
        .map(spec)
        .chain(brief.custom.iter().cloned())
        .chain(brief.team.iter().flat_map(super::team::offered))
        .collect::<Vec<_>>();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools
}

/// Runs one call, under its own name: if this server is lost, it goes on. In the shell of the plane's thread.
pub(crate) async fn run(
    plane: &dyn Plane,
    sandbox: &dyn Sandbox,
    call: EventId,
    (name, input): (&str, Value),
) -> Result<(Vec<Block>, bool), sandbox::Error> {
    let Some(tool) = tool(name) else {
        return Ok(unknown(name));
    };
    let (key, cancel) = (call.to_string(), plane.cancelled());
    let output = sandbox.keyed(&key, tool_call(plane, tool, input), cancel);
    output.await.map(told)
}

/// How a call ended that an earlier server began; none if the sandbox does not know.
pub(crate) async fn resume(
    plane: &dyn Plane,
    sandbox: &dyn Sandbox,
    call: EventId,
    (name, input): (&str, Value),
) -> Result<Option<(Vec<Block>, bool)>, sandbox::Error> {
    let Some(tool) = tool(name) else {
        return Ok(None);
    };
    let (key, cancel) = (call.to_string(), plane.cancelled());
    let output = sandbox.resume_call(&key, tool_call(plane, tool, input), cancel);
    Ok(output.await?.map(told))
}

/// Runs one call that nobody would miss: it only looks, and has no name by which it could be found again.
pub(crate) async fn look(
    sandbox: &dyn Sandbox,
    name: &str,
    input: Value,
    cancel: CancellationToken,
) -> Result<(Vec<Block>, bool), sandbox::Error> {
    let Some(tool) = tool(name) else {
        return Ok(unknown(name));
    };
    let call = ToolCall {
        name: tool,
        input,
        caller: None,
    };
    sandbox.tool(call, cancel).await.map(told)
}

fn tool_call(plane: &dyn Plane, name: Tool, input: Value) -> ToolCall {
    ToolCall {
        name,
        input,
        caller: plane.caller(),
    }
}

/// The session core let it through, so it is a tool of a newer server: say so to the model.
fn unknown(name: &str) -> (Vec<Block>, bool) {
    let text = format!("`{name}` does not run here.");
    (vec![Block::text(text)], true)
}

fn tool(name: &str) -> Option<Tool> {
    Some(match BuiltinTool::named(name)? {
        BuiltinTool::Bash => Tool::Bash,
        BuiltinTool::Edit => Tool::Edit,
        BuiltinTool::Glob => Tool::Glob,
        BuiltinTool::Grep => Tool::Grep,
        BuiltinTool::Read => Tool::Read,
        BuiltinTool::Write => Tool::Write,
    })
}

fn told(output: ToolOutput) -> (Vec<Block>, bool) {
    let blocks = output.content.into_iter().map(block);
    (blocks.collect(), output.is_error)
}

fn block(content: Content) -> Block {
    match content {
        Content::Text { text } => Block::Text { text },
        Content::Image { media_type, data } => Block::Image {
            source: Source::Base64 { data, media_type },
        },
        Content::Document { media_type, data } => Block::Document {
            source: Source::Base64 { data, media_type },
            context: None,
            title: None,
        },
    }
}

fn spec(tool: BuiltinTool) -> ToolSpec {
    let (description, properties, required) = match tool {
        BuiltinTool::Bash => bash(),
        BuiltinTool::Edit => edit(),
        BuiltinTool::Glob | BuiltinTool::Grep => search(tool),
        BuiltinTool::Read => read(),
        BuiltinTool::Write => write(),
    };
    let input_schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    ToolSpec {
        name: tool.name().to_owned(),
        description: description.to_owned(),
        input_schema,
    }
}

type Shape = (&'static str, Value, &'static [&'static str]);

fn bash() -> Shape {
    (
        "Run a command in the session's persistent bash shell and return its combined output. Set restart to true to get a fresh shell.",
        json!({
            "command": {"type": "string", "description": "The command to run."},
            "restart": {"type": "boolean", "description": "Restart the shell instead of running a command."},
            "timeout_ms": {"type": "integer", "description": "Time limit in milliseconds; 120000 if absent or 0."},
        }),
        &[],
    )
}

fn edit() -> Shape {
    (
        "Replace a text in a file. old_string must occur exactly once unless replace_all is true.",
        json!({
            "file_path": file_path(),
            "old_string": {"type": "string", "description": "The text to replace, exactly as it stands."},
            "new_string": {"type": "string", "description": "The text to put in its place."},
            "replace_all": {"type": "boolean", "description": "Replace every occurrence."},
        }),
        &["file_path", "old_string", "new_string"],
    )
}

fn search(tool: BuiltinTool) -> Shape {
    let (about, pattern) = if tool == BuiltinTool::Glob {
        (
            "Find files by a glob pattern such as **/*.py. Returns paths, newest first, at most 100.",
            "The pattern, relative to path.",
        )
    } else {
        (
            "Find files whose content matches a regular expression. Returns the paths of matching files.",
            "The regular expression.",
        )
    };
    let properties = json!({
        "pattern": {"type": "string", "description": pattern},
        "path": {"type": "string", "description": "Where to search; /workspace if absent."},
    });
    (about, properties, &["pattern"])
}

fn read() -> Shape {
    (
        "Read a text file, an image or a PDF. view_range selects lines of a text file.",
        json!({
            "file_path": file_path(),
            "view_range": {
                "type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2,
                "description": "First and last line, counted from 1; a last line of -1 means the end.",
            },
        }),
        &["file_path"],
    )
}

fn write() -> Shape {
    (
        "Write a text file, creating its directories and replacing what was there.",
        json!({
            "file_path": file_path(),
            "content": {"type": "string", "description": "The whole content."},
        }),
        &["file_path", "content"],
    )
}

fn file_path() -> Value {
    json!({"type": "string", "description": "The file, absolute or relative to /workspace."})
}

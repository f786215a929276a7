//! Calls whose arguments the model wrote as no JSON object.

use contract::content::Block;
use contract::event::Body;
use session::{Fact, Step};

use crate::world::{raw, running_on};

#[test]
fn a_call_whose_input_is_no_object_runs_nowhere_and_no_client_is_asked_about_it() {
    for (name, wrote) in [
        ("ask", "\"{\\\"a\\\": \""),
        ("write", "[1]"),
        ("bash", "\"\""),
    ] {
        let mut world = running_on("go");
        let mut reply = world.reply(None, &[name]);
        let Fact::Replied { calls, .. } = &mut reply else {
            panic!("{reply:?}")
        };
        calls[0].input = raw(wrote);
        let step = world.report(reply);
        assert!(matches!(step, Step::Request { .. }), "{name}: {step:?}");
        let told = world.log.iter().any(|p| match &p.event.body {
            Body::AgentToolResult {
                tool_use_id,
                content,
                is_error: true,
            } => {
                *tool_use_id == world.calls[0]
                    && matches!(&content[..], [Block::Text { text }] if text.contains("not a JSON object"))
            }
            _ => false,
        });
        assert!(told, "{name}");
        assert!(world.blocked().is_empty());
        assert_eq!(world.count("agent.custom_tool_use"), 0);
        let shown = world.log.iter().find_map(|p| match &p.event.body {
            Body::AgentToolUse { input, .. } => Some(input.get().to_owned()),
            _ => None,
        });
        assert_eq!(shown.unwrap(), format!("{{\"invalid_json\":{wrote}}}"));
    }
}

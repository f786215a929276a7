//! The results of calls as a conversation has them, in blocks of the contract. Pure.

use contract::content::{Block, Source};
use model::{Message, UserBlock};

/// The results that a message of the conversation holds: the call by the model's id, what it said, whether it failed.
pub(super) fn results(message: &Message) -> impl Iterator<Item = (&str, Vec<Block>, bool)> {
    let blocks = match message {
        Message::User(blocks) => blocks.as_slice(),
        Message::System(_) | Message::Assistant(_) => &[],
    };
    blocks.iter().filter_map(|block| match block {
        UserBlock::ToolResult {
            tool_use_id,
            content,
            is_error,
        } => Some((
            tool_use_id.as_str(),
            content.iter().map(shown).collect(),
            *is_error,
        )),
        _ => None,
    })
}

fn shown(block: &model::ResultBlock) -> Block {
    match block {
        model::ResultBlock::Text { text } => Block::text(text.clone()),
        model::ResultBlock::Image {
            source: model::Source::Base64 { media_type, data },
        } => Block::Image {
            source: Source::Base64 {
                data: data.clone(),
                media_type: media_type.clone(),
            },
        },
        other => Block::text(serde_json::to_string(other).unwrap_or_default()),
    }
}

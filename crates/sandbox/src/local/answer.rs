//! Owns judging a tool's answer: only what an honest hand could have said passes. It mends nothing.

use hand::limits::{IMAGE_BASE64_BYTES, PDF_BYTES, SPILL_CHARS};
use hand::wire::{Content, Output, Tool};

use crate::limits::{ANSWER_PARTS, TEXT_ANSWER_BYTES};

/// Bytes of the largest PDF in base64.
const PDF_BASE64_BYTES: u64 = PDF_BYTES.div_ceil(3) * 4;
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The answer in `body`, or `None` if `tool` could not have given it.
pub(super) fn judged(tool: Tool, body: &[u8]) -> Option<Output> {
    if tool != Tool::Read && body.len() > TEXT_ANSWER_BYTES {
        return None;
    }
    let output: Output = serde_json::from_slice(body).ok()?;
    let parts = output.content.len();
    if parts == 0 || parts > ANSWER_PARTS {
        return None;
    }
    let mut characters = 0;
    for part in &output.content {
        match part {
            Content::Text { text } => characters += text.chars().count(),
            Content::Image { media_type, data } => {
                let known = tool == Tool::Read && IMAGES.contains(&media_type.as_str());
                if !known || !is_base64(data, IMAGE_BASE64_BYTES) {
                    return None;
                }
            }
            Content::Document { media_type, data } => {
                let known = tool == Tool::Read && media_type == "application/pdf";
                if !known || !is_base64(data, PDF_BASE64_BYTES) {
                    return None;
                }
            }
        }
    }
    (characters <= SPILL_CHARS).then_some(output)
}

/// Standard base64 with its padding, of at most `most` bytes.
fn is_base64(data: &str, most: u64) -> bool {
    let body = data.trim_end_matches('=');
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    data.len().is_multiple_of(4)
        && data.len() - body.len() <= 2
        && u64::try_from(data.len()).is_ok_and(|length| length <= most)
        && body.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(tool: Tool, content: Vec<Content>) -> bool {
        let output = Output {
            content,
            is_error: false,
        };
        judged(tool, &serde_json::to_vec(&output).unwrap()).is_some()
    }

    fn text(characters: usize) -> Content {
        Content::Text {
            text: "é".repeat(characters),
        }
    }

    fn image(media_type: &str, data: &str) -> Content {
        Content::Image {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        }
    }

    fn document(media_type: &str, data: &str) -> Content {
        Content::Document {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn what_an_honest_hand_says_passes() {
        assert!(passes(Tool::Bash, vec![text(0)]));
        assert!(passes(Tool::Bash, vec![text(SPILL_CHARS)]));
        let escaped = "\u{1}".repeat(SPILL_CHARS);
        assert!(passes(Tool::Bash, vec![Content::Text { text: escaped }]));
        let largest = "A".repeat(usize::try_from(PDF_BASE64_BYTES).unwrap());
        let pdf = document("application/pdf", &largest);
        assert!(passes(Tool::Read, vec![pdf]));
        for data in ["", "AAAA", "AA==", "+/A="] {
            assert!(passes(Tool::Read, vec![image("image/webp", data)]));
        }
    }

    #[test]
    fn more_or_longer_parts_than_a_tool_gives_do_not_pass() {
        assert!(!passes(Tool::Bash, vec![]));
        assert!(!passes(Tool::Bash, vec![text(1); ANSWER_PARTS + 1]));
        assert!(!passes(Tool::Bash, vec![text(SPILL_CHARS + 1)]));
        assert!(!passes(Tool::Bash, vec![text(SPILL_CHARS / 2 + 1); 2]));
        assert!(!passes(Tool::Read, vec![text(SPILL_CHARS + 1)]));
        let mut padded = serde_json::to_vec(&Output::text("x")).unwrap();
        padded.resize(TEXT_ANSWER_BYTES + 1, b' ');
        assert!(judged(Tool::Glob, &padded).is_none());
        assert!(judged(Tool::Bash, b"{}").is_none());
    }

    #[test]
    fn only_read_gives_images_and_documents_of_the_known_kinds_and_sizes() {
        assert!(!passes(Tool::Bash, vec![image("image/png", "AAAA")]));
        assert!(!passes(
            Tool::Grep,
            vec![document("application/pdf", "AAAA")]
        ));
        for kind in ["image/svg+xml", "text/html", "", "application/pdf"] {
            assert!(!passes(Tool::Read, vec![image(kind, "AAAA")]), "{kind}");
        }
        assert!(!passes(Tool::Read, vec![document("image/png", "AAAA")]));
        for data in ["A", "AAA", "A===", "====", "AA=A", "AAA\n", "AA\"A", "AAAé"] {
            assert!(
                !passes(Tool::Read, vec![image("image/png", data)]),
                "{data}"
            );
        }
        let over = |most: u64| "A".repeat(usize::try_from(most + 4).unwrap());
        let large = image("image/png", &over(IMAGE_BASE64_BYTES));
        assert!(!passes(Tool::Read, vec![large]));
        let large = document("application/pdf", &over(PDF_BASE64_BYTES));
        assert!(!passes(Tool::Read, vec![large]));
    }
}

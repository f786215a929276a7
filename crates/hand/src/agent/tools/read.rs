//! Owns the read tool: text, parts of large texts, images, PDFs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;

use super::input::Input;
use super::paths::Target;
use crate::limits::{IMAGE_BASE64_BYTES, PDF_BYTES, TEXT_BYTES};
use crate::wire::{Content, Output};

pub(super) fn run(input: &Input) -> Result<Output, String> {
    let target = Target::parse(input.text("file_path")?)?;
    let range = input.pair("view_range")?;
    let (file, size) = open_regular(&target, OFlags::RDONLY)?;
    let shown = target.shown();
    let extension = shown
        .rsplit_once('.')
        .map(|(_, end)| end.to_ascii_lowercase());
    let image = match extension.as_deref() {
        Some("png") => Some("image/png"),
        Some("jpg" | "jpeg") => Some("image/jpeg"),
        Some("gif") => Some("image/gif"),
        Some("webp") => Some("image/webp"),
        _ => None,
    };
    if let Some(media_type) = image {
        if size.div_ceil(3) * 4 > IMAGE_BASE64_BYTES {
            return Err(format!(
                "{shown} is {size} bytes, exceeds {IMAGE_BASE64_BYTES}-byte limit for an image in base64"
            ));
        }
        let data = encoded(file, size).map_err(|error| format!("{shown}: {error}"))?;
        let media_type = media_type.to_owned();
        return Ok(Output {
            content: vec![Content::Image { media_type, data }],
            is_error: false,
        });
    }
    if extension.as_deref() == Some("pdf") {
        if size > PDF_BYTES {
            return Err(format!(
                "{shown} is {size} bytes, exceeds {PDF_BYTES}-byte limit for a PDF"
            ));
        }
        let data = encoded(file, size).map_err(|error| format!("{shown}: {error}"))?;
        let media_type = "application/pdf".to_owned();
        return Ok(Output {
            content: vec![Content::Document { media_type, data }],
            is_error: false,
        });
    }
    let bytes = match range {
        Some(range) => lines(file, range, &shown)?,
        None if size > TEXT_BYTES => {
            return Err(format!(
                "{shown} is {size} bytes, exceeds {TEXT_BYTES}-byte limit. Use the view_range \
                 parameter to read part of the file"
            ));
        }
        None => whole(file).map_err(|error| format!("{shown}: {error}"))?,
    };
    String::from_utf8(bytes)
        .map(Output::text)
        .map_err(|_| not_text(&shown))
}

pub(super) fn not_text(shown: &str) -> String {
    format!("{shown} is not UTF-8 text")
}

/// Opens without waiting for a FIFO's other end; only regular files pass.
pub(super) fn open_regular(target: &Target, flags: OFlags) -> Result<(File, u64), String> {
    let fd = target.open(flags | OFlags::NONBLOCK)?;
    let file = File::from(fd);
    let metadata = file
        .metadata()
        .map_err(|error| format!("{}: {error}", target.shown()))?;
    if !metadata.is_file() {
        return Err(format!("{} is not a regular file", target.shown()));
    }
    Ok((file, metadata.len()))
}

/// The whole of a file of at most the text limit; one that grew meanwhile is cut there.
pub(super) fn whole(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn encoded(file: File, size: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// Lines `start..=end`, counted from 1; an end of 0 or less is the end of the file.
fn lines(file: File, (start, end): (i64, i64), shown: &str) -> Result<Vec<u8>, String> {
    if start < 1 || (end > 0 && end < start) {
        return Err(
            "view_range must be [start, end] with 1 <= start <= end, or end <= 0".to_owned(),
        );
    }
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let mut kept = Vec::new();
    let mut number = 1;
    while end <= 0 || number <= end {
        let wanted = number >= start;
        let piece = reader
            .fill_buf()
            .map_err(|error| format!("{shown}: {error}"))?;
        if piece.is_empty() {
            break;
        }
        let newline = piece.iter().position(|byte| *byte == b'\n');
        let length = newline.map_or(piece.len(), |at| at + 1);
        if wanted {
            kept.extend_from_slice(&piece[..length]);
        }
        if kept.len() as u64 > TEXT_BYTES {
            return Err(format!(
                "the selected lines of {shown} exceed the {TEXT_BYTES}-byte limit. Use a smaller view_range"
            ));
        }
        reader.consume(length);
        if newline.is_some() {
            number += 1;
        }
    }
    Ok(kept)
}

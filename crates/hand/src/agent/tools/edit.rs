//! Owns the edit tool: replacing an exact piece of text.

use rustix::fs::OFlags;

use super::input::Input;
use super::paths::Target;
use super::read::{not_text, open_regular, whole};
use super::write::replace;
use crate::limits::TEXT_BYTES;
use crate::wire::Output;

pub(super) fn run(input: &Input) -> Result<Output, String> {
    let target = Target::parse(input.text("file_path")?)?;
    let (old, new) = (input.text("old_string")?, input.text("new_string")?);
    let all = input.flag("replace_all")?;
    if old.is_empty() {
        return Err("old_string must not be empty".to_owned());
    }
    let shown = target.shown();
    let (file, size) = open_regular(&target, OFlags::RDONLY)?;
    if size > TEXT_BYTES {
        return Err(format!(
            "{shown} is {size} bytes, exceeds {TEXT_BYTES}-byte limit"
        ));
    }
    let bytes = whole(file).map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| not_text(&shown))?;
    let count = text.matches(old).count();
    match count {
        0 => Err(format!("old_string not found in {shown}")),
        2.. if !all => Err(format!(
            "old_string appears {count} times in {shown} (must be unique)"
        )),
        _ => {
            replace(&target, &text.replace(old, new))?;
            Ok(Output::text(format!(
                "edited {shown} ({count} replacement(s))"
            )))
        }
    }
}

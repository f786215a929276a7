//! The same in words: `/llms.txt` for models, and the list of routes in `docs/compatibility.md` for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::shapes;
use crate::table::{OPERATE, PUBLIC, Route};

/// What `/llms.txt` answers.
#[must_use]
pub fn llms_txt() -> String {
    let mut text = include_str!("../llms.txt").to_owned();
    let mut section = |title: &str, routes: &[Route]| {
        let _ = writeln!(text, "\n## {title}\n");
        for route in routes.iter().filter(|route| route.handler.is_some()) {
            let what = shapes::of(&route.method, route.path).map_or("", |shape| shape.what);
            let _ = writeln!(text, "- {} {}: {what}", route.method, route.path);
        }
    };
    section("Routes", PUBLIC);
    section(
        "Routes of Longhand's own (no beta or version header)",
        OPERATE,
    );
    text
}

/// The routes as `docs/compatibility.md` lists them, by resource: those that are served, then those that
/// answer 501.
#[must_use]
pub fn routes_markdown() -> String {
    let mut served = BTreeMap::<_, Vec<_>>::new();
    let mut unbuilt = BTreeMap::<_, Vec<_>>::new();
    for route in PUBLIC {
        let lists = match route.handler {
            Some(_) => &mut served,
            None => &mut unbuilt,
        };
        let line = format!("`{} {}`", route.method, route.path);
        lists.entry(resource(route.path)).or_default().push(line);
    }
    let mut text = String::new();
    let mut table = |title: &str, lists: BTreeMap<String, Vec<String>>| {
        let _ = writeln!(text, "| {title} | routes |\n|---|---|");
        for (resource, routes) in lists {
            let _ = writeln!(text, "| {resource} | {} |", routes.join(", "));
        }
        text.push('\n');
    };
    table("served", served);
    table("answers 501", unbuilt);
    text
}

/// What a path is about: `sessions threads`. Verbs at its end are none of it.
fn resource(path: &str) -> String {
    let nouns = path.trim_start_matches("/v1/").split('/');
    let mut nouns = nouns.filter(|segment| !segment.starts_with('{'));
    let first = nouns.next().unwrap_or_default();
    match nouns.next() {
        Some(second) if first == "organizations" => second.to_owned(),
        Some(second) if PARTS.contains(&second) => format!("{first} {second}"),
        _ => first.to_owned(),
    }
}

/// Resources below others.
const PARTS: [&str; 9] = [
    "certificates",
    "credentials",
    "events",
    "memories",
    "memory_versions",
    "resources",
    "threads",
    "versions",
    "work",
];

//! The table of docs/security.md, made from the cases.

use super::SUBJECTS;
use super::case::Without;

fn table() -> String {
    let mut table = String::new();
    for (subject, cases) in SUBJECTS {
        table += &format!(
            "\n### {subject}\n\n| case | what it tries | denied with | what stops it | without it |\n|---|---|---|---|---|\n"
        );
        for case in *cases {
            let rule = match case.rule {
                "" => String::new(),
                rule => format!(", rule `{rule}`"),
            };
            let without = match case.without {
                Without::Policy(_) => "another policy",
                Without::Network => "outside a sandbox",
            };
            table += &format!(
                "| `{}` | {} | `{}`{rule} | {} | {without}: `{}` |\n",
                case.name, case.tries, case.denied, case.stops, case.reached
            );
        }
    }
    table
}

#[test]
fn docs_security_has_the_table_of_these_cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once("<!-- network cases -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- /network cases -->").unwrap();
    assert_eq!(
        written.trim(),
        table().trim(),
        "write it anew: cargo xtask docs"
    );
}

#[test]
#[ignore = "prints the table for `cargo xtask docs`"]
fn printed() {
    println!(
        "\n<!-- network cases -->\n{}\n<!-- /network cases -->",
        table().trim()
    );
}

#[test]
fn names_of_cases_are_their_own() {
    let mut names: Vec<_> = SUBJECTS
        .iter()
        .flat_map(|(_, cases)| cases.iter())
        .map(|case| case.name)
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

//! The table of docs/security.md, made from the cases; and how many of them this host cannot run.

use super::SUBJECTS;

/// How many cases may lack their control on a host.
const WITHOUT_CONTROL: usize = 5;

fn table() -> String {
    let mut table = String::new();
    for (subject, cases) in SUBJECTS {
        table += &format!(
            "\n### {subject}\n\n| case | what it tries | denied with | what stops it, and with what alone |\n|---|---|---|---|\n"
        );
        for case in *cases {
            let stops: Vec<String> = case
                .stops
                .iter()
                .map(|(defence, denied)| format!("{} (`{denied}`)", defence.words()))
                .collect();
            let optional = if case.optional { " ¹" } else { "" };
            table += &format!(
                "| `{}`{optional} | {} | `{}` | {} |\n",
                case.name,
                case.tries,
                case.denied,
                stops.join("; ")
            );
        }
    }
    table
}

#[test]
fn docs_security_has_the_table_of_these_cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once("<!-- cases -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- /cases -->").unwrap();
    assert_eq!(
        written.trim(),
        table().trim(),
        "write it anew: cargo xtask docs"
    );
}

#[test]
#[ignore = "prints the table for `cargo xtask docs`"]
fn printed() {
    println!("\n<!-- cases -->\n{}\n<!-- /cases -->", table().trim());
}

#[test]
fn few_cases_lack_their_control_on_this_host() {
    let cases = SUBJECTS.iter().flat_map(|(_, cases)| cases.iter());
    let lacking: Vec<&str> = cases
        .filter(|case| case.is_out_of_reach())
        .map(|case| case.name)
        .collect();
    assert!(lacking.len() <= WITHOUT_CONTROL, "{lacking:?}");
    println!("without a control here: {lacking:?}");
}

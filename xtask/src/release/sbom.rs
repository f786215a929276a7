//! What the binary is made of, as CycloneDX 1.6, out of Cargo's own metadata and lock file: every crate that is
//! linked, the static helper's too, and the C libraries that some of them bring.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::run::{cargo, root};

/// C libraries inside crates: crate, library, licence.
const BUNDLED: [(&str, &str, &str); 3] = [
    ("libsqlite3-sys", "SQLite", "blessing"),
    (
        "aws-lc-sys",
        "AWS-LC",
        "ISC AND (Apache-2.0 OR ISC) AND OpenSSL",
    ),
    ("libmimalloc-sys", "mimalloc", "MIT"),
];

/// The bill of the package `name` for `target`.
pub(super) fn of(name: &str, target: &str) -> anyhow::Result<Value> {
    let words = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        target,
    ];
    let output = cargo(&words).output()?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata = serde_json::from_slice::<Value>(&output.stdout)?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    bill(name, &metadata, &checksums(&lock))
}

fn bill(
    name: &str,
    metadata: &Value,
    sums: &BTreeMap<(String, String), String>,
) -> anyhow::Result<Value> {
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let named = |wanted: &str| packages.values().find(|package| package["name"] == wanted);
    let own = named(name).with_context(|| format!("no package is called {name}"))?;
    // The helper is no dependency but a file inside the binary.
    let helper = named("helper").into_iter();
    let mut open = helper
        .chain([own])
        .filter_map(|p| p["id"].as_str())
        .collect::<Vec<_>>();
    let mut linked = BTreeSet::new();
    while let Some(id) = open.pop() {
        if linked.insert(id) {
            open.extend(uses(nodes.get(id)));
        }
    }
    let mut components = Vec::new();
    for id in &linked {
        let package = packages
            .get(id)
            .context("a node of the graph has its package")?;
        if package["id"] != own["id"] {
            components.push(component(package, sums));
        }
    }
    let dependencies = linked.iter().map(|id| {
        let uses = uses(nodes.get(id)).into_iter().collect::<BTreeSet<_>>();
        json!({"ref": id, "dependsOn": uses})
    });
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": own["id"], "name": own["name"],
            "version": own["version"], "licenses": [{"expression": own["license"]}],
        }},
        "components": components,
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| Some((item["id"].as_str()?, item)))
        .collect()
}

/// What a package links: no tools of its build, nothing of its tests.
fn uses<'v>(node: Option<&&'v Value>) -> Vec<&'v str> {
    let edges = node.and_then(|node| node["deps"].as_array());
    let linked = |edge: &&Value| {
        let kinds = edge["dep_kinds"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
    };
    let edges = edges.into_iter().flatten().filter(linked);
    edges.filter_map(|edge| edge["pkg"].as_str()).collect()
}

fn component(package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let mut component = json!({
        "type": "library", "bom-ref": package["id"], "name": name, "version": version,
        "licenses": [{"expression": text("license")}],
        "purl": format!("pkg:cargo/{name}@{version}"),
    });
    if let Some(sum) = sums.get(&(name.clone(), version)) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    let bundled = BUNDLED.iter().filter(|(within, ..)| *within == name);
    let bundled = bundled.map(|(_, library, license)| {
        json!({"type": "library", "name": library, "licenses": [{"expression": license}]})
    });
    let bundled = bundled.collect::<Vec<_>>();
    if !bundled.is_empty() {
        component["components"] = json!(bundled);
    }
    component
}

/// Name and version of each package of a lock file with its checksum.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find(|line| line.starts_with(name))?;
        line.split('"').nth(1).map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|block| {
            let key = (field(block, "name = ")?, field(block, "version = ")?);
            Some((key, field(block, "checksum = ")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_what_is_linked_with_its_sum_and_no_tool_of_a_build() {
        let bill = of("longhand", "x86_64-unknown-linux-gnu").unwrap();
        let components = bill["components"].as_array().unwrap();
        let found = |name: &str| {
            components
                .iter()
                .find(|component| component["name"] == name)
        };
        for linked in ["tokio", "rusqlite", "seccompiler", "helper", "session"] {
            assert!(found(linked).is_some(), "{linked} is missing");
        }
        for absent in ["cc", "testkit", "proptest", "xtask"] {
            assert!(found(absent).is_none(), "{absent} is not linked");
        }
        let tokio = found("tokio").unwrap();
        assert_eq!(
            tokio["hashes"][0]["content"].as_str().map(str::len),
            Some(64)
        );
        assert_eq!(
            found("libsqlite3-sys").unwrap()["components"][0]["name"],
            "SQLite"
        );
        let references = components
            .iter()
            .map(|component| component["bom-ref"].to_string());
        assert_eq!(references.collect::<BTreeSet<_>>().len(), components.len());
    }
}

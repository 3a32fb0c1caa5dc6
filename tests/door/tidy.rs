//! The plan of the house, held against the code: who may import whom.

use std::{collections::BTreeMap, fs, path::Path};

/// Storeys from the ground up. A module imports only from lower storeys; rooms and doors never
/// from their own.
const STOREYS: [(&str, &[&str]); 4] = [
    ("words", &["units", "protocol"]),
    ("rooms", &["classify", "policy", "upstream", "media", "ledger", "telemetry"]),
    ("composition", &["config", "gateway", "evaluate", "train"]),
    ("doors", &["api", "mock", "cli", "fuzz", "main", "lib"]),
];

/// Imports within a storey that the plan allows, and why.
const ALLOWED: [(&str, &str, &str); 7] = [
    ("protocol", "units", "a usage object is read into token counts"),
    ("gateway", "config", "one request reads one configuration"),
    ("train", "evaluate", "what is learned is read and measured as it will be judged"),
    ("cli", "api", "`serve` opens the door"),
    ("cli", "mock", "`mock` opens the other"),
    ("main", "cli", "the binary is its commands"),
    ("lib", "cli", "the house names its rooms"),
];

fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
                let name = name.unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// `classify/model.rs` → `classify`
fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn storey(module: &str) -> usize {
    let found = STOREYS.iter().position(|(_, modules)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` stands in no storey: add it to the plan"))
}

/// Modules named behind `crate::`, in `use` lines (nested ones too) and in paths.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // A name ends at `::` or `,`; what follows `::` is not ours to read.
            let mut depth = 0;
            let mut start = true;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(std::mem::take(&mut name));
                        start = true;
                    }
                    ':' if depth == 0 && start => {
                        found.push(std::mem::take(&mut name));
                        start = false;
                    }
                    c if depth == 0 && start && (c.is_alphanumeric() || c == '_') => name.push(c),
                    _ => {}
                }
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn modules_import_only_from_lower_storeys() {
    let mut faults = Vec::new();
    for (file, source) in sources() {
        let from = module(&file);
        let source = source.split("#[cfg(test)]").next().unwrap();
        for to in imports(source).iter().map(String::as_str).filter(|to| *to != from) {
            let allowed = ALLOWED.iter().any(|(a, b, _)| (*a, *b) == (from, to));
            if storey(to) >= storey(from) && !allowed {
                faults.push(format!("src/{file}: `{from}` imports `{to}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "use crate::units::X;\nuse crate::{\n a::b,\n c::{d::E, f}, i, j::K\n};\nlet x = crate::g::h();";
    assert_eq!(imports(source), ["units", "a", "c", "i", "j", "g"]);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (file, source) in sources() {
        assert!(source.starts_with("//! "), "src/{file} has no module documentation");
    }
}

#[test]
fn only_its_own_module_knows_a_secret_of_the_house() {
    for (secret, owner) in [
        // The admin API is another door, with errors of its own.
        ("StatusCode", &["api/error.rs", "api/admin/error.rs", "mock/"][..]),
        ("utoipa", &["api/admin/"]),
        ("Registry::", &["telemetry/"]),
        ("env::var", &["config/", "classify/encoder.rs"]),
    ] {
        for (file, source) in sources() {
            let source = source.split("#[cfg(test)]").next().unwrap();
            let mine =
                owner.iter().any(|owner| file.starts_with(owner)) || file.ends_with("tests.rs");
            assert!(mine || !source.contains(secret), "src/{file} mentions {secret}");
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut previous = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') {
            assert!(previous.starts_with("# "), "no reason beside `{line}`");
        }
        previous = line;
    }
}

#[test]
fn the_readme_tells_the_figures_of_the_recorded_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let card = fs::read_to_string(root.join("models/weighbridge-minilm/README.md")).unwrap();
    let record = fs::read_to_string(root.join("eval/results/routellm.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let shown = |interval: &serde_json::Value| {
        let at = |key: &str| interval[key].as_f64().unwrap();
        format!("{:.3} [{:.3}, {:.3}]", at("value"), at("low"), at("high"))
    };
    let reports = record["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 3);
    for report in reports {
        let name = report["name"].as_str().unwrap().trim_start_matches("routellm ");
        let line = readme.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let line = line.unwrap_or_else(|| panic!("README has no line for {name}"));
        for router in report["routed"]["routers"].as_array().unwrap() {
            let apgr = &router["figures"]["apgr"];
            if !apgr.is_null() {
                assert!(line.contains(&shown(apgr)), "{}: {line}", router["name"]);
            }
        }
        let model = shown(&report["routed"]["routers"][0]["figures"]["apgr"]);
        assert!(card.contains(&model), "the card lacks {name} {model}");
        // The record is of the head that ships.
        let head = fs::read(root.join("models/weighbridge-minilm/head.safetensors")).unwrap();
        let sum = weighbridge::classify::model::sha256(&head);
        assert_eq!(report["model"]["sha256"]["head.safetensors"], sum.as_str());
    }
}

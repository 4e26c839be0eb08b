//! A parser of the text format of OpenMetrics 1.0, as far as infos, gauges and counters go. It takes nothing that the
//! specification forbids.

use std::collections::{BTreeMap, BTreeSet};

/// A metric family.
pub(crate) struct Family {
    name: String,
    kind: String,
    pub(crate) samples: Vec<Sample>,
}

pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Parses an exposition. The error is the line that is wrong, with the reason.
pub(crate) fn parse(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("the text does not end with # EOF and a newline")?;
    let mut families: Vec<Family> = Vec::new();
    let (mut names, mut told) = (BTreeSet::new(), BTreeSet::new());
    for line in body.lines() {
        let wrong = |reason: &str| format!("{line}: {reason}");
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').ok_or_else(|| wrong("no keyword"))?;
            let (name, rest) = rest.split_once(' ').ok_or_else(|| wrong("no text"))?;
            if keyword == "TYPE" {
                // The descriptors of a family come before its samples, and families do not mix.
                if !is_name(name) || !names.insert(name.to_owned()) {
                    return Err(wrong("a bad name, or a family that is there twice"));
                }
                if !["info", "gauge", "counter"].contains(&rest) || (rest != "gauge" && name.ends_with("_total")) {
                    return Err(wrong("an unknown type, or a suffix in the name of a family"));
                }
                families.push(Family { name: name.to_owned(), kind: rest.to_owned(), samples: Vec::new() });
                told.clear();
            }
            let family = families.last().ok_or_else(|| wrong("no family"))?;
            if family.name != name || !family.samples.is_empty() || !told.insert(keyword.to_owned()) {
                return Err(wrong("a descriptor of another family, a late one, or one that is there twice"));
            }
            match keyword {
                "TYPE" | "HELP" => {}
                "UNIT" if name.ends_with(&format!("_{rest}")) => {}
                _ => return Err(wrong("an unknown descriptor, or a unit that the name does not end with")),
            }
            continue;
        }
        let family = families.last_mut().ok_or_else(|| wrong("no family"))?;
        let sample = parse_sample(line).ok_or_else(|| wrong("no sample"))?;
        let suffix = match family.kind.as_str() {
            "info" => "_info",
            "counter" => "_total",
            _ => "",
        };
        if sample.name != format!("{}{suffix}", family.name) {
            return Err(wrong("the name is not that of the family and its type"));
        }
        let is_valid = match family.kind.as_str() {
            "info" => sample.value == 1.0,
            "counter" => sample.value >= 0.0,
            _ => true,
        };
        if !is_valid || family.samples.iter().any(|other| other.labels == sample.labels) {
            return Err(wrong("a value that its type does not have, or a sample that is there twice"));
        }
        family.samples.push(sample);
    }
    Ok(families)
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_part) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn parse_sample(line: &str) -> Option<Sample> {
    let at = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(at);
    let mut labels = BTreeMap::new();
    if let Some(list) = rest.strip_prefix('{') {
        rest = list;
        loop {
            let (label, text) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = text.char_indices();
            let end = loop {
                match chars.next()? {
                    (end, '"') => break end,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            rest = &text[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?;
    let is_number = value.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    (is_name(name) && is_number).then_some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

#[test]
fn the_parser_refuses_what_the_specification_forbids() {
    let good = "# TYPE x counter\n# HELP x Some.\nx_total{a=\"b\\\"\\n\",c=\"\"} 1\nx_total 2\n# EOF\n";
    assert_eq!(parse(good).unwrap()[0].samples[0].labels["a"], "b\"\n");
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF"),
        ("x_total 2", "x 2"),
        ("x_total 2", "x_total -2"),
        ("x_total 2", "x_total two"),
        ("x_total 2", "x_total  2"),
        ("x_total 2", "x_total{a=\"b\\\"\\n\",c=\"\"} 2"),
        ("a=\"b", "a=b"),
        ("a=\"b", "c=\"b"),
        ("\\n\"", "\\t\""),
        ("# TYPE x counter", "# TYPE x_total counter"),
        ("# TYPE x counter", "# TYPE y counter"),
        ("# HELP x Some.", "# UNIT x seconds"),
        ("# HELP x Some.", "# TYPE x counter"),
        ("x_total 2", "# HELP x Late."),
    ] {
        assert!(parse(&good.replacen(from, to, 1)).is_err(), "{to}");
    }
}

//! The text format of OpenMetrics 1.0.

use std::fmt::{Display, Write};

/// An exposition.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// Begins a family of metrics. A name that ends with `_seconds` or `_bytes` has this unit.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        for unit in ["seconds", "bytes"] {
            if name.ends_with(&format!("_{unit}")) {
                let _ = writeln!(self.0, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    /// Adds a sample of the family.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// Returns the text.
    pub(super) fn finish(self) -> String {
        self.0 + "# EOF\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_unit_follows_from_the_name() {
        let mut out = Exposition::default();
        out.family("held_bytes", "gauge", "Bytes.");
        out.sample("held_bytes", &[("name", "a\"b\\c\nd"), ("other", "")], 1);
        let expected = "# TYPE held_bytes gauge\n# UNIT held_bytes bytes\n# HELP held_bytes Bytes.\n\
                        held_bytes{name=\"a\\\"b\\\\c\\nd\",other=\"\"} 1\n# EOF\n";
        assert_eq!(out.finish(), expected);
    }
}

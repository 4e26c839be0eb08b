//! A parser for the declarations of the headers.

use super::home;

/// One function of parlour.h.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub result: String,
    pub parameters: Vec<Parameter>,
}

#[derive(Clone, Debug)]
pub struct Parameter {
    pub kind: String,
    pub name: String,
}

impl Parameter {
    pub fn is_pointer(&self) -> bool {
        self.kind.ends_with('*') || ["parlour_allow", "parlour_fill"].contains(&&*self.kind)
    }
}

pub fn header(path: &str) -> String {
    std::fs::read_to_string(home().join("include").join(path)).unwrap()
}

fn without_comments(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        plain.push_str(before);
        rest = comment.split_once("*/").unwrap().1;
    }
    plain.push_str(rest);
    plain.lines().filter(|line| !line.trim_start().starts_with(['#', '/'])).collect::<Vec<_>>().join(" ")
}

/// Returns every function of parlour.h.
pub fn functions() -> Vec<Function> {
    let plain = without_comments(&header("parlour.h"));
    let statements = plain.split([';', '{', '}']).map(str::trim);
    statements.filter(|text| text.contains('(') && !text.contains("typedef")).map(parse).collect()
}

fn parse(text: &str) -> Function {
    let (head, parameters) = text.split_once('(').unwrap();
    let at = head.find("parlour_status_name").or_else(|| head.rfind("parlour_")).unwrap();
    let (result, name) = head.split_at(at);
    let parameters = parameters.trim_end_matches(')').split(',').map(str::trim).filter(|text| *text != "void");
    let parameter = |text: &str| {
        let end = text.rfind([' ', '*']).unwrap() + 1;
        Parameter { kind: text[..end].trim().to_owned(), name: text[end..].to_owned() }
    };
    Function {
        name: name.trim().to_owned(),
        result: result.trim().to_owned(),
        parameters: parameters.map(parameter).collect(),
    }
}

/// Returns the names that the classic functions have in the library.
pub fn labels(header_path: &str) -> Vec<String> {
    let text = without_comments(&header(header_path));
    let mut labels: Vec<String> =
        text.split("PARLOUR_LABEL_(\"").skip(1).map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect();
    labels.sort();
    labels
}

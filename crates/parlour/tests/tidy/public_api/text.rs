//! Pieces of source as the listing shows them: each on one line, with public paths.

use syn::spanned::Spanned;
use syn::{Attribute, Expr, Fields, Generics, Signature, Visibility};

use super::listing::Listing;
use super::names::Meaning;

/// Attributes of which other crates take notice.
const MARKS: [&str; 4] = ["deprecated", "must_use", "non_exhaustive", "repr"];

/// A piece of source in which the path of each type is the public one.
pub(super) struct Written {
    pub(super) text: String,
    /// The definitions of this crate that are named in it.
    pub(super) public: Vec<String>,
    /// It names a type of this crate that other crates cannot name.
    pub(super) is_private: bool,
}

impl Listing<'_> {
    pub(super) fn signature(&self, module: &str, signature: &Signature, path: &str) -> String {
        let text = self.text(module, signature).replace("(mut ", "(").replace(", mut ", ", ");
        format!("pub {}", text.replacen(&format!("fn {}", signature.ident), &format!("fn {path}"), 1))
    }

    pub(super) fn generics(&self, module: &str, generics: &Generics) -> String {
        let clause = generics.where_clause.iter().map(|clause| format!(" {}", self.text(module, clause)));
        self.text(module, generics) + &clause.collect::<String>()
    }

    /// Bounds with a colon before them, if there are any.
    pub(super) fn bounds(&self, module: &str, bounds: &impl Spanned) -> String {
        let bounds = self.text(module, bounds);
        if bounds.is_empty() { bounds } else { format!(": {bounds}") }
    }

    pub(super) fn text(&self, module: &str, node: &impl Spanned) -> String {
        self.written(module, node).text
    }

    /// Writes the public path for each type in a piece of source. A name that begins with a capital letter is a type.
    pub(super) fn written(&self, module: &str, node: &impl Spanned) -> Written {
        let source = source(node);
        let mut written = Written { text: String::new(), public: Vec::new(), is_private: false };
        let mut rest = source.as_str();
        while let Some(begin) = rest.find(is_word) {
            written.text += &rest[..begin];
            rest = &rest[begin..];
            let end = path_len(rest);
            let path: Vec<&str> = rest[..end].split("::").collect();
            let is_type = path.last().unwrap().starts_with(char::is_uppercase);
            let is_whole = !written.text.ends_with(['\'', ':']);
            written.text += &match (is_type && is_whole).then(|| self.parsed.resolve(module, &path)) {
                Some(Meaning::Outside(path)) => path,
                Some(Meaning::Item(id, rest)) => {
                    let public = self.public.get(&id).map(|(path, _)| format!("{path}{rest}"));
                    written.is_private |= public.is_none();
                    public.inspect(|_| written.public.push(id.clone())).unwrap_or(id + &rest)
                }
                Some(Meaning::Module(_)) | None => rest[..end].to_owned(),
            };
            rest = &rest[end..];
        }
        written.text += rest;
        written
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the path that begins here.
fn path_len(text: &str) -> usize {
    let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    let mut end = word(text);
    while let Some(length) = text[end..].strip_prefix("::").map(word).filter(|&length| length > 0) {
        end += 2 + length;
    }
    end
}

/// The source of a node as one line. A node without tokens has none.
pub(super) fn source(node: &impl Spanned) -> String {
    let mut text = node.span().source_text().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    for (wrapped, plain) in [("( ", "("), (", )", ")"), ("< ", "<"), (", >", ">")] {
        text = text.replace(wrapped, plain);
    }
    text.trim_end_matches(',').to_owned()
}

/// The attributes that other crates take notice of, in front of an item; reasons are left out.
pub(super) fn marks(attributes: &[Attribute]) -> String {
    let marks = attributes.iter().filter(|attribute| MARKS.iter().any(|mark| attribute.path().is_ident(mark)));
    marks
        .map(|attribute| match attribute.path().is_ident("repr") {
            true => format!("{} ", source(attribute)),
            false => format!("#[{}] ", source(attribute.path())),
        })
        .collect()
}

/// The value of a constant or variant, where it is a literal.
pub(super) fn value(value: &Expr) -> String {
    if let Expr::Lit(_) = value { format!(" = {}", source(value)) } else { String::new() }
}

/// A sign that a struct has fields that other crates cannot see.
pub(super) fn shape(fields: &Fields) -> &'static str {
    let is_open = fields.iter().all(|field| matches!(field.vis, Visibility::Public(_)));
    if is_open { "" } else { " { .. }" }
}

//! Imports between the files of a crate, read from its sources.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The files of a crate and what each of them imports.
pub(crate) struct Imports<'a> {
    /// The file of each module, by the path of the module: `["name", "lock"]`, and none for the root.
    modules: BTreeMap<Vec<&'a str>, &'a Source>,
}

impl<'a> Imports<'a> {
    pub(crate) fn of(sources: &'a [Source]) -> Self {
        Self { modules: sources.iter().map(|source| (source.modules(), source)).collect() }
    }

    /// Returns the files whose items a file names, in `use` declarations and in paths, including those in macros.
    ///
    /// A declaration `mod child;` is not an import, and neither is a path in a visibility.
    pub(crate) fn from(&self, source: &Source) -> BTreeSet<&'a str> {
        let own = source.modules();
        let code = without_visibilities(&source.code);
        let (declarations, rest) = uses(&code);
        let mut paths: Vec<Vec<String>> = declarations.iter().flat_map(|tree| expand(tree)).collect();
        paths.extend(inline_paths(&rest));
        let files = paths.iter().filter_map(|path| self.file_of(&own, path));
        files.map(|file| &*file.path).filter(|path| *path != source.path).collect()
    }

    /// Returns the file of this crate that defines or re-exports the item of a path, if there is one.
    fn file_of(&self, own: &[&str], path: &[String]) -> Option<&'a Source> {
        let first = path.first()?.as_str();
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let absolute: Vec<&str> = match first {
            "crate" => path[1..].iter().map(String::as_str).collect(),
            "self" => own.iter().copied().chain(path[1..].iter().map(String::as_str)).collect(),
            "super" => own[..own.len().checked_sub(ups)?]
                .iter()
                .copied()
                .chain(path[ups..].iter().map(String::as_str))
                .collect(),
            _ => own.iter().copied().chain(path.iter().map(String::as_str)).collect(),
        };
        let is_relative = !matches!(first, "crate" | "self" | "super");
        let longest = (0..=absolute.len()).rev().find(|&length| self.modules.contains_key(&absolute[..length]))?;
        // A path without such a prefix begins with a child module or with another crate.
        if is_relative && longest <= own.len() {
            return None;
        }
        let file = self.modules[&absolute[..longest]];
        // A module that is declared with `#[path]` is outside of this root.
        let is_elsewhere = |next: &&&str| file.code.contains(&format!("mod {next};"));
        absolute.get(longest).filter(is_elsewhere).is_none().then_some(file)
    }

    /// Returns the files along a cycle of imports, if there is one.
    pub(crate) fn cycle(&self) -> Option<Vec<&'a str>> {
        let edges: BTreeMap<&str, BTreeSet<&str>> =
            self.modules.values().map(|source| (&*source.path, self.from(source))).collect();
        let mut left: BTreeSet<&str> = edges.keys().copied().collect();
        // A file that imports none of the remaining files is not part of a cycle.
        while let Some(&file) = left.iter().find(|file| edges[**file].is_disjoint(&left)) {
            left.remove(file);
        }
        let mut walk = vec![*left.first()?];
        loop {
            let next = *edges[walk.last()?].intersection(&left).next()?;
            if let Some(begin) = walk.iter().position(|file| *file == next) {
                walk.push(next);
                return Some(walk.split_off(begin));
            }
            walk.push(next);
        }
    }
}

/// Blanks `(in path)` of visibilities.
fn without_visibilities(code: &str) -> String {
    let mut parts = code.split("(in ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    out
}

/// Returns the trees of the `use` declarations, and the code without them.
fn uses(code: &str) -> (Vec<String>, String) {
    let (mut trees, mut rest) = (Vec::new(), String::new());
    let mut left = code;
    while let Some(at) = left.find("use ") {
        let begins_a_word = !left[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest.push_str(&left[..at]);
        let behind = &left[at + "use ".len()..];
        match behind.find(';').filter(|_| begins_a_word) {
            Some(end) => {
                trees.push(behind[..end].to_owned());
                left = &behind[end..];
            }
            None => left = behind,
        }
    }
    rest.push_str(left);
    (trees, rest)
}

/// Returns the paths that a use tree imports.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let segments = |path: &str| -> Vec<String> {
        let path = path.split(" as ").next().unwrap_or_default();
        path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
    };
    let Some((prefix, group)) = tree.split_once('{') else { return vec![segments(tree)] };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut begin, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    let prefix = segments(prefix);
    let with_prefix = |member: &str| expand(member).into_iter().map(|path| [prefix.clone(), path].concat()).collect();
    members
        .into_iter()
        .filter(|member| !member.trim().is_empty())
        .flat_map::<Vec<Vec<String>>, _>(with_prefix)
        .collect()
}

/// Returns the paths of several segments in code.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_path(c))
        .filter(|word| word.contains("::") && !word.starts_with(':'))
        .map(|word| word.split("::").map(str::to_owned).filter(|segment| !segment.is_empty()).collect())
        .collect()
}

#[test]
fn an_import_is_found_however_it_is_spelled() {
    let sources = [
        Source::new("lib.rs", "mod a; mod b; pub use a::A;"),
        Source::new("a/mod.rs", "pub(crate) mod inner; mod other;"),
        Source::new("a/inner.rs", ""),
        Source::new("a/other.rs", ""),
        Source::new("b.rs", ""),
    ];
    let imports = Imports::of(&sources);
    let found = |path: &str, code: &str| {
        let found: Vec<_> = imports.from(&Source::new(path, code)).into_iter().collect();
        found.join(" ")
    };
    assert_eq!(found("b.rs", "use crate::a::{inner::{X, Y as Z}, other};"), "a/inner.rs a/other.rs");
    assert_eq!(found("b.rs", "fn f() { super::a::inner::g() }"), "a/inner.rs");
    assert_eq!(found("b.rs", "fn f() { println!(\"\", crate::a::G) }"), "a/mod.rs");
    assert_eq!(found("b.rs", "use crate::A;"), "lib.rs");
    assert_eq!(found("b.rs", "use std::a::inner; pub(in crate::a) fn f() { io::a::g() }"), "");
    assert_eq!(found("a/inner.rs", "use super::other::X;"), "a/other.rs");
    assert_eq!(found("a/mod.rs", "mod inner; pub use inner::X; use self::other::Y;"), "a/inner.rs a/other.rs");
    assert_eq!(found("b.rs", "// use crate::a;\n#[cfg(test)] mod tests { use crate::a::inner::X; }"), "");
}

#[test]
fn a_cycle_is_found_and_named() {
    let sources = [
        Source::new("lib.rs", "pub use a::A;"),
        Source::new("a.rs", "use crate::b::B;"),
        Source::new("b.rs", "use crate::c::C;"),
        Source::new("c.rs", "use crate::b::{B as D, E};"),
    ];
    assert_eq!(Imports::of(&sources).cycle().unwrap(), ["b.rs", "c.rs", "b.rs"]);
    let [root, a, ..] = sources;
    assert_eq!(Imports::of(&[root, a, Source::new("b.rs", "")]).cycle(), None);
}

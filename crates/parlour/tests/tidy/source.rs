//! Rust files as these checks see them: without comments, string literals and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the library.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path relative to `src`, such as `name/lock.rs`.
    pub(crate) path: String,
    /// The code without comments, literals and tests. Every line has its original number.
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: without_tests(&blank(text, false)), text: text.to_owned() }
    }

    /// Returns the path of the module, such as `["name", "lock"]`. Empty for `lib.rs`.
    pub(crate) fn modules(&self) -> Vec<&str> {
        let stem = self.path.strip_suffix(".rs").unwrap();
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        stem.split('/').filter(|module| !matches!(*module, "lib" | "main")).collect()
    }

    /// Returns numbers and text of the lines whose code contains `needle` as a word, for messages.
    pub(crate) fn lines_with(&self, needle: &str) -> Vec<String> {
        let found =
            self.code.lines().zip(self.text.lines()).enumerate().filter(|(_, (code, _))| has_word(code, needle));
        found.map(|(number, (_, text))| format!("src/{}:{}: {}", self.path, number + 1, text.trim())).collect()
    }
}

/// Returns true if `needle` occurs in the code and is not part of a longer word.
fn has_word(code: &str, needle: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(needle).any(|(at, _)| {
        let (begins, ends) = (is_word(needle.chars().next()), is_word(needle.chars().last()));
        let (before, after) = (code[..at].chars().next_back(), code[at + needle.len()..].chars().next());
        !(begins && is_word(before) || ends && is_word(after))
    })
}

/// Returns the directory of this crate.
pub(crate) fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns true if the parent module, or one further up, compiles this file for tests and fuzzers only.
fn is_for_tests(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        return is_for_tests(path.parent().unwrap());
    }
    if path.with_file_name("mod.rs").exists() && is_for_tests(path.parent().unwrap()) {
        return true;
    }
    let above = ["mod.rs", "lib.rs"].iter().find_map(|name| fs::read_to_string(path.with_file_name(name)).ok());
    let Some(above) = above else { return false };
    let declaration = format!("mod {};", path.file_stem().unwrap().to_str().unwrap());
    let mut before = "";
    above.lines().any(|line| {
        let found = line.trim_start_matches("pub(crate) ") == declaration
            && before.starts_with("#[cfg(")
            && before.contains("test");
        before = line;
        found
    })
}

/// Returns all files of the library.
pub(crate) fn library() -> Vec<Source> {
    let sources = sources_of(&home().join("src"));
    assert!(sources.len() > 20, "only {} files", sources.len());
    sources
}

/// Returns the root directories of all crates of this workspace: each `src`, and each program below `src/bin`.
pub(crate) fn crate_roots() -> Vec<PathBuf> {
    let directories = |path: PathBuf| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let sources = directories(home().parent().unwrap().to_owned()).into_iter().map(|path| path.join("src"));
    let sources: Vec<_> = sources.filter(|path| path.is_dir()).collect();
    let roots: Vec<_> = sources.iter().flat_map(|src| directories(src.join("bin"))).chain(sources.clone()).collect();
    assert!(roots.len() >= 7, "only {roots:?}");
    roots
}

/// Returns all files of a crate, except those that are for tests only.
pub(crate) fn sources_of(root: &Path) -> Vec<Source> {
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
        Source::new(relative, &fs::read_to_string(path).unwrap())
    };
    // Programs are crates of their own.
    let is_library = root.join("lib.rs").exists();
    let is_of_another_root =
        |path: &Path| path.starts_with(root.join("bin")) || (is_library && path == root.join("main.rs"));
    let files = rust_files(root).into_iter().filter(|path| !is_for_tests(path) && !is_of_another_root(path));
    files.map(|path| read(&path)).collect()
}

/// Returns every Rust file below a directory, sorted.
pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Replaces each character of comments by a blank, and also those of string and character literals unless
/// `keep_strings` is true.
pub(crate) fn blank(text: &str, keep_strings: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, keep) = match literal_or_comment(rest, at.checked_sub(1).map(|before| chars[before])) {
            Some((length, is_comment)) => (length, !is_comment && keep_strings),
            None => (1, true),
        };
        for &c in &rest[..length] {
            out.push(if keep || c == '\n' { c } else { ' ' });
        }
        at += length;
    }
    out
}

/// Returns the length of the comment or literal that begins here, if one does, and true if it is a comment.
fn literal_or_comment(rest: &[char], before: Option<char>) -> Option<(usize, bool)> {
    let starts = |text: &str| text.chars().enumerate().all(|(at, c)| rest.get(at) == Some(&c));
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if starts("//") {
        return Some((rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()), true));
    }
    if starts("/*") {
        return Some((block_comment(rest), true));
    }
    if starts("\"") {
        return Some((quoted(rest, 1, '"'), false));
    }
    if !in_word && (starts("b\"") || starts("c\"")) {
        return Some((quoted(rest, 2, '"'), false));
    }
    if !in_word && (starts("r") || starts("br")) {
        let prefix = if starts("r") { 1 } else { 2 };
        let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
        if rest.get(prefix + hashes) == Some(&'"') {
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let body = prefix + hashes + 1;
            let found = rest[body..].windows(end.len()).position(|window| window == end);
            return Some((found.map_or(rest.len(), |found| body + found + end.len()), false));
        }
    }
    // A lifetime has no closing quote after its first character.
    let is_character = rest.first() == Some(&'\'') && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\''));
    is_character.then(|| (quoted(rest, 1, '\''), false))
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char], mut at: usize, quote: char) -> usize {
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Replaces every item behind `#[cfg(test)]` by blanks.
fn without_tests(code: &str) -> String {
    const MARKS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];
    let mut code = code.to_owned();
    while let Some(begin) = MARKS.iter().find_map(|mark| code.find(mark)) {
        let body = &code[begin..];
        let open = body.find('{').unwrap_or(body.len());
        let end = match body.find(';') {
            Some(semicolon) if semicolon < open => semicolon + 1,
            _ => open + block(&body[open..]),
        };
        let blanked: String = body[..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(begin..begin + end, &blanked);
    }
    code
}

/// Returns the length of the block in braces that begins here.
fn block(body: &str) -> usize {
    let mut depth = 0;
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    body.len()
}

#[test]
fn comments_strings_and_tests_do_not_count_as_code() {
    let text = concat!(
        "//! thread::spawn in a comment\n",
        "/* thread::spawn /* nested */ thread::spawn */ fn a<'a>(x: &'a str) -> char { '\"' }\n",
        "fn b() { let _ = (\"thread::spawn \\\" thread::spawn\", r#\"thread::spawn \" \"#, b'\\'', '\\u{1F600}'); }\n",
        "#[cfg(test)]\nuse std::thread::spawn;\n",
        "#[cfg(test)]\nmod tests { fn c() { if true { thread::spawn() } } }\n",
        "fn after() { thread::spawn() }\n",
    );
    let source = Source::new("name/x.rs", text);
    assert_eq!(source.lines_with("thread::spawn"), ["src/name/x.rs:8: fn after() { thread::spawn() }"]);
    assert!(source.code.contains("fn a<'a>(x: &'a str)") && source.code.contains("fn b()"));
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert_eq!(source.modules(), ["name", "x"]);
    assert_eq!(Source::new("name/mod.rs", "").modules(), ["name"]);
    assert!(Source::new("lib.rs", "").modules().is_empty());
}

#[test]
fn words_are_whole() {
    assert!(has_word("a.unwrap()", ".unwrap()") && !has_word("unwrap_or(x)", "unwrap"));
    assert!(has_word("x = libc::umask(0)", "umask") && !has_word("let host_umask = 1;", "umask"));
}

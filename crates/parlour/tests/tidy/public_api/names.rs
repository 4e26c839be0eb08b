//! The things that paths lead to.

use std::collections::BTreeSet;

use super::modules::{Crate, Module, declared};

/// The thing that a path leads to.
pub(super) enum Meaning {
    Module(String),
    /// The path of a definition in this crate, and the rest of the path: a variant, or an associated type.
    Item(String, String),
    /// The full path of something that is not of this crate.
    Outside(String),
}

impl Crate {
    /// Tells where a path leads from a module.
    pub(super) fn resolve<S: AsRef<str>>(&self, module: &str, path: &[S]) -> Meaning {
        self.follow(module, path, &mut BTreeSet::new())
    }

    fn follow<S: AsRef<str>>(&self, module: &str, path: &[S], seen: &mut BTreeSet<String>) -> Meaning {
        let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
        let outside = || Meaning::Outside(path.join("::").trim_start_matches("::").to_owned());
        let mut here = Meaning::Module(module.to_owned());
        for &segment in &path {
            here = match here {
                Meaning::Module(_) if segment == "crate" => Meaning::Module("crate".to_owned()),
                Meaning::Module(id) if segment == "self" => Meaning::Module(id),
                Meaning::Module(id) if segment == "super" => {
                    Meaning::Module(id.rsplit_once("::").unwrap().0.to_owned())
                }
                Meaning::Module(id) => match self.look_up(&id, segment, seen) {
                    Some(meaning) => meaning,
                    None => return outside(),
                },
                Meaning::Item(id, rest) => Meaning::Item(id, format!("{rest}::{segment}")),
                Meaning::Outside(whole) => Meaning::Outside(format!("{whole}::{segment}")),
            };
        }
        here
    }

    /// Looks for a name that is defined in a module, or brought there by a `use` that was not on the way already.
    fn look_up(&self, module: &str, name: &str, seen: &mut BTreeSet<String>) -> Option<Meaning> {
        let id = format!("{module}::{name}");
        if !seen.insert(id.clone()) {
            return None;
        }
        if self.modules.contains_key(&id) {
            return Some(Meaning::Module(id));
        }
        let Module { items, uses, .. } = &self.modules[module];
        if items.iter().any(|item| declared(item).name.is_some_and(|defined| defined == name)) {
            return Some(Meaning::Item(id, String::new()));
        }
        uses.iter().find_map(|used| match &used.name {
            Some(other) if other == name => Some(self.follow(module, &used.path, seen)),
            Some(_) => None,
            None => match self.follow(module, &used.path, seen) {
                Meaning::Module(id) => self.look_up(&id, name, seen),
                _ => None,
            },
        })
    }
}

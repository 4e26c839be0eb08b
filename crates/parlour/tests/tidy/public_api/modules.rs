//! The modules of a crate as its sources declare them, for the library with all features.

use std::collections::{BTreeMap, BTreeSet};

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Item, Lit, Meta, Token, UseTree, Visibility};

/// The features that an item needs.
pub(super) type Features = BTreeSet<String>;

pub(super) struct Crate {
    pub(super) name: String,
    /// By their paths, which begin with `crate`, public or not.
    pub(super) modules: BTreeMap<String, Module>,
}

pub(super) struct Module {
    pub(super) items: Vec<Item>,
    pub(super) uses: Vec<Use>,
    pub(super) features: Features,
}

/// One name that a `use` brings into a module.
pub(super) struct Use {
    pub(super) path: Vec<String>,
    /// Nothing for a glob.
    pub(super) name: Option<String>,
    /// The features that it needs, if other crates see it.
    pub(super) public: Option<Features>,
}

/// The parts that most items have.
pub(super) struct Declared<'a> {
    pub(super) attributes: &'a [Attribute],
    pub(super) name: Option<&'a Ident>,
    pub(super) is_public: bool,
}

pub(super) fn declared(item: &Item) -> Declared<'_> {
    let (attributes, name, visibility) = match item {
        Item::Const(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Enum(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Fn(item) => (&item.attrs, Some(&item.sig.ident), Some(&item.vis)),
        Item::Mod(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Static(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Struct(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Trait(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Type(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Union(item) => (&item.attrs, Some(&item.ident), Some(&item.vis)),
        Item::Use(item) => (&item.attrs, None, Some(&item.vis)),
        Item::Impl(item) => (&item.attrs, None, None),
        Item::Macro(item) => (&item.attrs, None, None),
        _ => return Declared { attributes: &[], name: None, is_public: false },
    };
    Declared { attributes, name, is_public: matches!(visibility, Some(Visibility::Public(_))) }
}

/// The features that an item with these attributes needs, or nothing if no feature brings it into the library.
pub(super) fn compiled(attributes: &[Attribute]) -> Option<Features> {
    let mut features = Features::new();
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let are_met: Vec<bool> = conditions.map(|cfg| holds(&cfg.parse_args().unwrap(), &mut features)).collect();
    if are_met.contains(&false) { None } else { Some(features) }
}

/// As [`compiled`], with nothing for an item that is hidden from the documentation, too.
pub(super) fn shown(attributes: &[Attribute]) -> Option<Features> {
    let is_hidden = |attribute: &Attribute| {
        attribute.path().is_ident("doc")
            && attribute.parse_args().is_ok_and(|meta: Meta| meta.path().is_ident("hidden"))
    };
    if attributes.iter().any(is_hidden) { None } else { compiled(attributes) }
}

/// Evaluates a condition on Linux, where every feature is on and every other name is off.
fn holds(condition: &Meta, features: &mut Features) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("unix"),
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) if pair.path.is_ident("feature") => {
                features.insert(value.value());
                true
            }
            Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) => value.value() == "linux",
            _ => false,
        },
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap();
            // Each part is looked at, for its features.
            let parts: Vec<bool> = parts.iter().map(|part| holds(part, features)).collect();
            if list.path.is_ident("not") {
                !parts[0]
            } else if list.path.is_ident("any") {
                parts.contains(&true)
            } else {
                !parts.contains(&false)
            }
        }
    }
}

impl Crate {
    /// Parses `lib.rs` and the files of its modules, which `read` gives by their paths from there.
    pub(super) fn parse(name: &str, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut parsed = Self { name: name.to_owned(), modules: BTreeMap::new() };
        let root = syn::parse_file(&read("lib.rs").expect("lib.rs")).unwrap();
        parsed.add("crate", "", root.items, &Features::new(), read);
        parsed
    }

    fn add(
        &mut self,
        id: &str,
        directory: &str,
        items: Vec<Item>,
        above: &Features,
        read: &dyn Fn(&str) -> Option<String>,
    ) {
        let mut module = Module { items: Vec::new(), uses: Vec::new(), features: above.clone() };
        for mut item in items {
            let declared = declared(&item);
            let Some(features) = compiled(declared.attributes) else { continue };
            let public = shown(declared.attributes).filter(|_| declared.is_public);
            match &mut item {
                Item::Mod(child) => {
                    let (id, path) = (format!("{id}::{}", child.ident), format!("{directory}{}", child.ident));
                    let items = match child.content.take() {
                        Some((_, items)) => items,
                        None => {
                            let text = read(&format!("{path}.rs")).or_else(|| read(&format!("{path}/mod.rs")));
                            let text = text.unwrap_or_else(|| panic!("no file for the module {id}"));
                            syn::parse_file(&text).unwrap_or_else(|error| panic!("{id}: {error}")).items
                        }
                    };
                    self.add(&id, &format!("{path}/"), items, &(above | &features), read);
                }
                Item::Use(item) => {
                    let root = item.leading_colon.as_ref().map(|_| String::new());
                    leaves(&item.tree, Vec::from_iter(root), public.as_ref(), &mut module.uses);
                }
                Item::Macro(item) if item.ident.is_none() && !item.mac.path.is_ident("thread_local") => {
                    panic!("{id} has a macro whose items cannot be listed");
                }
                _ => {}
            }
            module.items.push(item);
        }
        // A glob gives way to every other name.
        module.uses.sort_by_key(|used| used.name.is_none());
        self.modules.insert(id.to_owned(), module);
    }
}

/// Adds every name of a tree of a `use` to the others.
fn leaves(tree: &UseTree, mut path: Vec<String>, public: Option<&Features>, uses: &mut Vec<Use>) {
    let (last, name) = match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            return leaves(&tree.tree, path, public, uses);
        }
        UseTree::Group(group) => {
            return group.items.iter().for_each(|tree| leaves(tree, path.clone(), public, uses));
        }
        UseTree::Glob(_) => (None, None),
        UseTree::Name(tree) if tree.ident == "self" => (None, path.last().cloned()),
        UseTree::Rename(tree) if tree.ident == "self" => (None, Some(tree.rename.to_string())),
        UseTree::Name(tree) => (Some(tree.ident.to_string()), Some(tree.ident.to_string())),
        UseTree::Rename(tree) => (Some(tree.ident.to_string()), Some(tree.rename.to_string())),
    };
    path.extend(last);
    uses.push(Use { path, name, public: public.cloned() });
}

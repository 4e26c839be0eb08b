//! Everything of a crate that other crates can name, one line each.

use std::collections::{BTreeMap, BTreeSet};

use syn::punctuated::Punctuated;
use syn::{
    Attribute, Field, Fields, GenericParam, Generics, ImplItem, Item, ItemEnum, ItemImpl, ItemTrait, Path, Token,
    TraitItem, Visibility,
};

use super::modules::{Crate, Features, compiled, declared, shown};
use super::names::Meaning;
use super::text::{marks, shape, source, value};

/// Lists the public items of a crate, sorted by their paths.
pub(super) fn list(parsed: &Crate) -> Vec<String> {
    let mut listing = Listing { parsed, public: BTreeMap::new(), walked: BTreeSet::new(), lines: BTreeSet::new() };
    listing.walk("crate", &parsed.name, &Features::new());
    for (id, module) in &parsed.modules {
        for item in &module.items {
            match item {
                Item::Impl(block) => listing.implementation(id, block),
                _ => listing.definition(id, item),
            }
        }
    }
    listing.lines.into_iter().map(|(_, _, line)| line).collect()
}

pub(super) struct Listing<'a> {
    pub(super) parsed: &'a Crate,
    /// The public path of each public definition, and the features that the path needs.
    pub(super) public: BTreeMap<String, (String, Features)>,
    /// Modules under paths where they were looked through already.
    walked: BTreeSet<(String, String)>,
    /// A line behind the path and the rank that it is sorted by.
    lines: BTreeSet<(String, Rank, String)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Definition,
    Trait,
}

impl Listing<'_> {
    fn add(&mut self, path: &str, rank: Rank, features: &Features, line: String) {
        let names: Vec<&str> = features.iter().map(String::as_str).collect();
        let suffix = if names.is_empty() { String::new() } else { format!(" [feature {}]", names.join(", ")) };
        self.lines.insert((path.to_owned(), rank, line + &suffix));
    }

    /// Exports what a module makes public under this path. Its own items go before those from elsewhere, so that
    /// they keep the path of the module that has them.
    fn walk(&mut self, id: &str, path: &str, features: &Features) {
        if !self.walked.insert((id.to_owned(), path.to_owned())) {
            return;
        }
        let module = &self.parsed.modules[id];
        for item in &module.items {
            let declared = declared(item);
            let (Some(name), Some(own), true) = (declared.name, shown(declared.attributes), declared.is_public) else {
                continue;
            };
            let features = features | &own;
            let id = format!("{id}::{name}");
            let meaning = match item {
                Item::Mod(_) => Meaning::Module(id),
                _ => Meaning::Item(id, String::new()),
            };
            self.export(meaning, &format!("{path}::{name}"), &features);
        }
        for used in &module.uses {
            let Some(own) = &used.public else { continue };
            let (meaning, features) = (self.parsed.resolve(id, &used.path), features | own);
            match (&used.name, meaning) {
                (Some(name), meaning) => self.export(meaning, &format!("{path}::{name}"), &features),
                (None, Meaning::Module(id)) => self.walk(&id, path, &features),
                (None, Meaning::Item(id, _) | Meaning::Outside(id)) => {
                    self.add(path, Rank::Definition, &features, format!("pub use {path}::* = {id}::*"));
                }
            }
        }
    }

    /// Makes a thing public under a path.
    fn export(&mut self, meaning: Meaning, path: &str, features: &Features) {
        let target = match meaning {
            Meaning::Module(id) => {
                self.add(path, Rank::Definition, features, format!("pub mod {path}"));
                return self.walk(&id, path, features);
            }
            Meaning::Outside(target) => target,
            Meaning::Item(id, rest) => {
                let (first, _) = self.public.entry(id).or_insert((path.to_owned(), features.clone()));
                format!("{first}{rest}")
            }
        };
        if target != path {
            self.add(path, Rank::Definition, features, format!("pub use {path} = {target}"));
        }
    }

    /// Adds the lines of an item that is public, and of its parts.
    fn definition(&mut self, module: &str, item: &Item) {
        let attributes = declared(item).attributes;
        let own = &self.parsed.modules[module].features | &compiled(attributes).unwrap();
        if let Item::Macro(item) = item {
            let is_exported = attributes.iter().any(|attribute| attribute.path().is_ident("macro_export"));
            if let (Some(name), true, Some(_)) = (&item.ident, is_exported, shown(attributes)) {
                let path = format!("{}::{name}", self.parsed.name);
                self.add(&path, Rank::Definition, &own, format!("pub macro {path}!"));
            }
        }
        let Some(name) = declared(item).name else { return };
        let Some((path, features)) = self.public.get(&format!("{module}::{name}")).cloned() else { return };
        let features = &features | &own;
        let generics = |generics: &Generics| self.generics(module, generics);
        let line = match item {
            Item::Const(item) => format!("pub const {path}: {}{}", self.text(module, &item.ty), value(&item.expr)),
            Item::Static(item) => format!("pub static {path}: {}", self.text(module, &item.ty)),
            Item::Fn(item) => self.signature(module, &item.sig, &path),
            Item::Struct(item) => format!("pub struct {path}{}{}", generics(&item.generics), shape(&item.fields)),
            Item::Enum(item) => format!("pub enum {path}{}", generics(&item.generics)),
            Item::Union(item) => format!("pub union {path}{}", generics(&item.generics)),
            Item::Trait(item) => {
                format!("pub trait {path}{}{}", generics(&item.generics), self.bounds(module, &item.supertraits))
            }
            Item::Type(item) => {
                format!("pub type {path}{} = {}", generics(&item.generics), self.text(module, &item.ty))
            }
            _ => return,
        };
        self.add(&path, Rank::Definition, &features, marks(attributes) + &line);
        match item {
            Item::Struct(item) => {
                self.fields(module, item.fields.iter(), &path, &features);
                self.derived(&item.attrs, &item.generics, &path, &features);
            }
            Item::Enum(item) => {
                self.variants(module, item, &path, &features);
                self.derived(&item.attrs, &item.generics, &path, &features);
            }
            Item::Union(item) => self.fields(module, item.fields.named.iter(), &path, &features),
            Item::Trait(item) => self.trait_items(module, item, &path, &features),
            _ => {}
        }
    }

    fn fields<'f>(&mut self, module: &str, fields: impl Iterator<Item = &'f Field>, path: &str, features: &Features) {
        for (number, field) in fields.enumerate() {
            let (Visibility::Public(_), Some(own)) = (&field.vis, shown(&field.attrs)) else { continue };
            let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
            let line = format!("pub field {path}::{name}: {}", self.text(module, &field.ty));
            self.add(&format!("{path}::{name}"), Rank::Definition, &(features | &own), line);
        }
    }

    fn variants(&mut self, module: &str, item: &ItemEnum, path: &str, features: &Features) {
        for variant in &item.variants {
            let Some(own) = shown(&variant.attrs) else { continue };
            let types = variant.fields.iter().map(|field| match &field.ident {
                Some(name) => format!("{name}: {}", self.text(module, &field.ty)),
                None => self.text(module, &field.ty),
            });
            let types = types.collect::<Vec<_>>().join(", ");
            let fields = match &variant.fields {
                Fields::Unit => String::new(),
                Fields::Unnamed(_) => format!("({types})"),
                Fields::Named(_) => format!(" {{ {types} }}"),
            };
            let path = format!("{path}::{}", variant.ident);
            let number = variant.discriminant.as_ref().map_or_else(String::new, |(_, number)| value(number));
            let line = format!("{}pub variant {path}{fields}{number}", marks(&variant.attrs));
            self.add(&path, Rank::Definition, &(features | &own), line);
        }
    }

    fn derived(&mut self, attributes: &[Attribute], generics: &Generics, path: &str, features: &Features) {
        let list =
            |parts: Vec<String>| if parts.is_empty() { String::new() } else { format!("<{}>", parts.join(", ")) };
        let types = generics.params.iter().filter(|parameter| !matches!(parameter, GenericParam::Lifetime(_)));
        let parameters = list(types.map(source).collect());
        let arguments = generics.params.iter().map(|parameter| match parameter {
            GenericParam::Lifetime(_) => "'_".to_owned(),
            GenericParam::Type(parameter) => parameter.ident.to_string(),
            GenericParam::Const(parameter) => parameter.ident.to_string(),
        });
        let arguments = list(arguments.collect());
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            for name in attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).unwrap() {
                let name = &name.segments.last().unwrap().ident;
                self.add(path, Rank::Trait, features, format!("impl{parameters} {name} for {path}{arguments}"));
            }
        }
    }

    fn trait_items(&mut self, module: &str, item: &ItemTrait, path: &str, features: &Features) {
        for item in &item.items {
            let (attributes, name) = match item {
                TraitItem::Const(item) => (&item.attrs, &item.ident),
                TraitItem::Fn(item) => (&item.attrs, &item.sig.ident),
                TraitItem::Type(item) => (&item.attrs, &item.ident),
                _ => panic!("{path} has items that cannot be listed"),
            };
            let Some(own) = shown(attributes) else { continue };
            let path = format!("{path}::{name}");
            let (line, is_provided) = match item {
                TraitItem::Const(item) => {
                    (format!("pub const {path}: {}", self.text(module, &item.ty)), item.default.is_some())
                }
                TraitItem::Fn(item) => (self.signature(module, &item.sig, &path), item.default.is_some()),
                TraitItem::Type(item) => (format!("pub type {path}{}", self.bounds(module, &item.bounds)), false),
                _ => continue,
            };
            let end = if is_provided { " { .. }" } else { "" };
            self.add(&path, Rank::Definition, &(features | &own), marks(attributes) + &line + end);
        }
    }

    /// Adds the lines of an `impl` that is about public types only.
    fn implementation(&mut self, module: &str, block: &ItemImpl) {
        let Some(own) = shown(&block.attrs) else { return };
        let subject = self.written(module, &block.self_ty);
        let of = block.trait_.as_ref().map(|(path, _)| self.written(module, path));
        let is_private = subject.is_private || of.as_ref().is_some_and(|of| of.is_private);
        let named = subject.public.iter().chain(of.iter().flat_map(|of| &of.public));
        let Some((path, above)) = named.map(|id| &self.public[id]).next().cloned().filter(|_| !is_private) else {
            return;
        };
        let features = &(&above | &self.parsed.modules[module].features) | &own;
        let Some(of) = of else { return self.inherent(module, block, &path, &subject.text, &features) };

        let types = block.items.iter().filter_map(|item| match item {
            ImplItem::Type(item) => Some(format!("type {} = {}", item.ident, self.text(module, &item.ty))),
            _ => None,
        });
        let types = types.collect::<Vec<_>>().join(", ");
        let types = if types.is_empty() { types } else { format!(" {{ {types} }}") };
        let parameters = self.text(module, &block.generics);
        let bounds = block.generics.where_clause.as_ref();
        let bounds = bounds.map_or_else(String::new, |clause| format!(" {}", self.text(module, clause)));
        // `derive` does not tell where a trait is from, so that of a trait from outside is left out.
        let is_own = of.text.starts_with(&format!("{}::", self.parsed.name));
        let end_of_path = of.text.find('<').unwrap_or(of.text.len());
        let from = of.text[..end_of_path].rfind("::").filter(|_| !is_own).map_or(0, |at| at + 2);
        let name = &of.text[from..];
        self.add(&path, Rank::Trait, &features, format!("impl{parameters} {name} for {}{bounds}{types}", subject.text));
    }

    fn inherent(&mut self, module: &str, block: &ItemImpl, path: &str, subject: &str, features: &Features) {
        let bounded = block.generics.type_params().filter(|parameter| !parameter.bounds.is_empty());
        let bounded = bounded.map(|parameter| self.text(module, parameter));
        let more = block.generics.where_clause.iter().map(|clause| self.text(module, &clause.predicates));
        let bounds: Vec<String> = bounded.chain(more).collect();
        for item in &block.items {
            let (attributes, visibility, name) = match item {
                ImplItem::Const(item) => (&item.attrs, &item.vis, &item.ident),
                ImplItem::Fn(item) => (&item.attrs, &item.vis, &item.sig.ident),
                _ => panic!("{path} has items that cannot be listed"),
            };
            let (Visibility::Public(_), Some(own)) = (visibility, shown(attributes)) else { continue };
            let long = format!("{subject}::{name}");
            let mut line = match item {
                ImplItem::Const(item) => {
                    format!("pub const {long}: {}{}", self.text(module, &item.ty), value(&item.expr))
                }
                ImplItem::Fn(item) => self.signature(module, &item.sig, &long),
                _ => continue,
            };
            if !bounds.is_empty() {
                line += if line.contains(" where ") { ", " } else { " where " };
                line += &bounds.join(", ");
            }
            self.add(&format!("{path}::{name}"), Rank::Definition, &(features | &own), marks(attributes) + &line);
        }
    }
}

//! The policy front end: reads policy files and the prefix files they name, and turns them into a
//! validated [`Policy`]. It must never touch the kernel, and never stop at the first mistake:
//! every error is reported with its place in the file and its cure.

mod antispoof;
mod bundle;
mod cidr;
mod claims;
mod containers;
mod diagnostic;
mod document;
mod events;
mod failsafe;
mod files;
mod format;
mod group;
mod include;
mod interface;
mod keys;
mod lint;
mod load;
mod model;
mod names;
mod prefixes;
mod quantity;
mod raw;
mod render;
mod reporting;
mod rule;
mod scans;
mod schedule;
mod schema;
mod source;
mod suggest;
mod syntax;
mod table;
mod validate;

#[cfg(test)]
pub(crate) mod tests;

pub use bundle::Bundle;
pub use cidr::prefix;
pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity};
pub use format::{FormatError, Language, format};
pub(crate) use lint::service_covered;
pub(crate) use load::hex;
pub use load::{Loaded, gather, load, load_bundle, read_text};
pub use model::*;
pub use schema::schema;
pub(crate) use source::Source;
pub(crate) use suggest::cure as suggest;

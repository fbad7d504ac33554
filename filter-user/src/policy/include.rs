//! From a path to one document: the policy file, or the files of a directory, and what they include. Never interprets
//! a key but `include` and the `version` of included files.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;
use sha2::Sha256;
use toml::Spanned;

use super::diagnostic::{Diagnostic, clean};
use super::document::{self, Map, Value};
use super::files::{Files, ReadError};
use super::group::hash_file;
use super::interface::is_glob;
use super::keys::POLICY_KEYS;
use super::model::{MAX_INCLUDE_DEPTH, MAX_POLICY_BYTES, MAX_VALUES, VERSION};
use super::source::Report;
use super::syntax::SyntaxError;
use super::table::Table;

/// What was read.
#[derive(Default)]
pub(super) struct Document {
    pub(super) map: Map,
    /// Of all files.
    pub(super) syntax: Vec<SyntaxError>,
}

struct Reader<'r, 'f> {
    files: &'r mut Files<'f>,
    hash: &'r mut Sha256,
    report: &'r mut Report,
    /// The files that are being read, each included by the one before it.
    chain: Vec<PathBuf>,
    /// All files, so that each is read once.
    seen: HashSet<PathBuf>,
    /// Bytes of policy files so far.
    bytes: u64,
    /// Values in them so far.
    values: usize,
    document: Document,
}

/// A name in `include`.
struct Named<'n> {
    text: &'n str,
    span: Range<usize>,
    /// Those of the file it stands in.
    roots: Arc<[PathBuf]>,
    /// Of the file that is meant, in a bundle.
    bundled: PathBuf,
}

/// Reads everything. `None` if there is nothing to be said about what it means.
pub(super) fn read(
    path: &Path,
    files: &mut Files<'_>,
    hash: &mut Sha256,
    report: &mut Report,
) -> Option<Document> {
    let mut reader = Reader {
        files,
        hash,
        report,
        chain: Vec::new(),
        seen: HashSet::new(),
        bytes: 0,
        values: 0,
        document: Document::default(),
    };
    if reader.files.is_directory(path) {
        reader.directory(path)?;
    } else {
        reader.file(path, None)?;
    }
    Some(reader.document)
}

impl Reader<'_, '_> {
    fn directory(&mut self, path: &Path) -> Option<()> {
        let mut list = Vec::new();
        for pattern in ["*.toml", "*.json"] {
            let found = Pattern::new(pattern)
                .ok()
                .map(|pattern| self.files.matching(path, &pattern));
            match found {
                Some(Ok(found)) => list.extend(found),
                Some(Err(error)) => self.unreadable(path, &error),
                None => {}
            }
        }
        list.sort_unstable();
        if list.is_empty() {
            if !self.report.list.has_errors() {
                self.report.list.push(Diagnostic::about_file(
                    "file-missing",
                    path.to_owned(),
                    "this directory holds no policy".to_owned(),
                    "name a policy file, or put files `*.toml` or `*.json` into it".to_owned(),
                ));
            }
            return None;
        }
        // the errors of all files are worth seeing, if one cannot be read
        let read = list.iter().map(|file| self.file(file, None));
        read.fold(Some(()), Option::and)
    }

    fn unreadable(&mut self, path: &Path, error: &ReadError) {
        self.report.list.push(Diagnostic::about_file(
            error.code(),
            path.to_owned(),
            error.to_string(),
            error.cure().to_owned(),
        ));
    }

    /// Reads one file and what it includes; `named`: where it is included.
    fn file(&mut self, path: &Path, named: Option<&Named<'_>>) -> Option<()> {
        let normal = normal(path);
        if let (Some(named), true) = (named, self.chain.contains(&normal)) {
            self.includes_itself(named, &normal);
            return None;
        }
        if !self.seen.insert(normal.clone()) {
            return Some(());
        }
        let relative = named.filter(|named| !Path::new(named.text).is_absolute());
        let limit = MAX_POLICY_BYTES - self.bytes;
        let roots = relative.map(|named| &*named.roots);
        let bytes = match (self.files.read(path, roots, limit), named) {
            (Ok(bytes), _) => bytes,
            (Err(error), Some(named)) => {
                self.cannot_include(named, &error);
                return None;
            }
            (Err(error), None) => {
                self.unreadable(path, &error);
                return None;
            }
        };
        if named.is_none() && bytes.iter().all(u8::is_ascii_whitespace) {
            self.report.list.push(Diagnostic::about_file(
                "file-empty",
                path.to_owned(),
                "the policy file is empty".to_owned(),
                "begin with `version = 1` and a profile, or copy one of the example policies"
                    .to_owned(),
            ));
            return None;
        }
        self.bytes += bytes.len() as u64;
        hash_file(self.hash, &bytes);
        let roots = match relative {
            Some(named) => Arc::clone(&named.roots),
            None => self.files.roots(path),
        };
        // of a pattern each file has its own name
        let file = PathBuf::from(path.file_name().unwrap_or_default());
        let name = named.map_or(file.clone(), |named| named.bundled.with_file_name(file));
        let (start, map) = self.parse(path, &bytes, (name.clone(), roots))?;
        self.files.keep(&name, bytes);
        self.chain.push(normal);
        let done = self.take_in(map, start);
        self.chain.pop();
        done
    }

    fn includes_itself(&mut self, named: &Named<'_>, normal: &PathBuf) {
        let chain = self.chain.iter().skip_while(|file| *file != normal);
        let way: Vec<String> = chain
            .chain(std::iter::once(normal))
            .map(|file| clean(&file.display().to_string()))
            .collect();
        let message = format!(
            "`{}` includes itself: {}",
            clean(named.text),
            way.join(" -> ")
        );
        let cure = "take one of these includes out";
        self.report
            .error("include-loop", named.span.clone(), message, cure);
    }

    fn cannot_include(&mut self, named: &Named<'_>, error: &ReadError) {
        let shown = clean(named.text);
        let (message, cure) = match error {
            ReadError::TooLarge { .. } => (
                format!(
                    "with `{shown}` the policy is larger than {} MiB",
                    MAX_POLICY_BYTES >> 20
                ),
                "put long lists into prefix files (`files`)",
            ),
            _ => (format!("included file `{shown}`: {error}"), error.cure()),
        };
        self.report
            .error(error.code(), named.span.clone(), message, cure);
    }

    /// The values of a file, and the position of its first byte.
    fn parse(
        &mut self,
        path: &Path,
        bytes: &[u8],
        named: (PathBuf, Arc<[PathBuf]>),
    ) -> Option<(usize, Map)> {
        let source = self.report.add(path, bytes.to_vec(), named)?;
        let start = source.start();
        self.values += document::values(&source.text, is_json(path));
        if self.values > MAX_VALUES {
            self.report.list.push(Diagnostic::about_file(
                "too-many-values",
                path.to_owned(),
                format!("with this file the policy holds more than {MAX_VALUES} values"),
                "put long lists of prefixes into prefix files (`files` of a group)".to_owned(),
            ));
            return None;
        }
        let (map, syntax) = if is_json(path) {
            let (mut map, syntax) = document::from_json(&source.text, start);
            // what tells an editor the schema is nothing to us
            map.remove("$schema");
            (map, syntax)
        } else {
            document::from_toml(&source.text, start)
        };
        self.document.syntax.extend(syntax);
        Some((start, map))
    }

    /// Joins a file with those before it, and reads what it includes.
    fn take_in(&mut self, mut map: Map, start: usize) -> Option<()> {
        let included = self.names(&mut map, start);
        if !self.document.map.entries.is_empty() {
            self.version(&mut map);
        }
        self.document.map.join(map, self.report);
        self.include(included, start)
    }

    /// Takes `include` out of a file.
    fn names(&mut self, map: &mut Map, start: usize) -> Vec<Spanned<String>> {
        let table = Table::of(map, start..start + 1, "the policy".into(), POLICY_KEYS);
        let list = table.texts("include", self.report);
        map.remove("include");
        list.map(Spanned::into_inner).unwrap_or_default()
    }

    /// Every file may have a version; it is the same one.
    fn version(&mut self, map: &mut Map) {
        let known = self.document.map.get("version").is_some();
        let same = map
            .get("version")
            .is_some_and(|node| matches!(node.value, Value::Integer(Some(VERSION))));
        if known && same {
            map.remove("version");
        }
    }

    fn include(&mut self, names: Vec<Spanned<String>>, start: usize) -> Option<()> {
        let mut done = Some(());
        for name in names {
            let (span, text) = (name.span(), name.into_inner());
            let source = self.report.source(start)?;
            let named = Named {
                text: &text,
                span: span.clone(),
                roots: Arc::clone(&source.roots),
                bundled: source.bundled(&text),
            };
            if self.chain.len() > MAX_INCLUDE_DEPTH {
                self.report.error(
                    "include-depth",
                    span,
                    format!("files include each other at most {MAX_INCLUDE_DEPTH} deep"),
                    "include this file from the policy file itself",
                );
                return None;
            }
            let path = source.directory().join(&text);
            let paths = match self.paths(path, &text) {
                Ok(paths) => paths,
                Err((code, message, cure)) => {
                    self.report.error(code, span, message, cure);
                    done = None;
                    continue;
                }
            };
            if paths.is_empty() {
                self.report.warning(
                    "no-match",
                    span.clone(),
                    format!("`{}` matches no file", clean(&text)),
                    "check the pattern, or take it out",
                );
            }
            for path in paths {
                if self.report.list.has_code("too-many-files") {
                    // one error is enough: thousands of names would each give another
                    return None;
                }
                done = self.file(&path, Some(&named)).and(done);
            }
        }
        done
    }

    /// The files that a name stands for.
    fn paths(
        &self,
        path: PathBuf,
        text: &str,
    ) -> Result<Vec<PathBuf>, (&'static str, String, &'static str)> {
        let shown = clean(text);
        if text.is_empty() || text.contains('\0') {
            let message = format!("`{shown}` is no file name");
            return Err(("file-missing", message, "write the name of a policy file"));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(directory), Some(name)) = (path.parent(), name) else {
            let message = format!("`{shown}` names no file");
            return Err((
                "file-kind",
                message,
                "write a pattern such as `conf.d/*.toml`",
            ));
        };
        let folder = Path::new(text).parent().unwrap_or(Path::new(""));
        if is_glob(&folder.to_string_lossy()) {
            let message = format!("`{shown}` has a pattern in the place of a directory");
            let cure = "use `*`, `?` and `[..]` in the file's name only, as in `conf.d/*.toml`";
            return Err(("pattern", message, cure));
        }
        if !is_glob(name) {
            return Ok(vec![path]);
        }
        let pattern = Pattern::new(name).map_err(|error| {
            let message = format!("`{shown}` is malformed: {}", error.msg);
            ("pattern", message, "close brackets, and write `*` once")
        })?;
        self.files.matching(directory, &pattern).map_err(|error| {
            let message = format!("included files `{shown}`: {error}");
            (error.code(), message, error.cure())
        })
    }
}

/// Whether the file is read as JSON; as TOML otherwise.
pub(super) fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "json")
}

/// The path without `.` and `..`, as far as that can be told without looking.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if normal
                    .components()
                    .next_back()
                    .is_some_and(|last| matches!(last, Component::Normal(_))) =>
            {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

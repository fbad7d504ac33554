//! The table of operations: what may be asked of the daemon, by whom, and within which limits. The router, the check of
//! roles, the record of control actions and the OpenAPI document are all made from it, so that none of them can say
//! something else than the others.
//!
//! A new operation is one row in `operations()` of the file its handler is in, and that file one line in [`table`].

use std::time::Duration;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::server::Service;
use super::{audit, entries, explain, exposure, metrics, observe, openapi, policy, replay, scans};
use crate::access::Role;

/// Longest body of a request, unless its row says otherwise.
pub(super) const BODY_BYTES: usize = 16 << 10;
/// Longest time until an answer begins, unless its row says otherwise; shorter than a command waits for it.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(4);

/// Makes the schema of a type.
type Describe = fn(&mut SchemaGenerator) -> Schema;

/// What is answered when all is well.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// One JSON document.
    Document(Describe),
    /// One JSON document a line.
    Lines(Describe),
    /// One JSON document, or one a line of another kind with `follow=true`.
    DocumentOrLines(Describe, Describe),
    /// Text of this media type.
    Text(&'static str),
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// `GET`, `POST`, `DELETE`.
    pub(super) method: Method,
    /// As the router takes it.
    pub(super) path: &'static str,
    /// `AREA.ACTION`: the operation's id, and the action in the audit record.
    pub(super) name: &'static str,
    /// The least that whoever asks must have.
    pub(super) role: Role,
    /// One sentence for the document.
    pub(super) summary: &'static str,
    /// Parts of the path: name and meaning.
    pub(super) path_parameters: Vec<(&'static str, &'static str)>,
    /// Parameters after the question mark, as the fields of a type.
    pub(super) query: Option<Describe>,
    /// The body; `None`: whatever is sent is not read.
    pub(super) request: Option<Describe>,
    /// The answer.
    pub(super) reply: Reply,
    /// Longest body.
    pub(super) body: usize,
    /// Longest time until the answer begins.
    pub(super) time: Duration,
    /// Whether doing it is recorded. A refusal for want of a role always is.
    pub(super) audited: bool,
    pub(super) handler: MethodRouter<Service>,
}

impl Operation {
    /// Something to look at.
    pub(super) fn get<H: Handler<T, Service>, T: 'static>(
        path: &'static str,
        name: &'static str,
        role: Role,
        handler: H,
    ) -> Self {
        Self::new(
            Method::GET,
            on(MethodFilter::GET, handler),
            path,
            name,
            role,
        )
    }

    /// Something that is told, and recorded unless it [is only asked](Self::only_asked).
    pub(super) fn post<H: Handler<T, Service>, T: 'static>(
        path: &'static str,
        name: &'static str,
        role: Role,
        handler: H,
    ) -> Self {
        Self::new(
            Method::POST,
            on(MethodFilter::POST, handler),
            path,
            name,
            role,
        )
    }

    /// Something that is taken away, and recorded.
    pub(super) fn delete<H: Handler<T, Service>, T: 'static>(
        path: &'static str,
        name: &'static str,
        role: Role,
        handler: H,
    ) -> Self {
        Self::new(
            Method::DELETE,
            on(MethodFilter::DELETE, handler),
            path,
            name,
            role,
        )
    }

    fn new(
        method: Method,
        handler: MethodRouter<Service>,
        path: &'static str,
        name: &'static str,
        role: Role,
    ) -> Self {
        Self {
            audited: method != Method::GET,
            method,
            path,
            name,
            role,
            summary: "",
            path_parameters: Vec::new(),
            query: None,
            request: None,
            reply: Reply::Text("text/plain"),
            body: BODY_BYTES,
            time: ANSWER_TIME,
            handler,
        }
    }

    pub(super) fn summary(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    /// A part of the path.
    pub(super) fn part(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.path_parameters.push((name, meaning));
        self
    }

    /// What may stand after the question mark: the fields of `T`.
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self {
            query: Some(T::json_schema),
            ..self
        }
    }

    /// The body is a `T`.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self {
            request: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    /// The answer is a `T`.
    pub(super) fn answers<T: JsonSchema>(self) -> Self {
        Self {
            reply: Reply::Document(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    /// Every line of the answer is a `T`, or says how many were lost.
    pub(super) fn answers_lines<T: JsonSchema>(self) -> Self {
        let line: Describe = SchemaGenerator::subschema_for::<T>;
        Self {
            reply: match self.reply {
                Reply::Document(document) => Reply::DocumentOrLines(document, line),
                _ => Reply::Lines(line),
            },
            ..self
        }
    }

    /// The answer is text.
    pub(super) fn answers_text(self, media_type: &'static str) -> Self {
        Self {
            reply: Reply::Text(media_type),
            ..self
        }
    }

    /// A body may be as long as this.
    pub(super) fn body(self, bytes: usize) -> Self {
        Self {
            body: bytes,
            ..self
        }
    }

    /// The answer may take as long as this.
    pub(super) fn time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Changes nothing: there is nothing to record.
    pub(super) fn only_asked(self) -> Self {
        Self {
            audited: false,
            ..self
        }
    }
}

/// Every operation there is.
pub(super) fn table() -> Vec<Operation> {
    [
        observe::operations(),
        explain::operations(),
        policy::operations(),
        replay::operations(),
        entries::operations(),
        scans::operations(),
        audit::operations(),
        exposure::operations(),
        metrics::operations(),
        openapi::operations(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_are_complete_and_tell_apart() {
        let table = table();
        let (mut names, mut places) = (HashSet::new(), HashSet::new());
        for row in &table {
            assert!(names.insert(row.name), "two rows are named {}", row.name);
            assert!(
                places.insert((row.method.clone(), row.path)),
                "{} {} stands twice",
                row.method,
                row.path
            );
            assert!(row.path.starts_with("/v1/"), "{}", row.path);
            assert!(!row.summary.is_empty(), "{} says nothing", row.name);
            assert!(row.name.contains('.'), "{}", row.name);
            let parts = row.path.matches('{').count();
            assert_eq!(parts, row.path_parameters.len(), "{}", row.path);
            let changes = row.audited;
            assert!(
                !changes || row.role > Role::Viewer,
                "{}: a viewer changes nothing",
                row.name
            );
            assert!(
                row.method == Method::GET || row.role > Role::Viewer || !row.audited,
                "{}",
                row.name
            );
        }
    }
}

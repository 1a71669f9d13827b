//! Runbooks as things stood after the last pass: documents, and the files that their commands read.

use std::fmt::Write as _;

use axum::{
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::Shown;

/// Documents are made by templates of the infra repo: they may look as they like, and do nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

/// A list of them all; 503 before the first pass.
pub(super) async fn index(State(shown): State<Shown>) -> Response {
    let Some(shelf) = shown.board.runbooks() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let mut list = String::new();
    for name in shelf.names() {
        // A name holds nothing that means anything to HTML.
        let _ = writeln!(
            list,
            "<li>{name}: <a href=\"{name}.html\">page</a>, <a href=\"{name}.md\">Markdown</a></li>"
        );
    }
    let said = if list.is_empty() { "<p>The revision in force declares no recovery.</p>" } else { "" };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Runbooks</title></head>\n<body><h1>Runbooks</h1>\n\
         <ul>\n{list}</ul>{said}</body></html>\n"
    );
    answer("text/html; charset=utf-8", page)
}

/// One of them, or a file that it names; 404 where there is none of that path, 503 before the first pass.
pub(super) async fn paper(State(shown): State<Shown>, Path(path): Path<String>) -> Response {
    let Some(shelf) = shown.board.runbooks() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let kind = match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "md")) => "text/markdown; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    match shelf.get(&path).await {
        Some(Ok(text)) => answer(kind, text.to_string()),
        Some(Err(why)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn answer(kind: &'static str, text: String) -> Response {
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

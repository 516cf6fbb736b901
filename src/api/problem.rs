//! What went wrong, as RFC 9457 has it. Pure.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    inbound::tokens::Unwelcome,
    operate::end::Failure,
    text::line::{cut, escaped},
};

/// The most faults that are told of at once.
const MOST: usize = 20;

/// A parameter or a field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    field: String,
    value: String,
    expected: String,
}

impl Fault {
    pub(super) fn new(field: &str, value: &str, expected: &str) -> Self {
        let shown =
            |text: &str, most| escaped(cut(text, most), |c| c.escape_default().to_string()).into_owned();
        Self { field: shown(field, 64), value: shown(value, 64), expected: shown(expected, 300) }
    }

    fn document(&self) -> Value {
        json!({ "field": self.field, "value": self.value, "expected": self.expected })
    }
}

/// Why a request has no other answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    detail: String,
    faults: Vec<Fault>,
    /// The methods that would do.
    allow: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), faults: Vec::new(), allow: None }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn not_now(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Parameters or fields that are wrong.
    pub(super) fn faulty(faults: Vec<Fault>) -> Self {
        let told = faults.first().map_or_else(String::new, |fault| {
            format!("{}={:?}: expected {}", fault.field, fault.value, fault.expected)
        });
        let detail = match faults.len() {
            0 | 1 => told,
            many => format!("{told}; and {} more", many - 1),
        };
        let faults = faults.into_iter().take(MOST).collect();
        Self { faults, ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// Another method.
    pub(super) fn method(allow: String) -> Self {
        let detail = format!("expected {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// With another status.
    pub(super) fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Whether it may go by itself.
    pub(super) fn is_not_now(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// With more to say.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.detail.push_str(more);
        self
    }

    /// The document.
    pub(super) fn document(&self) -> Value {
        let title = self.status.canonical_reason().unwrap_or_default();
        let mut document = json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail,
        });
        if !self.faults.is_empty()
            && let Value::Object(document) = &mut document
        {
            document.insert("errors".to_owned(), self.faults.iter().map(Fault::document).collect());
        }
        document
    }

    /// The answer.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{:#}\n", self.document())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| allow.parse().ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::Cannot(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Conflict(_) => StatusCode::CONFLICT,
            Failure::Nothing(_) => StatusCode::NOT_FOUND,
            Failure::Usage(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, failure.to_string())
    }
}

impl From<Unwelcome> for Problem {
    fn from(unwelcome: Unwelcome) -> Self {
        let status = match unwelcome {
            Unwelcome::Nobody => StatusCode::UNAUTHORIZED,
            Unwelcome::Stranger => StatusCode::FORBIDDEN,
        };
        Self::new(status, unwelcome.to_string())
    }
}

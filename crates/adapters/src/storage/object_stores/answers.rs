//! One HTTP request to a service: its time limit, and what the service says when it says no.
//!
//! The crate's own errors quote the whole answer and hide the status behind private types. So every answer of 400 and
//! above becomes an [`Answer`] here, which keeps the status, the code and nothing else: what a service quotes of a
//! request (a signature, a token) never gets into a message. What an answer means is in [`super::refusal`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// How long a request may take, its bytes apart.
const REQUEST: Duration = Duration::from_mins(1);
/// The slowest transfer that still counts as one, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// What a service said when it said no.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The service's word for it, letters and digits only.
    pub(super) code: Option<String>,
    /// What its text says besides.
    pub(super) detail: Option<Detail>,
}

/// What only the text of an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The clock of this host is wrong.
    ClockSkew,
    /// The credentials were valid once, or are not yet.
    NotNow,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(formatter, "it answered {} {code}", self.status),
            None => write!(formatter, "it answered {}", self.status),
        }
    }
}

impl Answer {
    /// Reads an answer. `header` is the code of a service that has a header for it.
    pub(super) fn new(status: u16, header: Option<&str>, text: &str) -> Self {
        let code = header
            .or_else(|| between(text, "<Code>", "</Code>"))
            .or_else(|| between(text, "\"error\":\"", "\""))
            .or_else(|| between(text, "\"error\": \"", "\""))
            .filter(|code| {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                code.len() <= 64 && code.bytes().all(is_plain)
            });
        Self {
            status,
            code: code.map(str::to_owned),
            detail: Detail::of(text),
        }
    }
}

impl Answer {
    /// Whether asking again may help, in the words of the crate; of the unknown kind nothing is repeated.
    fn kind(&self) -> HttpErrorKind {
        match self.status {
            408 | 429 | 500.. => HttpErrorKind::Interrupted,
            _ => HttpErrorKind::Unknown,
        }
    }
}

impl Detail {
    fn of(text: &str) -> Option<Self> {
        let says = |part: &str| text.contains(part);
        // Azure of a request dated wrongly; Google's token service of a token dated wrongly.
        if says("date header") || says("reasonable timeframe") {
            return Some(Self::ClockSkew);
        }
        if says("specified time frame") || says("expired") || says("Expired") {
            return Some(Self::NotNow);
        }
        None
    }
}

/// What stands between two marks.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// Time ran out.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} seconds", .0.as_secs())]
struct Late(Duration);

/// Makes clients whose answers are typed.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Client { inner }))
    }
}

#[derive(Debug)]
struct Client {
    inner: HttpClient,
}

impl HttpService for Client {
    // What `async_trait` makes of `async fn call`.
    fn call<'a, 'f>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let sent_bytes = request.body().content_length() as u64;
            let response = within(sent_bytes, self.inner.execute(request)).await?;
            let (parts, body) = response.into_parts();
            let header = |name| {
                let value = parts.headers.get(name)?;
                value.to_str().ok()
            };
            let length = header("content-length").and_then(|length| length.parse().ok());
            let bytes = within(length.unwrap_or(0), body.bytes()).await?;
            if parts.status.is_client_error() || parts.status.is_server_error() {
                let text = String::from_utf8_lossy(&bytes);
                let answer = Answer::new(parts.status.as_u16(), header("x-ms-error-code"), &text);
                return Err(HttpError::new(answer.kind(), answer));
            }
            Ok(HttpResponse::from_parts(parts, bytes.into()))
        })
    }
}

async fn within<T>(
    transferred_bytes: u64,
    future: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let limit = REQUEST + Duration::from_secs(transferred_bytes / SLOWEST);
    match tokio::time::timeout(limit, future).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, Late(limit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_and_nothing_else_is_kept() {
        for (text, code, detail) in [
            (
                "<?xml?><Error><Code>NoSuchBucket</Code><Message>m</Message></Error>",
                Some("NoSuchBucket"),
                None,
            ),
            (
                r#"{"error":"invalid_grant","error_description":"Token must be a short-lived token (60 minutes) and in a reasonable timeframe."}"#,
                Some("invalid_grant"),
                Some(Detail::ClockSkew),
            ),
            (
                "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the specified time frame: Start</AuthenticationErrorDetail></Error>",
                Some("AuthenticationFailed"),
                Some(Detail::NotNow),
            ),
            ("<Code>with blanks</Code>", None, None),
            ("<html>captive portal</html>", None, None),
            ("<Code>cut", None, None),
            ("", None, None),
        ] {
            let answer = Answer::new(403, None, text);
            assert_eq!(answer.code.as_deref(), code, "{text}");
            assert_eq!(answer.detail, detail, "{text}");
        }
        let answer = Answer::new(409, Some("BlobAlreadyExists"), "");
        assert_eq!(answer.to_string(), "it answered 409 BlobAlreadyExists");
        let answer = Answer::new(403, None, "<Message>sig=planted</Message>");
        assert!(!format!("{answer:?} {answer}").contains("planted"));
    }
}

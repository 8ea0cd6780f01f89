//! What an answer means: which are refusals, with what to do, and which may be better the next time.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use strongroom_core::clock::Clock;
use strongroom_core::error_chain;

use super::super::remote::RequestError;
use super::S3Settings;

/// The most of a foreign message that is repeated, in characters.
const MESSAGE_MAX: usize = 300;

/// An answer that is no success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The error's code, where the answer has a body.
    pub(super) code: &'a str,
    /// The error's message; empty where there is none.
    pub(super) message: &'a str,
    /// The region that the storage says is the right one.
    pub(super) region: Option<&'a str>,
    /// How many seconds this host's clock is ahead of the storage's.
    pub(super) ahead_seconds: Option<i64>,
}

/// Whether an object was there already.
pub(super) fn is_there_already<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(412)
}

/// Whether a range began behind the end of the object.
pub(super) fn is_behind_the_end<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
) -> bool {
    status(error) == Some(416)
}

/// The HTTP status of an answer.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    Some(error.raw_response()?.status().as_u16())
}

/// What a failed request means.
pub(super) fn classify<E>(
    error: &SdkError<E, HttpResponse>,
    place: &S3Settings,
    clock: &dyn Clock,
) -> RequestError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(response) = error.raw_response() else {
        return unanswered(error, place);
    };
    let body = response.body().bytes().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
    let code = metadata.and_then(|known| known.code()).unwrap_or_default();
    let message = metadata.and_then(|known| known.message());
    // Something else than S3 answers in plain text, for instance a proxy.
    let plain = if body.starts_with('<') { "" } else { &body };
    let date = response.headers().get("date");
    let answer = Answer {
        status: response.status().as_u16(),
        code,
        message: message.filter(|text| !text.is_empty()).unwrap_or(plain),
        region: response
            .headers()
            .get("x-amz-bucket-region")
            .or_else(|| element(&body, "Region")),
        ahead_seconds: date.and_then(|date| ahead(date, clock)),
    };
    if answer.status < 300 {
        return RequestError::transient(error_chain(error));
    }
    judge(&answer, place)
}

/// What an answer means, by status and code (Amazon S3 API Reference, "Error responses").
pub(super) fn judge(answer: &Answer<'_>, place: &S3Settings) -> RequestError {
    let said = said(answer);
    let lower = answer.message.to_ascii_lowercase();
    if lower.contains("object lock") || lower.contains("objectlock") || lower.contains("worm") {
        return locked(&lower, &said);
    }
    if let Some(error) = of_credentials(answer, &said) {
        return error;
    }
    let (why, hint) = match answer.code {
        "NoSuchKey" | "NoSuchVersion" => return RequestError::NotFound,
        "NoSuchBucket" => (
            format!("there is no bucket {:?}", place.bucket),
            "Make the bucket, or correct url, endpoint and region. Strongroom never makes one, so that nothing is written to a wrong place.",
        ),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => return wrong_region(answer, said),
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => (
            format!(
                "the bytes that arrived do not have the digest that they were sent with ({said})"
            ),
            "Nothing was stored. Run again; if it comes back, memory or network of this host damage data.",
        ),
        "InvalidObjectState" => (
            format!("the object is archived ({said})"),
            "Somebody moved it to an archive class. Restore it there first (aws s3api restore-object), and take the transition out of the bucket's lifecycle.",
        ),
        "InvalidStorageClass" => (
            format!("it does not know the storage class ({said})"),
            "Correct storage_class, or take it out.",
        ),
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
            return RequestError::NoSpace;
        }
        "SlowDown"
        | "RequestTimeout"
        | "IncompleteBody"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "InternalError"
        | "RequestLimitExceeded"
        | "ServiceUnavailable" => {
            return RequestError::transient(said);
        }
        // Amazon has KMS.NotFoundException and the like, MinIO besides kms:KeyNotFound.
        code if ["KMS.", "XMinioKMS", "kms:"]
            .iter()
            .any(|of| code.starts_with(of)) =>
        {
            (
                format!("its key management refuses ({said})"),
                "The credentials need kms:GenerateDataKey and kms:Decrypt for the key in sse_kms_key, and the key must be enabled and in the bucket's region.",
            )
        }
        _ => match answer.status {
            301 | 307 | 308 => return wrong_region(answer, said),
            404 => return RequestError::NotFound,
            507 => return RequestError::NoSpace,
            501 => (
                format!("it does not know this request ({said})"),
                "The server is not compatible enough; the guide's page on s3 says what it needs.",
            ),
            408 | 425 | 429 | 500.. => return RequestError::transient(said),
            _ => (
                said,
                "Is it an S3 server, and is http:// or https:// in its place? Compare url, endpoint, region and path_style with its documentation.",
            ),
        },
    };
    RequestError::Refused { why, hint }
}

/// Refusals that are about who asks and when.
fn of_credentials(answer: &Answer<'_>, said: &str) -> Option<RequestError> {
    let (why, hint) = match answer.code {
        "RequestTimeTooSkewed" | "RequestExpired" => {
            let why = match answer.ahead_seconds {
                Some(ahead) => format!(
                    "this host's clock is {} {} the storage's",
                    in_words(ahead.unsigned_abs()),
                    if ahead < 0 { "behind" } else { "ahead of" },
                ),
                None => "this host's clock and the storage's differ by more than it allows".into(),
            };
            (
                why,
                "Set the clock of this host, and keep it set (chrony, systemd-timesyncd).",
            )
        }
        "InvalidAccessKeyId" => (
            "the storage does not know the access key".into(),
            "The key was deleted, or belongs to another account or server. Compare credentials_file, profile and endpoint.",
        ),
        "SignatureDoesNotMatch" => (
            "the secret key does not belong to the access key".into(),
            "Correct the secret key in the credentials. If it is right, something between here and the storage changes requests.",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => (
            "the credentials have expired".into(),
            "Get new ones. For runs by timer, use credentials that renew themselves (instance role, web identity) or a key without a session.",
        ),
        "InvalidToken" | "InvalidTokenId" | "InvalidClientTokenId" => (
            "the session token is not valid".into(),
            "Get new credentials; access key, secret key and session token must be of one piece.",
        ),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "UnauthorizedAccess" => (
            format!("access denied ({said})"),
            "The credentials are known but may not do this. Compare their policy with the guide's page on s3, and look for a denial in the bucket's policy.",
        ),
        "" if matches!(answer.status, 401 | 403) => (
            format!("access denied ({said})"),
            "The credentials may not do this, or are not known. Compare their policy with the guide's page on s3.",
        ),
        _ => return None,
    };
    Some(RequestError::Refused { why, hint })
}

/// An object lock stands against it, or is not to be had.
fn locked(lower: &str, said: &str) -> RequestError {
    if lower.contains("missing") || lower.contains("configuration") {
        return RequestError::Refused {
            why: format!("the bucket has no object lock ({said})"),
            hint: "Enable Object Lock on the bucket (the guide's page on s3 says how), or take \"immutable\" out.",
        };
    }
    RequestError::Refused {
        why: format!("the object is locked ({said})"),
        hint: "Object lock keeps it until its time has passed; run expire again then. Nothing was deleted of it.",
    }
}

fn wrong_region(answer: &Answer<'_>, said: String) -> RequestError {
    match answer.region {
        Some(region) => RequestError::Refused {
            why: format!("the bucket is in the region {:?}", shortened(region)),
            hint: "Write that region into the configuration: region = \"...\".",
        },
        None if answer.code == "AuthorizationHeaderMalformed" => RequestError::Refused {
            why: said,
            hint: "Compare region with the server's, and the form of the access key.",
        },
        None => RequestError::Refused {
            why: format!("the bucket is somewhere else ({said})"),
            hint: "Correct region or endpoint; the storage does not say which is right.",
        },
    }
}

/// What it means that there is no answer at all.
fn unanswered<E: Error + 'static>(
    error: &SdkError<E, HttpResponse>,
    place: &S3Settings,
) -> RequestError {
    let chain = error_chain(error);
    let detail = innermost(error);
    if chain.contains("invalid peer certificate") {
        return RequestError::Refused {
            why: format!("its certificate is not trusted: {detail}"),
            hint: "Name the authority that issued it: ca_file = \"...\". If it has expired or is for another name, renew it there.",
        };
    }
    if chain.contains("InvalidContentType") || chain.contains("corrupt message") {
        return RequestError::Refused {
            why: "it does not speak TLS".into(),
            hint: "Correct the endpoint: its port, or http:// where the server has no TLS.",
        };
    }
    let is_unknown = chain.contains("Name or service not known")
        || chain.contains("No address associated with hostname");
    if is_unknown {
        let hint = if place.endpoint.is_some() && !place.path_style {
            "Correct the endpoint. If the server has no host name for each bucket: path_style = true."
        } else {
            "Correct region or endpoint, or the name server of this host."
        };
        return RequestError::Refused {
            why: format!("its host name is not known: {detail}"),
            hint,
        };
    }
    if is_of_credentials(error) {
        return RequestError::Refused {
            why: format!("there are no credentials ({detail})"),
            hint: "Name them with credentials_file or profile, or give the host a role; the guide's page on s3 lists where they are looked for.",
        };
    }
    RequestError::transient(chain)
}

/// Whether no request was sent for want of credentials.
fn is_of_credentials<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> bool {
    let is_unsent = matches!(
        error,
        SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_)
    );
    let chain = error_chain(error).to_ascii_lowercase();
    is_unsent && (chain.contains("credential") || chain.contains("identity"))
}

/// The last error of a chain, which names the cause.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Status, code and message of an answer.
fn said(answer: &Answer<'_>) -> String {
    let mut text = format!("{} {}", answer.status, answer.code)
        .trim_end()
        .to_owned();
    let message = answer.message.trim().trim_end_matches('.');
    if !message.is_empty() {
        text.push_str(": ");
        text.push_str(&shortened(message));
    }
    text
}

/// One line of foreign text, not too long.
fn shortened(text: &str) -> String {
    let line = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one });
    line.take(MESSAGE_MAX).collect()
}

/// The text of the first element of that name; error documents of S3 are flat.
fn element<'b>(body: &'b str, name: &str) -> Option<&'b str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.is_empty()).then_some(text)
}

/// How many seconds this host's clock is ahead of an HTTP date.
fn ahead(date: &str, clock: &dyn Clock) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(clock.now().as_second() - theirs.as_second())
}

fn in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> S3Settings {
        S3Settings::from_url("s3://example-backups/ca").expect("a URL")
    }

    fn refused(answer: &Answer<'_>) -> String {
        match judge(answer, &place()) {
            RequestError::Refused { why, hint } => {
                assert!(hint.ends_with('.') || hint.ends_with('?'), "{hint}");
                why
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn each_refusal_has_its_own_sentence() {
        let cases = [
            (
                403,
                "AccessDenied",
                "no",
                "access denied (403 AccessDenied: no)",
            ),
            (403, "", "", "access denied (403)"),
            (
                403,
                "InvalidAccessKeyId",
                "x",
                "the storage does not know the access key",
            ),
            (
                403,
                "SignatureDoesNotMatch",
                "x",
                "the secret key does not belong to the access key",
            ),
            (400, "ExpiredToken", "x", "the credentials have expired"),
            (
                404,
                "NoSuchBucket",
                "x",
                "there is no bucket \"example-backups\"",
            ),
            (
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
                "the object is locked (403 AccessDenied: Access Denied because object protected by object lock)",
            ),
            (
                400,
                "InvalidRequest",
                "Bucket is missing Object Lock Configuration",
                "the bucket has no object lock (400 InvalidRequest: Bucket is missing Object Lock Configuration)",
            ),
            (400, "Odd", "line\none", "400 Odd: line one"),
            (301, "", "", "the bucket is somewhere else (301)"),
        ];
        for (status, code, message, wanted) in cases {
            let answer = Answer {
                status,
                code,
                message,
                ..Answer::default()
            };
            assert_eq!(refused(&answer), wanted);
        }
    }

    #[test]
    fn the_right_region_and_both_clocks_are_told() {
        let mut answer = Answer {
            status: 400,
            code: "AuthorizationHeaderMalformed",
            region: Some("eu-central-1"),
            ..Answer::default()
        };
        assert_eq!(
            refused(&answer),
            "the bucket is in the region \"eu-central-1\""
        );
        answer.code = "RequestTimeTooSkewed";
        answer.ahead_seconds = Some(3 * 3600 + 5);
        assert_eq!(
            refused(&answer),
            "this host's clock is 3 hours ahead of the storage's"
        );
        answer.ahead_seconds = Some(-1000);
        assert_eq!(
            refused(&answer),
            "this host's clock is 16 minutes behind the storage's"
        );
        let clock = strongroom_core::clock::FixedClock::new(
            "2026-11-20T10:00:00Z".parse().expect("a time"),
        );
        let date = "Fri, 20 Nov 2026 09:00:00 GMT";
        assert_eq!(ahead(date, &clock), Some(3600));
    }

    #[test]
    fn what_may_be_better_next_time_is_transient() {
        for (status, code) in [
            (503, "SlowDown"),
            (500, "InternalError"),
            (502, ""),
            (429, ""),
            (409, "ConditionalRequestConflict"),
            (400, "RequestTimeout"),
        ] {
            let answer = Answer {
                status,
                code,
                ..Answer::default()
            };
            let error = judge(&answer, &place());
            assert!(matches!(error, RequestError::Transient(_)), "{error:?}");
        }
        let full = Answer {
            status: 507,
            code: "XMinioStorageFull",
            ..Answer::default()
        };
        assert!(matches!(judge(&full, &place()), RequestError::NoSpace));
    }

    #[test]
    fn the_region_is_found_in_an_error_document() {
        let body = "<Error><Code>X</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(element(body, "Region"), Some("eu-west-1"));
        assert_eq!(element(body, "Host"), None);
        assert_eq!(element("<Region></Region>", "Region"), None);
    }
}

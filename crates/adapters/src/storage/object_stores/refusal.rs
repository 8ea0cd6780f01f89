//! What an error of a service means: a refusal with a hint, silence, or a missing object.

use std::error::Error;

use object_store::Error as StoreError;
use object_store::client::HttpError;

use super::super::remote::RequestError;
use super::Service;
use super::answers::{Answer, Detail};

const CLOCK: &str = "Set the clock of this host (timedatectl), and keep it set by NTP.";
const EXPIRED: &str =
    "Put fresh credentials into credentials_file; those that are there are not valid at this time.";
const TRUST: &str = "Name the certificate of the authority that signed the server's certificate in ca_file, or correct the endpoint.";
const IMMUTABLE: &str =
    "A retention policy or a hold protects it until its time is over; that is what it is for.";
const ARCHIVED: &str = "Rehydrate the objects to an online access tier first, and keep repositories out of the archive tier.";
const ACCOUNT: &str = "Check that credentials_file is for this account and container and has not expired, and that the network rules of the account allow the address of this host.";
const UNKNOWN: &str =
    "Look the code up in the service's documentation; the request itself was not at fault before.";
const FOREIGN: &str =
    "Give the repository a prefix of its own, and remove the object with the strange name.";
const CLI: &str = "Log in with az login, or name a credentials_file.";

/// The words of one service.
struct Words {
    place: &'static str,
    missing: &'static str,
    credentials: &'static str,
    permission: &'static str,
}

const GCS: Words = Words {
    place: "bucket",
    missing: "Make the bucket, or correct the URL: gs://BUCKET/PREFIX.",
    credentials: "Check credentials_file: its service account must exist and its key must not be disabled or deleted.",
    permission: "Give the service account the role that the guide names for this purpose (storages/gcs.md), on this bucket.",
};

const AZURE: Words = Words {
    place: "container",
    missing: "Make the container, or correct the URL: az://ACCOUNT/CONTAINER/PREFIX.",
    credentials: "Check credentials_file: an account key may have been rotated, a shared access signature revoked; both belong to one account, the one in the URL.",
    permission: "Give the identity the role, or the shared access signature the permissions, that the guide names for this purpose (storages/azure.md).",
};

/// Sorts an error of the crate.
pub(super) fn classify(service: Service, error: &StoreError) -> RequestError {
    if let Some(answer) = find::<Answer>(error) {
        return of_answer(service, answer);
    }
    match error {
        StoreError::NotFound { .. } => return RequestError::NotFound,
        StoreError::InvalidPath { .. } => {
            return refused(
                "a name in the listing is none that can be asked for",
                FOREIGN,
            );
        }
        _ => {}
    }
    let text = strongroom_core::error_chain(error);
    if find::<HttpError>(error).is_some() {
        return of_transport(&text);
    }
    if text.contains("az account get-access-token") || text.contains("Azure CLI") {
        return refused("the Azure CLI gives no token", CLI);
    }
    if let Some(status) = batch_status(&text) {
        return of_answer(service, &Answer::new(status, None, ""));
    }
    RequestError::transient(Broken)
}

/// The bucket or container itself is missing.
pub(super) fn no_place(service: Service) -> RequestError {
    of_answer(service, &Answer::new(404, Some("NoSuchBucket"), ""))
}

/// An answer that is none of the service.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be read")]
struct Broken;

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(&'static str);

fn of_answer(service: Service, answer: &Answer) -> RequestError {
    let words = match service {
        Service::Gcs => &GCS,
        Service::Azure => &AZURE,
    };
    let code = answer.code.as_deref().unwrap_or_default();
    let is_missing = matches!(
        code,
        "NoSuchBucket" | "ContainerNotFound" | "ResourceNotFound" | "AccountNotFound"
    );
    match (answer.status, answer.detail) {
        (404, _) if is_missing => {
            let why = format!("there is no such {} ({answer})", words.place);
            refused(why, words.missing)
        }
        (404, _) => RequestError::NotFound,
        (400 | 401 | 403, Some(Detail::ClockSkew)) => {
            let why = format!("the clock of this host is wrong ({answer})");
            refused(why, CLOCK)
        }
        (400 | 401 | 403, Some(Detail::NotNow)) => {
            let why = format!("the credentials have expired or are not valid yet ({answer})");
            refused(why, EXPIRED)
        }
        (403 | 409 | 412, _) if is_protected(code) => {
            let why = format!("the object is protected ({answer})");
            refused(why, IMMUTABLE)
        }
        (409, _) if code == "BlobArchived" => {
            refused(format!("the object is archived ({answer})"), ARCHIVED)
        }
        // Another upload of the same object threw the blocks away.
        (400, _) if code == "InvalidBlockList" || code == "InvalidBlobOrBlock" => {
            RequestError::transient(Answer::new(400, Some(code), ""))
        }
        (403, _) if is_account_rule(code) => {
            let why = format!("the account does not serve this request ({answer})");
            refused(why, ACCOUNT)
        }
        (400 | 401 | 403, _) if is_credentials(answer.status, code) => {
            let why = format!("the credentials are not accepted ({answer})");
            refused(why, words.credentials)
        }
        (403, _) => {
            let why = format!("the credentials do not allow this ({answer})");
            refused(why, words.permission)
        }
        (507, _) => RequestError::NoSpace,
        (408 | 409 | 425 | 429 | 500.., _) => {
            RequestError::transient(Answer::new(answer.status, answer.code.as_deref(), ""))
        }
        _ => refused(answer.to_string(), UNKNOWN),
    }
}

fn is_protected(code: &str) -> bool {
    code.contains("Immutable")
        || code.contains("Retention")
        || code.contains("retention")
        || code.contains("Hold")
        || code == "LeaseIdMissing"
}

fn is_account_rule(code: &str) -> bool {
    matches!(
        code,
        "AuthorizationFailure" | "AuthorizationSourceIPMismatch" | "IpAuthorizationError"
    )
}

/// Whether the service does not know who asks, rather than not allowing it.
fn is_credentials(status: u16, code: &str) -> bool {
    status == 401
        || matches!(
            code,
            "AuthenticationFailed"
                | "InvalidAuthenticationInfo"
                | "NoAuthenticationInformation"
                | "KeyBasedAuthenticationNotPermitted"
                | "AccountIsDisabled"
                | "PublicAccessNotPermitted"
                | "InvalidSecurity"
                | "SignatureDoesNotMatch"
                | "invalid_grant"
                | "invalid_client"
                | "unauthorized_client"
        )
}

fn of_transport(text: &str) -> RequestError {
    let says = |part: &str| text.contains(part);
    if says("certificate expired") || says("NotValidYet") || says("certificate not valid yet") {
        let why = "the certificate of the server is not valid at this time";
        return refused(why, CLOCK);
    }
    if says("invalid peer certificate") || says("UnknownIssuer") || says("NotValidForName") {
        return refused("the certificate of the server is not trusted", TRUST);
    }
    let known = [
        (
            "dns error",
            "there is no such host, or names cannot be looked up",
        ),
        ("no answer within", "no answer in time"),
        ("timed out", "no answer in time"),
        ("refused", "the connection was refused"),
        ("reset", "the connection was cut"),
        ("closed", "the connection was cut"),
        ("end of file", "the connection was cut"),
        ("incomplete", "the connection was cut"),
    ];
    let found = known.iter().find(|(part, _)| says(part));
    RequestError::transient(NoAnswer(found.map_or("the connection failed", |one| one.1)))
}

/// The status inside an answer to a batch, which the crate gives as text.
fn batch_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("(code: ")?;
    rest.split_once(')')?.0.parse().ok()
}

/// A link of the chain by its type.
pub(super) fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        link = error.source();
    }
    None
}

fn refused(why: impl Into<String>, hint: &'static str) -> RequestError {
    RequestError::Refused {
        why: why.into(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpErrorKind;

    use super::*;

    fn classified(status: u16, code: &str, text: &str) -> RequestError {
        let header = Some(code).filter(|code| !code.is_empty());
        let http = HttpError::new(HttpErrorKind::Unknown, Answer::new(status, header, text));
        let error = StoreError::Generic {
            store: "test",
            source: Box::new(http),
        };
        classify(Service::Azure, &error)
    }

    #[test]
    fn each_refusal_has_a_sentence_and_a_hint() {
        for (status, code, text, part, wanted) in [
            (
                404,
                "ContainerNotFound",
                "",
                "no such container",
                AZURE.missing,
            ),
            (404, "NoSuchBucket", "", "no such", AZURE.missing),
            (401, "", "", "not accepted", AZURE.credentials),
            (
                403,
                "AuthenticationFailed",
                "",
                "not accepted",
                AZURE.credentials,
            ),
            (400, "invalid_grant", "", "not accepted", AZURE.credentials),
            (
                403,
                "AuthenticationFailed",
                "in the specified time frame",
                "expired",
                EXPIRED,
            ),
            (
                403,
                "AuthenticationFailed",
                "Request date header too old",
                "clock",
                CLOCK,
            ),
            (
                403,
                "AuthorizationPermissionMismatch",
                "",
                "do not allow",
                AZURE.permission,
            ),
            (403, "AccessDenied", "", "do not allow", AZURE.permission),
            (403, "AuthorizationFailure", "", "does not serve", ACCOUNT),
            (409, "BlobImmutableDueToPolicy", "", "protected", IMMUTABLE),
            (409, "BlobArchived", "", "archived", ARCHIVED),
            (
                400,
                "InvalidHeaderValue",
                "",
                "400 InvalidHeaderValue",
                UNKNOWN,
            ),
        ] {
            match classified(status, code, text) {
                RequestError::Refused { why, hint } => {
                    assert!(why.contains(part), "{status} {code}: {why}");
                    assert_eq!(hint, wanted, "{status} {code}");
                    assert!(hint.ends_with('.'), "{hint}");
                }
                other => panic!("{status} {code}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        for (status, code) in [
            (408, ""),
            (409, "OperationAborted"),
            (400, "InvalidBlockList"),
            (429, ""),
            (500, "InternalError"),
            (503, "ServerBusy"),
        ] {
            let error = classified(status, code, "");
            assert!(matches!(error, RequestError::Transient(_)), "{status}");
        }
        assert!(matches!(
            classified(404, "BlobNotFound", ""),
            RequestError::NotFound
        ));
        assert!(matches!(classified(404, "", ""), RequestError::NotFound));
    }

    #[test]
    fn the_status_inside_a_batch_is_found() {
        let text = "Bulk delete request failed for key a/b: Forbidden (code: 403)";
        assert_eq!(batch_status(text), Some(403));
        assert_eq!(batch_status("nothing of that"), None);
    }
}

//! Where a service answers when it is not the public one: its URL, whom to trust there, and plain HTTP.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use object_store::{Certificate, ClientOptions};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How the service is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL; none for the public service.
    pub url: Option<String>,
    /// Whether it may be reached without TLS from another host.
    pub allow_http: bool,
    /// Certificates of authorities to trust besides those of the system, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// Why the URL is none that may be used; `None` when it may.
    pub fn fault(&self) -> Option<&'static str> {
        let url = self.url.as_deref()?;
        let Some((scheme, rest)) = url.split_once("://") else {
            return Some("it is no URL: write https://HOST or https://HOST:PORT");
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || rest.contains(['?', '#', ' ']) || host.contains('@') {
            return Some("it is not the URL of a host: write https://HOST or https://HOST:PORT");
        }
        match scheme {
            "https" => None,
            "http" if self.allow_http || is_loopback(host) => None,
            "http" => Some("it is plain HTTP to another host"),
            _ => Some("it is neither https nor http"),
        }
    }

    /// The URL without a slash at its end.
    pub(in crate::storage) fn base(&self) -> Option<&str> {
        self.url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// What the crate's HTTP client is made with. The time of a request is limited in [`super::answers`].
    pub(in crate::storage) fn client_options(&self) -> io::Result<ClientOptions> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        if let Some(fault) = self.fault() {
            return Err(invalid(format!("the endpoint cannot be used: {fault}")));
        }
        let is_http = self
            .url
            .as_deref()
            .is_some_and(|url| url.starts_with("http://"));
        let mut options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout_disabled()
            .with_allow_http(is_http);
        if let Some(file) = &self.ca_file {
            let about = |why: String| invalid(format!("{}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|error| about(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| about("it holds no certificate in PEM".into()))?;
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_host() {
        let fault = |url: &str, allow_http| {
            Endpoint {
                url: Some(url.into()),
                allow_http,
                ca_file: None,
            }
            .fault()
        };
        for good in [
            "https://storage.example.org",
            "https://storage.example.org:8443/base/",
            "http://127.0.0.1:10000/devstoreaccount1",
            "http://localhost:4443",
            "http://[::1]:4443",
        ] {
            assert_eq!(fault(good, false), None, "{good}");
        }
        for bad in [
            "http://storage.example.org",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org:80",
            "http://10.0.0.1:80",
        ] {
            assert!(fault(bad, false).is_some(), "{bad}");
            assert_eq!(fault(bad, true), None, "{bad}");
        }
        for bad in [
            "storage.example.org",
            "https://",
            "https:///x",
            "ftp://127.0.0.1",
            "https://user@host",
            "https://host/?query",
        ] {
            assert!(fault(bad, true).is_some(), "{bad}");
        }
    }
}

//! One connection of HTTP/1.1: requests are read one by one, and some are answered here or lose their answer.
//!
//! Bodies pass as they come, by their length, by chunks, or until the end; nothing in them is understood.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::{HttpAnswer, Shared, pause};

/// The longest head of a request or an answer, in bytes.
const HEAD_MAX: u64 = 64 << 10;

/// Passes requests and answers until either side ends or a fault breaks the connection.
pub(super) fn pass(shared: &Shared, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(server));
    while let Some(mut request) = Head::read(&mut from_client)? {
        if request.takes("expect") {
            // Answered here, so that each request has one answer.
            (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        shared.wait_while_stalled();
        let faults = shared.faults();
        let all = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let method = request.first_word().to_owned();
        let counted = match faults.http.only_method {
            None => Some(all),
            Some(only) if only == method => {
                Some(shared.of_method.fetch_add(1, Ordering::SeqCst) + 1)
            }
            Some(_) => None,
        };
        let is_nth = |every: Option<u64>| {
            counted
                .zip(every)
                .is_some_and(|(n, every)| n % every.max(1) == 0)
        };

        if let Some((every, answer)) = faults.http.answer_every
            && is_nth(Some(every))
        {
            request.body().pass(&mut from_client, io::sink())?;
            shared.answered.fetch_add(1, Ordering::SeqCst);
            return answer.write(client);
        }
        pause(faults.delay_there);
        (&mut &*server).write_all(request.text.as_bytes())?;
        let there = request.body().pass(&mut from_client, server)?;
        shared.bytes_there.fetch_add(there, Ordering::SeqCst);

        let answer = loop {
            let answer = Head::read(&mut from_server)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !answer.is_interim() {
                break answer;
            }
        };
        if is_nth(faults.http.lose_every) || shared.breaks_by_chance(faults.drop_one_in) {
            shared.count_break();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        pause(faults.delay_back);
        (&mut &*client).write_all(answer.text.as_bytes())?;
        let body = answer.answer_body(&method);
        if is_nth(faults.http.cut_every)
            && let Body::Length(length @ 1..) = body
        {
            Body::Length(length / 2).pass(&mut from_server, client)?;
            shared.count_break();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let back = body.pass(&mut from_server, client)?;
        shared.bytes_back.fetch_add(back, Ordering::SeqCst);
        if matches!(body, Body::UntilTheEnd) {
            break;
        }
    }
    Ok(())
}

/// The first line and the fields, with the empty line.
struct Head {
    text: String,
}

impl Head {
    /// `None` where the connection ends before the first line.
    fn read(from: &mut BufReader<&TcpStream>) -> io::Result<Option<Self>> {
        let mut text = String::new();
        let mut from = from.take(HEAD_MAX);
        loop {
            let before = text.len();
            if from.read_line(&mut text)? == 0 {
                return match before {
                    0 => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            if text[before..].trim_end().is_empty() {
                return Ok(Some(Self { text }));
            }
        }
    }

    fn first_word(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Takes a field out; tells whether it was there.
    fn takes(&mut self, name: &str) -> bool {
        let is_it = |line: &str| {
            let name_of = line.split_once(':').map(|(found, _)| found);
            name_of.is_some_and(|found| found.eq_ignore_ascii_case(name))
        };
        let kept: String = self
            .text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(at, line)| *at == 0 || !is_it(line))
            .map(|(_, line)| line)
            .collect();
        let was_there = kept.len() < self.text.len();
        self.text = kept;
        was_there
    }

    fn status(&self) -> Option<u16> {
        self.text.split(' ').nth(1)?.trim().parse().ok()
    }

    fn is_interim(&self) -> bool {
        self.status().is_some_and(|status| status < 200)
    }

    /// What follows a request's head.
    fn body(&self) -> Body {
        self.announced().unwrap_or(Body::Length(0))
    }

    /// What follows the head of an answer to `method`.
    fn answer_body(&self, method: &str) -> Body {
        match self.status() {
            Some(204 | 304) => Body::Length(0),
            _ if method == "HEAD" => Body::Length(0),
            _ => self.announced().unwrap_or(Body::UntilTheEnd),
        }
    }

    fn announced(&self) -> Option<Body> {
        let coding = self.field("transfer-encoding");
        if coding.is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")) {
            return Some(Body::Chunks);
        }
        let length = self.field("content-length")?.parse().ok()?;
        Some(Body::Length(length))
    }
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Body {
    Length(u64),
    Chunks,
    UntilTheEnd,
}

impl Body {
    /// Passes it on as it is; tells how many bytes it had.
    fn pass(self, from: &mut BufReader<&TcpStream>, mut to: impl Write) -> io::Result<u64> {
        match self {
            Self::Length(length) => {
                let passed = io::copy(&mut from.take(length), &mut to)?;
                if passed < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(passed)
            }
            Self::UntilTheEnd => io::copy(from, &mut to),
            Self::Chunks => {
                let mut passed = 0;
                loop {
                    let mut line = String::new();
                    from.take(HEAD_MAX).read_line(&mut line)?;
                    to.write_all(line.as_bytes())?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let length = u64::from_str_radix(digits, 16)
                        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    if length == 0 {
                        break;
                    }
                    passed += io::copy(&mut from.take(length + 2), &mut to)?;
                }
                // Fields behind the last chunk, and the empty line.
                loop {
                    let mut line = String::new();
                    from.take(HEAD_MAX).read_line(&mut line)?;
                    to.write_all(line.as_bytes())?;
                    if line.trim_end().is_empty() {
                        return Ok(passed);
                    }
                }
            }
        }
    }
}

impl HttpAnswer {
    fn write(self, mut to: impl Write) -> io::Result<()> {
        let (status, code) = match self {
            Self::InternalError => ("500 Internal Server Error", "InternalError"),
            Self::SlowDown => ("503 Slow Down", "SlowDown"),
            Self::TooManyRequests => ("429 Too Many Requests", "TooManyRequests"),
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
        );
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        to.write_all(head.as_bytes())?;
        to.write_all(body.as_bytes())
    }
}

//! Each fault takes place, and nothing happens without one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use super::*;

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

/// A server that answers each request with the lengths of its bodies so far.
fn http() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_requests(&stream));
        }
    });
    address
}

fn answer_requests(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(text) = line.strip_prefix("Content-Length: ") {
                length = text.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        write!(
            &mut &*stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n{length:04}\r\n0\r\n\r\n"
        )?;
    }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("connects");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("sets");
    stream
}

/// Sends and reads back; how many bytes came.
fn there_and_back(proxy: &Proxy, length: usize) -> usize {
    let stream = connect(proxy);
    let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let done = (&stream).write_all(&sent);
            done.and_then(|()| stream.shutdown(std::net::Shutdown::Write))
        });
        let mut back = Vec::new();
        // A torn connection may end in an error; what came before counts.
        let _ = (&stream).read_to_end(&mut back);
        assert!(sent.starts_with(&back), "changed on its way");
        back.len()
    })
}

#[test]
fn bytes_pass_unchanged_and_are_counted() {
    let proxy = Proxy::start(echo()).expect("starts");
    assert_eq!(there_and_back(&proxy, 3 << 20), 3 << 20);
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.broken), (1, 0));
    assert_eq!((counts.bytes_there, counts.bytes_back), (3 << 20, 3 << 20));
}

#[test]
fn a_delay_delays_but_does_not_add_up() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults::round_trip(Duration::from_millis(400)));
    let begun = Instant::now();
    // 256 pieces: were they delayed one after the other, this would take 100 s.
    assert_eq!(there_and_back(&proxy, 8 << 20), 8 << 20);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_rate_is_not_exceeded() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults {
        bytes_per_second: Some(1 << 20),
        ..Faults::default()
    });
    let begun = Instant::now();
    assert_eq!(there_and_back(&proxy, 1 << 19), 1 << 19);
    assert!(begun.elapsed() >= Duration::from_millis(450));
}

#[test]
fn a_connection_is_torn_at_the_byte() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults {
        tear_after_bytes: Some(1_000_000),
        ..Faults::default()
    });
    let back = there_and_back(&proxy, 3 << 20);
    let counts = proxy.counts();
    assert!(counts.broken >= 1, "{counts:?}");
    assert!(
        counts.bytes_there + counts.bytes_back <= 1_000_000,
        "{counts:?}"
    );
    assert!(back < 1_000_000);
    proxy.set(Faults::default());
    assert_eq!(there_and_back(&proxy, 2_000_000), 2_000_000);
}

#[test]
fn connections_drop_by_chance() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults {
        drop_one_in: Some(3),
        ..Faults::default()
    });
    for _ in 0..20 {
        there_and_back(&proxy, 1 << 20);
    }
    assert!(proxy.counts().broken >= 10, "{:?}", proxy.counts());
}

#[test]
fn a_stall_holds_back_until_it_ends() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults {
        stall: true,
        ..Faults::default()
    });
    let mut stream = connect(&proxy);
    stream.write_all(b"hello").expect("is taken");
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("sets");
    stream.read(&mut [0; 8]).expect_err("no answer");
    proxy.set(Faults::default());
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("sets");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("comes now");
    assert_eq!(&back, b"hello");
}

#[test]
fn refused_connections_are_refused_by_the_system() {
    let proxy = Proxy::start(echo()).expect("starts");
    proxy.set(Faults {
        refuse: true,
        ..Faults::default()
    });
    let error = TcpStream::connect(proxy.address()).expect_err("nothing listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    proxy.set(Faults::default());
    assert_eq!(there_and_back(&proxy, 100), 100);
}

#[test]
fn open_connections_can_be_broken() {
    let proxy = Proxy::start(echo()).expect("starts");
    let mut stream = connect(&proxy);
    stream.write_all(b"x").expect("writes");
    stream.read_exact(&mut [0]).expect("reads");
    proxy.break_all();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

/// Status and body of the answer to a request with a body; `None` where the connection broke.
fn ask(stream: &TcpStream, method: &str, body: &str) -> Option<(u16, String)> {
    let length = body.len();
    write!(
        &mut &*stream,
        "{method} / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut text = String::new();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    assert!(
        line.is_empty() || line.starts_with("HTTP/1.1 100"),
        "{line}"
    );
    while !text.ends_with("0\r\n\r\n") && !text.ends_with("</Error>") {
        match reader.read_line(&mut text) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    let status = text.trim_start().split(' ').nth(1)?.parse().ok()?;
    Some((status, text))
}

#[test]
fn http_requests_pass_on_one_connection() {
    let proxy = Proxy::start_http(http()).expect("starts");
    let stream = connect(&proxy);
    for length in [0, 5, 300] {
        let (status, text) = ask(&stream, "PUT", &"b".repeat(length)).expect("answers");
        assert_eq!(status, 200);
        assert!(text.contains(&format!("{length:04}")), "{text}");
    }
    assert_eq!(proxy.counts().requests, 3);
    assert_eq!(proxy.counts().bytes_there, 305);
}

#[test]
fn each_nth_request_meets_its_fault() {
    let proxy = Proxy::start_http(http()).expect("starts");
    let answers = [
        (HttpAnswer::InternalError, 500),
        (HttpAnswer::SlowDown, 503),
        (HttpAnswer::TooManyRequests, 429),
    ];
    for (answer, wanted) in answers {
        proxy.set(Faults {
            http: HttpFaults {
                answer_every: Some((2, answer)),
                only_method: Some("PUT"),
                ..HttpFaults::default()
            },
            ..Faults::default()
        });
        let asked = |method| ask(&connect(&proxy), method, "body").expect("answers").0;
        assert_eq!(
            [asked("PUT"), asked("GET"), asked("PUT")],
            [200, 200, wanted]
        );
    }
    assert_eq!(proxy.counts().answered, 3);
    proxy.set(Faults {
        http: HttpFaults {
            lose_every: Some(1),
            ..HttpFaults::default()
        },
        ..Faults::default()
    });
    assert_eq!(ask(&connect(&proxy), "PUT", "body"), None);
    assert_eq!(proxy.counts().broken, 1);
}

#[test]
fn a_body_is_cut_in_half() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let proxy = Proxy::start_http(listener.local_addr().expect("an address")).expect("starts");
    proxy.set(Faults {
        http: HttpFaults {
            cut_every: Some(1),
            ..HttpFaults::default()
        },
        ..Faults::default()
    });
    let mut client = connect(&proxy);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("writes");
    let (mut server, _) = listener.accept().expect("a connection");
    server
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789")
        .expect("writes");
    let mut text = String::new();
    // The end may come as a reset.
    let _ = client.read_to_string(&mut text);
    assert!(text.ends_with("\r\n\r\n01234"), "{text}");
}

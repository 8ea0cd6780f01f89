//! A proxy on loopback that adds latency: `delay HOST:PORT MILLISECONDS [http]`, the round trip.
//!
//! It prints where it listens, and each line on its standard input is answered with the requests (connections, for
//! what is not HTTP) seen so far. It ends with its input.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use strongroom_testkit::proxy::{Faults, Proxy};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("say HOST:PORT MILLISECONDS [http]");
    let (target, milliseconds) = (next()?.parse()?, next()?.parse()?);
    let is_http = next().is_ok_and(|word| word == "http");
    let proxy = if is_http {
        Proxy::start_http(target)?
    } else {
        Proxy::start(target)?
    };
    proxy.set(Faults::round_trip(Duration::from_millis(milliseconds)));
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", proxy.address())?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let counts = proxy.counts();
        let seen = if is_http {
            counts.requests
        } else {
            counts.connections
        };
        writeln!(stdout, "{seen}")?;
    }
    Ok(())
}

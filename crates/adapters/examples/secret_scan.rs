//! How fast files are searched for secrets, and what is found: `secret_scan FILE...`.

use std::path::PathBuf;
use std::time::Instant;

use strongroom_adapters::secret_scan::Scanner;

/// How often each file is searched; the fastest counts.
const TURNS: usize = 5;

fn main() -> std::io::Result<()> {
    let mut scanner = Scanner::default();
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let bytes = std::fs::read(&path)?;
        let mut seconds = f64::INFINITY;
        let mut report = None;
        for _ in 0..TURNS {
            let begin = Instant::now();
            scanner.begin(path.file_name().unwrap_or_default().as_encoded_bytes());
            bytes
                .chunks(256 << 10)
                .for_each(|block| scanner.write(block));
            report = Some(scanner.finish());
            seconds = seconds.min(begin.elapsed().as_secs_f64());
        }
        let megabytes = u32::try_from(bytes.len() >> 10).map_or(f64::NAN, f64::from) * 1.024e-3;
        println!("{}: {:.0} MB/s", path.display(), megabytes / seconds);
        for found in report.iter().flat_map(|report| &report.found) {
            println!(
                "  {} in line {:?} [{}]",
                found.rule.finds, found.line, found.rule.id
            );
        }
    }
    Ok(())
}

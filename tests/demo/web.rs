//! The Service's pods: web servers that say who they are.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_tests::netns::Netns;

/// Answers at port 80 of `netns` until the process ends. `/clock` never ends: one line each second.
///
/// # Errors
/// If it cannot listen.
pub fn serve(netns: &Netns) -> Result<()> {
    let listener = netns
        .run(|| Ok(TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 80)))?))
        .with_context(|| format!("listening in {}", netns.name()))?;
    let name = netns.name().to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            // A client that goes away is no matter.
            std::thread::spawn(move || answer(stream, &name));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")?;
    if !request.starts_with("GET /clock ") {
        return stream.write_all(format!("Hello from {name}. You are {peer} to me.\n").as_bytes());
    }
    for tick in 1_u64.. {
        stream.write_all(format!("{name} has counted to {tick}\n").as_bytes())?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

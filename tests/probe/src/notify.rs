//! The commands that say something at `NOTIFY_SOCKET`, as sd_notify(3) has it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::{Outcome, failed, say, sys};

/// One datagram with these lines.
pub fn lines(lines: &[String]) -> Outcome {
    send(&lines.join("\n"))?;
    say("notify ok");
    Ok(())
}

/// Prints `barrier ok` when everything before it was read.
pub fn barrier() -> Outcome {
    let error = |error: std::io::Error| failed("barrier", "", &error);
    let (mut reader, writer) = std::io::pipe().map_err(error)?;
    let socket = UnixDatagram::unbound().map_err(error)?;
    sys::send_with(&socket, &place(), b"BARRIER=1", writer.as_raw_fd()).map_err(error)?;
    drop(writer);
    reader.read_to_end(&mut Vec::new()).map_err(error)?;
    say("barrier ok");
    Ok(())
}

/// Has a pipe with this text in it kept under this name.
pub fn store(name: &str, text: &str) -> Outcome {
    let error = |error: std::io::Error| failed("store", name, &error);
    let (reader, mut writer) = std::io::pipe().map_err(error)?;
    writer.write_all(text.as_bytes()).map_err(error)?;
    let socket = UnixDatagram::unbound().map_err(error)?;
    // A reader whose writer is gone would be taken for one at its end.
    let lines = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
    sys::send_with(&socket, &place(), lines.as_bytes(), reader.as_raw_fd()).map_err(error)?;
    drop(writer);
    say(&format!("store {name} ok"));
    Ok(())
}

/// Says something with the only descriptor of a connection whose last close would wait for ten minutes (socket(7), SO_LINGER):
/// its peer reads nothing of what was sent.
pub fn lingering() -> Outcome {
    let error = |error: std::io::Error| failed("lingering", "", &error);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(error)?;
    let mut connection = TcpStream::connect(listener.local_addr().map_err(error)?).map_err(error)?;
    let peer = listener.accept().map_err(error)?;
    connection.set_nonblocking(true).map_err(error)?;
    while connection.write(&[0; 65536]).is_ok() {}
    sys::linger(&connection, 600).map_err(error)?;
    // As many as are taken at a time, so that this close is not the last.
    flood(64)?;
    let socket = UnixDatagram::unbound().map_err(error)?;
    sys::send_with(&socket, &place(), b"X=1", connection.as_raw_fd()).map_err(error)?;
    // If it is, that is nobody's but the thread's to wait for.
    std::thread::spawn(move || drop(connection));
    say("lingering ok");
    // The peer would answer for the connection when it is closed.
    std::mem::forget(peer);
    Ok(())
}

/// Prints the name of each descriptor that was passed, and the text in it.
pub fn stored() -> Outcome {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        say("stored nothing");
        return Ok(());
    }
    for (name, number) in variable("LISTEN_FDNAMES").split(':').zip(3..) {
        let text = std::fs::read_to_string(format!("/proc/self/fd/{number}"));
        say(&format!("stored {name} {}", text.unwrap_or_else(|e| e.to_string())));
    }
    Ok(())
}

/// So many statuses as fast as they are taken; 0: without an end.
pub fn flood(count: u64) -> Outcome {
    for number in (0_u64..).take_while(|number| count == 0 || *number < count) {
        send(&format!("STATUS={number}"))?;
        if number == 1000 {
            say("flooding");
        }
    }
    Ok(())
}

/// `WATCHDOG=1` so many times with so many milliseconds between.
pub fn beat(pause_ms: u64, times: u64) -> Outcome {
    for _ in 0..times {
        send("WATCHDOG=1")?;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    say("silent");
    Ok(())
}

fn place() -> String {
    std::env::var("NOTIFY_SOCKET").unwrap_or_default()
}

fn send(text: &str) -> Outcome {
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(text.as_bytes(), place()));
    sent.map(drop).map_err(|error| failed("notify", &place(), &error))
}

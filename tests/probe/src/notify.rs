//! The commands that say something at `NOTIFY_SOCKET`, as sd_notify(3) has it.

use std::io::Read;
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

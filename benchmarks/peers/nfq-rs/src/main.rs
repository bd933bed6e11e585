// SPDX-License-Identifier: GPL-2.0-or-later
//! Rust's nfq, used as its documentation does. The arguments are those of common.h.

use nfq::{Queue, Verdict};
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;

const QUEUE: u16 = 1;
const MAXLEN: u32 = 1 << 20;
const RECEIVE_BUFFER: libc::c_int = 1 << 29;

/// A queue in whose receive buffer nothing is lost. It does not tell its descriptor, whose number is
/// the lowest that is free.
fn open() -> Result<Queue> {
    let lowest = File::open("/dev/null")?.as_raw_fd();
    let queue = Queue::open()?;
    let size = RECEIVE_BUFFER;
    let status = unsafe {
        libc::setsockopt(
            lowest,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    if status < 0 {
        return Err(Error::last_os_error());
    }
    Ok(queue)
}

fn main() -> Result<()> {
    let verdict = match std::env::args().nth(1).as_deref() {
        Some("accept") => Verdict::Accept,
        Some("drop") => Verdict::Drop,
        _ => panic!("usage: nfq-rs accept|drop"),
    };
    let mut queue = open()?;
    queue.bind(QUEUE)?;
    queue.set_queue_max_len(QUEUE, MAXLEN)?;
    println!("ready");
    loop {
        let mut message = queue.recv()?;
        message.set_verdict(verdict);
        queue.verdict(message)?;
    }
}

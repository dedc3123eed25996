//! An event loop: TCP clients and an echo server on loopback that answers after a timer.
//!
//! The report must show the runtime's threads in `poll` (epoll: on sockets and timers), hardly on
//! the CPU, and the process as an event loop. No thread waits for a socket as such: tasks do.
//!
//! Options: --clients 8  --requests 100 (per client)  --delay-ms 10  --workers 2
mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use support::{Args, now_ns, truth};
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tracing::Instrument as _;

fn main() -> io::Result<()> {
    let mut args = Args::parse(include_str!("async_io.rs"));
    let clients = args.number("clients", 8);
    let requests = args.number("requests", 100);
    let delay = Duration::from_millis(args.number("delay-ms", 10));
    let workers = args.number("workers", 2).max(1) as usize;
    args.finish();
    timesink_probe::init();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("tokio-worker")
        .enable_all()
        .build()?;
    let start = now_ns();
    let (latency, answered) = runtime.block_on(run(clients, requests, delay))?;
    let wall = now_ns() - start;
    truth(&[("latency_ns", latency), ("requests", answered), ("wall_ns", wall)]);
    Ok(())
}

/// Sum of the latencies, ns, and the number of answers.
async fn run(clients: u64, requests: u64, delay: Duration) -> io::Result<(u64, u64)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(accept(listener, delay));
    let clients: Vec<_> = (0..clients)
        .map(|i| {
            let span = tracing::info_span!("client", i);
            tokio::spawn(client(address, requests).instrument(span))
        })
        .collect();
    let (mut latency, mut answered) = (0, 0);
    for client in clients {
        let times = client.await.map_err(io::Error::other)??;
        latency += times.iter().sum::<u64>();
        answered += times.len() as u64;
    }
    server.abort();
    Ok((latency, answered))
}

async fn accept(listener: TcpListener, delay: Duration) {
    // Each connection ends with its client.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream, delay).instrument(tracing::info_span!("echo")));
    }
}

async fn echo(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    let mut message = [0; 8];
    loop {
        stream.read_exact(&mut message).await?;
        tokio::time::sleep(delay).await;
        stream.write_all(&message).await?;
    }
}

async fn client(address: SocketAddr, requests: u64) -> io::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for request in 0..requests {
        let start = now_ns();
        stream.write_all(&request.to_ne_bytes()).await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, request.to_ne_bytes(), "an echo");
        times.push(now_ns() - start);
    }
    Ok(times)
}

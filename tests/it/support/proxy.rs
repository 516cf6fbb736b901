//! A faulty network.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::free_port;

#[derive(Clone, Copy, Default)]
struct Weather {
    /// Bytes are held back, connections stay open.
    black_hole: bool,
    /// Each piece of a stream waits this long.
    latency: Duration,
    /// Connections of an earlier era are closed.
    era: u64,
    /// New connections are closed at once.
    refuses: bool,
}

/// A TCP proxy on a port of its own before a local server. It passes everything on until told otherwise.
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let weather = watch::Sender::new(Weather::default());
        let forecast = Arc::new(weather.subscribe());
        let serving = tokio::spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let forecast = forecast.as_ref().clone();
                let weather = *forecast.borrow();
                if !weather.refuses {
                    pipes.spawn(connect(near, target, forecast, weather.era));
                }
                while pipes.try_join_next().is_some() {}
            }
        });
        Self { port, weather, serving }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything passes again, at full speed.
    pub fn pass(&self) {
        self.weather.send_modify(|weather| *weather = Weather { era: weather.era, ..Weather::default() });
    }

    /// Closes every connection; new ones are welcome.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.era += 1);
    }

    /// Closes every connection, new ones too, until `pass`.
    pub fn refuse(&self) {
        self.weather.send_modify(|weather| (weather.era, weather.refuses) = (weather.era + 1, true));
    }

    /// Holds back every byte while the connections stay open, until `pass`.
    pub fn black_hole(&self) {
        self.weather.send_modify(|weather| weather.black_hole = true);
    }

    /// Delays every piece of either stream. Pieces wait one after the other, so this slows a busy stream down as well.
    pub fn delay(&self, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency = latency);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn connect(near: TcpStream, target: u16, mut weather: watch::Receiver<Weather>, era: u64) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_read, far_write, weather.clone()) => {}
        () = pump(far_read, near_write, weather.clone()) => {}
        _ = weather.wait_for(|weather| weather.era != era) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length) = from.read(&mut piece).await {
        let latency = weather.borrow().latency;
        if length == 0 || weather.wait_for(|weather| !weather.black_hole).await.is_err() {
            return;
        }
        sleep(latency).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

//! A faulty network.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{free_port, listen};

/// How many pieces of a stream may be on their way at once.
const UNDERWAY: usize = 64;

/// What happens to the bytes that go one way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Each piece arrives so much later. Pieces travel beside each other, in order.
    pub latency: Duration,
    /// And up to so much later again, each by another draw.
    pub jitter: Duration,
    /// No more than so many bytes a second get through.
    pub bytes_per_second: Option<u32>,
    /// What becomes of bytes that do not get through at all.
    pub hole: Option<Hole>,
}

/// Connections stay open, and nothing comes out at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// Bytes wait, and arrive when the network is well again.
    Holds,
    /// Bytes are gone, and a connection that lost some never says anything more: it is half open.
    Swallows,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
    Both,
}

#[derive(Clone, Copy, Default)]
struct Weather {
    to_server: Flow,
    to_client: Flow,
    /// Connections of an earlier era are closed.
    era: u64,
    /// They are reset rather than closed.
    resets: bool,
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
        let listener = listen(port).await;
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
        self.weather.send_modify(|weather| (weather.era, weather.resets) = (weather.era + 1, false));
    }

    /// Resets every connection, on both sides; new ones are welcome.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| (weather.era, weather.resets) = (weather.era + 1, true));
    }

    /// Closes every connection, new ones too, until `pass`.
    pub fn refuse(&self) {
        self.weather.send_modify(|weather| (weather.era, weather.refuses) = (weather.era + 1, true));
    }

    /// Holds back every byte while the connections stay open, until `pass`.
    pub fn black_hole(&self) {
        self.flow(Way::Both, Flow { hole: Some(Hole::Holds), ..Flow::default() });
    }

    /// Delays every piece of either stream.
    pub fn delay(&self, latency: Duration) {
        self.flow(Way::Both, Flow { latency, ..Flow::default() });
    }

    /// Says how bytes go one way, or both, until `pass`.
    pub fn flow(&self, way: Way, flow: Flow) {
        self.weather.send_modify(|weather| {
            if way != Way::ToClient {
                weather.to_server = flow;
            }
            if way != Way::ToServer {
                weather.to_client = flow;
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn connect(mut near: TcpStream, target: u16, mut weather: watch::Receiver<Weather>, era: u64) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
    let cut = tokio::select! {
        () = pump(near_read, far_write, weather.clone(), |weather| weather.to_server) => false,
        () = pump(far_read, near_write, weather.clone(), |weather| weather.to_client) => false,
        _ = weather.wait_for(|weather| weather.era != era) => true,
    };
    if cut && weather.borrow().resets {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    way: fn(&Weather) -> Flow,
) {
    let (departed, mut arriving) = mpsc::channel(UNDERWAY);
    let departs = weather.clone();
    let reads = async move {
        let (mut piece, mut due, mut half_open) = (vec![0; 64 * 1024], Instant::now(), false);
        while let Ok(length) = from.read(&mut piece).await {
            let flow = way(&departs.borrow());
            half_open |= flow.hole == Some(Hole::Swallows);
            if half_open && length > 0 {
                continue;
            }
            due = due.max(Instant::now() + flow.latency + flow.jitter.mul_f64(rand::random()));
            if length == 0 || departed.send((due, piece[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writes = async move {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            let Ok(flow) = weather
                .wait_for(|weather| way(weather).hole != Some(Hole::Holds))
                .await
                .map(|weather| way(&weather))
            else {
                return;
            };
            if let Some(rate) = flow.bytes_per_second {
                sleep(Duration::from_secs(1) * u32::try_from(piece.len()).unwrap() / rate).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(writes);
    tokio::select! {
        () = reads => writes.await,
        () = &mut writes => {}
    }
}

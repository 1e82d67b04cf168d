//! Real nats-servers for tests: one, or three that keep everything three times.
//!
//! The program is `TRACKSIDE_NATS_SERVER`, the one in the repository's virtual environment, or the one on the path. Without
//! any, tests are skipped by name; under `CI=true` that is a failure.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where the program is.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("TRACKSIDE_NATS_SERVER").map(PathBuf::from);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.into_iter().chain([ours]).chain(std::env::split_paths(&path).map(|dir| dir.join("nats-server")));
    let found = found.into_iter().find(|path| path.is_file());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "nats-server is missing: `make venv dev` installs it");
    found
}

struct Node {
    process: Option<Child>,
    config: PathBuf,
    port: u16,
}

/// Servers with their files, which go with them.
pub(crate) struct Servers {
    nodes: Vec<Node>,
    program: PathBuf,
    monitor: u16,
    _files: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Servers {
    /// None where there is no program. `sync_always`: a message is on the disk before it is acknowledged.
    pub(crate) fn start(count: usize, sync_always: bool) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: nats-server is not installed");
            return None;
        };
        let files = tempfile::tempdir().unwrap();
        let routes: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let urls: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let monitor = free_port();
        let mut nodes = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            let (port, config) = (free_port(), files.path().join(format!("{number}.conf")));
            let mut text = format!(
                "listen: 127.0.0.1:{port}\nserver_name: n{number}\njetstream {{ store_dir: \"{}/{number}\"{} }}\n",
                files.path().display(),
                if sync_always { ", sync_interval: always" } else { "" }
            );
            if number == 0 {
                text += &format!("http: 127.0.0.1:{monitor}\n");
            }
            if count > 1 {
                text += &format!("cluster {{ name: test, listen: 127.0.0.1:{route}, routes: {urls:?} }}\n");
            }
            std::fs::write(&config, text).unwrap();
            nodes.push(Node { process: None, config, port });
        }
        let mut servers = Self { nodes, program, monitor, _files: files };
        (0..count).for_each(|number| servers.resume(number));
        Some(servers)
    }

    /// Addresses of all of them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.port)).collect()
    }

    /// The first one's monitoring page.
    pub(crate) fn monitor(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.nodes[number].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts one again, and waits until it takes connections.
    pub(crate) fn resume(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&node.config).stdout(Stdio::null()).stderr(Stdio::null());
        node.process = Some(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", node.port)).is_err() {
            assert!(Instant::now() < until, "nats-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|number| self.kill(number));
    }
}

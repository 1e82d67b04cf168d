//! Against a real Mosquitto: each QoS in both versions, lost connections, refusals, and what comes while nobody is there.

use crate::sources::{build, plant, spawn};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use trackside_connectors::testing::{MemoryDoor, layout, rows};
use trackside_core::position::Resume;
use trackside_core::schema::Layout;
use trackside_core::source::{Ack, Delivery, Door, Outcome, Refused, SourceState};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker of our own.
struct Broker {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

/// Where a program is; none where Mosquitto is not installed, which is said by name and is a failure in CI.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "`{name}` is missing; install mosquitto");
        eprintln!("skipped: `{name}` is missing; install the packages mosquitto, mosquitto-clients and openssl");
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Broker {
    fn start(more: &str) -> Option<Self> {
        let (mosquitto, folder, port) = (program("mosquitto")?, tempfile::tempdir().unwrap(), free_port());
        program("mosquitto_pub")?;
        let file = folder.path().join("mosquitto.conf");
        let settings = format!("listener {port} 127.0.0.1\nmax_queued_messages 0\nmax_inflight_messages 0\n{more}\n");
        std::fs::write(&file, settings).unwrap();
        let child =
            Command::new(mosquitto).arg("-c").arg(&file).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let broker = Self { child, port, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "mosquitto does not start");
            std::thread::yield_now();
        }
        Some(broker)
    }

    /// Publishes each text as a message by a foreign client.
    fn publish(&self, topic: &str, options: &[&str], texts: &[String]) {
        let mut client = Command::new(program("mosquitto_pub").unwrap())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-l"])
            .args(options)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = client.stdin.take().unwrap();
        texts.iter().for_each(|text| writeln!(input, "{text}").unwrap());
        drop(input);
        assert!(client.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn block(port: u16, client: &str, more: Value) -> Value {
    let mut block = json!({
        "broker": format!("mqtt://127.0.0.1:{port}"),
        "topics": ["plant/+/+"],
        "pattern": "plant/{device}/{sensor}",
        "client_id": client,
    });
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    block
}

/// Messages `from..to`, each with its number.
fn messages(from: u64, to: u64) -> Vec<String> {
    (from..to).map(|k| json!({"seq": k, "value": 1.5}).to_string()).collect()
}

/// How often each number has come.
fn counts(rows: &[Value]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row["seq"].as_u64().unwrap()).or_default() += 1);
    counts
}

fn each_once(rows: &[Value], from: u64, to: u64) {
    assert_eq!(counts(rows), (from..to).map(|k| (k, 1)).collect());
}

fn wait_for_running(door: &MemoryDoor) {
    door.wait_until("the subscription", |seen| seen.states.contains(&(SourceState::Running, None)));
}

#[test]
fn every_qos_of_both_versions_arrives_with_its_tags() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    for version in ["3.1.1", "5"] {
        for qos in 0..3 {
            let name = format!("v{version}-{qos}");
            let layout = plant();
            let source = build(
                "mqtt",
                block(broker.port, &name, json!({"version": version, "qos": qos})),
                &layout,
                Path::new("."),
            )
            .unwrap();
            let door = MemoryDoor::new(layout);
            let running = spawn(source, &door);
            wait_for_running(&door);
            let wire = if version == "5" { "mqttv5" } else { "mqttv311" };
            broker.publish("plant/p1/temp", &["-q", &qos.to_string(), "-V", wire], &messages(0, 500));
            broker.publish("plant/p1/temp", &["-q", &qos.to_string()], &["not json".to_string()]);
            door.wait_until("all messages", |seen| seen.rows.len() >= 500 && !seen.dead.is_empty());
            door.stop();
            running.join().unwrap().unwrap();
            let seen = door.take();
            each_once(&seen.rows, 0, 500);
            assert!(seen.rows.iter().all(|row| row["device"] == "p1" && row["sensor"] == "temp"));
            assert_eq!(seen.dead.len(), 1, "{name}");
            assert!(seen.dead[0].detail.as_ref().unwrap().contains("plant/p1/temp"));
            assert!(seen.deliveries < 500, "{name}: one delivery a message");
        }
    }
}

#[test]
fn an_event_id_and_bare_values_are_taken() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    let layout = layout(json!({"series": ["device"], "fields": {"value": "float"}, "event_id": "id"}));
    let options = json!({"version": "5", "format": "value", "pattern": "plant/{device}/+"});
    let source = build("mqtt", block(broker.port, "values", options), &layout, Path::new(".")).unwrap();
    let door = MemoryDoor::new(layout);
    let running = spawn(source, &door);
    wait_for_running(&door);
    let property = ["-V", "mqttv5", "-q", "1", "-D", "publish", "user-property", "event-id", "e-7"];
    broker.publish("plant/p1/temp", &property, &["21.5".to_string()]);
    door.wait_until("the value", |seen| !seen.rows.is_empty());
    door.stop();
    running.join().unwrap().unwrap();
    let row = door.take().rows.remove(0);
    assert_eq!((&row["value"], &row["device"], &row["event_id"]), (&json!(21.5), &json!("p1"), &json!("e-7/1")));
}

#[test]
fn what_is_not_durable_comes_again_and_what_comes_while_nobody_is_there_waits() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    for (version, qos) in [("3.1.1", 1), ("3.1.1", 2), ("5", 1), ("5", 2)] {
        let layout = plant();
        let start = |door: &Arc<MemoryDoor>| {
            let block = block(broker.port, &format!("again-{version}-{qos}"), json!({"version": version, "qos": qos}));
            spawn(build("mqtt", block, &plant(), Path::new(".")).unwrap(), door)
        };
        // A first process that never gets anything to the disk.
        let door = MemoryDoor::new(layout.clone());
        door.set_outcome(Outcome::Unknown("the disk is gone".into()));
        let running = start(&door);
        wait_for_running(&door);
        let options = ["-q", &qos.to_string()];
        broker.publish("plant/p1/temp", &options, &messages(0, 20));
        door.wait_until("messages", |seen| seen.rows.len() >= 5);
        door.wait_until("the loss to be told", |seen| {
            seen.states.iter().any(|(_, detail)| detail.as_ref().is_some_and(|text| text.contains("the disk is gone")))
        });
        door.stop();
        running.join().unwrap().unwrap();
        // Nobody is there.
        broker.publish("plant/p1/temp", &options, &messages(20, 50));
        // A second process gets all of it, once.
        let door = MemoryDoor::new(layout);
        let running = start(&door);
        door.wait_until("all messages", |seen| seen.rows.len() >= 50);
        broker.publish("plant/p1/temp", &options, &messages(50, 60));
        door.wait_until("the newest", |seen| seen.rows.len() >= 60);
        door.stop();
        running.join().unwrap().unwrap();
        each_once(&door.take().rows, 0, 60);
    }
}

#[test]
fn a_door_without_room_slows_the_broker_and_loses_nothing() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    let layout = plant();
    let block = block(broker.port, "slow", json!({"max_inflight": 10, "version": "5", "keep_alive": "2s"}));
    let source = build("mqtt", block, &layout, Path::new(".")).unwrap();
    let door = MemoryDoor::new(layout);
    let running = spawn(source, &door);
    wait_for_running(&door);
    door.refuse_next(Refused::Full { reason: "the disk".into(), retry_after: Duration::from_secs(4) });
    broker.publish("plant/p1/temp", &["-q", "1"], &messages(0, 300));
    door.wait_until("the refusal to be told", |seen| {
        seen.states.iter().any(|(state, detail)| {
            *state == SourceState::BackingOff && detail.as_ref().is_some_and(|text| text.contains("no room: the disk"))
        })
    });
    door.wait_until("all messages", |seen| seen.rows.len() >= 300);
    door.stop();
    running.join().unwrap().unwrap();
    let seen = door.take();
    each_once(&seen.rows, 0, 300);
    let lost = seen.states.iter().filter(|(_, detail)| detail.as_ref().is_some_and(|text| text.contains("next try")));
    assert_eq!(lost.count(), 0, "the connection outlives a refusal that is longer than its keep-alive");
}

#[test]
fn refusals_and_a_missing_broker_are_told_in_words() {
    let Some(broker) = Broker::start("allow_anonymous false") else { return };
    for (version, port, words) in [
        ("3.1.1", broker.port, "not authorised; check `username`"),
        ("5", broker.port, "not authorised; check `username`"),
        ("5", free_port(), "cannot connect"),
    ] {
        let layout = plant();
        let source = build("mqtt", block(port, "no", json!({"version": version})), &layout, Path::new(".")).unwrap();
        let door = MemoryDoor::new(layout);
        let running = spawn(source, &door);
        door.wait_until(words, |seen| {
            seen.states.iter().any(|(state, detail)| {
                *state == SourceState::BackingOff && detail.as_ref().is_some_and(|text| text.contains(words))
            })
        });
        door.stop();
        running.join().unwrap().unwrap();
    }
}

/// An authority of our own and, signed by it, a certificate for 127.0.0.1, in a folder; none where there is no openssl.
fn certificates() -> Option<tempfile::TempDir> {
    let (openssl, folder) = (program("openssl")?, tempfile::tempdir().unwrap());
    let make = |arguments: &str| {
        let words = arguments.split(' ').chain("-newkey rsa:2048 -nodes -days 2".split(' '));
        let made = Command::new(&openssl).args(["req", "-x509"]).args(words).current_dir(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("-subj /CN=plant -keyout ca.key -out ca.pem");
    make("-subj /CN=other -keyout other.key -out other.pem");
    make(
        "-subj /CN=broker -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE",
    );
    Some(folder)
}

#[test]
fn an_encrypted_broker_is_trusted_by_its_authority_and_by_no_other() {
    let Some(folder) = certificates() else { return };
    let place = folder.path().display();
    // As root it would change to a user who may not read the key.
    let tls = format!(
        "allow_anonymous true\nuser root\nrequire_certificate false\ncafile {place}/ca.pem\n\
         certfile {place}/cert.pem\nkeyfile {place}/key.pem"
    );
    let Some(broker) = Broker::start(&tls) else { return };
    let ca = folder.path().join("ca.pem");
    let start = |ca: &str| {
        let more = json!({"broker": format!("mqtts://127.0.0.1:{}", broker.port), "ca": ca});
        let door = MemoryDoor::new(plant());
        let block = block(broker.port, "safe", more);
        (door.clone(), spawn(build("mqtt", block, &plant(), folder.path()).unwrap(), &door))
    };
    let (door, running) = start("ca.pem");
    wait_for_running(&door);
    broker.publish("plant/p1/temp", &["-q", "1", "--cafile", &ca.display().to_string()], &messages(0, 100));
    door.wait_until("all messages", |seen| seen.rows.len() >= 100);
    door.stop();
    running.join().unwrap().unwrap();
    each_once(&door.take().rows, 0, 100);
    let (door, running) = start("other.pem");
    door.wait_until("the refusal", |seen| {
        seen.states.iter().any(|(state, detail)| {
            *state == SourceState::BackingOff && detail.as_ref().is_some_and(|text| text.contains("certificate"))
        })
    });
    door.stop();
    running.join().unwrap().unwrap();
    assert!(door.take().rows.is_empty());
}

/// A wire between source and broker that can be cut.
struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn new(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), open: Arc::default() };
        let open = proxy.open.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", broker)).unwrap());
                open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            }
        });
        proxy
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // It may be gone already.
            _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A door whose disk is as slow as the test wants.
struct SlowDoor {
    memory: Arc<MemoryDoor>,
    held: Mutex<Vec<Ack>>,
    changed: Condvar,
    seen: Mutex<Vec<Value>>,
}

impl SlowDoor {
    fn new(layout: Arc<Layout>) -> Arc<Self> {
        let memory = MemoryDoor::new(layout);
        Arc::new(Self { memory, held: Mutex::default(), changed: Condvar::new(), seen: Mutex::default() })
    }

    /// Waits until that many messages have come and none of them is durable.
    fn wait_for(&self, count: usize) {
        let seen = self.seen.lock().unwrap();
        let waited = self.changed.wait_timeout_while(seen, PATIENCE, |seen| seen.len() < count).unwrap();
        assert!(!waited.1.timed_out(), "{} of {count} messages came", waited.0.len());
    }

    fn sync(&self) {
        std::mem::take(&mut *self.held.lock().unwrap()).into_iter().for_each(|ack| ack(Outcome::Durable));
    }
}

impl Door for SlowDoor {
    fn layout(&self) -> &Arc<Layout> {
        self.memory.layout()
    }

    fn deliver(&self, delivery: Delivery) -> Result<(), Refused> {
        self.held.lock().unwrap().extend(delivery.ack);
        self.seen.lock().unwrap().extend(delivery.rows.iter().flat_map(rows));
        self.changed.notify_all();
        Ok(())
    }

    fn wait_for_room(&self) -> bool {
        true
    }

    fn resume(&self) -> Resume {
        Resume::default()
    }

    fn refuse(&self, _: u64) {}

    fn stopping(&self) -> bool {
        self.memory.stopping()
    }

    fn wait_stop(&self, timeout: Duration) -> bool {
        self.memory.wait_stop(timeout)
    }

    fn state(&self, state: SourceState, detail: Option<String>) {
        self.memory.state(state, detail);
    }

    fn now(&self) -> i64 {
        self.memory.now()
    }
}

/// Cuts the wire for the n-th time and waits until the source has seen it. (A PUBACK that is on its way at that moment
/// may be lost, and its message then comes twice: that is what at least once means.)
fn cut(proxy: &Proxy, door: &SlowDoor, n: usize) {
    proxy.cut();
    door.memory.wait_until("the loss", |seen| {
        seen.states.iter().filter(|(state, _)| *state == SourceState::BackingOff).count() >= n
    });
}

#[test]
fn a_lost_connection_costs_and_doubles_nothing_while_the_process_lives() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    for (version, qos) in [("3.1.1", 1), ("3.1.1", 2), ("5", 1), ("5", 2)] {
        let (layout, proxy) = (plant(), Proxy::new(broker.port));
        let options = json!({"version": version, "qos": qos});
        let block = block(proxy.port, &format!("cut-{version}-{qos}"), options);
        let mut source = build("mqtt", block, &layout, Path::new(".")).unwrap();
        let door = SlowDoor::new(layout);
        let running = std::thread::spawn({
            let door = door.clone();
            move || source.run(door)
        });
        wait_for_running(&door.memory);
        let publish = |from, to| broker.publish("plant/p1/temp", &["-q", &qos.to_string()], &messages(from, to));
        publish(0, 30);
        door.wait_for(30);
        // Before the disk has answered: the broker will send all 30 again.
        cut(&proxy, &door, 1);
        publish(30, 60);
        door.wait_for(60);
        door.sync();
        publish(60, 90);
        door.wait_for(90);
        cut(&proxy, &door, 2);
        // The disk answers while nobody can be told.
        door.sync();
        publish(90, 100);
        door.wait_for(100);
        door.sync();
        door.memory.stop();
        running.join().unwrap().unwrap();
        each_once(&door.seen.lock().unwrap(), 0, 100);
    }
}

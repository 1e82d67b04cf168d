//! Requests arrive with their key, again until they are answered, and the same after a crash.

use crate::support::{batch, context, rows};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use trackside_connectors::sinks::files::Files;
use trackside_connectors::sinks::webhook::{Config, Webhook};
use trackside_core::error::Action;
use trackside_core::position::Position;
use trackside_core::sink::{Sink, SinkRows};

const SECOND: i64 = 1_000_000_000;

/// A receiver that answers as it is told and notes what it got.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    /// Answers with these codes, then with 200.
    fn new(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            got: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        };
        let (got, answers) = (receiver.got.clone(), receiver.answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (got, answers) = (got.clone(), answers.clone());
                std::thread::spawn(move || while serve(stream.as_ref().unwrap(), &got, &answers).is_some() {});
            }
        });
        receiver
    }

    /// Key and offsets of each request.
    fn requests(&self) -> Vec<(String, Vec<u64>)> {
        let offsets = |body: &Value| -> Vec<u64> {
            body["rows"].as_array().unwrap().iter().map(|row| row["_offset"].as_u64().unwrap()).collect()
        };
        self.got.lock().unwrap().iter().map(|(key, body)| (key.clone(), offsets(body))).collect()
    }

    fn sink(&self, data: &Path, mut options: Value) -> Webhook {
        options["url"] = self.url.clone().into();
        let config: Config = serde_json::from_value(options).unwrap();
        Webhook::new(config, &context(data, "clean", "clean"), Files::default()).unwrap()
    }
}

fn serve(stream: &TcpStream, got: &Mutex<Vec<(String, Value)>>, answers: &Mutex<VecDeque<u16>>) -> Option<()> {
    let (mut reader, mut length, mut key, mut token) = (BufReader::new(stream), 0, String::new(), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim().split_once(':') else {
            if line.trim().is_empty() { break } else { continue }
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "idempotency-key" => key = value.trim().to_owned(),
            "x-token" => token = value.trim() == "t",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert!(token, "the header is missing");
    got.lock().unwrap().push((key, serde_json::from_slice(&body).unwrap()));
    let code = answers.lock().unwrap().pop_front().unwrap_or(200);
    // 0 plays a receiver that dies after it has got the request.
    (code != 0).then_some(())?;
    write!(&mut { stream }, "HTTP/1.1 {code} x\r\nContent-Length: 4\r\n\r\nnope").ok()
}

fn options(more: Value) -> Value {
    let mut options = json!({"headers": {"X-Token": "t"}, "where": "value >= 10", "batch": 3});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

fn some(epoch: u32, offset: u64) -> Option<Position> {
    Some(Position { epoch, offset })
}

#[test]
fn matching_rows_are_posted_and_the_position_moves() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::new(&[]));
    let mut sink = receiver.sink(dir.path(), options(json!({})));
    assert_eq!(sink.resume().unwrap(), None);
    sink.write(&rows(1, 0, batch(&[1, 10, 11]))).unwrap();
    sink.write(&rows(1, 3, batch(&[12]))).unwrap();
    sink.write(&rows(1, 4, batch(&[2, 3]))).unwrap();
    sink.poll(0).unwrap();
    assert_eq!(receiver.requests(), [("table-0-1-0-4".to_string(), vec![1, 2, 3])]);
    let row = receiver.got.lock().unwrap()[0].1["rows"][0].clone();
    assert_eq!((&row["device"], &row["value"], &row["_partition"]), (&json!("pump"), &json!(10.0), &json!(0)));
    assert_eq!(sink.poll(SECOND).unwrap(), some(1, 6));
    assert_eq!((sink.poll(SECOND).unwrap(), sink.totals().rows, sink.totals().files), (None, 3, 1));
    // Rows that do not match move the position as well, without a request.
    sink.write(&rows(1, 6, batch(&[2]))).unwrap();
    assert_eq!(sink.flush(0).unwrap(), some(1, 7));
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn what_fails_is_sent_again_as_it_was() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::new(&[503, 0, 429, 404]));
    let mut sink = receiver.sink(dir.path(), options(json!({})));
    sink.resume().unwrap();
    sink.write(&rows(1, 0, batch(&[10]))).unwrap();
    for _ in 0..2 {
        assert_eq!(sink.poll(0).unwrap_err().action, Action::Retry);
        // Nothing more is taken meanwhile, so the request stays what it is.
        assert_eq!(sink.write(&rows(1, 1, batch(&[11]))).unwrap_err().action, Action::Retry);
    }
    sink.write(&rows(1, 1, batch(&[11]))).unwrap();
    sink.flush(0).unwrap();
    let requests = receiver.requests();
    let (last, tries) = requests.split_last().unwrap();
    assert!(tries.len() == 5 && tries.iter().all(|request| *request == tries[0]), "{requests:?}");
    assert_eq!(*last, ("table-0-1-1-2".to_string(), vec![1]));
}

#[test]
fn a_crash_between_request_and_answer_repeats_the_same_request() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::new(&[0]));
    let mut killed = receiver.sink(dir.path(), options(json!({})));
    killed.resume().unwrap();
    killed.write(&rows(1, 5, batch(&[10]))).unwrap();
    killed.write(&rows(1, 6, batch(&[1, 11]))).unwrap();
    assert!(killed.poll(0).is_err());
    drop(killed);

    let mut sink = receiver.sink(dir.path(), options(json!({})));
    assert_eq!(sink.resume().unwrap(), some(1, 5));
    sink.write(&rows(1, 5, batch(&[10]))).unwrap();
    sink.poll(0).unwrap();
    assert_eq!(receiver.requests().len(), 1, "a part of the request was sent");
    sink.write(&rows(1, 6, batch(&[1, 11]))).unwrap();
    sink.write(&rows(1, 8, batch(&[12]))).unwrap();
    assert_eq!(sink.flush(0).unwrap(), some(1, 9));
    let same = ("table-0-1-5-8".to_string(), vec![5, 7]);
    assert_eq!(receiver.requests(), [same.clone(), same, ("table-0-1-8-9".to_string(), vec![8])]);
    let mut again = receiver.sink(dir.path(), options(json!({})));
    assert_eq!(again.resume().unwrap(), some(1, 9));
}

#[test]
fn a_large_frame_is_cut_and_a_refused_piece_is_set_aside() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::new(&[200, 400]));
    let mut sink = receiver.sink(dir.path(), options(json!({})));
    sink.resume().unwrap();
    sink.write(&rows(2, 0, batch(&[10, 11, 12, 13, 14, 15, 16]))).unwrap();
    assert!(!sink.skip_rejected(), "nothing was rejected yet");
    let failure = sink.poll(0).unwrap_err();
    assert_eq!((failure.action, failure.message.contains("answered 400")), (Action::Reject, true));
    assert!(sink.skip_rejected() && !sink.skip_rejected());
    // As the engine does after any failure: ask again, and read again from there.
    assert_eq!(sink.resume().unwrap(), some(2, 0));
    sink.write(&rows(2, 0, batch(&[10, 11, 12, 13, 14, 15, 16]))).unwrap();
    assert_eq!(sink.flush(0).unwrap(), some(2, 7));
    let keys: Vec<_> = receiver.requests().into_iter().map(|(key, offsets)| (key, offsets.len())).collect();
    let key = |n: usize| format!("table-0-2-0-7-{n}");
    assert_eq!(keys, [(key(0), 3), (key(1), 3), (key(2), 1)]);
    assert_eq!(sink.totals().rows, 4);
    let kept = std::fs::read(dir.path().join("sinks/table/rejected").join(format!("{}.json", key(1)))).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!((kept["rows"].as_array().unwrap().len(), &kept["rows"][0]["_offset"]), (3, &json!(3)));
}

#[test]
fn a_wrong_condition_is_told_at_the_start_where_the_columns_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = context(dir.path(), "clean", "clean");
    known.schema = Some(batch(&[1]).schema());
    let block = json!({"url": "http://localhost/", "where": "valeu > 3"});
    let error = trackside_connectors::sinks::webhook::build(block, &known).map(drop).unwrap_err();
    assert_eq!((error.path.as_str(), error.message.contains("did you mean `value`?")), ("where", true));

    let receiver = Receiver::new(&[]);
    let mut sink = receiver.sink(dir.path(), options(json!({"where": "valeu > 3"})));
    let failure = sink.write(&rows(1, 0, batch(&[1]))).unwrap_err();
    assert_eq!(failure.action, Action::Stop);
    sink.write(&SinkRows { epoch: 1, first: 0, end: 1, ingest_time: 0, rows: None }).unwrap();
}

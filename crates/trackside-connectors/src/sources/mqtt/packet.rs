//! The packets of MQTT 3.1.1 and 5 that a subscriber sends and receives, as bytes and back.
//!
//! Guarantee: any bytes at all are a packet, not yet one, or an error; never a panic, and never more memory than
//! [`Reader`] was allowed. A PUBLISH above the limit is given out with the beginning of its payload and its true length,
//! the rest is passed over: refusing it would only bring it back.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Room for a PUBLISH's topic and properties when its payload is cut.
const MAX_HEAD: usize = 128 << 10;
/// User property that carries an event's id.
const EVENT_ID: &[u8] = b"event-id";

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V5,
}

/// What the broker did that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent what is not MQTT: {0}")]
pub(super) struct Malformed(&'static str);

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// Length of the payload, where it was cut.
    pub(super) cut: Option<usize>,
    pub(super) qos: u8,
    /// Sent before, as far as the broker knows.
    pub(super) again: bool,
    /// Its number, for QoS 1 and 2.
    pub(super) id: u16,
    pub(super) event_id: Option<String>,
}

/// The answer to a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConnAck {
    pub(super) session_present: bool,
    /// 0 is yes.
    pub(super) code: u8,
    pub(super) reason: Option<String>,
    pub(super) keep_alive: Option<u16>,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    ConnAck(ConnAck),
    Publish(Publish),
    PubRel(u16),
    /// A code for each filter; 0x80 and above refuse.
    SubAck(Vec<u8>),
    PingResp,
    /// The broker ends the connection, and why.
    Disconnect(u8, Option<String>),
}

/// Takes packets out of a stream of bytes.
#[derive(Debug)]
pub(super) struct Reader {
    version: Version,
    max: usize,
    /// Bytes of a packet's end that are passed over.
    skip: usize,
}

impl Reader {
    /// Packets up to `max` bytes are taken whole.
    pub(super) fn new(version: Version, max: usize) -> Self {
        Self { version, max, skip: 0 }
    }

    /// The next packet; none until more bytes have come.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        let passed = self.skip.min(buffer.len());
        buffer.advance(passed);
        self.skip -= passed;
        let Some((first, length, header)) = fixed_header(buffer)? else { return Ok(None) };
        if length <= self.max {
            if buffer.len() < header + length {
                buffer.reserve(header + length - buffer.len());
                return Ok(None);
            }
            buffer.advance(header);
            return packet(self.version, first, buffer.split_to(length).freeze(), length).map(Some);
        }
        let part = length.min(self.max + MAX_HEAD);
        if first >> 4 != 3 {
            return Err(Malformed("a packet larger than any of its kind"));
        }
        if buffer.len() < header + part {
            return Ok(None);
        }
        buffer.advance(header);
        let body = buffer.split_to(part).freeze();
        self.skip = length - part;
        packet(self.version, first, body, length).map(|packet| Some(self.cut(packet)))
    }

    fn cut(&self, mut packet: Incoming) -> Incoming {
        if let Incoming::Publish(publish) = &mut packet {
            publish.payload.truncate(self.max);
        }
        packet
    }
}

/// First byte, length of the rest, length of this header.
fn fixed_header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Malformed> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (k, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * k);
        if byte & 0x80 == 0 {
            return Ok(Some((*first, length, k + 2)));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err(Malformed("a length of more than four bytes")) }
}

/// `length` is the packet's own; `body` may be its beginning only.
fn packet(version: Version, first: u8, body: Bytes, length: usize) -> Result<Incoming, Malformed> {
    let missing = length - body.len();
    let mut body = Body(body);
    Ok(match first >> 4 {
        2 => {
            let (flags, code) = (body.u8()?, body.u8()?);
            let mut ack = ConnAck { session_present: flags & 1 == 1, code, ..ConnAck::default() };
            body.properties(version, |id, value| match id {
                0x13 => ack.keep_alive = value.try_into().ok().map(u16::from_be_bytes),
                0x1f => ack.reason = Some(String::from_utf8_lossy(value).into_owned()),
                _ => {}
            })?;
            Incoming::ConnAck(ack)
        }
        3 => {
            let mut publish = Publish { qos: first >> 1 & 3, again: first & 8 != 0, ..Publish::default() };
            publish.topic = body.text()?;
            if publish.qos == 3 {
                return Err(Malformed("a QoS of 3"));
            }
            if publish.qos > 0 {
                publish.id = body.id()?;
            }
            let mut pairs: Option<String> = None;
            body.properties(version, |id, value| {
                if id == 0x26 {
                    pairs = event_id(value).or(pairs.take());
                }
            })?;
            publish.event_id = pairs;
            publish.payload = body.0;
            publish.cut = (missing > 0).then(|| publish.payload.len() + missing);
            Incoming::Publish(publish)
        }
        6 => Incoming::PubRel(body.id()?),
        9 => {
            body.id()?;
            body.properties(version, |_, _| {})?;
            Incoming::SubAck(body.0.to_vec())
        }
        13 => Incoming::PingResp,
        14 => {
            let (code, mut reason) = (body.u8().unwrap_or(0), None);
            if !body.0.is_empty() {
                body.properties(version, |id, value| {
                    if id == 0x1f {
                        reason = Some(String::from_utf8_lossy(value).into_owned());
                    }
                })?;
            }
            Incoming::Disconnect(code, reason)
        }
        _ => return Err(Malformed("a packet that no subscriber asked for")),
    })
}

/// The value of a user property whose name is `event-id`; both are texts with their length before them.
fn event_id(pair: &[u8]) -> Option<String> {
    let mut pair = Body(Bytes::copy_from_slice(pair));
    let name = pair.bytes().ok()?;
    (name == EVENT_ID).then(|| pair.text().ok())?
}

/// What is left of a packet.
struct Body(Bytes);

impl Body {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    fn id(&mut self) -> Result<u16, Malformed> {
        match self.u16()? {
            0 => Err(Malformed("a packet with the number 0")),
            id => Ok(id),
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length <= self.0.len() { Ok(self.0.split_to(length)) } else { Err(SHORT) }
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    fn varint(&mut self) -> Result<usize, Malformed> {
        let (_, value, length) =
            fixed_header(&[&[0], &self.0[..self.0.len().min(4)]].concat())?.ok_or(Malformed("a packet that is cut"))?;
        self.0.advance(length - 1);
        Ok(value)
    }

    /// Shows each property of a packet of version 5: its number and its bytes without a length.
    fn properties(&mut self, version: Version, mut show: impl FnMut(u8, &[u8])) -> Result<(), Malformed> {
        if version == Version::V3 {
            return Ok(());
        }
        let length = self.varint()?;
        let mut list = Self(self.take(length)?);
        while !list.0.is_empty() {
            let id = list.u8()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => list.take(1)?,
                0x13 | 0x21..=0x23 => list.take(2)?,
                0x02 | 0x11 | 0x18 | 0x27 => list.take(4)?,
                0x0b => {
                    list.varint()?;
                    Bytes::new()
                }
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => list.bytes()?,
                0x26 => {
                    let start = list.0.clone();
                    let (name, value) = (list.bytes()?, list.bytes()?);
                    start.slice(..4 + name.len() + value.len())
                }
                _ => return Err(Malformed("an unknown property")),
            };
            show(id, &value);
        }
        Ok(())
    }
}

const SHORT: Malformed = Malformed("a packet that is cut");

/// What a CONNECT says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connect<'a> {
    pub(super) client_id: &'a str,
    pub(super) keep_alive: u16,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// For version 5: how long the broker keeps the session, in seconds.
    pub(super) session_expiry: u32,
    /// For version 5: so many messages may be under way unacknowledged.
    pub(super) receive_maximum: u16,
}

/// Asks for the session that the broker has kept, or a new one.
pub(super) fn connect(version: Version, connect: &Connect<'_>, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    put_bytes(&mut body, b"MQTT");
    body.put_u8(if version == Version::V5 { 5 } else { 4 });
    body.put_u8(u8::from(connect.username.is_some()) << 7 | u8::from(connect.password.is_some()) << 6);
    body.put_u16(connect.keep_alive);
    if version == Version::V5 {
        body.put_u8(8);
        body.put_u8(0x11);
        body.put_u32(connect.session_expiry);
        body.put_u8(0x21);
        body.put_u16(connect.receive_maximum);
    }
    put_bytes(&mut body, connect.client_id.as_bytes());
    connect.username.iter().chain(&connect.password).for_each(|text| put_bytes(&mut body, text.as_bytes()));
    put_packet(out, 0x10, &body);
}

/// Subscribes to all filters at once.
pub(super) fn subscribe(version: Version, id: u16, filters: &[String], qos: u8, out: &mut BytesMut) {
    // Version 5: what a broker retains is sent for a new subscription only, not each time a process starts.
    let options = if version == Version::V5 { qos | 0x10 } else { qos };
    let mut body = BytesMut::new();
    body.put_u16(id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    for filter in filters {
        put_bytes(&mut body, filter.as_bytes());
        body.put_u8(options);
    }
    put_packet(out, 0x82, &body);
}

/// PUBACK of a QoS 1, PUBREC of a QoS 2 message: upstream may forget it.
pub(super) fn acknowledge(qos: u8, id: u16, out: &mut BytesMut) {
    put_packet(out, if qos == 2 { 0x50 } else { 0x40 }, &id.to_be_bytes());
}

/// The answer to a PUBREL.
pub(super) fn complete(id: u16, out: &mut BytesMut) {
    put_packet(out, 0x70, &id.to_be_bytes());
}

/// Still there?
pub(super) fn ping(out: &mut BytesMut) {
    put_packet(out, 0xc0, &[]);
}

/// Leaves; the broker keeps the session.
pub(super) fn disconnect(out: &mut BytesMut) {
    put_packet(out, 0xe0, &[]);
}

fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    let mut length = body.len();
    loop {
        let more = length > 0x7f;
        out.put_u8((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    out.put_slice(body);
}

/// A text with its length before it; configuration has checked that it fits.
fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = bytes.len().min(usize::from(u16::MAX));
    out.put_u16(length as u16);
    out.put_slice(&bytes[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: Version, payload: &[u8]) -> BytesMut {
        let (mut body, mut out) = (BytesMut::new(), BytesMut::new());
        put_bytes(&mut body, b"plant/a");
        body.put_u16(7);
        if version == Version::V5 {
            let mut list = BytesMut::new();
            list.put_slice(&[0x01, 1, 0x0b, 0x80, 0x01, 0x26]);
            put_bytes(&mut list, b"event-id");
            put_bytes(&mut list, b"e1");
            list.put_u8(0x26);
            put_bytes(&mut list, b"other");
            put_bytes(&mut list, b"x");
            body.put_u8(list.len() as u8);
            body.put_slice(&list);
        }
        body.put_slice(payload);
        put_packet(&mut out, 0x3a, &body);
        out
    }

    fn expected(version: Version, payload: &'static [u8]) -> Incoming {
        Incoming::Publish(Publish {
            topic: "plant/a".into(),
            payload: Bytes::from_static(payload),
            qos: 1,
            again: true,
            id: 7,
            cut: None,
            event_id: (version == Version::V5).then(|| "e1".into()),
        })
    }

    #[test]
    fn packets_are_taken_from_a_stream_however_it_is_cut() {
        for version in [Version::V3, Version::V5] {
            let (mut buffer, mut reader) = (BytesMut::new(), Reader::new(version, 1000));
            let mut seen = Vec::new();
            let bytes = [&message(version, b"12")[..], &[0xd0, 0], &[0x62, 2, 0, 9], &message(version, b"")].concat();
            for byte in &bytes {
                buffer.put_u8(*byte);
                seen.extend(reader.next(&mut buffer).unwrap());
            }
            let all = [expected(version, b"12"), Incoming::PingResp, Incoming::PubRel(9), expected(version, b"")];
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn a_huge_message_is_cut_and_the_next_is_whole() {
        let mut bytes = message(Version::V3, &vec![b'x'; 500_000]);
        bytes.extend_from_slice(&message(Version::V3, b"next"));
        let (mut buffer, mut reader, mut seen) = (BytesMut::new(), Reader::new(Version::V3, 1000), Vec::new());
        for part in bytes.chunks(10_000) {
            buffer.put_slice(part);
            while let Some(packet) = reader.next(&mut buffer).unwrap() {
                seen.push(packet);
            }
            assert!(buffer.len() < 150_000);
        }
        let Incoming::Publish(first) = &seen[0] else { panic!("{seen:?}") };
        assert_eq!((first.payload.len(), first.cut, first.id), (1000, Some(500_000), 7));
        assert_eq!(seen[1], expected(Version::V3, b"next"));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        for version in [Version::V3, Version::V5] {
            for round in 0..20_000 {
                let mut bytes = if round % 2 == 0 { message(version, b"12") } else { BytesMut::new() };
                (0..usize::from(random() % 24)).for_each(|_| bytes.put_u8(random()));
                for _ in 0..3 {
                    let at = usize::from(random()) % bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = random();
                    }
                }
                let mut reader = Reader::new(version, 100);
                while let Ok(Some(_)) = reader.next(&mut bytes) {}
            }
        }
        assert!(Reader::new(Version::V3, 9).next(&mut BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff][..])).is_err());
        assert!(Reader::new(Version::V3, 9).next(&mut BytesMut::from(&[0x62, 2, 0, 0][..])).is_err());
    }

    #[test]
    fn a_connect_is_as_the_standard_writes_it() {
        let say = Connect {
            client_id: "c",
            keep_alive: 10,
            username: Some("u"),
            password: Some("p"),
            session_expiry: 60,
            receive_maximum: 5,
        };
        let mut out = BytesMut::new();
        connect(Version::V3, &say, &mut out);
        assert_eq!(&out[..], b"\x10\x13\x00\x04MQTT\x04\xc0\x00\x0a\x00\x01c\x00\x01u\x00\x01p");
        out.clear();
        connect(Version::V5, &say, &mut out);
        assert_eq!(&out[8..22], b"\x05\xc0\x00\x0a\x08\x11\x00\x00\x00\x3c\x21\x00\x05\x00"[..14].as_ref());
        out.clear();
        subscribe(Version::V5, 1, &["a/+".into()], 1, &mut out);
        assert_eq!(&out[..], b"\x82\x09\x00\x01\x00\x00\x03a/+\x11");
    }
}

//! The readers of what a sandbox sends, and the policy, against anything: inputs that are right but for a few bytes,
//! cut, repeated, or nothing at all. None panics or takes long, what one takes a second reader takes alike, and what is
//! always denied is never allowed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use egress::dns::{Answer, OnDenied, Pool, Query, answer_for, write_answer};
use egress::http1::{Body, Head, Parsed, parse};
use egress::policy::{Attempt, Policy, Seen, Verdict, read_policy};
use egress::sni::{Peeked, peek};
use egress::{Name, Target};
use hickory_proto::op::Message;

use crate::hellos;

/// How long each goes on in every run of the tests; `FUZZ_SECONDS` for a long one.
const SECONDS: u64 = 20;
/// The longest that one input may take: far beyond what any needs, also on a busy host.
const ONE: Duration = Duration::from_secs(5);

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % sides
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }

    /// One of the seeds, with some of it changed, cut, doubled or put elsewhere.
    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.roll(seeds.len())].clone();
        for _ in 0..self.roll(6) {
            let length = bytes.len().max(1);
            let (at, to) = (self.roll(length), self.roll(length));
            let (low, high) = (at.min(to).min(bytes.len()), at.max(to).min(bytes.len()));
            match self.roll(7) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                2 if at < bytes.len() => bytes[at] = self.byte(),
                3 => {
                    let part = bytes[low..high].to_vec();
                    bytes.splice(low..low, part);
                }
                4 => drop(bytes.drain(low..high)),
                5 => {
                    let other = &seeds[self.roll(seeds.len())];
                    let from = self.roll(other.len().max(1)).min(other.len());
                    bytes.splice(high.., other[from..].iter().copied());
                }
                _ => bytes.insert(at.min(bytes.len()), self.byte()),
            }
            bytes.truncate(65_536);
        }
        bytes
    }
}

/// Hands `target` one round after another until the time is over.
fn fuzz(name: &str, mut target: impl FnMut(&mut Dice)) {
    let seconds = std::env::var_os("FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut round = Round { name, seed: 0 };
    while Instant::now() < until {
        let begun = Instant::now();
        target(&mut Dice(round.seed));
        let took = begun.elapsed();
        assert!(took < ONE, "it took {took:?}");
        round.seed += 1;
    }
    println!("{name}: {} rounds", round.seed);
    assert!(round.seed > 100, "that is no fuzzing");
}

/// Says which one it was when it fails.
struct Round<'n> {
    name: &'n str,
    seed: u64,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: seed {}", self.name, self.seed);
        }
    }
}

#[test]
fn questions_for_names() {
    let question = |name: &str, kind: u16, edns: bool| {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        if edns {
            packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        packet
    };
    let seeds = [
        question("ok.test", 1, false),
        question("a.b.c.ok.test", 28, true),
        question("evil.test", 255, true),
        question(&"x".repeat(63), 16, false),
    ];
    let policy =
        read_policy("networking = { type = \"limited\", allowed_hosts = [\"ok.test\"] }").unwrap();
    let mut pool = Pool::default();
    fuzz("dns", |dice| {
        let packet = dice.mutated(&seeds);
        let query = match Query::parse(&packet) {
            Ok(query) => query,
            Err(malformed) => {
                assert!(
                    malformed
                        .reply()
                        .is_none_or(|reply| reply.len() <= packet.len().max(12))
                );
                return;
            }
        };
        let on_denied = [OnDenied::Virtual, OnDenied::Refuse][dice.roll(2)];
        let answer = answer_for(&query, &policy, on_denied, &mut pool, 0);
        let written = write_answer(&query, answer);
        assert!(
            written.len() <= packet.len() + 64,
            "an answer is no amplifier"
        );
        let read = Message::from_vec(&written).expect("a second reader reads what is answered");
        let answers = usize::from(matches!(answer, Answer::V4(_) | Answer::V6(_)));
        assert_eq!((read.metadata.id, read.answers.len()), (query.id, answers));
    });
}

#[test]
fn hellos_of_tls() {
    let seeds = hellos::seeds();
    fuzz("sni", |dice| {
        let bytes = dice.mutated(&seeds);
        match peek(&bytes) {
            Ok(Peeked::Hello(hello)) => {
                // A server that takes it as well has read the same name.
                if let Some(theirs) = hellos::theirs(&bytes) {
                    let ours = hello.server_name.map(|name| name.to_string());
                    let theirs = theirs.map(|name| name.trim_end_matches('.').to_owned());
                    assert_eq!(ours, theirs);
                }
            }
            Ok(Peeked::More) => {
                // What is cut is never taken for another one.
                let mut longer = bytes.clone();
                longer.push(dice.byte());
                let _ = peek(&longer);
            }
            Ok(_) | Err(_) => {}
        }
    });
}

#[test]
fn heads_of_requests() {
    let seeds = [
        "GET /a/../b?c=d HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\nabc",
        "PUT http://a.test/%41 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n3\r\n",
        "GET / HTTP/1.0\r\nHost: [::1]:8080\r\nConnection: keep-alive, X\r\nX: \t y \r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: A.TEST.\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nCookie: a=b\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    fuzz("http1", |dice| {
        let bytes = dice.mutated(&seeds);
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Request::new(&mut fields);
        let read = theirs.parse(&bytes);
        match parse(&bytes) {
            Ok(Parsed::Head(head, length)) => {
                assert_eq!(read, Ok(httparse::Status::Complete(length)));
                agrees(&head, &theirs);
                // As it is written, it is read the same, and ends where it ends.
                let written = [head.write().as_slice(), b"GET /behind"].concat();
                let again = match parse(&written) {
                    Ok(Parsed::Head(again, length)) if length + 11 == written.len() => again,
                    other => panic!("{other:?}: {}", String::from_utf8_lossy(&written)),
                };
                assert_eq!(
                    (&again.target, &again.authority, again.body),
                    (&head.target, &head.authority, head.body)
                );
            }
            // Nobody else sees the end of it before we do.
            Ok(Parsed::More) => assert!(!matches!(read, Ok(httparse::Status::Complete(_)))),
            Err(_) => {}
        }
    });
}

/// Whether a second reader sees the same method, fields and body.
fn agrees(head: &Head<'_>, theirs: &httparse::Request<'_, '_>) {
    assert_eq!(theirs.method, Some(head.method));
    let ours: Vec<_> = head.headers.iter().map(|it| (it.name, it.value)).collect();
    let all = theirs.headers.iter();
    let all: Vec<_> = all.map(|it| (it.name, it.value.trim_ascii())).collect();
    let of = |name: &str| -> Vec<&[u8]> {
        let those = all.iter().filter(|it| it.0.eq_ignore_ascii_case(name));
        those.map(|it| it.1).collect()
    };
    let others = all.iter().filter(|it| !it.0.eq_ignore_ascii_case("host"));
    assert_eq!(ours, others.copied().collect::<Vec<_>>());
    assert!(of("host").len() <= 1, "{all:?}");
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    let length = match lengths.as_slice() {
        [] => None,
        [length] => Some(String::from_utf8_lossy(length).parse::<u64>().unwrap()),
        more => panic!("two lengths: {more:?}"),
    };
    match head.body {
        Body::Chunked => {
            assert!(length.is_none() && codings.len() == 1, "{all:?}");
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"), "{all:?}");
        }
        Body::Length(ours) => assert!(length == Some(ours) && codings.is_empty(), "{all:?}"),
        Body::None => assert!(
            length.is_none_or(|it| it == 0) && codings.is_empty(),
            "{all:?}"
        ),
    }
}

#[test]
fn policies_and_what_they_never_allow() {
    let denied: Vec<IpAddr> = [
        "127.0.0.1",
        "10.0.0.5",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.5",
        "64:ff9b::a00:5",
    ]
    .iter()
    .map(|ip| ip.parse().unwrap())
    .collect();
    let names = [
        "a.test",
        "b.a.test",
        "*.a.test",
        "*",
        "198.51.100.0/24",
        "xn--bcher-kva.test",
        "a..b",
        "*.com",
        "10.0.0.0/8",
    ];
    fuzz("policy", |dice| {
        let mut text = String::new();
        let mut lifts = false;
        for rule in 0..dice.roll(12) {
            let (action, to) = (dice.one(&["allow", "deny", "maybe"]), dice.one(&names));
            lifts |= to == "10.0.0.0/8";
            let ports = dice.one(&["", "80", "443, \"1-65535\"", "\"9-1\"", "70000"]);
            let more = dice.one(&[
                "",
                "protocol = 'tls'\n",
                "methods = ['GET']\n",
                "paths = ['/a/../b']\n",
                "mcp_tools = ['t']\n",
                "wrong = 1\n",
            ]);
            text += &format!(
                "[[rules]]\nname = 'r{rule}'\naction = '{action}'\nto = ['{to}']\nports = [{ports}]\n{more}"
            );
        }
        text += dice.one(&[
            "",
            "[networking]\ntype = 'unrestricted'\n",
            "[networking]\ntype = 'limited'\nallowed_hosts = ['a.test', '*.b.test']\n",
        ]);
        // What is refused is refused as a whole, and nothing is what stands then.
        let policy = read_policy(&text).unwrap_or_else(|_| Policy::nothing());
        let target =
            Target::Name(Name::parse(dice.one(&["a.test", "b.a.test", "c.test"])).unwrap());
        let port = u16::try_from(dice.roll(65_536)).unwrap();
        for seen in [Seen::Nothing, Seen::Tls, Seen::Http, Seen::Opaque] {
            let attempt = Attempt {
                target: &target,
                port,
                seen,
            };
            let (decision, why) = policy.explain(&attempt);
            assert!(!why.reason.is_empty() && !why.rule.is_empty());
            for ip in denied.iter().filter(|_| !lifts) {
                let literal = Target::Address(*ip);
                let attempt = Attempt {
                    target: &literal,
                    port,
                    seen,
                };
                assert_ne!(
                    policy.decide(&attempt).verdict,
                    Verdict::Allow,
                    "{ip}: {text}"
                );
                if decision.verdict == Verdict::Allow {
                    let attempt = Attempt {
                        target: &target,
                        port,
                        seen,
                    };
                    let judged = policy.judge_address(&attempt, &decision, *ip);
                    assert_ne!(judged.verdict, Verdict::Allow, "{ip}: {text}");
                }
            }
        }
    });
}

//! Listens for questions and sends the answers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::forward::forward;
use super::records::{Answer, Data, Type, Zone};
use crate::directory::Directory;
use crate::{Config, Error};

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;
/// How long a silent TCP connection is kept.
const TCP_PATIENCE: Duration = Duration::from_secs(10);
/// Answers that wait for one TCP connection.
const TCP_QUEUE: usize = 32;
/// The largest answer over UDP that is announced.
const PAYLOAD: u16 = 1232;

/// The cluster's DNS server: one for packets and one for streams, so that the end of either is noticed.
pub(crate) struct Server {
    packets: hickory_server::Server<Handler>,
    streams: hickory_server::Server<Handler>,
}

impl Server {
    /// Binds the cluster's DNS address. Until `complete` is set the cluster's names are answered with "try again".
    pub(crate) async fn open(
        config: &Config,
        directory: Arc<RwLock<Directory>>,
        complete: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let address = SocketAddr::from((config.dns_address, 53));
        let failed = |error| Error::cannot(format_args!("listen for DNS on {address}"), error);
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let zone = Zone {
            domain: config.cluster_domain.trim_end_matches('.').to_ascii_lowercase(),
            dns_address: config.dns_address,
            ranges: [config.service_range, config.cluster_range],
        };
        let handler = Handler { zone, directory, complete, resolv_conf: config.resolv_conf.clone() };
        let (mut packets, mut streams) =
            (hickory_server::Server::new(handler.clone()), hickory_server::Server::new(handler));
        packets.register_socket(socket);
        streams.register_listener(listener, TCP_PATIENCE, TCP_QUEUE);
        Ok(Self { packets, streams })
    }

    /// Serves until it is dropped or fails.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let ended = tokio::select! {
            result = self.packets.block_until_done() => result,
            result = self.streams.block_until_done() => result,
        };
        ended.map_err(|error| Error::cannot("serve DNS", error))
    }
}

#[derive(Clone)]
struct Handler {
    zone: Zone,
    directory: Arc<RwLock<Directory>>,
    complete: Arc<AtomicBool>,
    resolv_conf: PathBuf,
}

/// An answer, ready to be sent.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    truncated: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additional: Vec<Record>,
}

impl Reply {
    fn empty(code: ResponseCode) -> Self {
        let (answers, authorities, additional) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, authoritative: false, truncated: false, answers, authorities, additional }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::empty(ResponseCode::NotImp);
        }
        let [question] = request.queries.queries() else { return Reply::empty(ResponseCode::FormErr) };
        let (question, over_tcp) = (question.original(), request.protocol() == Protocol::Tcp);
        let name = plain(question.name());
        match self.zone.of(&name) {
            Some(_) if !self.complete.load(Ordering::Acquire) => Reply::empty(ResponseCode::ServFail),
            Some(zone) if question.query_class() == DNSClass::IN => self.own(zone, &name, question, over_tcp).await,
            Some(_) => Reply::empty(ResponseCode::Refused),
            None => match self.forward(request.as_slice(), over_tcp).await {
                Some(message) => relayed(message),
                None => Reply::empty(ResponseCode::ServFail),
            },
        }
    }

    async fn own(&self, zone: &str, name: &str, question: &Query, over_tcp: bool) -> Reply {
        let answer = self.look_up(name, type_of(question.query_type()));
        let mut reply = Reply::empty(if answer.exists { ResponseCode::NoError } else { ResponseCode::NXDomain });
        reply.authoritative = true;
        let alias =
            answer.records.iter().find_map(|data| if let Data::Cname(to) = data { Some(to.clone()) } else { None });
        reply.answers.extend(answer.records.iter().filter_map(|data| self.record(question.name().clone(), data)));
        let helpful = |(name, data): &(String, Data)| self.record(absolute(name)?, data);
        reply.additional.extend(answer.additional.iter().filter_map(helpful));
        if reply.answers.is_empty() {
            reply.authorities.extend(absolute(zone).and_then(|zone| self.record(zone, &Data::Soa)));
        }
        if let Some(alias) = alias.filter(|_| question.query_type() != RecordType::CNAME) {
            reply.answers.extend(self.follow(&alias, question.query_type(), over_tcp).await);
        }
        reply
    }

    fn look_up(&self, name: &str, kind: Type) -> Answer {
        self.zone.answer(&self.directory.read().unwrap_or_else(PoisonError::into_inner), name, kind)
    }

    /// What an alias leads to. Simple resolvers ask only once, so the answer should be complete.
    async fn follow(&self, alias: &str, kind: RecordType, over_tcp: bool) -> Vec<Record> {
        let Some(name) = absolute(alias) else { return Vec::new() };
        if self.zone.of(alias).is_some() {
            let answer = self.look_up(alias, type_of(kind));
            return answer.records.iter().filter_map(|data| self.record(name.clone(), data)).collect();
        }
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name, kind));
        let Ok(question) = question.to_vec() else { return Vec::new() };
        self.forward(&question, over_tcp).await.map(|message| message.answers).unwrap_or_default()
    }

    async fn forward(&self, question: &[u8], over_tcp: bool) -> Option<Message> {
        let is_own = |address: IpAddr| match address {
            IpAddr::V4(address) => self.zone.of(&reverse_name(address)).is_some(),
            IpAddr::V6(_) => false,
        };
        forward(question, over_tcp, &self.resolv_conf, is_own).await
    }

    fn record(&self, name: Name, data: &Data) -> Option<Record> {
        let data = match data {
            Data::A(address) => RData::A(A(*address)),
            Data::Srv { weight, port, target } => RData::SRV(SRV::new(0, *weight, *port, absolute(target)?)),
            Data::Ptr(to) => RData::PTR(PTR(absolute(to)?)),
            Data::Cname(to) => RData::CNAME(CNAME(absolute(to)?)),
            Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
            Data::Ns(server) => RData::NS(NS(absolute(server)?)),
            Data::Soa => {
                let (server, person) = (self.zone.server_name(), format!("hostmaster.{}", self.zone.domain));
                RData::SOA(SOA::new(absolute(&server)?, absolute(&person)?, 1, 7200, 1800, 86_400, TTL))
            }
        };
        Some(Record::from_rdata(name, TTL, data))
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responses: R) -> ResponseInfo {
        let mut reply = self.reply(request).await;
        shuffle(&mut reply.answers, request.metadata.id);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.truncation = reply.truncated;
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload().clamp(512, PAYLOAD));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &reply.answers, &reply.authorities, &[], &reply.additional);
        match responses.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be sent");
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

/// An answer from elsewhere.
fn relayed(message: Message) -> Reply {
    Reply {
        code: message.metadata.response_code,
        authoritative: message.metadata.authoritative,
        truncated: message.metadata.truncation,
        answers: message.answers,
        authorities: message.authorities,
        additional: message.additionals,
    }
}

/// Clients take the first address: rotate, so that they spread. The question's number is random enough.
fn shuffle(answers: &mut [Record], random: u16) {
    if !answers.is_empty() && answers.iter().all(|record| record.record_type() == RecordType::A) {
        answers.rotate_left(usize::from(random) % answers.len());
    }
}

fn type_of(kind: RecordType) -> Type {
    match kind {
        RecordType::A | RecordType::ANY => Type::A,
        RecordType::SRV => Type::Srv,
        RecordType::PTR => Type::Ptr,
        RecordType::CNAME => Type::Cname,
        RecordType::TXT => Type::Txt,
        RecordType::SOA => Type::Soa,
        RecordType::NS => Type::Ns,
        _ => Type::Other,
    }
}

/// In lower case, without the final dot.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

fn reverse_name(address: std::net::Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

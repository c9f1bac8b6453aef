//! The thread that retrieves and consults: retriever and core belong to one thread, as in a page, and take turns while they wait.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use huatuo_compute::Cpu;
use huatuo_core::{
    ConsultError, Consultation, Conversation, Event, Limits, Observer, Question, Reference, Retrieval, Retriever,
    consult,
};
use huatuo_fetch::clock::now_ms;
use huatuo_retrieve::{Encoder, HybridRetriever, RetrieveError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::LocalSet;

use crate::config;
use crate::generator::{AnswerError, AnswerGenerator};

/// What a consultation tells, in order; the last is `Done` or `Failed`.
pub enum Told {
    /// An event as the core tells it.
    Event(OwnedEvent),
    /// The whole result.
    Done(Box<Consultation>),
    /// It can't be completed.
    Failed(ConsultError<RetrieveError, AnswerError>),
}

/// [`Event`], to be sent elsewhere.
#[derive(Clone, Debug)]
pub enum OwnedEvent {
    /// Emergency advice.
    RedFlags(Vec<huatuo_core::safety::RedFlag>),
    /// The references.
    References(Retrieval),
    /// The next piece of the answer.
    Text(String),
    /// A sentence that is complete and checked.
    Sentence(huatuo_core::Sentence),
    /// A notice.
    Notice(String),
}

impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::RedFlags(flags) => Self::RedFlags(flags.to_vec()),
            Event::References(retrieval) => Self::References(retrieval.clone()),
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Sentence(sentence) => Self::Sentence(sentence.clone()),
            Event::Notice(text) => Self::Notice(text.to_owned()),
        }
    }
}

/// What is asked of the thread.
enum Request {
    Consult(Box<Consult>),
    Retrieve { question: Question, conversation: Conversation, limit: usize, reply: Reply<Retrieval> },
    Embed { texts: Vec<String>, reply: Reply<Vec<Vec<f32>>> },
}

/// Where an answer goes; closed when nobody waits for it.
struct Reply<T> {
    sender: oneshot::Sender<Result<T, RetrieveError>>,
    /// Its place among the searches, which it has until its work is done or given up.
    _place: OwnedSemaphorePermit,
}

/// One consultation.
pub struct Consult {
    /// What is asked.
    pub question: Question,
    /// What was said before.
    pub conversation: Conversation,
    /// References that the client brings; without them they are retrieved.
    pub references: Option<Vec<Reference>>,
    /// References that are retrieved, and characters of them in the prompt.
    pub limits: Limits,
    /// Who answers; without one only references are given.
    pub generator: Option<AnswerGenerator>,
    /// A place among the searches, where it has none in a model's queue.
    pub place: Option<OwnedSemaphorePermit>,
    /// Where events go; closed when nobody listens.
    pub told: UnboundedSender<Told>,
}

/// Retriever and core, on their thread.
pub struct Consultations {
    inbox: UnboundedSender<Request>,
    /// Searches at once: retrievals, embeddings and consultations without an answer.
    room: Arc<Semaphore>,
    /// What the index is.
    pub index: IndexSummary,
}

/// What an index holds.
#[derive(Clone, Debug)]
pub struct IndexSummary {
    /// Where it is.
    pub place: String,
    /// Records.
    pub records: u64,
    /// Numbers of a vector.
    pub dimensions: usize,
}

/// Why the thread gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// Too many ask at once.
    #[error("too many searches at once")]
    Busy,
    /// The retriever failed.
    #[error("references could not be retrieved: {0}")]
    Retrieve(#[from] RetrieveError),
    /// The thread is gone.
    #[error("the retriever stopped")]
    Stopped,
}

impl Consultations {
    /// Opens encoder and index on a thread of their own, which takes as long as that takes.
    pub fn start(retrieval: &config::Retrieval, most: usize) -> anyhow::Result<Self> {
        let (inbox, requests) = unbounded_channel();
        let (told, opened) = std::sync::mpsc::channel();
        let config::Retrieval { encoder, index } = retrieval.clone();
        let place = index.clone().unwrap_or_else(|| "the sample records".to_owned());
        std::thread::Builder::new().name("consultations".to_owned()).spawn(move || {
            match huatuo_native::retriever(encoder.as_deref(), index.as_deref()) {
                Err(error) => drop(told.send(Err(error))),
                Ok(retriever) => {
                    let dimensions = retriever.encoder().dimensions();
                    let records = u64::from(retriever.index().manifest().records);
                    let _ = told.send(Ok(IndexSummary { place, records, dimensions }));
                    serve(retriever, requests);
                }
            }
        })?;
        Ok(Self { inbox, room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), index: opened.recv()?? })
    }

    /// Whether their thread has ended, which it does in no other way than by failing.
    pub fn are_over(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Begins a consultation, which has a place in a model's queue, among the answers of upstreams or among the searches.
    pub fn consult(&self, consult: Consult) {
        // A thread that is gone drops it, so that its listener hears nothing more.
        let _ = self.inbox.send(Request::Consult(Box::new(consult)));
    }

    /// The references of a question.
    pub async fn retrieve(
        &self,
        question: Question,
        conversation: Conversation,
        limit: usize,
    ) -> Result<Retrieval, RetrievalError> {
        self.ask(|reply| Request::Retrieve { question, conversation, limit, reply }).await
    }

    /// Vectors of texts.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, RetrievalError> {
        self.ask(|reply| Request::Embed { texts, reply }).await
    }

    /// A place among the searches at once.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, RetrievalError> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| RetrievalError::Busy)
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, RetrievalError> {
        let (sender, answer) = oneshot::channel();
        let reply = Reply { sender, _place: self.place()? };
        self.inbox.send(request(reply)).map_err(|_| RetrievalError::Stopped)?;
        Ok(answer.await.map_err(|_| RetrievalError::Stopped)??)
    }
}

fn serve(retriever: HybridRetriever<Encoder<Cpu>>, mut requests: UnboundedReceiver<Request>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        tracing::error!("the consultations' thread could not be started");
        return;
    };
    let retriever = Rc::new(retriever);
    LocalSet::new().block_on(&runtime, async {
        while let Some(request) = requests.recv().await {
            let retriever = Rc::clone(&retriever);
            tokio::task::spawn_local(async move { answer(&retriever, request).await });
        }
    });
}

async fn answer(retriever: &HybridRetriever<Encoder<Cpu>>, request: Request) {
    // An answer that nobody waits for any more is dropped.
    match request {
        Request::Consult(consult) => answer_consult(retriever, *consult).await,
        Request::Retrieve { question, conversation, limit, mut reply } => {
            let found = retriever.retrieve(&question, &conversation, limit, async |_: &str, _: &Reference| ());
            tokio::select! {
                biased;
                () = reply.sender.closed() => {}
                found = found => drop(reply.sender.send(found)),
            }
        }
        Request::Embed { texts, reply } => {
            let mut vectors = Vec::with_capacity(texts.len());
            for text in &texts {
                if reply.sender.is_closed() {
                    return;
                }
                match retriever.encoder().embed(text).await {
                    Ok(vector) => vectors.push(vector),
                    Err(error) => return drop(reply.sender.send(Err(error))),
                }
                tokio::task::yield_now().await; // consultations go on between two texts
            }
            let _ = reply.sender.send(Ok(vectors));
        }
    }
}

async fn answer_consult(retriever: &HybridRetriever<Encoder<Cpu>>, consult: Consult) {
    let told = consult.told.clone();
    tokio::select! {
        result = consultation(retriever, consult) => drop(told.send(match result {
            Ok(consultation) => Told::Done(Box::new(consultation)),
            Err(error) => Told::Failed(error),
        })),
        // Whether it waits for references or in a model's queue: its place is free at once.
        () = told.closed() => {}
    }
}

async fn consultation(
    retriever: &HybridRetriever<Encoder<Cpu>>,
    consult: Consult,
) -> Result<Consultation, ConsultError<RetrieveError, AnswerError>> {
    let Consult { question, conversation, references, limits, mut generator, place: _place, told } = consult;
    let mut listener = Listener(told);
    let generator = generator.as_mut();
    match references {
        None => self::consult(&question, &conversation, retriever, generator, limits, &mut listener).await,
        Some(references) => {
            let given = GivenReferences { references: Cell::new(references), retriever };
            self::consult(&question, &conversation, &given, generator, limits, &mut listener).await
        }
    }
}

/// Sends events on until nobody listens.
struct Listener(UnboundedSender<Told>);

impl Observer for Listener {
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match self.0.send(Told::Event(event.into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// References that a client has retrieved for itself.
struct GivenReferences<'a> {
    references: Cell<Vec<Reference>>,
    retriever: &'a HybridRetriever<Encoder<Cpu>>,
}

impl Retriever for GivenReferences<'_> {
    type Error = RetrieveError;

    async fn retrieve(
        &self,
        question: &Question,
        conversation: &Conversation,
        limit: usize,
        on_best: impl AsyncFnOnce(&str, &Reference),
    ) -> Result<Retrieval, RetrieveError> {
        let query = huatuo_retrieve::standalone_query(question, conversation);
        let mut references = self.references.take();
        references.truncate(limit);
        // The client's retriever is another one, or the same: by the same rule its best one is too far or not.
        let best = references.first().map_or(0.0, |best| best.score);
        let weak = best < self.retriever.calibration().weak_below;
        if let Some(best) = references.first().filter(|_| !weak) {
            on_best(&query, best).await;
        }
        Ok(Retrieval { query, references, weak, embed_ms: 0.0, retrieve_ms: 0.0, recoveries: 0 })
    }

    fn score_sentences(&self, query: &str, sentences: &[&str]) -> Result<Vec<f32>, RetrieveError> {
        self.retriever.score_sentences(query, sentences)
    }
}

/// The host's clock, for the core.
pub fn limits() -> Limits {
    Limits::new(now_ms)
}

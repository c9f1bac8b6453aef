//! Uploading to an S3-compatible server, s3s over a folder, and reading the index back from it over HTTP.

#![allow(clippy::unwrap_used)] // a test that can't go on fails

use std::path::Path;

use huatuo_cluster::{ClusterError, Uploaded, upload};
use huatuo_fetch::Source;
use huatuo_index::{Embed, IndexOptions, IndexWriter, MANIFEST_NAME, Manifest, Record, delete, verify};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

const BUCKET: &str = "consultations";
const KEY: &str = "reader";
const SECRET: &str = "not-a-secret";

/// Anyone may read, as a public index is read; whoever writes signs.
struct PublicReads;

#[async_trait::async_trait]
impl S3Access for PublicReads {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> s3s::S3Result<()> {
        match context.credentials().is_some() || context.s3_op().name() == "GetObject" {
            true => Ok(()),
            false => Err(s3s::s3_error!(AccessDenied)),
        }
    }
}

/// Serves a folder of buckets for as long as the program runs; gives the address.
fn serve(folder: &Path) -> String {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    builder.set_access(PublicReads);
    let service = builder.build();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await
                });
            }
        })
    });
    address
}

fn variables(address: &str, secret: &str) -> impl Iterator<Item = (String, String)> {
    [
        ("AWS_ENDPOINT", address),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_PAGER", ""),
        ("PATH", "/bin"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
}

fn build(folder: &Path) -> Manifest {
    let options = IndexOptions {
        dimensions: 8,
        embed: Embed::Question,
        encoder_name: "made-up".to_owned(),
        encoder_sha256: "00".repeat(32),
        input: "sample".to_owned(),
    };
    let mut writer = IndexWriter::open(options, folder).unwrap();
    for n in 0..500 {
        let question = format!("头痛{n}天怎么办？");
        let record = Record { id: format!("r{n}"), question: question.clone(), ..Record::default() };
        let vector: Vec<f32> = (0..8).map(|d| ((n * 31 + d * 17) as f32).sin()).collect();
        writer.add(&record, &question, &vector).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn an_index_is_uploaded_read_back_and_sent_again_only_where_it_changed() {
    let (buckets, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(buckets.path().join(BUCKET)).unwrap();
    let address = serve(buckets.path());
    let url = format!("s3://{BUCKET}/health/index");
    let send = || upload(index.path(), &url, variables(&address, SECRET));

    let packs = build(index.path()).packs().count();
    let sent = send().unwrap();
    let bytes: u64 = std::fs::read_dir(index.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(sent, Uploaded { sent: packs, kept: 0, bytes });
    let public = format!("{address}/{BUCKET}/health/index");
    let report = pollster::block_on(verify(Source::http(&public))).unwrap();
    assert_eq!(report.records, 500);

    let again = send().unwrap();
    assert_eq!((again.sent, again.kept), (0, packs));
    pollster::block_on(delete(index.path(), &["r7".to_owned()])).unwrap();
    let changed = send().unwrap();
    assert_eq!((changed.sent, changed.kept), (1, packs));
    let report = pollster::block_on(verify(Source::http(&public))).unwrap();
    assert_eq!((report.records, report.deleted), (500, 1));

    let headers = |name: &str| {
        let found = ureq::get(format!("{public}/{name}")).call().unwrap();
        ["cache-control", "content-type"].map(|header| found.headers()[header].to_str().unwrap().to_owned())
    };
    let manifest = Manifest::parse(&std::fs::read(index.path().join(MANIFEST_NAME)).unwrap()).unwrap();
    let pack = manifest.packs().next().unwrap().name.clone();
    assert_eq!(headers(MANIFEST_NAME), ["no-cache", "application/json"]);
    assert_eq!(headers(&pack), ["public, max-age=31536000, immutable, no-transform", "application/octet-stream"]);
}

#[test]
fn an_index_that_lacks_a_pack_and_a_store_that_refuses_say_so_before_the_manifest_changes() {
    let (buckets, index) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(buckets.path().join(BUCKET)).unwrap();
    let address = serve(buckets.path());
    let url = format!("s3://{BUCKET}/index");
    let manifest = build(index.path());

    let refused = upload(index.path(), &url, variables(&address, "another")).unwrap_err();
    assert!(matches!(refused, ClusterError::Store { .. }) && refused.to_string().contains("AWS_"), "{refused}");

    let pack = manifest.packs().next().unwrap().name.clone();
    std::fs::remove_file(index.path().join(&pack)).unwrap();
    let incomplete = upload(index.path(), &url, variables(&address, SECRET)).unwrap_err();
    assert!(matches!(&incomplete, ClusterError::Incomplete { file, .. } if *file == pack), "{incomplete}");
    assert!(!buckets.path().join(BUCKET).join("index").exists());
}

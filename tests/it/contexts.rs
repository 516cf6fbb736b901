//! Contexts of the `nats` tool: how commands on a laptop reach a broker with a login.

use std::fs;

use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Nats, Scratch, Settings, Worker};

const USERS: &str = "authorization { users = [ { user: observer, password: observer }, \
    { user: worker, password: \"s3cr3t/@\" } ] }";

/// A folder with these contexts in it, as the tool writes them, the first of which is selected.
fn folder(contexts: &[(&str, Value)]) -> Scratch {
    let folder = Scratch::new();
    fs::create_dir_all(folder.path().join("nats/context")).unwrap();
    for (name, context) in contexts {
        // The tool writes all keys.
        let mut all = json!({
            "description": "", "url": "", "socks_proxy": "", "token": "", "user": "", "password": "",
            "creds": "", "nkey": "", "cert": "", "key": "", "ca": "", "nsc": "", "jetstream_domain": "",
            "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "", "user_jwt": "",
            "color_scheme": "", "tls_first": false, "windows_ca_certs_match": null
        });
        all.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
        folder.write(&format!("nats/context/{name}.json"), &all.to_string());
    }
    folder.write("nats/context.txt", contexts[0].0);
    folder
}

/// Commands of somebody whose contexts these are.
fn laptop(folder: &Scratch) -> Settings {
    Worker::bare().set("XDG_CONFIG_HOME", folder.path().display())
}

#[tokio::test]
async fn commands_and_the_doctor_reach_a_broker_by_a_context_and_what_is_typed_wins() {
    let nats = Nats::start_with(USERS).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker =
        Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", "s3cr3t/@");
    let _worker = worker.start().await;
    let login = json!({ "url": nats.url(), "user": "worker", "password": "s3cr3t/@" });
    let mut away = login.clone();
    away["url"] = json!("nats://127.0.0.1:1");
    let mut guessed = login.clone();
    guessed["password"] = json!("guessed");
    let folder = folder(&[("prod", login), ("away", away), ("guessed", guessed)]);
    let laptop = laptop(&folder);

    assert_eq!(laptop.run(&format!("queue stats --nats-url {}", nats.url())).await.code, 1, "no login");
    for line in [
        "queue stats --context prod --output json".to_owned(),
        "--context prod queue stats --output json".to_owned(),
        "queue stats --output json --context".to_owned(),
        format!("queue stats --output json --context away --nats-url {}", nats.url()),
        format!(
            "queue stats --output json --context guessed --nats-url nats://worker:s3cr3t%2F%40@127.0.0.1:{}",
            nats.port()
        ),
    ] {
        assert_eq!(laptop.run(&line).await.done()["queues"][0]["pending"], 0, "{line}");
    }
    // The variables of a home without the other folder.
    fs::create_dir_all(folder.path().join(".config")).unwrap();
    fs::rename(folder.path().join("nats"), folder.path().join(".config/nats")).unwrap();
    let home = Worker::bare().set("HOME", folder.path().display());
    assert_eq!(home.run("queue stats --context prod").await.code, 0);
    let refused = home.run("queue stats --context guessed").await;
    assert!(refused.code == 1 && refused.err.contains("refused the credentials"), "{refused:?}");
    assert!(!refused.err.contains("guessed@") && !refused.err.contains("s3cr3t"), "{refused:?}");
    let (code, report) = home.set("gateway_url", gateway.url()).doctor(&["--context", "prod"]).await;
    assert_eq!(code, 0, "{report}");
}

#[tokio::test]
async fn a_seed_and_other_files_of_a_context_are_read() {
    let user = KeyPair::new_user();
    let seed = user.seed().unwrap();
    let login = format!("authorization {{ users = [ {{ nkey: {} }} ] }}", user.public_key());
    let nats = Nats::start_with_login(&login, {
        let seed = seed.clone();
        move || async_nats::ConnectOptions::with_nkey(seed.clone())
    })
    .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).file("nats_nkey_file", &seed).start().await;
    let folder =
        folder(&[("seed", json!({ "url": nats.url(), "nkey": "~/seed.nk", "inbox_prefix": "_INBOX_me" }))]);
    folder.write("seed.nk", &seed);
    let laptop = laptop(&folder).set("HOME", folder.path().display());
    assert_eq!(laptop.run("queue stats --context seed").await.code, 0);
}

#[tokio::test]
async fn what_a_context_cannot_mean_here_is_named() {
    let folder = folder(&[
        (
            "proxied",
            json!({ "url": "nats://n:1", "socks_proxy": "socks5://p:1", "jetstream_api_prefix": "JS.x" }),
        ),
        ("later", json!({ "url": "nats://n:1", "invented": "s3cr3t" })),
        ("wrong", json!({ "url": "http://n:1" })),
    ]);
    folder.write("nats/context/broken.json", "{\"password\":\"s3cr3t\"");
    let laptop = laptop(&folder);
    for (line, said) in [
        ("queue stats --context proxied", &["context proxied", "socks_proxy", "jetstream_api_prefix"][..]),
        ("queue stats --context later", &["context later", "invented"]),
        ("queue stats --context wrong", &["context wrong, url", "expected"]),
        ("queue stats --context broken", &["broken.json", "JSON"]),
        ("queue stats --context nobody", &["nobody.json", "broken, later, proxied, wrong"]),
        ("queue stats --context ../x", &["no path"]),
        ("queue stats --context", &["context proxied", "socks_proxy"]),
    ] {
        let ran = laptop.run(line).await;
        assert!(ran.code == 64 && said.iter().all(|text| ran.err.contains(text)), "{line}: {ran:?}");
        assert!(!ran.err.contains("s3cr3t"), "{line}: {ran:?}");
    }
    let homeless = Worker::bare().run("queue stats --context x").await;
    assert!(homeless.code == 64 && homeless.err.contains("HOME"), "{homeless:?}");
}

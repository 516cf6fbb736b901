//! The documents: what they list is there, and their links lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::read;

/// What people read: the paths of all documents, from the root.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "chart/queue-worker/README.md"]
            .map(PathBuf::from)
            .into();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            documents.push(Path::new("docs").join(name));
        }
    }
    assert!(documents.len() > 4);
    documents
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What a document's headings are called in links to it, as GitHub makes it.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let mut anchors = Vec::new();
    for heading in headings {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    anchors
}

/// Where the links in a text lead that stay in the repository.
fn links(text: &str) -> Vec<&str> {
    // One that does not end on its line is broken, and leads nowhere as it stands.
    let targets = prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .map(|rest| rest.split_once(')').map_or(rest, |(target, _)| target));
    targets.filter(|target| !target.contains("://")).collect()
}

/// What is wrong with a link from a document, if anything is.
fn fault(document: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists() {
        return Some(format!("{}: there is no {link}", document.display()));
    }
    let leads =
        anchor.is_empty() || anchors(&read(target.to_str().unwrap())).iter().any(|known| known == anchor);
    (!leads).then(|| format!("{}: nothing is called {link}", document.display()))
}

#[test]
fn the_charts_own_tests_know_how_many_alerts_there_are() {
    let alerts = read("chart/queue-worker/files/alerts.yaml").matches("- alert: ").count();
    let tests = read("chart/queue-worker/tests/watching_test.yaml");
    assert!(
        alerts > 10 && tests.contains(&format!("\"spec.groups[0].rules\", count: {alerts}}}")),
        "{alerts} alerts"
    );
}

#[test]
fn the_links_in_the_documents_lead_somewhere() {
    let mut faults = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let text = read(document.to_str().unwrap());
        followed += links(&text).len();
        faults.extend(links(&text).into_iter().filter_map(|link| fault(&document, link)));
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(followed > 20, "{followed}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text = "# A `b`, c\n## A b c\n```sh\n# no heading [x](nowhere.md)\n```\n[one](docs/none.md) \
        [two](#a-b-c-1), [three](https://example.com/#x) ![four](#d) [five](f.md";
    assert_eq!(anchors(text), ["a-b-c", "a-b-c-1"]);
    assert_eq!(links(text), ["docs/none.md", "#a-b-c-1", "#d", "f.md"]);
    let readme = Path::new("README.md");
    assert_eq!(fault(readme, "docs/none.md").as_deref(), Some("README.md: there is no docs/none.md"));
    assert_eq!(
        fault(readme, "docs/operating.md#none").as_deref(),
        Some("README.md: nothing is called docs/operating.md#none")
    );
    assert_eq!(fault(readme, "docs/operating.md#alerts"), None);
}

//! The binary as an administrator uses it: real processes, real TLS on loopback.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader, PipeWriter};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use fusiondp_dp::Digest;
use serde_json::Value;

const STUDY: &str = include_str!("data/study.toml");

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusiondp-coordinator"));
    command.env_remove("FUSIONDP_ADMIN").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must fail with this exit code.
fn stderr(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A pipe that nobody reads.
fn closed_pipe() -> PipeWriter {
    std::io::pipe().unwrap().1
}

/// What a folder holds, sorted.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

/// Kits of a consortium with two sites, and its coordinator's port.
struct Kits {
    _folder: tempfile::TempDir,
    root: PathBuf,
    port: u16,
}

impl Kits {
    fn provision() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let consortium = format!(
            "name = \"tests\"\n[coordinator]\nlisten = \"127.0.0.1:{port}\"\nurl = \"https://127.0.0.1:{port}\"\n\
             [[sites]]\nid = \"a\"\ntitle = \"A\"\ncontact = \"it@a.example\"\n\
             [[sites]]\nid = \"b\"\ntitle = \"B\"\ncontact = \"it@b.example\"\n"
        );
        fs::write(root.join("consortium.toml"), consortium).unwrap();
        let said =
            stdout(&["provision", text(&root.join("consortium.toml")), "--out", text(&root.join("kits"))]);
        assert!(said.contains("sites/a"), "{said}");
        Self { _folder: folder, root, port }
    }

    fn path(&self, part: &str) -> String {
        text(&self.root.join("kits").join(part)).to_owned()
    }

    fn serve(&self) -> Server {
        let mut command = binary();
        command.args(["serve", "--config", &self.path("coordinator/coordinator.toml")]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("coordinator is ready") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the coordinator has ended");
        }
        // Somebody has to read on, or the coordinator's log has nowhere to go.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Server { child }
    }
}

/// A coordinator process, killed with the test.
struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_administrator_submits_lists_and_stops_a_study() {
    let kits = Kits::provision();
    let _server = kits.serve();
    let admin = kits.path("admin");
    let document = kits.root.join("study.toml");
    fs::write(&document, STUDY).unwrap();

    let id = stdout(&["study", "submit", text(&document), "--admin", &admin]).trim().to_owned();
    assert!(id.starts_with("small-"), "{id}");
    assert_eq!(stdout(&["study", "submit", text(&document), "--admin", &admin]).trim(), id);

    let list: Value = serde_json::from_str(&stdout(&["study", "list", "--json", "--admin", &admin])).unwrap();
    assert_eq!(list[0]["study_id"], id.as_str());
    assert!(stdout(&["study", "list", "--admin", &admin]).contains("enrolling"));
    let status: Value =
        serde_json::from_str(&stdout(&["study", "status", &id, "--json", "--admin", &admin])).unwrap();
    assert_eq!(
        (&status["round"], &status["rounds"], &status["state"]),
        (&0.into(), &6.into(), &"enrolling".into())
    );
    assert_eq!(status["sites"][1]["site_id"], "b");
    assert!(stdout(&["study", "status", &id, "--admin", &admin]).contains("invited"));

    let sites: Value = serde_json::from_str(&stdout(&["sites", "--json", "--admin", &admin])).unwrap();
    assert_eq!((&sites[0]["site_id"], &sites[0]["connected"]), (&"a".into(), &false.into()));
    assert!(stdout(&["sites", "--admin", &admin]).contains("never"));

    assert!(stdout(&["study", "stop", &id, "--admin", &admin]).contains("ends"));
    assert!(stdout(&["study", "watch", &id, "--admin", &admin]).contains("stopped"));
    let out = kits.root.join("report");
    let missing = stderr(1, &["study", "export", "no-such", "--out", text(&out), "--admin", &admin]);
    assert!(missing.contains("unknown-study") && !out.exists(), "{missing}");
    fs::create_dir(&out).unwrap();
    for stale in ["model.onnx", "study.toml"] {
        fs::write(out.join(stale), "of another study").unwrap();
    }
    fs::write(out.join("notes.txt"), "mine").unwrap();
    let mut unread = binary();
    let unread = unread.args(["study", "export", &id, "--out", text(&out), "--admin", &admin]);
    assert!(unread.stdout(closed_pipe()).status().unwrap().success());
    assert_eq!(names(&out), ["notes.txt", "report.html", "report.json", "study.toml"]);
    let written = stdout(&["study", "export", &id, "--out", text(&out), "--admin", &admin]);
    assert_eq!(written.lines().count(), 3, "{written}");
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["study"]["state"], "stopped");
    assert_eq!(fs::read_to_string(out.join("study.toml")).unwrap(), STUDY);

    // Each refusal is one line with a reason, and exit code 1.
    let unknown = stderr(1, &["study", "status", "no-such", "--admin", &admin]);
    assert!(unknown.contains("unknown-study") && unknown.trim().lines().count() == 1, "{unknown}");
    fs::write(&document, STUDY.replace("rounds = 6", "rounds = 0")).unwrap();
    let invalid = stderr(1, &["study", "submit", text(&document), "--admin", &admin]);
    assert!(invalid.contains("rounds"), "{invalid}");
}

#[test]
fn a_watcher_outlives_a_restart_of_the_coordinator() {
    let kits = Kits::provision();
    let server = kits.serve();
    let admin = kits.path("admin");
    let document = kits.root.join("study.toml");
    fs::write(&document, STUDY).unwrap();
    let id = stdout(&["study", "submit", text(&document), "--admin", &admin]).trim().to_owned();
    let mut watch = binary();
    watch.args(["study", "watch", &id, "--admin", &admin]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.by_ref().find(|line| line.contains("enrolling")).unwrap();
    // SIGKILL: the stream breaks in the middle.
    drop(server);
    lines.by_ref().find(|line| line.contains("trying again")).unwrap();
    let _server = kits.serve();
    stdout(&["study", "stop", &id, "--admin", &admin]);
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("stopped by an administrator")), "{rest:?}");
    assert!(watch.wait().unwrap().success());
    let unknown = stderr(1, &["study", "watch", "no-such", "--admin", &admin]);
    assert!(unknown.contains("unknown-study"), "{unknown}");
}

#[test]
fn a_second_coordinator_and_a_site_in_disguise_are_told_why_not() {
    let kits = Kits::provision();
    let server = kits.serve();
    let config = kits.path("coordinator/coordinator.toml");
    let same_state = stderr(1, &["serve", "--config", &config]);
    assert!(same_state.contains("in use by another coordinator"), "{same_state}");
    let mut elsewhere = binary();
    let other = elsewhere
        .args(["serve", "--config", &config])
        .env("FUSIONDP_COORDINATOR__STATE_DIR", kits.path("other"));
    let busy = other.output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
    let busy = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(busy.contains(&kits.port.to_string()) && busy.contains("listen"), "{busy}");

    // The site's kit in place of the admin's.
    let disguise = kits.root.join("disguise");
    fs::create_dir(&disguise).unwrap();
    fs::copy(kits.path("admin/admin.toml"), disguise.join("admin.toml")).unwrap();
    for (from, to) in [("site.pem", "admin.pem"), ("site.key", "admin.key"), ("ca.pem", "ca.pem")] {
        fs::copy(kits.path(&format!("sites/a/{from}")), disguise.join(to)).unwrap();
    }
    let refused = stderr(1, &["study", "list", "--admin", text(&disguise)]);
    assert!(refused.contains("wrong-role"), "{refused}");
    drop(server);
    let gone = stderr(1, &["study", "list", "--admin", &kits.path("admin")]);
    assert!(gone.contains("cannot reach the coordinator"), "{gone}");
}

#[test]
fn wrong_usage_and_wrong_configuration_are_told_apart() {
    assert!(stderr(2, &["study", "submit"]).contains("STUDY.toml"));
    assert!(stderr(2, &["nonsense"]).contains("nonsense"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("coordinator.toml");
    fs::write(&config, "listen = \"127.0.0.1:1\"\nlimit = 3\n").unwrap();
    assert!(stderr(1, &["serve", "--config", text(&config)]).contains("limit"));
    let kit = stderr(1, &["study", "list", "--admin", text(folder.path())]);
    assert!(kit.contains("admin.toml"), "{kit}");
}

#[test]
fn a_study_is_checked_and_its_plan_previewed_without_a_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("study.toml");
    fs::write(&document, STUDY).unwrap();
    let said = stdout(&["study", "check", text(&document)]);
    assert!(said.contains("valid") && said.contains("ready to be submitted"), "{said}");
    let said = stdout(&["study", "check", text(&document), "--units", "100,100", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["plan"]["total_units"], 200);
    assert_eq!(report["plan"]["sampling_probability"], 0.08);
    assert!(
        report["plan"]["epsilon_replace"].as_f64().unwrap()
            > report["plan"]["epsilon_zero_out"].as_f64().unwrap()
    );
    let few = stderr(1, &["study", "check", text(&document), "--units", "3"]);
    assert!(few.contains("enrolled sites: 1, [federation] min_sites = 2"), "{few}");
}

#[test]
fn an_accountant_plans_and_checks_without_a_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let flags =
        ["--noise-multiplier", "1.04736", "--sampling-probability", "0.0089554327", "--delta", "1e-5"];
    let events = r#"{"parts": [{"noise_multiplier": 1.04736, "sampling_rate": 0.0089554327, "steps": 1451}], "delta": 1e-5}"#;
    fs::write(file("events.json"), events).unwrap();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&stdout(&[&["accountant"], arguments, &["--json"]].concat())).unwrap()
    };
    let by_flags = json(&[&["epsilon", "--steps", "1451"], &flags[..]].concat());
    assert_eq!(by_flags, json(&["epsilon", "--events", text(&file("events.json"))]));
    for (relation, epsilon) in [("replace", 2.8864), ("zero_out", 1.7759)] {
        let row = &by_flags["relations"][relation];
        let (upper, lower) =
            (row["epsilon"].as_f64().unwrap(), row["certified_lower_bound"].as_f64().unwrap());
        assert!((upper / epsilon - 1.0).abs() < 5e-4 && lower < upper && lower > 0.995 * upper, "{row}");
        assert!((row["largest_odds_factor"].as_f64().unwrap() / upper.exp() - 1.0).abs() < 1e-9);
    }
    // What one calibrates, the other confirms.
    let steps = json(&[&["calibrate", "--epsilon", "2.887"], &flags[..]].concat())["steps"].as_u64().unwrap();
    assert!((1450..1455).contains(&steps), "{steps}");

    let (plot, trade_off) = (file("profile.svg"), file("trade-off.svg"));
    let drawings = ["--plot", text(&plot), "--trade-off", text(&trade_off)];
    let said = stdout(&[&["accountant", "curve", "--steps", "1451"], &flags[..], &drawings[..]].concat());
    assert!(said.contains("hits minus false alarms, at most") && said.contains("1.0e-5"), "{said}");
    for drawing in [plot, trade_off] {
        let svg = fs::read_to_string(drawing).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains(">replace<") && svg.contains(">zero_out<"), "{svg}");
    }
}

#[test]
fn an_accountant_refuses_what_it_cannot_account_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.json");
    let part = |noise: &str, more: &str| {
        format!(
            r#"{{"parts": [{{"noise_multiplier": {noise}, "sampling_rate": 0.5, "steps": 3{more}}}], "delta": 1e-5}}"#
        )
    };
    for (content, says) in [
        (part("0", ""), "noise_multiplier is 0"),
        (part("1", ", \"free\": true"), "unknown field `free`"),
        (part("1", "").replace(", \"delta\": 1e-5", ""), "has no delta; add it or give --delta"),
        (r#"{"parts": [], "delta": 1e-5}"#.to_owned(), "parts is empty"),
    ] {
        fs::write(&path, content).unwrap();
        let said = stderr(1, &["accountant", "epsilon", "--events", text(&path)]);
        assert!(said.contains("events.json") && said.contains(says), "{said}");
    }
    let said = stderr(1, &["accountant", "epsilon", "--steps", "3", "--delta", "1e-5"]);
    assert!(said.contains("give --noise-multiplier, --sampling-probability and --steps"), "{said}");
    let said = stderr(1, &["accountant", "calibrate", "--epsilon", "1", "--delta", "1e-5", "--steps", "3"]);
    assert!(said.contains("give two of"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("study.toml");
    fs::write(&document, STUDY).unwrap();
    let output = binary().args(["study", "check", text(&document)]).stdout(closed_pipe()).output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_error_that_nobody_reads_still_has_its_exit_code() {
    let mut check = binary();
    let status = check.args(["study", "check", "/no/such/study.toml"]).stderr(closed_pipe()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn an_error_tells_its_cause_once() {
    let said = stderr(1, &["study", "check", "/no/such/study.toml"]);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn an_imputer_is_fitted_pinned_and_repeatable() {
    let folder = tempfile::tempdir().unwrap();
    let (document, csv) = (folder.path().join("study.toml"), folder.path().join("support.csv"));
    fs::write(&document, STUDY).unwrap();
    let rows = (0..200).map(|row| format!("p{row},{0},{0}\n", f64::from(row) / 200.0));
    fs::write(&csv, format!("id,a,s\n{}", rows.collect::<String>())).unwrap();
    let fit = |name: &str| {
        let out = folder.path().join(name);
        let said = stdout(&[
            "imputer",
            "fit",
            "--schema",
            text(&document),
            "--support",
            text(&csv),
            "--epochs",
            "40",
            "--out",
            text(&out),
        ]);
        (said, fs::read(out).unwrap())
    };
    let (said, model) = fit("made/one.onnx");
    assert!(said.contains("200 support records") && said.contains("R2 0.9"), "{said}");
    assert!(said.contains(&format!("sha256 = \"{}\"", Digest::of(&model))), "{said}");
    assert_eq!(fit("two.onnx").1, model, "the same options and data give the same file");
    let into = ["--support", text(&csv), "--out", text(folder.path())];
    let folder_named = stderr(1, &[&["imputer", "fit", "--schema", text(&document)], &into[..]].concat());
    assert!(folder_named.contains("is a folder"), "{folder_named}");
    fs::write(&csv, "id,a\np1,0.5\n").unwrap();
    let out = folder.path().join("three.onnx");
    let missing = stderr(
        1,
        &["imputer", "fit", "--schema", text(&document), "--support", text(&csv), "--out", text(&out)],
    );
    assert!(missing.contains("no column s") && !out.exists(), "{missing}");
}

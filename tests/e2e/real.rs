//! Real programs, on every tier: whatever they do, it adds up.

use crate::program::Tier;
use crate::program::Timesink;
use crate::program::installed;
use crate::program::timesink;
use crate::report::assert_adds_up;
use crate::report::assert_no_run_missed;
use crate::report::number;
use crate::report::rows;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Records a script on every tier there is. `fill` puts files into its working directory.
fn on_each_tier(
    needs: &[&str],
    fill: impl Fn(&Path),
    command: &[&str],
    examine: impl Fn(Tier, &Value),
) {
    if !installed(needs) {
        return;
    }
    for tier in Tier::here() {
        let recording = Timesink::on(tier);
        fill(recording.place());
        let run = recording.record(command);
        assert_eq!(run.code(), 0, "{command:?} on {tier:?}:\n{}", run.stderr);
        assert_adds_up(&run.report);
        if tier == Tier::Kernel {
            let health = &run.report["health"];
            assert_no_run_missed(&run.report);
            assert_eq!(number(health, "/lost_records"), 0, "{command:?}: {health}");
            let unknown = number(health, "/unknown_ns");
            let all = number(&run.report, "/budget/thread_ns");
            assert!(unknown * 100 <= all, "{command:?}: {} {health}", run.report["budget"]);
        }
        examine(tier, &run.report);
    }
}

fn nothing(_: &Path) {}

fn any(_: Tier, _: &Value) {}

#[test]
fn a_bash_pipeline() {
    on_each_tier(
        &["bash", "find", "xz"],
        nothing,
        &[
            "bash",
            "-c",
            "find /usr/include /usr/share/doc -print 2>/dev/null | head -c 3000000 | xz -T2 -6 | wc -c",
        ],
        |tier, report| {
            if tier.name() != "proc" {
                assert!(rows(report, "/processes").len() >= 5, "{}", report["processes"]);
            }
        },
    );
}

#[test]
fn python_with_threads() {
    let program = "import threading, time, queue\n\
        q = queue.Queue(8)\n\
        def spin(n):\n    \x20   while n: n -= 1\n\
        def feed():\n    \x20   [(q.put(i), time.sleep(0.002)) for i in range(100)]\n\
        def eat():\n    \x20   [q.get() for i in range(100)]\n\
        ts = [threading.Thread(target=spin, args=(2000000,)) for _ in range(2)]\n\
        ts += [threading.Thread(target=feed), threading.Thread(target=eat)]\n\
        [t.start() for t in ts]; [t.join() for t in ts]\n";
    let python = ["/usr/bin/python3"];
    on_each_tier(&python, nothing, &[python[0], "-c", program], |tier, report| {
        if tier.name() != "proc" {
            assert_eq!(rows(report, "/threads").len(), 5, "{tier:?}");
        }
    });
}

#[test]
fn sysbench_threads_and_cpu() {
    let common = ["sysbench", "--time=1", "--threads=4"];
    for test in [&["threads", "run"][..], &["cpu", "run"], &["mutex", "run"]] {
        let command: Vec<&str> = common.iter().chain(test).copied().collect();
        on_each_tier(&["sysbench"], nothing, &command, any);
    }
}

#[test]
fn git_and_grep() {
    let tree = env!("CARGO_MANIFEST_DIR");
    let script = format!(
        "git -c safe.directory='*' -C {tree} log --stat --oneline 2>/dev/null | tail -n 1; \
         grep -rc nanosecond {tree}/src 2>/dev/null | sort -t: -k2 -n | tail -n 1"
    );
    on_each_tier(&["git", "grep"], nothing, &["bash", "-c", &script], any);
}

#[test]
fn nginx_under_load() {
    // A web server as the command, driven for a second and then asked to end.
    let fill = |place: &Path| {
        for directory in ["logs", "html", "temp"] {
            fs::create_dir(place.join(directory)).expect("ours");
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(place.join(directory), open).expect("ours");
        }
        fs::write(place.join("html/index.html"), "x".repeat(4096)).expect("ours");
        let port = free_port();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path temp/{name}; "))
            .concat();
        let config = format!(
            "worker_processes 2; pid logs/pid; error_log logs/error; daemon off;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log logs/access; {temp}\n\
             server {{ listen 127.0.0.1:{port}; root html; }} }}\n"
        );
        fs::write(place.join("nginx.conf"), config).expect("ours");
        let drive = format!(
            "nginx -p $PWD -c nginx.conf -e logs/error & n=$!\n\
             i=0; while [ ! -s logs/pid ] && [ $i -lt 100 ]; do sleep 0.02; i=$((i+1)); done\n\
             wrk -t1 -c8 -d1s http://127.0.0.1:{port}/ | grep -c 'Requests/sec'\n\
             kill -QUIT $n; wait $n\n"
        );
        fs::write(place.join("drive.sh"), drive).expect("ours");
    };
    let path = format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default());
    let script = format!("PATH={path}; . ./drive.sh");
    on_each_tier(&["/usr/sbin/nginx", "wrk"], fill, &["bash", "-c", &script], any);
}

/// A process that ends because another one told it to goes on after its last wait, to its end, which
/// somebody else may wait for: the run can be replayed.
#[test]
fn a_script_that_ends_what_it_started_is_replayed() {
    if !installed(&["bash"]) || !Tier::Kernel.available() {
        return;
    }
    let script = "sleep 100 & p=$!; sleep 0.3; kill $p; wait $p; exit 0";
    let run = Timesink::on(Tier::Kernel).record(&["bash", "-c", script]);
    let trace = run.out().join("trace.timesink").display().to_string();
    let asked = ["whatif", &trace, "--change", "cpus=4", "--format", "json"];
    let (code, answer, complaint) = timesink(&asked);
    assert_eq!(code, 0, "{complaint}");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert!(answer["refused"].is_null(), "{answer}");
    let error = answer["identity"]["error"].as_f64().expect("a replay");
    assert!(error.abs() < 0.02, "{answer}");
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}

#[test]
fn a_cargo_build() {
    if !installed(&["cargo"]) {
        return;
    }
    // Offline and without dependencies; the ordinary user may not reach root's toolchain.
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        let recording = Timesink::on(tier);
        let place = recording.place();
        fs::create_dir_all(place.join("src")).expect("ours");
        let manifest =
            "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
        fs::write(place.join("Cargo.toml"), manifest).expect("ours");
        let code = "use std::collections::BTreeMap;\nfn main() { let m: BTreeMap<u32, String> = \
            (0..9).map(|i| (i, format!(\"{i:?}\"))).collect(); println!(\"{m:?}\"); }\n";
        fs::write(place.join("src/main.rs"), code).expect("ours");
        let run = recording.record(&["cargo", "build", "--offline", "--quiet", "--release"]);
        assert_eq!(run.code(), 0, "{tier:?}: {}", run.stderr);
        assert_adds_up(&run.report);
        if tier == Tier::Kernel {
            let processes = rows(&run.report, "/processes");
            assert!(
                processes.iter().any(|row| row["name"] == "rustc"),
                "{}",
                run.report["processes"]
            );
            assert_no_run_missed(&run.report);
        }
    }
}

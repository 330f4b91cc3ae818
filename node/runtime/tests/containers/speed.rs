//! How long a container's life takes, and what a shim weighs. Run by hand, on a quiet machine:
//! `cargo nextest run -p corten-runtime speed --run-ignored only --no-capture`.

use std::time::{Duration, Instant};

use crate::place::{Place, ended};

const ROUNDS: usize = 20;

fn median(times: &mut [Duration]) -> String {
    times.sort();
    format!("{:.1} ms (least {:.1})", millis(times[times.len() / 2]), millis(times[0]))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[ignore = "prints figures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_of_pods_and_containers() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    let state = engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..ROUNDS {
        let id = format!("c{round}");
        let begun = Instant::now();
        engine.start_container(place.container(&id, &["/testbox", "exit", "0"])).await.expect("starts");
        times[0].push(begun.elapsed());
        ended(&mut events, &id).await;
        let over = Instant::now();
        engine.remove_container("u", &id).await.expect("removed");
        times[1].push(over.elapsed());
        times[2].push(begun.elapsed());
    }
    for round in 0..ROUNDS {
        let uid = format!("p{round}");
        let begun = Instant::now();
        engine.create_pod(Place::pod(&uid)).await.expect("a pod");
        times[3].push(begun.elapsed());
        let over = Instant::now();
        engine.remove_pod(&uid).await.expect("removed");
        times[4].push(over.elapsed());
    }
    let names = ["start", "remove", "start, end, remove", "pod", "remove pod"];
    for (name, times) in names.iter().zip(&mut times) {
        println!("{name}: {}", median(times));
    }
    engine.start_container(place.container("idle", &["testbox", "sleep"])).await.expect("starts");
    let shim = state.netns.expect("a network namespace");
    let rollup = std::fs::read_to_string(shim.with_file_name("").join("../smaps_rollup")).expect("memory");
    let pss = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a sum");
    println!("shim with one container: {pss}");
}

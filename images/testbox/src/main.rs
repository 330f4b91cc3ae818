//! The application that all tests run in containers: one static binary, many small programs.
//!
//! Without arguments it serves until stopped. It uses nothing but the standard library (and `signal(2)`), so that
//! a container of it needs no file but `/testbox` (and a link to it called `tar`, for `kubectl cp`).

#![allow(unsafe_code, clippy::disallowed_methods, reason = "a test program that ends itself and asks its environment")]

mod burn;
mod dns;
mod fetch;
mod files;
mod serve;
mod signals;
mod tar;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: testbox COMMAND
  serve                     HTTP on $PORT (8080), TCP echo on $TCP_PORT (7000), UDP echo on $UDP_PORT (7001)
  exit N                    exit with code N
  sleep [SECONDS]           sleep, forever if no number is given
  echo TEXT...              print TEXT
  env                       print the environment
  cat FILE...               print files
  ls FOLDER                 list a folder
  write FILE TEXT           write a file
  get URL [N]               fetch http://HOST[:PORT]/PATH N times, print the bodies
  load URL SECONDS [MS]     fetch again and again, print `N ok, M failed`; exits 1 if any failed
  resolve NAME [SERVER]     ask DNS for A records, through resolv.conf's search list
  tcp HOST:PORT TEXT        send TEXT, print the answer
  udp HOST:PORT TEXT        the same over UDP
  signals                   print every signal that can be caught, stop on none but SIGKILL
  stubborn                  ignore SIGTERM
  cat-stdin                 copy stdin to stdout until its end
  cpu [SECONDS]             burn one core
  memory MIB                take so much memory, then sleep
  log N [BYTES]             print N numbered lines of BYTES bytes
  id                        print user, groups and capabilities
  tar cf - PATH | xf -      pack and unpack files, for `kubectl cp`; also by the name `tar`
  shell                     a tiny prompt: `exit N`, `tty`, else echo (for exec -it)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let is_tar = std::env::args().next().is_some_and(|name| name.rsplit('/').next() == Some("tar"));
    match if is_tar { tar::run(&args) } else { run(&words) } {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbox: {error}");
            ExitCode::from(1)
        }
    }
}

/// Errors end up as one line for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn run(words: &[&str]) -> Result<u8> {
    match words {
        [] | ["serve"] => serve::run().map(|()| 0),
        ["exit", code] => Ok(code.parse()?),
        ["sleep"] => sleep(None),
        ["sleep", seconds] => sleep(Some(seconds.parse()?)),
        ["echo", text @ ..] => {
            println!("{}", text.join(" "));
            Ok(0)
        }
        ["env"] => {
            std::env::vars().for_each(|(name, value)| println!("{name}={value}"));
            Ok(0)
        }
        ["cat", paths @ ..] => files::cat(paths),
        ["ls", folder] => files::list(folder),
        ["write", path, text] => files::write(path, text),
        ["get", url] => fetch::get(url, 1),
        ["get", url, count] => fetch::get(url, count.parse()?),
        ["load", url, seconds] => fetch::load(url, seconds.parse()?, 0),
        ["load", url, seconds, pause] => fetch::load(url, seconds.parse()?, pause.parse()?),
        ["resolve", name] => dns::resolve(name, None),
        ["resolve", name, server] => dns::resolve(name, Some(server)),
        ["tcp", address, text] => fetch::tcp(address, text),
        ["udp", address, text] => fetch::udp(address, text),
        ["signals"] => signals::print_all(),
        ["stubborn"] => signals::ignore_term(),
        ["cat-stdin"] => Ok(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).map(|_| 0)?),
        ["cpu"] => burn::cpu(u64::MAX),
        ["cpu", seconds] => burn::cpu(seconds.parse()?),
        ["memory", mib] => burn::memory(mib.parse()?),
        ["log", count] => burn::log(count.parse()?, 40),
        ["log", count, bytes] => burn::log(count.parse()?, bytes.parse()?),
        ["id"] => files::identity(),
        ["tar", words @ ..] => tar::run(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()),
        ["shell"] => files::shell(),
        _ => Err(USAGE.into()),
    }
}

fn sleep(seconds: Option<f64>) -> Result<u8> {
    match seconds {
        Some(seconds) => std::thread::sleep(Duration::try_from_secs_f64(seconds)?),
        None => loop {
            std::thread::park();
        },
    }
    Ok(0)
}

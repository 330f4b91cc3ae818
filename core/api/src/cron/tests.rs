use jiff::tz::TimeZone;

use super::*;

fn check(text: &str) -> Result<(), String> {
    Schedule::parse(text).map(drop)
}

#[test]
fn what_upstream_accepts_is_accepted() {
    for text in [
        "* * * * *",
        "*/5 0-23/2 1,15 jan-DEC mon-fri",
        "0 0 ? * 0",
        "5/15 * * * *",
        "@daily",
        "@every 1h30m",
        "@every 1.5s",
        "TZ=Europe/Vienna 0 4 * * *",
        "CRON_TZ=UTC @hourly",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

#[test]
fn mistakes_are_told_in_the_words_that_users_know() {
    let mut lines = Vec::new();
    for text in [
        "error",
        "* * * *",
        "60 * * * *",
        "* * 0 * *",
        "* * * * 7",
        "5-1 * * * *",
        "*/0 * * * *",
        "1/2/3 * * * *",
        "1-2-3 * * * *",
        "-1 * * * *",
        "a * * * *",
        "@never",
        "@every x",
        "@every 5",
        "@every 99999999999h",
        "TZ=Nowhere/City * * * * *",
    ] {
        lines.push(format!("{text} | {}", check(text).expect_err("is wrong")));
    }
    expect_test::expect![[r#"
        error | expected exactly 5 fields, found 1: [error]
        * * * * | expected exactly 5 fields, found 4: [* * * *]
        60 * * * * | end of range (60) above maximum (59): 60
        * * 0 * * | beginning of range (0) below minimum (1): 0
        * * * * 7 | end of range (7) above maximum (6): 7
        5-1 * * * * | beginning of range (5) beyond end of range (1): 5-1
        */0 * * * * | step of range should be a positive number: */0
        1/2/3 * * * * | too many slashes: 1/2/3
        1-2-3 * * * * | too many hyphens: 1-2-3
        -1 * * * * | failed to parse int from : strconv.Atoi: parsing "": invalid syntax
        a * * * * | failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax
        @never | unrecognized descriptor: @never
        @every x | failed to parse duration @every x: time: invalid duration "x"
        @every 5 | failed to parse duration @every 5: time: missing unit in duration "5"
        @every 99999999999h | failed to parse duration @every 99999999999h: time: invalid duration "99999999999h"
        TZ=Nowhere/City * * * * * | provided bad location Nowhere/City: unknown time zone Nowhere/City"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn zones_are_known_by_their_exact_names() {
    for (name, known) in
        [("UTC", true), ("Etc/UTC", true), ("America/New_York", true), ("america/new_york", false), ("Mars", false)]
    {
        assert_eq!(zone(name).is_some(), known, "{name}");
    }
}

/// The next three times after a wall time of a zone.
fn times(schedule: &str, zone_name: &str, after: &str) -> String {
    let (schedule, zone) = (Schedule::parse(schedule).expect("a schedule"), zone(zone_name).expect("a zone"));
    let mut time = after.parse::<Timestamp>().expect("a time");
    let mut all = Vec::new();
    for _ in 0..3 {
        match schedule.next(time, &zone) {
            Some(next) => time = next,
            None => break,
        }
        all.push(time.to_zoned(zone.clone()).strftime("%a %F %H:%M:%S %Z").to_string());
    }
    all.join(", ")
}

#[test]
fn times_are_those_of_the_wall_clock() {
    let lines = [
        times("* * * * *", "UTC", "2026-01-01T00:00:30Z"),
        times("*/20 * * * *", "UTC", "2026-12-31T23:20:00Z"),
        times("30 6-16/4 * * 1-5", "UTC", "2026-01-02T12:00:00Z"),
        times("0 0 13 * 5", "UTC", "2026-02-01T00:00:00Z"),
        times("0 0 13 * */2", "UTC", "2026-02-08T00:00:00Z"),
        times("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z"),
        times("59 23 31 2 *", "UTC", "2026-01-01T00:00:00Z"),
        times("@monthly", "Europe/Vienna", "2026-01-15T00:00:00Z"),
        times("TZ=Asia/Tokyo 0 9 * * *", "UTC", "2026-01-15T00:00:00Z"),
        times("@every 90m", "UTC", "2026-01-15T00:00:10Z"),
        // The clocks go forward on 29 March and back on 25 October.
        times("30 2 * * *", "Europe/Vienna", "2026-03-28T00:00:00Z"),
        times("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z"),
        times("0 * * * *", "Europe/Vienna", "2026-03-29T00:00:00Z"),
        // Half an hour, and a day that begins at one o'clock.
        times("*/30 2 * * *", "Australia/Lord_Howe", "2026-10-03T14:00:00Z"),
        times("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z"),
    ];
    expect_test::expect![[r#"
        Thu 2026-01-01 00:01:00 UTC, Thu 2026-01-01 00:02:00 UTC, Thu 2026-01-01 00:03:00 UTC
        Thu 2026-12-31 23:40:00 UTC, Fri 2027-01-01 00:00:00 UTC, Fri 2027-01-01 00:20:00 UTC
        Fri 2026-01-02 14:30:00 UTC, Mon 2026-01-05 06:30:00 UTC, Mon 2026-01-05 10:30:00 UTC
        Fri 2026-02-06 00:00:00 UTC, Fri 2026-02-13 00:00:00 UTC, Fri 2026-02-20 00:00:00 UTC
        Tue 2026-02-10 00:00:00 UTC, Thu 2026-02-12 00:00:00 UTC, Fri 2026-02-13 00:00:00 UTC
        Tue 2028-02-29 12:00:00 UTC, Sun 2032-02-29 12:00:00 UTC, Fri 2036-02-29 12:00:00 UTC

        Sun 2026-02-01 00:00:00 CET, Sun 2026-03-01 00:00:00 CET, Wed 2026-04-01 00:00:00 CEST
        Fri 2026-01-16 00:00:00 UTC, Sat 2026-01-17 00:00:00 UTC, Sun 2026-01-18 00:00:00 UTC
        Thu 2026-01-15 01:30:10 UTC, Thu 2026-01-15 03:00:10 UTC, Thu 2026-01-15 04:30:10 UTC
        Sat 2026-03-28 02:30:00 CET, Mon 2026-03-30 02:30:00 CEST, Tue 2026-03-31 02:30:00 CEST
        Sun 2026-10-25 02:30:00 CEST, Sun 2026-10-25 02:30:00 CET, Mon 2026-10-26 02:30:00 CET
        Sun 2026-03-29 03:00:00 CEST, Sun 2026-03-29 04:00:00 CEST, Sun 2026-03-29 05:00:00 CEST
        Sun 2026-10-04 02:30:00 +11, Mon 2026-10-05 02:00:00 +11, Mon 2026-10-05 02:30:00 +11
        Mon 2018-11-05 00:00:00 -02, Tue 2018-11-06 00:00:00 -02, Wed 2018-11-07 00:00:00 -02"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn the_last_time_is_the_last_of_all_next_ones() {
    let zone = TimeZone::UTC;
    let start: Timestamp = "2026-01-01T00:00:10Z".parse().expect("a time");
    for text in ["* * * * *", "*/7 3-5 * * *", "0 0 1 * *", "@every 45s", "59 23 31 2 *"] {
        let schedule = Schedule::parse(text).expect("a schedule");
        for days in [0, 1, 40] {
            let until = start + Duration::from_secs(days * 86_400 + 7);
            let mut last = None;
            let mut time = schedule.next(start, &zone);
            while let Some(due) = time.filter(|due| *due <= until) {
                (last, time) = (Some(due), schedule.next(due, &zone));
            }
            assert_eq!(schedule.last(start, until, &zone), last, "{text} over {days} days");
        }
    }
}

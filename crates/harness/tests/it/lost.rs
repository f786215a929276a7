//! What becomes of a session of claude that loses its server, its process or its sandbox, wherever a turn stands.

use harness::Step;
use serde_json::{Value, json};
use session::policy::ToolRule;

use crate::inside;
use crate::plane::At;
use crate::real::{Victim, World, bash, script, until};

const RULES: [(&str, ToolRule); 3] = [
    ("bash", ToolRule::Allow),
    ("write", ToolRule::Ask),
    ("weather", ToolRule::Custom),
];

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// Between turns.
    Idle,
    /// Claude was told, and has not asked its model.
    Told,
    /// The model speaks.
    Speaks,
    /// It has spoken, and that is not in the log.
    Reply,
    /// That is in the log, and claude has not heard it.
    ReplyStored,
    /// A call waits for permission.
    Permission,
    /// A call waits for what the client's tool says.
    Client,
    /// A tool of claude's runs.
    Runs,
    /// It has said what it says, and that is not in the log.
    Result,
    /// That is in the log, and nobody has told claude so.
    ResultStored,
}

const POINTS: [Point; 10] = [
    Point::Idle,
    Point::Told,
    Point::Speaks,
    Point::Reply,
    Point::ReplyStored,
    Point::Permission,
    Point::Client,
    Point::Runs,
    Point::Result,
    Point::ResultStored,
];

#[tokio::test]
async fn a_session_that_loses_its_server_goes_on_with_the_same_process_wherever_the_turn_stood() {
    at_every_point(Victim::Server).await;
}

#[tokio::test]
async fn a_session_that_loses_its_claude_goes_on_with_another_wherever_the_turn_stood() {
    at_every_point(Victim::Process).await;
}

#[tokio::test]
async fn a_session_that_loses_its_sandbox_goes_on_in_another_wherever_the_turn_stood() {
    at_every_point(Victim::Sandbox).await;
}

async fn at_every_point(victim: Victim) {
    let mut world = World::new(&RULES, &json!([{"text": "begun"}])).await;
    assert_eq!(world.plane.placed_so_far(), ["started"]);
    let mut said = vec!["begun".to_owned()];
    for point in POINTS {
        let last = said.last().unwrap().clone();
        world.remembers(&last).await;
        let (placed, before) = (world.plane.placed_so_far().len(), world.process());
        lose(&mut world, victim, point).await;
        assert!(world.rests(), "{point:?}: {:?}", world.plane.kinds());
        // Whoever is there then knows everything, and is told it once.
        let after = format!("after-{point:?}");
        world.turn(&json!([{"text": after}])).await;
        assert!(world.rests(), "{point:?}: {:?}", world.plane.kinds());
        let told = world.last_request()["messages"].to_string();
        for text in &said {
            assert!(told.contains(text.as_str()), "{point:?}: {text}: {told}");
        }
        said.push(after);
        let ways = world.plane.placed_so_far().split_off(placed);
        eprintln!("{victim:?} {point:?}: {ways:?}");
        assert!(is_right(victim, point, &ways), "{point:?}: {ways:?}");
        let is_same = world.process() == before;
        assert_eq!(is_same, ways == ["adopted"], "{point:?}: {ways:?}");
    }
}

/// Whether the session has gone on in the first way that was open to it.
fn is_right(victim: Victim, point: Point, ways: &[&str]) -> bool {
    let from_the_log = |ways: &[&str]| ways.iter().all(|way| ["revived", "rebuilt"].contains(way));
    match (victim, point) {
        // A request that was cut claude makes again or gives up, and one of which it missed the answer it cannot know.
        (Victim::Server, Point::Speaks | Point::Reply | Point::ReplyStored)
        | (Victim::Server, Point::Result | Point::ResultStored) => {
            ways[0] == "adopted" && from_the_log(&ways[1..])
        }
        (Victim::Server, _) => ways == ["adopted"],
        (_, Point::Idle | Point::Told | Point::Permission | Point::Client) => ways == ["revived"],
        // By how much of the turn it had written down.
        _ => ways.len() == 1 && from_the_log(ways),
    }
}

/// Plays a turn that loses it there.
async fn lose(world: &mut World, victim: Victim, point: Point) {
    match point {
        Point::Idle => world.lose(victim).await,
        Point::Told => {
            let claude = world.freeze();
            let step = say(world, &json!([{"text": "told"}]));
            let told = async |world: &World| world.was_told().await;
            // Where it was killed there is nobody to thaw.
            let thaw = async |_: &World| drop(inside::signal(claude, "CONT"));
            world.lose_in(victim, step, told, thaw).await;
        }
        Point::Speaks => {
            let asked = world.scripted.requests().len();
            let step = say(world, &json!([{"text": "spoken", "wait": "speaks"}]));
            let speaks =
                async |world: &World| until(|| world.scripted.requests().len() > asked).await;
            let release = async |world: &World| world.scripted.release("speaks");
            world.lose_in(victim, step, speaks, release).await;
        }
        Point::Reply | Point::ReplyStored | Point::Result | Point::ResultStored => {
            held(world, victim, point).await;
        }
        Point::Permission => {
            let input = json!({"file_path": "/workspace/written", "content": "once"});
            let write = json!({"tool": "Write", "input": input});
            world.turn(&json!([write, {"text": "permitted"}])).await;
            world.remembers("/workspace/written").await;
            world.lose(victim).await;
            world.run(world.allow()).await;
            assert!(world.has("written") && !world.results().pop().unwrap().1);
        }
        Point::Client => {
            let weather = json!({"tool": "weather", "input": {"city": "Oslo"}});
            world.turn(&json!([weather, {"text": "sunny"}])).await;
            world.remembers("Oslo").await;
            world.lose(victim).await;
            world.run(world.answer("it is sunny")).await;
            assert!(world.last_request().to_string().contains("it is sunny"));
        }
        Point::Runs => {
            let long =
                "echo Runs >> runs; touch begun; until test -e go; do sleep 0.01; done; echo over";
            let step = say(world, &json!([bash(long), {"text": "run"}]));
            let runs = async |world: &World| until(|| world.has("begun")).await;
            let go =
                async |world: &World| std::fs::write(world.workspace().join("go"), "").unwrap();
            world.lose_in(victim, step, runs, go).await;
            // With the server only what it knew is lost, and with the others how the call ended.
            let (said, failed) = world.results().pop().unwrap();
            assert_eq!(failed, victim != Victim::Server, "{said}");
            assert!(failed || said == "over", "{said}");
            assert_eq!(ran(world, point), 1);
        }
    }
}

/// The same where it is a word of the run that does not arrive.
async fn held(world: &mut World, victim: Victim, point: Point) {
    let command = format!("echo {point:?} >> runs; grep -cx {point:?} runs");
    let step = say(world, &json!([bash(&command), {"text": "held"}]));
    world.plane.hold(match point {
        Point::Reply => At::Reply,
        Point::ReplyStored => At::ReplyStored,
        Point::Result => At::Result,
        _ => At::ResultStored,
    });
    let holds = async |world: &World| until(|| world.plane.is_holding()).await;
    let go_on = async |world: &World| world.plane.go_on();
    world.lose_in(victim, step, holds, go_on).await;
    let (said, failed) = world.results().pop().unwrap();
    if (victim, point) == (Victim::Server, Point::ReplyStored) {
        // The call was on record as begun, and its server is gone: that nobody knows what became of it is said.
        assert!(failed && ran(world, point) == 0, "{said}");
    } else {
        assert_eq!((said.as_str(), failed, ran(world, point)), ("1", false, 1));
    }
}

/// How often the call of that turn has run.
fn ran(world: &World, point: Point) -> usize {
    let runs = std::fs::read_to_string(world.workspace().join("runs")).unwrap_or_default();
    let name = format!("{point:?}");
    runs.lines().filter(|line| *line == name).count()
}

fn say(world: &World, steps: &Value) -> Step {
    world.plane.say(&script(steps))
}

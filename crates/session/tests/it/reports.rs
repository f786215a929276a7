//! What runners report, at random: how requests, compactions and calls go.

use contract::event::{AskReason, DenyReason, Judgement, ModelUsage};
use contract::ids::EventId;
use session::input::{Grade, ReplyEnd};
use session::{Cost, Fact, Remedy, Step, Used};

use crate::sim::Sim;
use crate::world::{failure, finished};

impl Sim<'_> {
    /// How a step goes.
    pub fn outcome(&mut self, step: Step) -> Fact {
        match step {
            Step::Request { .. } => {
                if self.world.rng.chance(self.temper.fail) {
                    self.failure()
                } else {
                    self.reply()
                }
            }
            Step::Compact { .. } => {
                if self.world.rng.chance(self.temper.fail) {
                    self.failure()
                } else {
                    Fact::Compacted {
                        span: crate::world::OPEN,
                        record: crate::world::raw("1"),
                        used: self.used(),
                    }
                }
            }
            Step::Grade { .. } => {
                if self.world.rng.chance(self.temper.fail) {
                    self.failure()
                } else {
                    self.verdict()
                }
            }
            Step::Execute { call } => Fact::Finished {
                call,
                content: vec![],
                is_error: self.chance(20),
            },
            Step::Recover { call } => {
                if self.chance(50) {
                    Fact::Lost { call }
                } else {
                    crate::world::finished(call, "went on")
                }
            }
            Step::Rest => unreachable!("a runner at rest is gone"),
        }
    }

    /// What a grader says: every other time a verdict.
    fn verdict(&mut self) -> Fact {
        let start = crate::world::OPEN;
        let grades = [
            Grade::Satisfied,
            Grade::NeedsRevision,
            Grade::NeedsRevision,
            Grade::Failed,
        ];
        match self.world.rng.below(12) {
            0..3 => Fact::Grading {
                start,
                beat: 0,
                used: None,
            },
            3..6 => Fact::Grading {
                start,
                beat: 0,
                used: Some(self.used()),
            },
            _ => Fact::Graded {
                start,
                grade: *self.world.rng.pick(&grades),
                explanation: "because".to_owned(),
                used: self.used(),
            },
        }
    }

    pub fn used(&mut self) -> Used {
        let rng = &mut self.world.rng;
        if rng.chance(10) {
            return Used::default();
        }
        let created = rng.below(50);
        let usage = ModelUsage {
            input_tokens: rng.below(100),
            output_tokens: 1 + rng.below(100),
            cache_creation_input_tokens: created,
            cache_read_input_tokens: rng.below(1_000),
            speed: None,
        };
        let cost = Cost(1_000_000_007 * rng.below(self.temper.price + 1));
        Used {
            usage,
            cache_1h: rng.below(created + 1),
            cost: (!rng.chance(self.temper.unpriced)).then_some(cost),
        }
    }

    fn failure(&mut self) -> Fact {
        let remedy = match self.world.rng.below(10) {
            0 => Remedy::None,
            1..3 => Remedy::Compact,
            3..5 => Remedy::Wait {
                at_least: Some(i64::try_from(self.world.rng.below(400_000_000)).unwrap()),
            },
            _ => Remedy::Wait { at_least: None },
        };
        let Fact::RequestFailed { kind, message, .. } = failure(remedy) else {
            unreachable!()
        };
        Fact::RequestFailed {
            span: crate::world::OPEN,
            kind,
            message,
            used: self.used(),
            remedy,
        }
    }

    pub fn reply(&mut self) -> Fact {
        let names = ["bash", "read", "write", "grep", "ask", "unknown"];
        let n = if self.chance(45) {
            0
        } else {
            1 + self.world.rng.below(3)
        };
        let wanted = (0..n)
            .map(|_| {
                let name = *self.world.rng.pick(&names);
                (name, self.judgement())
            })
            .collect::<Vec<_>>();
        let text = (n == 0 || self.chance(50)).then_some("text");
        let mut reply = self.world.judged_reply(text, &wanted);
        let spent = self.used();
        let is_crowded = self.world.rng.chance(self.temper.crowd);
        let refuses = n == 0 && self.chance(8);
        let thought = self
            .chance(30)
            .then(|| EventId::from_bits(self.world.rng.wide()));
        if let Fact::Replied {
            used,
            crowded,
            end,
            thinking,
            ..
        } = &mut reply
        {
            (*used, *crowded) = (spent, is_crowded);
            thinking.extend(thought);
            if refuses {
                *end = ReplyEnd::Refused(None);
            }
        }
        reply
    }

    fn judgement(&mut self) -> Option<Judgement> {
        Some(match self.world.rng.below(4) {
            0 => Judgement::Allow {},
            1 => Judgement::Deny {
                reason_code: DenyReason::HighRisk,
            },
            2 => Judgement::Ask {
                reason_code: AskReason::Indeterminate,
            },
            _ => return None,
        })
    }

    pub fn anything(&mut self) -> Fact {
        let remedies = [
            Remedy::None,
            Remedy::Compact,
            Remedy::Wait { at_least: None },
        ];
        match self.world.rng.below(15) {
            12..15 => self.verdict(),
            0..3 => self.reply(),
            3 => {
                let mut reply = self.world.reply(None, &[]);
                if let Fact::Replied { end, .. } = &mut reply {
                    *end = ReplyEnd::Refused(None);
                }
                reply
            }
            4 => crate::world::compacted(),
            5..8 => failure(*self.world.rng.pick(&remedies)),
            8 => Fact::Interrupted { used: self.used() },
            9 if !self.world.calls.is_empty() => {
                let call = *self.world.rng.pick(&self.world.calls);
                finished(call, "again")
            }
            _ => finished(EventId::from_bits(self.world.rng.wide()), "never asked"),
        }
    }
}
